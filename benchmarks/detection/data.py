"""A folder of files with the Handbook's raw schema -> one file that the pipeline reads: sorted and numbered.

Only five columns are read (`COLUMNS`); what else the files have, TX_FRAUD_SCENARIO above all, is never looked at.
"""

from __future__ import annotations

__all__ = ["COLUMNS", "DataError", "collect"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

COLUMNS = ("TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
_ORDER = "TRANSACTION_ID"
_KINDS = {".parquet", ".pq", ".csv", ".ndjson", ".jsonl", ".json"}
_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}


class DataError(Exception):
    """The folder cannot be used; the text says what to do."""


def collect(folder: Path, target: Path) -> int:
    """Write the payments of all files of `folder` to `target` (Parquet); how many.

    They are in the order of time (at equal times: of TRANSACTION_ID, where there is one, else of the files), and
    numbered anew in that order. Amounts are rounded to cents. Customers and terminals that are no whole numbers are
    numbered.

    Raises:
        DataError: the folder, a file or a value cannot be used.
    """
    tables = [_read(path) for path in _files(folder)]
    whole = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    if not len(whole):
        raise DataError(f"{folder}: the files have no rows; give the folder of the payments")
    for name in COLUMNS:
        if missing := whole[name].null_count:
            raise DataError(f"{folder}: {missing:,} rows have no {name}; fill or leave out those rows")
    times, amounts = _times(whole["TX_DATETIME"], folder), _amounts(whole["TX_AMOUNT"], folder)
    keys = [_numbers(whole[_ORDER])] if _ORDER in whole.column_names and not whole[_ORDER].null_count else []
    order = np.lexsort((*keys, times))
    made = {
        _ORDER: np.arange(len(whole)),
        "TX_DATETIME": pa.array(times[order], pa.timestamp("ms")),
        "CUSTOMER_ID": _numbers(whole["CUSTOMER_ID"])[order],
        "TERMINAL_ID": _numbers(whole["TERMINAL_ID"])[order],
        "TX_AMOUNT": amounts[order],
        "TX_FRAUD": _labels(whole["TX_FRAUD"], folder)[order],
    }
    pq.write_table(pa.table(made), target)
    return len(whole)


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one with the payments' files: --data DIR")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _KINDS and path.is_file())
    if not found:
        raise DataError(
            f"{folder} has no {', '.join(sorted(_KINDS))} file; give the folder of the payments: --data DIR"
        )
    return found


def _read(path: Path) -> Any:
    """The columns that matter, of one file."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
                return file.read(columns=_wanted(names, path))
        found = pa_csv.read_csv(path) if suffix == ".csv" else pa_json.read_json(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}); mend it or take it out of the folder"
        ) from None
    return found.select(_wanted(found.column_names, path))


def _wanted(names: Sequence[str], path: Path) -> list[str]:
    if missing := [name for name in COLUMNS if name not in names]:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; the files need {', '.join(COLUMNS)} (others are not looked at)"
        )
    return [name for name in (_ORDER, *COLUMNS) if name in names]


def _times(column: Any, folder: Path) -> Any:
    """int64, ms."""
    try:
        if pa.types.is_integer(column.type):
            raise pa.ArrowInvalid("a number says no unit")
        if pa.types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        elif not pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    except pa.ArrowException:
        raise DataError(
            f"{folder}: TX_DATETIME is {column.type}, and not all values are times; write timestamps or ISO 8601"
        ) from None


def _amounts(column: Any, folder: Path) -> Any:
    try:
        found = column.cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        raise DataError(f"{folder}: TX_AMOUNT is {column.type}, and not all values are numbers") from None
    if not np.isfinite(found).all():
        raise DataError(f"{folder}: TX_AMOUNT has NaN or infinite values; fill or leave out those rows")
    return np.round(found, 2)


def _labels(column: Any, folder: Path) -> Any:
    texts = column.cast(pa.string())
    kinds = {text: _LABELS.get(text.lower()) for text in pc.unique(texts).to_pylist()}
    if wrong := [text for text, kind in kinds.items() if kind is None]:
        raise DataError(f"{folder}: TX_FRAUD has {len(wrong)} values that are neither 0, 1, false nor true")
    coded = texts.combine_chunks().dictionary_encode()
    return np.array([kinds[text] for text in coded.dictionary.to_pylist()], np.int64)[coded.indices.to_numpy()]


def _numbers(column: Any) -> Any:
    """int64: the values themselves, or a number for each."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()).to_numpy()
    return np.unique(column.cast(pa.string()).to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
