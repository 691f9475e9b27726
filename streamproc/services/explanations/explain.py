"""Rows of a feature block -> explanations: pure but for opening models."""

from __future__ import annotations

__all__ = ["BlockExplainer", "Explanation", "Part"]

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.explaining.explainer import Explained, Explainer
from models.registry import OutOfReachError
from operators.batch import Column
from operators.block import block_column, block_model, read_block
from operators.encode import json_values
from operators.plan import Plan
from operators.score import fill_matrix
from state.errors import ConfigError, StateCorruptedError

Value = float | int | bool | None
TOP = 5
_ROWS = 256  # at once: what is worked on stays small


class Part(msgspec.Struct, frozen=True):
    """What a feature adds to the log-odds of fraud; `value` as the decision had it, None: it was missing."""

    feature: str
    value: Value
    share: float
    what: str


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a decision has its score. `base` + the shares of `top` + `others` = `raw`, the log-odds; where it cannot be
    said, `refused` says why. `model`: the digest of its file. `partition`, `at`: the journal's record.
    """

    id: str
    decision: str
    model: str
    partition: int
    at: int
    score: float | None = None
    base: float | None = None
    raw: float | None = None
    top: tuple[Part, ...] = ()
    others: float | None = None
    text: str = ""
    refused: str = ""


class Models(Protocol):
    """Where models are found (models.explaining.catalogue.Catalogue); both raise ConfigError where there is none."""

    def by_digest(self, digest: str) -> Explainer: ...
    def by_version(self, version: int) -> Explainer: ...


class BlockExplainer:
    """Explains decisions of one pipeline, whose last stage's plan has a model."""

    def __init__(self, plan: Plan, models: Models) -> None:
        assert plan.model is not None
        self._id, self._described, self._models = plan.stream.id, plan.described, models
        self._version = plan.model.version.name if plan.model.version is not None else ""

    def explain(self, block: bytes, partition: int, at: int, wanted: Callable[[str, str], bool]) -> list[Explanation]:
        """The explanations of the rows for which `wanted` (id, action) is true, in their order.

        Raises:
            StateCorruptedError: these bytes are no feature block.
            OutOfReachError: the registry cannot be read now; nothing is said of any row.
        """
        table = read_block(block)
        try:
            ids: list[Any] = table.column(self._id).to_pylist()
            names: list[str] = msgspec.json.decode((table.schema.metadata or {})[b"actions"])
            codes: list[Any] = table.column("decision").to_pylist()
            actions = [names[code] for code in codes]
            scores = block_column(table, "score")
            versions = self._versions(table)
        except (KeyError, IndexError, TypeError, msgspec.DecodeError):
            raise StateCorruptedError("a feature block is of another pipeline") from None
        rows = [row for row, pair in enumerate(zip(ids, actions, strict=True)) if wanted(*pair)]
        heads = {row: Explanation(ids[row], actions[row], block_model(table), partition, at) for row in rows}
        for version in dict.fromkeys(versions[row] for row in rows):
            mine = [row for row in rows if versions[row] == version]
            for start in range(0, len(mine), _ROWS):
                part = mine[start : start + _ROWS]
                made = self._some(table, np.array(part), scores, [heads[row] for row in part], version)
                heads.update(zip(part, made, strict=True))
        return list(heads.values())

    def _versions(self, table: pa.Table) -> list[int | None]:
        """Of each row, where the block has them; 0: it does not say."""
        if self._version not in table.column_names:
            return [0] * table.num_rows
        found: list[Any] = table.column(self._version).to_pylist()
        return found

    def _some(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64],
        scores: Column,
        heads: list[Explanation],
        version: int | None,
    ) -> list[Explanation]:
        """Of some rows that one model scored; if it cannot be said of them, why."""
        model = heads[0].model
        if version is None:
            return _refused(heads, "the model gave no score")
        if not model and not version:
            return _refused(heads, "the decision does not say which model scored it")
        try:
            explainer = self._models.by_version(version) if version else self._models.by_digest(model)
            heads = [msgspec.structs.replace(head, model=explainer.digest) for head in heads]
            columns = {name: _taken(block_column(table, name), rows) for name in explainer.names}
            matrix = np.empty((len(rows), len(columns)), np.float32)
            fill_matrix(matrix, explainer.names, columns.__getitem__)
        except OutOfReachError:
            raise
        except KeyError as error:
            return _refused(heads, f"its features lack {error.args[0]}: another plan has decided it")
        except ConfigError as error:
            return _refused(heads, f"the model cannot explain it: {error.message}")
        taken = _taken(scores, rows)
        explained = explainer.explain(matrix, taken.values.astype(np.float64))
        values = [json_values(column) for column in columns.values()]
        valid = np.ones(len(rows), np.bool_) if taken.valid is None else taken.valid
        found = []
        for row, head in enumerate(heads):
            if not valid[row]:
                found += _refused([head], "the model gave no score")
            elif not (explained.additive[row] and explained.fits[row]):
                found += _refused([head], "the contributions do not add up to its score")
            else:
                scored = msgspec.structs.replace(head, score=float(taken.values[row]))
                given = [_plain(column[row]) for column in values]
                found.append(self._one(scored, explained, row, dict(zip(columns, given, strict=True))))
        return found

    def _one(self, head: Explanation, explained: Explained, row: int, values: Mapping[str, Value]) -> Explanation:
        names, shares = tuple(values), explained.shares[row]
        order = [i for i in np.argsort(-np.abs(shares), kind="stable")[:TOP].tolist() if shares[i]]
        top = tuple(
            Part(names[i], values[names[i]], float(shares[i]), self._described.get(names[i], "")) for i in order
        )
        said = msgspec.structs.replace(
            head, base=explained.base, raw=float(explained.raw[row]), top=top,
            others=float(np.delete(shares, order).sum()),
        )  # fmt: skip
        return msgspec.structs.replace(said, text=_sentence(said))


def _refused(heads: list[Explanation], why: str) -> list[Explanation]:
    return [msgspec.structs.replace(head, refused=why) for head in heads]


def _taken(column: Column, rows: npt.NDArray[np.int64]) -> Column:
    return Column(column.type, column.values[rows], None if column.valid is None else column.valid[rows])


def _plain(value: object) -> Value:
    """A value as JSON has it; decimals as numbers."""
    return value if value is None or isinstance(value, bool | int | float) else float(str(value))


def _sentence(said: Explanation) -> str:
    """What an analyst reads: first what raised the score, then what lowered it, most first."""
    assert said.score is not None
    parts = []
    for word, mine in (("raised", [one for one in said.top if one.share > 0]),
                       ("lowered", [one for one in said.top if one.share < 0])):  # fmt: skip
        if mine:
            parts.append(f"{word} by {', '.join(map(_named, mine))}")
    return f"Score {said.score:.1f}: {'; '.join(parts) or 'no feature moved it'}."


def _named(part: Part) -> str:
    value = "missing" if part.value is None else f"{part.value:.6g}" if isinstance(part.value, float) else part.value
    what = f" ({part.what})" if part.what else ""
    return f"{part.feature}{what} = {str(value).lower()} [{part.share:+.2f}]"
