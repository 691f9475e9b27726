"""GROUP BY a window of time -> timed operators: one counts all rows, one more for each column that is aggregated."""

from __future__ import annotations

__all__ = ["grouped"]

from typing import Final

from operators.operator import INT64, TIMESTAMP
from operators.schema import DataType
from operators.statements.inputs import InputOperator
from operators.statements.spec import Computed, Renamed, Rows, Step, Union, Windows
from operators.timed.operator import TimedOperator
from operators.timed.spec import TimedAggregate, TimedSpec, WindowKind, WindowSpec
from state.errors import ConfigError
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import Aggregate, Group, WindowShape
from streamproc.sql.stream.flows import Flow, Refused
from streamproc.sql.stream.prune import pruned, read_of

_FUNCTIONS: Final = {
    "count": TimedAggregate.COUNT,
    "sum": TimedAggregate.SUM,
    "avg": TimedAggregate.MEAN,
    "min": TimedAggregate.MIN,
    "max": TimedAggregate.MAX,
}
_STEPPED: Final = ("hop", "cumulate")


def grouped(flow: Flow, node: Group, stage: StatementStage, prefix: str, refused: Refused) -> Flow:
    """The flow of the windows' results.

    Raises:
        ConfigError: groups are spread over partitions, or an aggregate is not exact.
    """
    window = flow.window
    assert window is not None
    assert isinstance(flow.source, Rows | Union)
    keys = [key for key in node.keys if key not in flow.bounds]
    if not any(told for key, told in flow.bounds.items() if key in node.keys) and window.shape.kind != "tumble":
        raise refused.at(node.place, "GROUP BY wants window_start and window_end")
    routed = [key for key in keys if flow.origin.get(key) in stage.keys]
    if not routed:
        wanted = " or ".join(stage.keys)
        raise refused.at(node.place, f"GROUP BY must have {wanted}: other groups are spread over partitions")
    if window.shape.kind == "session" and {flow.origin.get(key) for key in window.keys} < {
        flow.origin.get(key, key) for key in keys
    }:
        raise refused.at(node.place, "a session's PARTITION BY must have the keys of GROUP BY")
    made = _Aggregates(flow, node, prefix, refused)
    wanted_columns = {*keys, *made.reads}
    steps, read = pruned(flow.steps, wanted_columns)
    source = read_of(flow.source, read)
    inputs = InputOperator(
        prefix, source, steps, keys=keys, columns=made.columns, known=made.known, distinct=made.distinct,
        values=made.texts,
    )  # fmt: skip
    timed = made.operators(window.shape, stage.disorder)
    types = {key: flow.types[key] for key in keys}
    result = Windows(
        tuple(one.spec.name for one in timed), tuple(types.items()), window.start, window.end, made.values, made.apart
    )
    aggregates = {one.key: one.type for one in node.aggregates}
    after = tuple(_beside(step, [*keys, *aggregates]) for step in flow.after)
    kinds = {**types, **aggregates, **dict.fromkeys(flow.bounds, TIMESTAMP)}
    origin = {key: flow.origin[key] for key in keys if key in flow.origin}
    return Flow(result, flow.stream, after, kinds, origin, (*flow.made, inputs, *timed), routed[0])


def _beside(step: Step, others: list[str]) -> Step:
    """A step over the bounds, that lets the other columns be."""
    return Renamed((*step.columns, *((key, key) for key in others))) if isinstance(step, Renamed) else step


