"""A query's plan turned round: rows of a stream, what keeps state, and the steps behind.

What has no such form is refused.

The names in `Flow` are those of the plan's columns. Behind a window of time its bounds are columns that no row has
until the window closes: steps over them wait in `bounds` until GROUP BY.
"""

from __future__ import annotations

__all__ = ["TIME", "Flow", "Flows", "Joined", "Makers", "Overed", "Refused", "united"]

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.expressions.nodes import ColumnRef, Compiled
from operators.operator import TIMESTAMP, Operator
from operators.schema import DataType
from operators.statements.spec import Computed, Kept, Renamed, Rows, Source, Step, Union
from state.errors import ConfigError, Place
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import (
    Append,
    AsOf,
    Compute,
    Filter,
    Group,
    Join,
    Match,
    Node,
    Over,
    Project,
    Scan,
    Slice,
    Sort,
    Window,
)
from streamproc.sql.statements import Statement

TIME: Final = "@time"
"""The origin of a column that is the event time of several streams."""
_SEVERAL: Final = "rows that have been grouped or matched go no further than WHERE and SELECT in a pipeline"


class Joined(NamedTuple):
    """A join that is not made yet: its sides, and how the pairs are found.

    `alone`: whether rows of left, of right come without a partner, too; `condition`: what tells their partners.
    """

    left: Flow
    right: Flow
    keys: tuple[tuple[str, str], ...]
    as_of: bool
    alone: tuple[bool, bool]
    condition: Compiled | None
    ttl: int


class Overed(NamedTuple):
    """Functions over rows that are not made yet: the rows, and PARTITION BY."""

    flow: Flow
    node: Over
    keys: tuple[str, ...]


class Flow(NamedTuple):
    """Rows from `source` through `steps`.

    `stream`: whose rows; "" of several. `types`: of the columns now. `origin`: of those that are a field of the stream,
    which. `made`: what keeps state. `window`: rows are in these windows, and `bounds`: (key, whether it tells windows
    with one start apart). `after`: steps over the bounds. `join`, `over`: of the source, which has what is read of it.
    """

    source: Source
    stream: str
    steps: tuple[Step, ...]
    types: dict[str, DataType]
    origin: dict[str, str]
    made: tuple[Operator, ...] = ()
    key: str = ""
    window: Window | None = None
    bounds: Mapping[str, bool] = MappingProxyType({})
    after: tuple[Step, ...] = ()
    join: Joined | None = None
    over: Overed | None = None

    def through(self, step: Step) -> Flow:
        """With one more step; `types` and `origin` are the caller's to bring up to date."""
        return self._replace(steps=(*self.steps, step))


class Refused(NamedTuple):
    """Says where a clause stands of which a stream has no form."""

    statement: Statement

    def at(self, place: Place | None, message: str, hint: str | None = None) -> ConfigError:
        """To be raised; without a place, of the whole statement."""
        return ConfigError(message, place or self.statement.place(self.statement.tree), hint)

    def find(self, kind: type[exp.Expr], word: TokenType) -> Place:
        """Where a clause of that kind stands."""
        node = next(iter(self.statement.tree.find_all(kind)), self.statement.tree)
        return self.statement.clause(word, node)


def time_of(flow: Flow, stage: StatementStage) -> str:
    """The origin of the event time."""
    return stage.streams[flow.stream].event_time if flow.stream else TIME


def united(flows: Sequence[Flow], node: Append, stage: StatementStage, refused: Refused) -> Flow:
    """The flow of the rows of all.

    Raises:
        ConfigError: they have state, or windows.
    """
    branches: list[tuple[Rows, tuple[Step, ...]]] = []
    for flow in flows:
        if flow.window is not None or not isinstance(flow.source, Rows | Union):
            raise refused.at(node.place, f"UNION ALL: {_SEVERAL}", "write two statements, with one topic each")
        before = flow.source.branches if isinstance(flow.source, Union) else ((flow.source, ()),)
        branches += [(rows, (*steps, *flow.steps)) for rows, steps in before]
    origin = {}
    for key in flows[0].types:
        found = {flow.origin.get(key) for flow in flows}
        if all(flow.origin.get(key) == time_of(flow, stage) for flow in flows):
            origin[key] = TIME
        elif len(found) == 1 and (name := found.pop()) is not None:
            origin[key] = name
    return Flow(Union(tuple(branches)), "", (), flows[0].types, origin)


