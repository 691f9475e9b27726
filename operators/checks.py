"""The checks that every operator must pass, ours and users': what the runtime relies on, tried on random rows.

`check_operator(MyOperator)` raises with the smallest batch that fails; `run_checks` returns one outcome a check.
Rows are fed as the engine would: a row that raises is refused, its batch undone and run again without it.
"""

from __future__ import annotations

__all__ = ["CHECKS", "CheckFailedError", "Outcome", "check_operator", "results_digest", "run_checks"]

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from operators.check_columns import check_declaration, check_no_nulls_read, check_only_declared, input_types
from operators.check_rows import SampleRows, sample_rows, shrink
from operators.check_run import MakeOperator, MakeParts, Refused, Result, Run, difference, digest
from operators.operator import Operator
from operators.schema import DataType
from state.errors import ConfigError

_SEEDS = (1, 2, 3)
_CUTS = (2, 7, 0)


class CheckFailedError(AssertionError):
    """An operator breaks the contract; the text says which check and shows the smallest failing rows."""


class Outcome(NamedTuple):
    """Of one check. `status`: ok, failed or skipped; `rows`: the fewest found that fail."""

    check: str
    status: str
    message: str = ""
    rows: SampleRows | None = None

    @property
    def line(self) -> str:
        """Status, name and message in one line."""
        return f"{self.status:<8}{self.check}" + (f": {self.message}" if self.message else "")

    @property
    def text(self) -> str:
        """The line, and the rows."""
        return self.line if self.rows is None else f"{self.line}\n{self.rows.table()}"


class Subject(msgspec.Struct):
    """What is checked: how to make it, and what it declares. `rows` are those that it can compute."""

    make: MakeOperator
    parts: MakeParts | None
    operator: Operator

    @property
    def fields(self) -> list[str]:
        """Names of the outputs."""
        return [field.name for field in self.operator.outputs]

    def run(self, rows: SampleRows, make: MakeOperator | None = None) -> Run:
        """A fresh one, for the tasks of `rows`."""
        return Run(make or self.make, sorted({int(task) for task in rows.task}), self.parts)

    def one_by_one(self, rows: SampleRows) -> dict[int, Result]:
        """What each row comes to when it is a batch of its own: the reference."""
        return self.run(rows).feed(rows, 1)

    def differs(self, found: Mapping[int, Result], wanted: Mapping[int, Result]) -> str | None:
        """The first difference, in words."""
        return difference(self.fields, found, wanted)


class SkippedError(Exception):
    """A check does not apply."""


def check_operator(
    operator: Operator | MakeOperator,
    samples: Sequence[SampleRows] | None = None,
    *,
    types: Mapping[str, DataType] | None = None,
    skip: Collection[str] = (),
    parts: MakeParts | None = None,
) -> None:
    """Put an operator through all checks; arguments as in `run_checks`.

    Raises:
        CheckFailedError: some fail.
    """
    failed = [
        one for one in run_checks(operator, samples, types=types, skip=skip, parts=parts) if one.status == "failed"
    ]
    if failed:
        raise CheckFailedError("\n".join(one.text for one in failed))


def run_checks(
    operator: Operator | MakeOperator,
    samples: Sequence[SampleRows] | None = None,
    *,
    types: Mapping[str, DataType] | None = None,
    skip: Collection[str] = (),
    parts: MakeParts | None = None,
) -> list[Outcome]:
    """One outcome a check, in the order of `CHECKS`; they end early where nothing can be computed.

    Args:
        operator: its class, or a function that makes one (each run takes a new one, as a restarted worker would);
            an instance serves all runs.
        samples: rows to try; random ones by default.
        types: of the inputs whose type the operator does not say itself (`InputField`).
        skip: names of checks to leave out.
        parts: state of the operator that lies outside tables.
    """
    make: MakeOperator = (lambda: operator) if isinstance(operator, Operator) else operator
    outcomes: list[Outcome] = []
    try:
        subject = Subject(make, parts, make())
        check_declaration(subject.operator)
        given = list(samples or _samples(subject.operator, types))
    except Exception as error:
        return [Outcome("declaration", "failed", _raised(error))]
    outcomes.append(Outcome("declaration", "ok"))
    try:
        kept = [_computed(subject, rows) for rows in given]
    except Exception as error:
        return [*outcomes, _why_nothing(subject, given[0]) or Outcome("computes", "failed", _raised(error))]
    for name, (check, _) in CHECKS.items():
        if name in skip:
            outcomes.append(Outcome(name, "skipped", "as asked"))
        elif name != "declaration":
            outcomes.append(_judge(name, check, subject, given if name in _WITH_BAD_ROWS else kept))
    return outcomes


