"""A pipeline as the analyst wrote it: the keys of the file are the fields of these Structs.

`place` says where a thing stands; it is no key and no part of a fingerprint. What the keys mean is described in
docs/language/pipeline.md, which a test compares with this module.
"""

from __future__ import annotations

__all__ = [
    "Absence",
    "Call",
    "Challenger",
    "Decision",
    "ExpressionFeature",
    "Feature",
    "FieldDeclaration",
    "Model",
    "Parallel",
    "Pipeline",
    "Rule",
    "SequencePattern",
    "Served",
    "Stage",
    "Stream",
    "Table",
    "Timed",
    "TimedWindow",
    "Topics",
    "UserOperator",
    "Watermark",
    "WindowGroup",
    "window_names",
]

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from operators.call import Breaking
from operators.plan import RESERVED
from operators.schema import DataType
from operators.tables import Match
from state.errors import Place
from streamproc.language.expression import Expr
from streamproc.language.patterns.clauses import MatchClause
from streamproc.language.served import Challenger, Served

IN_STEP_MS = 60_000
"""How far the partitions of a stage may be ahead of each other, unless it says otherwise."""


WAIT_MS = 3_600_000
"""How long parts of a row wait for the others, unless it is said otherwise."""


class FieldDeclaration(msgspec.Struct, frozen=True):
    """A field of a stream. `from` is its name in the record, where that differs; `encoding`: how it is written;
    `made`: it is a feature of a stage before.
    """

    type: DataType
    source: str = msgspec.field(name="from")
    pan: bool = False
    required: bool = False
    encoding: str = ""
    made: bool = False
    place: Place = Place("")


class Stream(msgspec.Struct, frozen=True):
    """An input stream. Durations are ms; `deduplicate` 0: not at all. `schema`: a file, `registry`: a URL; of Avro.

    `stage`: the one it enters, "": the first that is keyed by one of its fields. `wait`: how long other streams' rows
    wait for it when it lags. `places`: of the schema's; `topic_place`, `stage_place`: the stream's
    where they are not named.
    """

    fields: dict[str, FieldDeclaration]
    event_time: str
    id: str
    topic: str
    format: str = "json"
    deduplicate: int = 0
    max_ahead: int = 86_400_000
    extra: str = "ignore"
    schema: str = ""
    registry: str = ""
    stage: str = ""
    wait: int = 1000
    place: Place = Place("")
    places: tuple[Place, ...] = ()
    topic_place: Place = Place("")
    stage_place: Place = Place("")

    @property
    def columns(self) -> dict[str, FieldDeclaration]:
        """The fields that an analyst may name; records between stages have some of their own beside them."""
        return {name: field for name, field in self.fields.items() if name not in RESERVED}


class Table(msgspec.Struct, frozen=True):
    """A list or look-up table from a file; `columns` without the key's. Other columns of the file are comments.

    `topic`: where a worker reads its rows, and changes of them; "": in the file, at its start.
    `match`: how a value finds its key; the type `cidr` or `prefix` of the key says so.
    """

    key: str
    key_type: DataType
    file: str
    columns: dict[str, DataType]
    match: Match = Match.EXACT
    topic: str = ""
    place: Place = Place("")


class ExpressionFeature(msgspec.Struct, frozen=True):
    """A feature computed row by row; `per` keys the state of previous() and first_seen() in it, and `where` says which
    rows these look at.
    """

    expression: Expr
    per: str | None = None
    where: Expr | None = None
    place: Place = Place("")


class WindowGroup(msgspec.Struct, frozen=True):
    """Aggregates x windows of one thing. `of` None: rows are counted.

    `aggregates` and `over`: what is computed -> what the name says of it; `over` is keyed by ms.
    `name`: a template of {group}, {aggregate} and {over}.
    """

    of: Expr | None
    aggregates: dict[str, str]
    over: dict[int, str]
    where: Expr | None = None
    delay: int = 0
    precision: int = 0
    per: str | None = None
    name: str = "{group}_{aggregate}_{over}"
    place: Place = Place("")
    per_place: Place = Place("")


