"""The streams of a stage: what their rows have in common, and which of them a look-back feature looks at.

A feature that says nothing looks at the rows of the stream that is decided, if that has all fields which the feature
reads of earlier rows; else at those of all streams that have them. So a stream that is added changes no feature.
A `where:` that reads `stream` says it all.
"""

from __future__ import annotations

__all__ = ["Sources", "check_union", "dotted", "entering"]

from collections.abc import Collection, Mapping, Sequence

from operators.plan import STREAM
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr, both, columns_of, parse
from streamproc.language.model import ExpressionFeature, Feature, FieldDeclaration, Pipeline, Stage, Stream
from streamproc.language.problems import Problems, nearest


def entering(pipeline: Pipeline, problems: Problems) -> dict[str, dict[str, Stream]]:
    """Of each stage: the streams that enter it besides the one that is decided."""
    found: dict[str, dict[str, Stream]] = {stage.name: {} for stage in pipeline.stages}
    for name, stream in list(pipeline.streams.items())[1:]:
        stage = _stage_of(name, stream, pipeline.stages, problems)
        if stage is not None:
            found[stage.name][name] = stream
    return found


def _stage_of(name: str, stream: Stream, stages: Sequence[Stage], problems: Problems) -> Stage | None:
    by_name = {stage.name: stage for stage in stages}
    if stream.stage and stream.stage not in by_name:
        hint = nearest(stream.stage, by_name)
        problems.add(f"stream {name}: there is no stage {stream.stage!r}", stream.stage_place, hint)
        return None
    for stage in [by_name[stream.stage]] if stream.stage else stages:
        if stage.partition_by in stream.fields:
            return stage
    keys = " or ".join(dict.fromkeys(stage.partition_by for stage in stages if stream.stage in ("", stage.name)))
    said = f"stream {name} has no field {keys}: it would not be known which partition a row belongs to"
    problems.add(said, stream.place, f"declare it; {keys}: {{type: ..., from: ...}} if it is called otherwise there")
    return None


def check_union(streams: Mapping[str, Stream], problems: Problems) -> None:
    """Refuse fields of one name that are not of one type, and what takes the name of the column `stream`."""
    first: dict[str, tuple[str, FieldDeclaration]] = {}
    for name, stream in streams.items():
        for field, declared in stream.fields.items():
            if field == STREAM and len(streams) > 1:
                hint = f"call it otherwise: stream_: {{type: {declared.type}, from: {declared.source}}}"
                problems.add("`stream` says which stream a row is of, where there are several", declared.place, hint)
            other, known = first.setdefault(field, (name, declared))
            if (known.type, known.pan) != (declared.type, declared.pan):
                said = f"{field} is {_said(declared)} in {name} and {_said(known)} in {other} (line {known.place.line})"
                hint = f"give one of them another name: {name}_{field}: {{type: ..., from: {declared.source}}}"
                problems.add(f"{said}: a column has one type", declared.place, hint)


def dotted(stream: Stream) -> list[str]:
    """A warning for each field that seems to be looked for within an object of the record, where it is not found."""
    return [
        f"{field.place}: from: {field.source} is one name in the record: nothing is read from within objects"
        " (flatten records before they come)"
        for field in stream.fields.values()
        if "." in field.source
    ]


def _said(field: FieldDeclaration) -> str:
    return f"a card number ({field.type})" if field.pan else str(field.type)


class Sources:
    """Of one stage. `fields`: those of each stream, the one that is decided first."""

    def __init__(self, fields: Mapping[str, Collection[str]], features: Mapping[str, Feature]) -> None:
        self._fields = {name: frozenset(mine) for name, mine in fields.items()}
        self._features = features

    def having(self, columns: Collection[str]) -> tuple[str, ...]:
        """The streams whose rows a feature looks at that reads `columns`; none if no stream has them all."""
        known = frozenset().union(*self._fields.values())
        wanted = self._read(columns) & known
        found = [name for name, mine in self._fields.items() if wanted <= mine]
        decided = next(iter(self._fields))
        return (decided,) if decided in found else tuple(found)

    def have(self, column: str) -> tuple[str, ...]:
        """All streams with that field."""
        return tuple(name for name, mine in self._fields.items() if column in mine)

    def where(self, columns: Collection[str], given: Expr | None, key: str, place: Place) -> Expr | None:
        """Which rows count: what is `given` and what the `columns` imply; None: all do.

        Raises:
            ConfigError: no stream has all the columns, or its rows do not have the `key`.
        """
        read = set(columns) | (columns_of(given) if given else set())
        if STREAM in read:
            self._check_key(tuple(self._fields)[:1], key, place)
            return given
        streams = self.having(read)
        if not streams:
            mine = sorted(self._read(read) & frozenset().union(*self._fields.values()))
            names = ", ".join(f"'{name}'" for name in self._fields)
            hint = f"where: stream in ({names}) looks at the rows of all; what they lack is NULL"
            raise ConfigError(f"no stream has all of {', '.join(mine)}", place, hint)
        self._check_key(streams, key, place)
        if len(streams) == len(self._fields):
            return given
        texts = ", ".join(f"'{name}'" for name in streams)
        mine_only = parse(f"{STREAM} = {texts}" if len(streams) == 1 else f"{STREAM} IN ({texts})", place)
        return mine_only if given is None else both(given, mine_only)

    def _check_key(self, streams: Sequence[str], key: str, place: Place) -> None:
        """State that no row which counts, or no row that is decided, could reach is a mistake."""
        known = frozenset().union(*self._fields.values())
        decided = next(iter(self._fields))
        for some in (tuple(streams), (decided,)):
            if key in known and not any(key in self._fields[name] for name in some):
                common = sorted(frozenset.intersection(*(self._fields[name] for name in {*some, decided})))
                hint = f"per: {', '.join(common)}" if common else None
                raise ConfigError(f"rows of {' and '.join(some)} have no {key}", place, hint)

    def _read(self, columns: Collection[str]) -> frozenset[str]:
        """Fields that columns are made of, features that are expressions looked through."""
        found: set[str] = set()
        todo = list(columns)
        while todo:
            column = todo.pop()
            if column in found:
                continue
            found.add(column)
            feature = self._features.get(column)
            if isinstance(feature, ExpressionFeature) and feature.expression.column != column:
                todo += columns_of(feature.expression)
        return frozenset(found)
