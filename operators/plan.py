"""The plan: what the language compiles a pipeline to, and what the runtime, backtest and tests execute.

A plan is one stage's: decode -> deduplicate -> steps -> decide, or hand on to the next stage -> encode. A pipeline is a
chain of them; some may stand side by side. `steps` are columnar operators in execution order (look-ups, expressions,
windows, user operators, score, rule conditions); each only adds columns. `replay_steps` is the part a silent replay
needs: steps with state and what feeds them.
"""

from __future__ import annotations

__all__ = [
    "ARRIVED",
    "DIGEST",
    "PART",
    "PLACE",
    "REFUSED",
    "RESERVED",
    "ROUTE",
    "STREAM",
    "DecisionSpec",
    "GatherSpec",
    "Handoff",
    "ModelSpec",
    "Plan",
    "RuleSpec",
    "Target",
    "lean",
    "replay_steps",
    "streams_of",
]

from collections.abc import Sequence

import msgspec

from operators.call import CallSpec, failed_column
from operators.live_tables import LiveTables
from operators.operator import Operator, OutputField
from operators.schema import StreamSchema, TopicNames
from operators.statements.spec import StatementSpec, columns_read
from operators.timed.run import WaitingOperator
from operators.timed.spec import AlertSpec
from state.actions import ActionCodes
from state.table import TableSpec

STREAM = "stream"
"""The column that says which stream a row is of, where several enter a stage."""
ROUTE, DIGEST, ARRIVED = "_route", "_digest", "_arrived"
"""Fields of records that a stage hands on: the text that says which partition is theirs, never NULL; where repeats
are found, the digest of the record as it first came; where there is a deadline, the log time of that, ms."""

PLACE, PART, REFUSED = "_place", "_part", "_refused"
"""Fields of records on their way through stages beside each other: where the row stood before them (task-offset), which
no other row has; which part of the row the record is; whether that stage has refused the row.
"""
RESERVED = frozenset((ROUTE, DIGEST, ARRIVED, PLACE, PART, REFUSED))
"""What no column of an analyst's is called: in a record between stages it would be taken for one of these."""


class RuleSpec(msgspec.Struct, frozen=True):
    """A rule. `condition` names a bool column; NULL counts as not hit.

    `reason` is what decisions quote (the rule's id where the analyst gave none). A `final` rule that hits ends the
    evaluation: later rules are not looked at, its action wins unless an earlier live rule was more severe.
    A `shadow` rule is reported and changes nothing. `to` names a side output that gets a copy of the decision.
    """

    id: str
    condition: str
    action: str
    reason: str
    shadow: bool = False
    final: bool = False
    to: str | None = None


class ModelSpec(msgspec.Struct, frozen=True):
    """The model that gives `score`; `inputs`: what it is given, in its order.

    `digest`: SHA-256 of its file, hex. `version`: the column of the version, if several of a registry may be at work;
    there is no one digest then ("").
    """

    name: str
    inputs: tuple[OutputField, ...]
    digest: str = ""
    version: OutputField | None = None

    @property
    def columns(self) -> tuple[OutputField, ...]:
        """What a block has to carry, so that a score can be explained."""
        return self.inputs if self.version is None else (*self.inputs, self.version)


class DecisionSpec(msgspec.Struct, frozen=True):
    """How rules become one action.

    `severity`: all actions, most severe first; the most severe live rule that hit wins, else `otherwise`.
    `include`: columns that the decision's JSON carries besides id, key, decision, score and reasons.
    `score`: the column of the score 0-100, if there is a model; `tier` that of the risk tier (string).
    `calls`: the call steps before it, of which a decision says where one failed.
    `deadline_ms`: rows taken more than that after they came to the log are decided without the model; 0: no deadline.
    """

    severity: tuple[str, ...]
    otherwise: str
    include: tuple[str, ...] = ()
    score: str | None = None
    tier: str | None = None
    calls: tuple[str, ...] = ()
    deadline_ms: int = 0

    @property
    def actions(self) -> ActionCodes:
        """All actions, by the code that each has where decisions are kept."""
        names = self.severity if self.otherwise in self.severity else (*self.severity, self.otherwise)
        return ActionCodes(names, names.index(self.otherwise))


class Target(msgspec.Struct, frozen=True):
    """Where rows go, too: to `topic`, keyed by the text of `key`."""

    topic: str
    key: str


class Branch(msgspec.Struct, frozen=True):
    """One of several ways a row takes at once. What is made of it there is part `number` of those that are gathered
    from `topic`, keyed by the text of `key`.
    """

    topic: str
    key: str
    number: int


class GatherSpec(msgspec.Struct, frozen=True):
    """A row is there once each of the stages `parts`, the last ones of branches, has handed on its part. The first
    parts wait for `wait_ms` of the log's time at most.
    """

    parts: tuple[str, ...]
    wait_ms: int


class Handoff(msgspec.Struct, frozen=True):
    """How a stage hands its rows on: to `topic`, keyed by the text of `key`, the id where that is NULL, a blank where
    it is empty.

    `columns`: what is written into a record, fields and features, by name. A later stage passes on what it was handed,
    the columns `passed`, as it is, and writes only what it adds. `in_step_ms`: how far partitions may be ahead of each
    other in event time. `arrived`: whether records say when they first came to the log. `beside`: the other stages that
    get each row, too. `placed`: records say where the row stood before it went several ways at once. `branch`: the one
    that the stage stands in; None: rows go one way there.
    """

    topic: str
    key: str
    columns: tuple[str, ...]
    in_step_ms: int = 60_000
    arrived: bool = False
    beside: tuple[Target, ...] = ()
    branch: Branch | None = None
    passed: tuple[str, ...] = ()
    placed: bool = False

    @property
    def part(self) -> int | None:
        """Of a branch's last stage: which part of a row it hands on. The first passes on all the row had, the others
        write only what their branches add. None: a whole row.
        """
        return self.branch.number if self.branch is not None and self.branch.topic == self.topic else None

    @property
    def topics(self) -> tuple[str, ...]:
        """Where its rows go."""
        return (self.topic, *(target.topic for target in self.beside))