def results_digest(
    make: MakeOperator, samples: Sequence[SampleRows] | None = None, *, types: Mapping[str, DataType] | None = None
) -> str:
    """SHA-256 of all results and of the state: another process must come to the same."""
    subject = Subject(make, None, make())
    found = []
    for rows in samples or _samples(subject.operator, types):
        run = subject.run(rows)
        found.append(digest(run.feed(rows, 7), run.digests()))
    return " ".join(found)


def _samples(operator: Operator, types: Mapping[str, DataType] | None) -> list[SampleRows]:
    known = input_types(operator, types or {})
    return [sample_rows(known, seed) for seed in _SEEDS]


def _computed(subject: Subject, rows: SampleRows) -> SampleRows:
    """The rows that can be computed."""
    results = subject.one_by_one(rows)
    good = [row for row in range(rows.size) if not isinstance(results[row], Refused)]
    if 4 * len(good) < rows.size:
        why = next(result.why for result in results.values() if isinstance(result, Refused))
        hint = "give it samples that it can compute"
        raise ConfigError(f"only {len(good)} of {rows.size} sample rows can be computed: {why}", hint=hint)
    return rows.take(good)


def _why_nothing(subject: Subject, rows: SampleRows) -> Outcome | None:
    """Where no row can be computed: maybe it reads or adds what it does not declare."""
    row = rows.take([0])
    try:
        wrong = _only_declared(subject, row)
    except Exception:
        return None
    return Outcome("only-declared", "failed", wrong, row) if wrong else None


def _judge(name: str, check: Check, subject: Subject, samples: Sequence[SampleRows]) -> Outcome:
    for rows in samples:
        try:
            if _verdict(check, subject, rows) is None:
                continue
        except SkippedError as reason:
            return Outcome(name, "skipped", str(reason))
        fewest = shrink(rows, lambda some: _verdict(check, subject, some) is not None)
        return Outcome(name, "failed", _verdict(check, subject, fewest) or "now and then", fewest)
    return Outcome(name, "ok")


def _verdict(check: Check, subject: Subject, rows: SampleRows) -> str | None:
    try:
        return check(subject, rows)
    except SkippedError:
        raise
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    return f"{type(error).__name__}: {error}"


# ---- the checks: None, or what is wrong


def _only_declared(subject: Subject, rows: SampleRows) -> str | None:
    run = subject.run(rows)
    return check_only_declared(run.operator, run.state, rows)


def _batch_cuts(subject: Subject, rows: SampleRows) -> str | None:
    wanted = subject.one_by_one(rows)
    for cut in _CUTS:
        if wrong := subject.differs(subject.run(rows).feed(rows, cut), wanted):
            return f"in batches of {cut or rows.size}, {wrong} as in batches of 1"
    return None


def _restore(subject: Subject, rows: SampleRows) -> str | None:
    _needs_state(subject)
    wanted = subject.run(rows).feed(rows, 7)
    for places in ((0.5,), (0.25, 0.75), (0.1, 0.2, 0.9)):
        run = subject.run(rows)
        found: dict[int, Result] = {}
        edges = [0, *(int(place * rows.size) for place in places), rows.size]
        for start, stop in pairwise(edges):
            if start:
                run = run.restart(subject.make, subject.parts)
            found |= run.go_on(rows, range(start, stop), 7)
            run.flush()
        if wrong := subject.differs(found, wanted):
            return f"restored after {edges[1:-1]} rows, {wrong}"
    return None


def _replay(subject: Subject, rows: SampleRows) -> str | None:
    _needs_state(subject)
    wanted = subject.run(rows).feed(rows, 7)
    half = rows.size // 2
    run = subject.run(rows)
    run.operator.replay(rows.batch(range(half))[0], run.state)
    run.state.publish()
    wrong = subject.differs(run.go_on(rows, range(half, rows.size), 7), wanted)
    return f"after a silent replay of {half} rows, {wrong}" if wrong else None


def _undo(subject: Subject, rows: SampleRows) -> str | None:
    _needs_state(subject)
    wanted = subject.run(rows).feed(rows, 7)
    run = subject.run(rows)
    for start in range(0, rows.size, 7):
        before = run.digests()
        run.transaction(rows, range(start, min(start + 11, rows.size)))
        run.state.undo()
        if run.digests() != before:
            return f"the state differs after the batch from row {start} on was undone"
        found = run.go_on(rows, range(start, min(start + 7, rows.size)))
        if wrong := subject.differs(found, wanted):
            return f"after a batch was undone and run again, {wrong}"
    return None