Feature = ExpressionFeature | WindowGroup


class Watermark(msgspec.Struct, frozen=True):
    """How event time goes on: `disorder` ms behind the newest row; without rows, once input has rested `idle` ms."""

    disorder: int = 0
    idle: int = 0


class TimedWindow(msgspec.Struct, frozen=True):
    """Windows that are told when they close. `kind`: tumble, hop, session or cumulate; lengths in ms.

    `of` None: rows are counted. `when`: over the results.
    """

    kind: str
    size: int
    aggregates: tuple[str, ...]
    every: int = 0
    offset: int = 0
    lateness: int = 0
    of: Expr | None = None
    where: Expr | None = None
    when: Expr | None = None
    per: str | None = None
    reason: str = ""
    place: Place = Place("")


class Absence(msgspec.Struct, frozen=True):
    """After a row where `after` is true none where `without` is follows within `within` ms."""

    after: Expr
    without: Expr
    within: int
    per: str | None = None
    reason: str = ""
    place: Place = Place("")


Timed = TimedWindow | Absence


class Call(msgspec.Struct, frozen=True):
    """A service that is asked about each row between two stages; see `operators.call.CallSpec`. Durations are ms.

    `url` as it is written, or `sql` and its `database`; `headers`: `$NAME` is an environment variable; `body`: name ->
    column; `default`: JSON values. `url_place` is the address's or query's, `places` those of the columns of the body.
    """

    name: str
    url: str
    returns: dict[str, FieldDeclaration]
    method: str = "GET"
    headers: dict[str, str] = {}
    body: dict[str, str] = {}
    timeout: int = 100
    in_flight: int = 1_000
    cache: int = 0
    retries: int = 1
    retry_budget: float = 0.1
    breaker: Breaking = Breaking()
    default: dict[str, Any] = {}
    place: Place = Place("")
    url_place: Place = Place("")
    places: dict[str, Place] = {}
    sql: str = ""
    database: str = ""


class SequencePattern(msgspec.Struct, frozen=True):
    """A sequence of a key's rows; `match`: its clauses. Rows where `where` is not true are not seen.

    `timeout`: the reason of the alerts that tell of partial matches which WITHIN ends; None: nobody is told.
    """

    match: MatchClause
    per: str | None = None
    where: Expr | None = None
    place: Place = Place("")
    timeout: str | None = None
    per_place: Place = Place("")


class SqlEntry(msgspec.Struct, frozen=True):
    """A SQL statement over the streams of a stage. `text`: as it stands in the file, from `body` on. `topic`: where its
    rows go, "": the topic of its name.
    """

    name: str
    text: str
    body: Place
    topic: str = ""
    place: Place = Place("")


class Parallel(msgspec.Struct, frozen=True):
    """Branches side by side, each the names of its stages, in order. `wait` (ms): how long the parts of a row that have
    come wait for the others. `asked`: services that are called before rows go to all branches.
    """

    branches: tuple[tuple[str, ...], ...] = msgspec.field(name="parallel")
    wait: int = WAIT_MS
    place: Place = Place("")
    asked: tuple[Call, ...] = ()

    def number(self, stage: str) -> int:
        """Of the branch in which a stage stands."""
        return next(number for number, names in enumerate(self.branches) if stage in names)