class Plan(msgspec.Struct, frozen=True):
    """An executable stage of a pipeline.

    `stream` is the one whose rows are decided, or handed on; `others` only bring state forward. Their rows come by
    event time; at equal times `stream` comes first, the others in their order.
    `calls`: between the stage before and this one, in order; those that rows come from to several stages at once are
    calls of each. `handoff`: where its rows go; None: it is the last stage,
    and decides. `subject`: what decisions are keyed by.
    `features`: the columns that the journal's block and a backtest carry, in the analyst's order. `model`: what gives
    the score; None: nothing does. A block carries all that it is given, too. `described`: its inputs in words.
    `state_fingerprint`: digest of what state depends on (streams, keys, features); `decision_fingerprint`: of
    rules, thresholds, tables and models, which change without a barrier. `topic_partitions`: co-partitioned count.
    `home`: what its state is called, below a state directory and in a checkpoints' store.
    `partition_by`: what its source is keyed by. `gather`: how parts of rows come together; None: whole rows come.
    `live`: the tables that its steps look up and that change while it runs; None: there are none.
    `statements`: rows that go to topics of their own. `warnings`: what may surprise in it, a line each. `alerts`: how
    what its timed steps say is told. `idle_ms`: how long a task's input rests before its clock goes on; 0: it never
    does.
    """

    pipeline: str
    stream: StreamSchema
    topics: TopicNames
    steps: tuple[Operator, ...]
    features: tuple[OutputField, ...]
    rules: tuple[RuleSpec, ...]
    decision: DecisionSpec
    state_fingerprint: str
    decision_fingerprint: str
    home: str
    topic_partitions: int = 4
    topic_config: dict[str, str] = {}
    stage: str = "main"
    calls: tuple[CallSpec, ...] = ()
    handoff: Handoff | None = None
    subject: str = ""
    others: tuple[StreamSchema, ...] = ()
    alerts: tuple[AlertSpec, ...] = ()
    idle_ms: int = 0
    live: LiveTables | None = None
    partition_by: str = ""
    gather: GatherSpec | None = None
    statements: tuple[StatementSpec, ...] = ()
    warnings: tuple[str, ...] = ()
    model: ModelSpec | None = None
    described: dict[str, str] = {}

    @property
    def entrance(self) -> str:
        """The topic by which rows come to it, or to the calls before it."""
        return self.calls[0].source if self.calls else self.stream.topic

    @property
    def is_silent(self) -> bool:
        """Whether nothing is said of each row: it goes to no other stage, and gets no decision."""
        return self.handoff is None and not self.topics.decisions

    @property
    def timed(self) -> tuple[WaitingOperator, ...]:
        """The steps whose results wait for time."""
        return tuple(step for step in self.steps if isinstance(step, WaitingOperator))

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """All declared state, in step order."""
        return tuple(table for step in self.steps for table in step.tables)

    @property
    def streams(self) -> tuple[StreamSchema, ...]:
        """All that enter the stage; the one that is decided first."""
        return (self.stream, *self.others)


def lean(plan: Plan) -> Plan:
    """The plan without the fields that a later stage only passes on, for who needs no other columns than its results.

    A first stage judges records of strangers: it keeps all fields. What a later one reads, another stage wrote.
    """
    stream = plan.stream
    if stream.key != ROUTE:
        return plan
    read = {stream.id, stream.key, stream.event_time, plan.subject, DIGEST, ARRIVED, PLACE, *plan.decision.include}
    read.update(name for step in plan.steps for name in step.inputs)
    read.update(field.name for field in plan.features)
    read.update(name for statement in plan.statements for name in columns_read(statement))
    read.update(map(failed_column, plan.decision.calls))
    if plan.handoff is not None:
        read.update([plan.handoff.key, *plan.handoff.columns, *(target.key for target in plan.handoff.beside)])
    fields = tuple(field for field in stream.fields if field.name in read)
    return msgspec.structs.replace(plan, stream=msgspec.structs.replace(stream, fields=fields))


def replay_steps(steps: Sequence[Operator]) -> tuple[Operator, ...]:
    """The steps whose running changes state, and those they read from, in order."""
    needed: set[str] = set()
    kept: list[Operator] = []
    for step in reversed(steps):
        if step.tables or needed & {field.name for field in step.outputs}:
            kept.append(step)
            needed |= set(step.inputs)
    return tuple(reversed(kept))


def calls_of(plans: Sequence[Plan]) -> list[CallSpec]:
    """A pipeline's calls, in order, each once."""
    return list({call.name: call for plan in plans for call in plan.calls}.values())


def streams_of(plans: Sequence[Plan]) -> dict[str, StreamSchema]:
    """A pipeline's streams by name, as they first enter it; the one that is decided first. `plans`: of its stages."""
    found = {plans[0].stream.name: plans[0].stream}
    return found | {stream.name: stream for plan in plans for stream in plan.others}