def _keys(subject: Subject, rows: SampleRows) -> str | None:
    columns = {table.key for table in subject.operator.tables}
    if len(columns) > 1:
        raise SkippedError("it keeps state for several keys")
    wanted = subject.run(rows).feed(rows)
    if not columns:
        backwards = range(rows.size - 1, -1, -1)
        wrong = subject.differs(subject.run(rows).go_on(rows, backwards, 7), wanted)
        return f"in the opposite order, {wrong}: it depends on other rows without declared state" if wrong else None
    column = rows.columns[columns.pop()]
    texts = column.values.tolist()
    for key in dict.fromkeys(texts):
        mine = [row for row in range(rows.size) if texts[row] == key]
        if wrong := subject.differs(subject.run(rows).go_on(rows, mine, 7), wanted):
            return f"without the rows of other keys, {wrong}"
    return None


def _tasks(subject: Subject, rows: SampleRows) -> str | None:
    wanted = subject.run(rows).feed(rows)
    for task in sorted({int(task) for task in rows.task}):
        mine = [row for row in range(rows.size) if rows.task[row] == task]
        if wrong := subject.differs(subject.run(rows).go_on(rows, mine, 7), wanted):
            return f"without the rows of other tasks, {wrong}"
    return None


def _ttl(subject: Subject, rows: SampleRows) -> str | None:
    """The same rows once more, so much later that all keys have expired: as if they were the first."""
    limits = [table.ttl_ms for table in subject.operator.tables]
    if not limits or not all(limits):
        raise SkippedError("not all of its state has a ttl" if limits else "it keeps no state")
    span = int(rows.event_time.max() - rows.event_time.min())
    later = rows._replace(event_time=rows.event_time + span + max(limits) + 1)
    wanted = subject.run(rows).feed(later, 7)
    run = subject.run(rows)
    run.feed(rows, 7)
    wrong = subject.differs(run.feed(later, 7), wanted)
    return f"with history that expired {max(limits)} ms ago, {wrong} as without" if wrong else None


def _determinism(subject: Subject, rows: SampleRows) -> str | None:
    same = subject.make()
    wanted: dict[int, Result] = {}
    states: list[str] = []
    for make in (subject.make, lambda: same, lambda: same):
        run = subject.run(rows, make)
        found = run.feed(rows, 7)
        if wrong := subject.differs(found, wanted or found):
            return f"run again, {wrong}: it depends on something that is neither input nor declared state"
        if run.digests() != (states or run.digests()):
            return "run again, its state differs"
        wanted, states = found, run.digests()
    return None


def _nulls(subject: Subject, rows: SampleRows) -> str | None:
    """NULL in one input after the other."""
    for name, column in rows.columns.items():
        if column.valid is None:
            continue
        valid = column.valid.copy()
        valid[::2] = False
        changed = rows._replace(columns=rows.columns | {name: column._replace(valid=valid)})
        for result in subject.one_by_one(changed).values():
            if isinstance(result, Refused) and result.unexpected:
                return f"{result.why} where {name} is NULL"
    return check_no_nulls_read(rows, subject.run, subject.differs)


def _bad_rows(subject: Subject, rows: SampleRows) -> str | None:
    wanted = subject.one_by_one(rows)
    for cut in _CUTS:
        if wrong := subject.differs(subject.run(rows).feed(rows, cut), wanted):
            return f"in batches of {cut or rows.size}, {wrong}"
    for victim in range(0, rows.size, max(1, rows.size // 4)):
        others = [row for row in range(rows.size) if row != victim]
        wanted = subject.run(rows).go_on(rows, others, 1)
        run = subject.run(rows)
        run.transaction(rows, range(rows.size))  # a later step raises on the victim: undone, and run without it
        run.state.undo()
        if wrong := subject.differs(run.go_on(rows, others), wanted):
            return f"row {victim} was refused by a later step: {wrong} as if it had never come"
    return None


def _needs_state(subject: Subject) -> None:
    if not subject.operator.tables and subject.parts is None:
        raise SkippedError("it keeps no state")


Check = Callable[[Subject, SampleRows], str | None]
_WITH_BAD_ROWS = ("bad-rows",)
CHECKS: dict[str, tuple[Check, str]] = {
    "declaration": (lambda subject, rows: None, "inputs, outputs and tables are named once and have types"),
    "only-declared": (
        _only_declared,
        "reads its inputs, adds its outputs, of the declared types; changes nothing else",
    ),
    "batch-cuts": (_batch_cuts, "batches of 1, 2, 7 and all rows give the same"),
    "restore": (_restore, "stopped in the middle and restored from its store, it gives the same"),
    "replay": (_replay, "a silent replay leaves the same state"),
    "undo": (_undo, "a batch undone leaves no trace"),
    "keys": (_keys, "what a key gets depends on its own rows only"),
    "tasks": (_tasks, "what a task gets depends on its own rows only"),
    "ttl": (_ttl, "a key that expired is new"),
    "determinism": (_determinism, "run again, it gives the same"),
    "nulls": (_nulls, "NULL in an input raises nothing, and the value under it is not read"),
    "bad-rows": (_bad_rows, "a row that raises is lost alone"),
}