class _Aggregates:
    """Which timed operator computes what. `values`, `apart`: as `values` and `distinct` of `Windows`; `columns`,
    `known`, `distinct`, `texts`: as `columns`, `known`, `distinct`, `values` of `InputOperator`.

    Different values of a window are keys of their own. Those of a session end when it does, not where their own rows
    lie the gap apart, so it keeps them.
    """

    def __init__(self, flow: Flow, node: Group, prefix: str, refused: Refused) -> None:
        self.columns: list[tuple[str, str, DataType]] = []
        self.known: list[tuple[str, str]] = []
        self.distinct: list[tuple[str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.reads: set[str] = set()
        self._flow, self._node, self._prefix, self._refused = flow, node, prefix, refused
        self._rules: dict[tuple[str | None, str, str], list[TimedAggregate]] = {
            (None, f"{prefix}.counts", f"{prefix}.key"): [TimedAggregate.COUNT]
        }
        self._names: dict[object, str] = {}
        assert flow.window is not None
        session = flow.window.shape.kind == "session"
        self.values = tuple(self._value(one, session) for one in node.aggregates)
        self.apart = tuple(n for n, (_, _, key) in enumerate(self._rules) if key != f"{prefix}.key")

    def _value(self, one: Aggregate, session: bool) -> tuple[str, int, int, TimedAggregate, DataType, int]:
        if session and one.where:
            raise self._refused.at(self._node.place, "FILTER in a SESSION is not part of a pipeline's statements")
        if one.function not in _FUNCTIONS or (one.distinct and one.function != "count"):
            what = one.function.upper() + ("(DISTINCT ...)" if one.distinct else "")
            known = "COUNT, COUNT(DISTINCT ...), SUM, AVG, MIN, MAX"
            raise self._refused.at(self._node.place, f"{what} is not part of a pipeline's statements", known)
        where = self._column(one.where) if one.where else f"{self._prefix}.counts"
        function, of, kind, key = _FUNCTIONS[one.function], None, one.type, f"{self._prefix}.key"
        if one.distinct and session:
            of = self._marked("text", one.argument, self.texts)
        elif one.distinct:
            key = self._marked("distinct", one.argument, self.distinct)
        elif one.argument and function is TimedAggregate.COUNT:
            of = self._marked("known", one.argument, self.known)
        elif one.argument:
            of, kind = self._column(one.argument), self._flow.types[one.argument]
        aggregates = self._rules.setdefault((of, where, key), [])
        if function not in aggregates:
            aggregates.append(function)
        number, place = list(self._rules).index((of, where, key)), aggregates.index(function)
        return one.key, number, place, function, one.type, kind.scale

    def _meaning(self, key: str) -> object:
        """Equal for columns that are computed alike."""
        for step in self._flow.steps:
            if isinstance(step, Computed):
                for name, compiled in step.expressions:
                    if name == key:
                        return compiled.node
        return key

    def _column(self, key: str) -> str:
        """The batch's column that holds it; computed once."""
        meaning = self._meaning(key)
        if meaning not in self._names:
            self._names[meaning] = f"{self._prefix}.{len(self._names)}"
            self.columns.append((key, self._names[meaning], self._flow.types[key]))
            self.reads.add(key)
        return self._names[meaning]

    def _marked(self, what: str, key: str, marked: list[tuple[str, str]]) -> str:
        """The batch's column that is made of it for `known`, or for `distinct`."""
        meaning = (what, self._meaning(key))
        if meaning not in self._names:
            self._names[meaning] = f"{self._prefix}.{len(self._names)}"
            marked.append((key, self._names[meaning]))
            self.reads.add(key)
        return self._names[meaning]

    def operators(self, shape: WindowShape, disorder: int) -> list[TimedOperator]:
        """One a rule."""
        found = []
        for number, ((of, where, key), aggregates) in enumerate(self._rules.items()):
            every = shape.step if shape.kind in _STEPPED else 0
            kind = next((kind for _, name, kind in self.columns if name == of), INT64 if of else None)
            rule = WindowSpec(
                WindowKind(shape.kind), shape.size, tuple(aggregates), every, shape.offset, 0, of, kind, where,
                different=any(name == of for _, name in self.texts),
            )  # fmt: skip
            name = self._prefix if not number else f"{self._prefix}.{number}"
            try:
                found.append(TimedOperator(TimedSpec(name, key, key, rule, disorder, key)))
            except ConfigError as error:
                raise self._refused.at(self._node.place, error.message, error.hint) from None
        return found