class Makers(Protocol):
    """Make what keeps state."""

    def grouped(self, flow: Flow, node: Group) -> Flow:
        """Windows of time that close."""
        ...

    def distinct(self, flow: Flow, node: Group) -> Flow:
        """Rows that are equal to none before."""
        ...

    def matched(self, flow: Flow, node: Match) -> Flow:
        """A pattern."""
        ...

    def overed(self, flow: Flow, node: Over) -> Flow:
        """Functions over rows."""
        ...

    def joined(self, left: Flow, right: Flow, node: Join | AsOf) -> Flow:
        """Pairs of rows."""
        ...


class Flows:
    """Turns plans of one statement round; `grouped` and `matched` make what keeps state."""

    def __init__(self, statement: Statement, stage: StatementStage, makers: Makers) -> None:
        self._refused = Refused(statement)
        self._stage, self._makers = stage, makers

    def of(self, node: Node) -> Flow:
        """The flow of a plan.

        Raises:
            ConfigError: a part of it has no form that a stream has.
        """
        match node:
            case Scan():
                return self._scan(node)
            case Compute():
                return self._compute(self.of(node.source), node)
            case Filter():
                return self._filter(self.of(node.source), node)
            case Project():
                return self._project(self.of(node.source), node)
            case Window():
                return self._window(self.of(node.source), node)
            case Group():
                return self._group(self.of(node.source), node)
            case Join() | AsOf():
                return self._makers.joined(self._side(node.left), self._side(node.right), node)
            case Match():
                return self._match(self.of(node.source), node)
            case Over():
                return self._over(self.of(node.source), node)
            case Append():
                return united([self.of(one) for one in node.sources], node, self._stage, self._refused)
            case _:
                raise self._refusal(node)

    def _refusal(self, node: Sort | Slice) -> ConfigError:
        what = "ORDER BY" if isinstance(node, Sort) else "LIMIT"
        return self._refused.at(node.place, f"{what} needs all rows: a stream has no end")

    def _side(self, node: Node) -> Flow:
        """A side of a join."""
        flow = self.of(node)
        if not isinstance(flow.source, Rows) or flow.window is not None:
            place = self._refused.find(exp.Join, TokenType.JOIN)
            raise self._refused.at(place, f"JOIN: {_SEVERAL}")
        return flow

    def _scan(self, node: Scan) -> Flow:
        fields = self._stage.fields[node.table]
        stream = node.table if len(self._stage.streams) > 1 else ""
        columns = tuple((f"{node.alias}.{field.name}", field.name) for field in fields)
        types = {key: field.type for (key, _), field in zip(columns, fields, strict=True)}
        return Flow(Rows(columns, stream), node.table, (), types, dict(columns))

    def _compute(self, flow: Flow, node: Compute) -> Flow:
        own: list[tuple[str, Compiled]] = []
        bounds: list[tuple[str, Compiled]] = []
        told, types, origin = dict(flow.bounds), dict(flow.types), dict(flow.origin)
        for key, compiled in node.expressions:
            read = set(compiled.inputs)
            if read & told.keys():
                if read - told.keys():
                    raise self._refused.at(
                        None, "a window's bounds and other columns meet before GROUP BY", "SELECT it"
                    )
                bounds.append((key, compiled))
                told[key] = any(told[one] for one in read)
            else:
                own.append((key, compiled))
                if isinstance(compiled.node, ColumnRef) and compiled.node.name in origin:
                    origin[key] = origin[compiled.node.name]
            types[key] = compiled.type
        if own:
            flow = flow.through(Computed(tuple(own), node.time if node.time not in told else ""))
        after = (*flow.after, Computed(tuple(bounds))) if bounds else flow.after
        return flow._replace(types=types, origin=origin, bounds=told, after=after)

    def _filter(self, flow: Flow, node: Filter) -> Flow:
        if set(node.condition.inputs) & flow.bounds.keys():
            raise self._refused.at(
                None, "a window's bounds are known when it closes: HAVING may ask for them, WHERE not"
            )
        return flow.through(Kept(node.condition, node.time if node.time not in flow.bounds else ""))

    def _project(self, flow: Flow, node: Project) -> Flow:
        types = {new: flow.types[key] for new, key in node.columns}
        origin = {new: flow.origin[key] for new, key in node.columns if key in flow.origin}
        own = tuple((new, key) for new, key in node.columns if key not in flow.bounds)
        flow = flow.through(Renamed(own))
        if flow.window is not None:
            bounds = tuple((new, key) for new, key in node.columns if key in flow.bounds)
            told = {new: flow.bounds[key] for new, key in bounds}
            flow = flow._replace(bounds=told, after=(*flow.after, Renamed(bounds)))
        return flow._replace(types=types, origin=origin)

    def _window(self, flow: Flow, node: Window) -> Flow:
        self._check_rows(flow, None)
        self._check_time(flow, node.time, "windows of time are made of")
        types = {**flow.types, node.start: TIMESTAMP, node.end: TIMESTAMP}
        return flow._replace(window=node, bounds={node.start: False, node.end: True}, types=types)

    def _check_rows(self, flow: Flow, place: Place | None) -> None:
        """Whether its rows can feed what keeps state."""
        if not isinstance(flow.source, Rows | Union) or flow.window is not None:
            raise self._refused.at(place, _SEVERAL, "a second statement reads what this one writes")
        if isinstance(flow.source, Union):
            streams = [rows.stream for rows, _ in flow.source.branches]
            if len(set(streams)) < len(streams):
                what = (
                    "rows of one stream in two queries of UNION ALL go no further than WHERE and SELECT in a pipeline"
                )
                raise self._refused.at(place, what, "one query with WHERE ... OR ...")

    def _check_time(self, flow: Flow, key: str, what: str) -> None:
        wanted = time_of(flow, self._stage)
        if flow.origin.get(key) != wanted:
            named = wanted if flow.stream else "one column of all queries of UNION ALL"
            raise self._refused.at(None, f"{what} the stream's event time: {named}")

    def _group(self, flow: Flow, node: Group) -> Flow:
        if flow.window is None and not node.aggregates:
            if not isinstance(flow.source, Rows | Union):
                raise self._refused.at(node.place, _SEVERAL, "a second statement reads what this one writes")
            return self._makers.distinct(flow, node)
        if flow.window is None:
            hint = "TUMBLE(event_time, INTERVAL '5' MINUTE)"
            raise self._refused.at(
                node.place, "GROUP BY wants a window of time: other groups of a stream never end", hint
            )
        return self._makers.grouped(flow, node)

    def _match(self, flow: Flow, node: Match) -> Flow:
        self._check_rows(flow, node.place)
        self._check_time(flow, node.time, "MATCH_RECOGNIZE is ordered by")
        return self._makers.matched(flow, node)

    def _over(self, flow: Flow, node: Over) -> Flow:
        place = self._refused.find(exp.Window, TokenType.OVER)
        self._check_rows(flow, place)
        if any(one.order for one in node.functions):
            what = "ROW_NUMBER in another order than that of the event time: rows that were told are not taken back"
            raise self._refused.at(place, what, "ORDER BY the event time keeps the first ones")
        self._check_time(flow, node.time, "OVER is ordered by")
        return self._makers.overed(flow, node)
