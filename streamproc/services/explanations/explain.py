"""Rows of a feature block -> explanations: pure but for opening models."""

from __future__ import annotations

__all__ = ["BlockExplainer", "BlockRows", "Explanation", "Part"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

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


class BlockRows(NamedTuple):
    """Rows of a block of which it is to be said why. `said`: what can be said so far, in their order; `asked`: those
    that models must be asked about, by their place in `said`.
    """

    said: list[Explanation]
    asked: list[_Asked]


class _Given(NamedTuple):
    """A model, what it was given, float32 (rows, features), and the values to show by feature."""

    explainer: Explainer
    matrix: npt.NDArray[np.float32]
    values: Mapping[str, Sequence[Any]]


class _Refusal(NamedTuple):
    why: str
    model: str


class _Asked(NamedTuple):
    """Rows that one model scored; scores (rows,), NaN: none."""

    places: list[int]
    given: _Given
    scores: npt.NDArray[np.float64]


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
        return self.explain_all([self.read(block, partition, at, wanted)])

    def read(self, block: bytes, partition: int, at: int, wanted: Callable[[str, str], bool]) -> BlockRows:
        """What is needed for that, so that rows of several blocks can be explained together.

        Raises:
            StateCorruptedError, OutOfReachError: as above.
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
        found = BlockRows([Explanation(ids[row], actions[row], block_model(table), partition, at) for row in rows], [])
        for version in dict.fromkeys(versions[row] for row in rows):
            places = [place for place, row in enumerate(rows) if versions[row] == version]
            taken = np.array([rows[place] for place in places])
            given = self._ask(table, taken, block_model(table), version)
            if isinstance(given, _Refusal):
                for place in places:
                    found.said[place] = msgspec.structs.replace(found.said[place], refused=given.why, model=given.model)
            else:
                found.asked.append(_Asked(places, given, _floats(_taken(scores, taken))))
        return found

    def explain_all(self, blocks: Sequence[BlockRows]) -> list[Explanation]:
        """The explanations of these rows, in their order: models are asked about the rows of all blocks at once."""
        by_model: dict[str, list[tuple[list[Explanation], _Asked]]] = {}
        for block in blocks:
            for asked in block.asked:
                by_model.setdefault(asked.given.explainer.digest, []).append((block.said, asked))
        for parts in by_model.values():
            self._explain_together(parts)
        return [one for block in blocks for one in block.said]

    def _explain_together(self, parts: Sequence[tuple[list[Explanation], _Asked]]) -> None:
        """Put what one model's rows come to in their places."""
        explainer = parts[0][1].given.explainer
        scores = np.concatenate([asked.scores for _, asked in parts])
        explained = explainer.explain(np.concatenate([asked.given.matrix for _, asked in parts]), scores)
        row = 0
        for said, asked in parts:
            shown = zip(*asked.given.values.values(), strict=True)
            for place, given in zip(asked.places, shown, strict=True):
                head = msgspec.structs.replace(said[place], model=explainer.digest)
                values = dict(zip(explainer.names, map(_plain, given), strict=True))
                said[place] = self._said(head, explained, row, float(scores[row]), values)
                row += 1

    def _versions(self, table: pa.Table) -> list[int | None]:
        """Of each row, where the block has them; 0: it does not say."""
        if self._version not in table.column_names:
            return [0] * table.num_rows
        found: list[Any] = table.column(self._version).to_pylist()
        return found

    def _ask(self, table: pa.Table, rows: npt.NDArray[np.int64], model: str, version: int | None) -> _Given | _Refusal:
        """What one model was given of some rows; or why nothing can be said of them."""
        if version is None:
            return _Refusal("the model gave no score", model)
        if not model and not version:
            return _Refusal("the decision does not say which model scored it", model)
        try:
            explainer = self._models.by_version(version) if version else self._models.by_digest(model)
            model = explainer.digest
            columns = {name: _taken(block_column(table, name), rows) for name in explainer.names}
            matrix = np.empty((len(rows), len(columns)), np.float32)
            fill_matrix(matrix, explainer.names, columns.__getitem__)
        except OutOfReachError:
            raise
        except KeyError as error:
            return _Refusal(f"its features lack {error.args[0]}: another plan has decided it", model)
        except ConfigError as error:
            return _Refusal(f"the model cannot explain it: {error.message}", model)
        return _Given(explainer, matrix, {name: json_values(column) for name, column in columns.items()})

    def _said(
        self, head: Explanation, explained: Explained, row: int, score: float, values: Mapping[str, Value]
    ) -> Explanation:
        if np.isnan(score):
            return _refused(head, "the model gave no score")
        if not (explained.additive[row] and explained.fits[row]):
            return _refused(head, "the contributions do not add up to its score")
        return self._one(msgspec.structs.replace(head, score=score), explained, row, values)

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


def _refused(head: Explanation, why: str) -> Explanation:
    return msgspec.structs.replace(head, refused=why)


def _floats(scores: Column) -> npt.NDArray[np.float64]:
    """NaN where there is none."""
    values = scores.values.astype(np.float64)
    return values if scores.valid is None else np.where(scores.valid, values, np.nan)


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
