"""Feature blocks of the journal -> columns of `models.watching`."""

from __future__ import annotations

__all__ = ["BlockReader"]

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.watching.days import Rows
from operators.batch import Column
from operators.block import block_column, read_block
from operators.plan import Plan
from operators.score import fill_matrix
from state.errors import ConfigError, StateCorruptedError
from state.hashing import stable_hashes64

_Scores = npt.NDArray[np.float64]
_SHADOWS = msgspec.json.Decoder(dict[int, float | None])


class BlockReader:
    """Reads the blocks of a plan whose model has versions."""

    def __init__(self, plan: Plan) -> None:
        assert plan.model is not None
        assert plan.model.version is not None
        self._id, self._key, self._usual = plan.stream.id, plan.subject, plan.decision.otherwise
        self._version, self._shadows = plan.model.version.name, f"{plan.model.name}.shadows"
        self._inputs = tuple(field.name for field in plan.model.inputs)

    def read(self, block: bytes) -> Rows:
        """The block's payments, with those of the model's inputs that it has.

        Raises:
            StateCorruptedError: these bytes are no feature block of such a pipeline.
        """
        table = read_block(block)
        try:
            actions: list[str] = msgspec.json.decode((table.schema.metadata or {})[b"actions"])
            usual = np.array([name == self._usual for name in actions], np.bool_)
            names = tuple(name for name in self._inputs if name in table.column_names)
            matrix = np.empty((table.num_rows, len(names)), np.float32)
            fill_matrix(matrix, names, lambda name: block_column(table, name))
            return Rows(
                _hashes(table, self._id),
                _hashes(table, self._key),
                block_column(table, "event_time").values.astype(np.int64),
                ~usual[table.column("decision").to_numpy()],
                self._versions(table),
                _floats(block_column(table, "score")),
                self._told(table),
                names,
                matrix,
            )
        except (KeyError, IndexError, TypeError, ValueError, ConfigError, msgspec.MsgspecError):
            raise StateCorruptedError("a feature block is of another pipeline") from None

    def _versions(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """0: there is no score, or the block does not say whose it is."""
        if self._version not in table.column_names:
            return np.zeros(table.num_rows, np.int64)
        return block_column(table, self._version).values.astype(np.int64)  # NULL is 0 there

    def _told(self, table: pa.Table) -> Mapping[int, _Scores]:
        """What shadows said, by version."""
        if self._shadows not in table.column_names:
            return {}
        texts: list[Any] = table.column(self._shadows).to_pylist()
        found: dict[int, _Scores] = {}
        for row, text in enumerate(texts):
            for version, score in (_SHADOWS.decode(text) if text else {}).items():
                if version not in found:
                    found[version] = np.full(len(texts), np.nan)
                found[version][row] = np.nan if score is None else score
        return found


def _hashes(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Of a column of text; NULL as if it were empty."""
    texts: list[Any] = table.column(name).to_pylist()
    return stable_hashes64([text or "" for text in texts])


def _floats(column: Column) -> _Scores:
    """NaN where there is none."""
    values = column.values.astype(np.float64)
    return values if column.valid is None else np.where(column.valid, values, np.nan)