class Stage(msgspec.Struct, frozen=True):
    """Features of one partition key. `ttl` (ms): keys without a row for so long are forgotten; 0: never.

    `in_step` (ms): how far its partitions may be ahead of each other, if it hands its rows on.
    `timed`: windows and absences, by name. `calls`: services that are asked before it. `patterns`: by name. `place` is
    where its key is named. `beside`: the branches side by side in one of which it stands. `statements`: SQL, by name.
    """

    name: str
    partition_by: str
    per: str
    features: dict[str, Feature]
    ttl: int = 0
    in_step: int = IN_STEP_MS
    place: Place = Place("")
    watermark: Watermark = Watermark()
    timed: dict[str, Timed] = {}
    calls: tuple[Call, ...] = ()
    patterns: dict[str, SequencePattern] = {}
    beside: Parallel | None = None
    statements: dict[str, SqlEntry] = msgspec.field(default_factory=dict, name="sql")

    @property
    def asked(self) -> tuple[Call, ...]:
        """All services that are asked on the way to it, in order; those that it shares with stages beside it first."""
        return (*(self.beside.asked if self.beside is not None else ()), *self.calls)

    @property
    def told(self) -> dict[str, Timed | SequencePattern]:
        """What is told as alerts, by name."""
        return {**self.timed, **{name: one for name, one in self.patterns.items() if one.timeout is not None}}


class UserOperator(msgspec.Struct, frozen=True):
    """An operator class of the user: `./file.py:Class` or `package.module:Class`; all other keys are its arguments."""

    operator: str
    options: dict[str, Any]
    place: Place = Place("")


class Model(msgspec.Struct, frozen=True):
    """A scoring model; `tiers`: name -> score (0-100) from which on it holds. `places`: of each of the features.

    `file`: an ONNX file; "" where `served` says which versions there are. `no_score`: the action for rows that it fails
    on; "": the next more severe one than `otherwise`. `increasing`, `decreasing`: features that may move the score that
    way only; training keeps to it. `describe`: features in words, for explanations.
    """

    file: str
    features: tuple[str, ...]
    tiers: dict[str, float]
    place: Place = Place("")
    places: tuple[Place, ...] = ()
    no_score: str = ""
    increasing: tuple[str, ...] = ()
    decreasing: tuple[str, ...] = ()
    served: Served | None = None
    describe: dict[str, str] = {}


class Rule(msgspec.Struct, frozen=True):
    """A rule, in the order of the file."""

    id: str
    when: Expr
    then: str
    reason: str
    final: bool = False
    mode: str = "live"
    to: str | None = None
    place: Place = Place("")


class Decision(msgspec.Struct, frozen=True):
    """How rules become one action, and what the decision shows. `places`: of each of the included columns."""

    severity: tuple[str, ...] = ("decline", "review", "challenge", "approve")
    otherwise: str = "approve"
    include: tuple[str, ...] = ()
    place: Place = Place("")
    places: tuple[Place, ...] = ()


class Topics(msgspec.Struct, frozen=True):
    """Output topics; `<pipeline>.<name>` unless given. `decisions`: "" where none are made."""

    decisions: str
    dead_letters: str
    journal: str
    alerts: str = ""
    late: str = ""


class Pipeline(msgspec.Struct, frozen=True):
    """A whole pipeline file. The first of `streams` is the one that is decided, whatever their order in the file.

    `retention` is in ms, None: kept for ever; `deadline` too, 0: there is none. `tests`: patterns of files -> places.
    """

    pipeline: str
    streams: dict[str, Stream]
    stages: tuple[Stage, ...]
    tables: dict[str, Table]
    operators: dict[str, UserOperator]
    models: dict[str, Model]
    rules: tuple[Rule, ...]
    decision: Decision
    topics: Topics
    partitions: int = 4
    retention: int | None = None
    deadline: int = 0
    place: Place = Place("")
    tests: dict[str, Place] = {}

    @property
    def calls(self) -> tuple[Call, ...]:
        """All call steps, in order."""
        return tuple({call.name: call for stage in self.stages for call in stage.asked}.values())

    @property
    def folder(self) -> str:
        """The folder of the file: what `file:` and `./` are relative to."""
        return str(Path(self.place.file).parent)


def window_names(group_name: str, group: WindowGroup) -> Iterator[tuple[str, str, int]]:
    """(feature name, aggregate, ms) of a group, in the analyst's order: windows outside, aggregates inside."""
    for over_ms, over in group.over.items():
        for aggregate, shown in group.aggregates.items():
            name = group.name.replace("{group}", group_name).replace("{aggregate}", shown).replace("{over}", over)
            yield name, aggregate, over_ms
