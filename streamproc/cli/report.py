"""A backtest's report: what is collected while it runs, and the page at the end. `--compare` runs a second pipeline."""

from __future__ import annotations

__all__ = ["Reporting", "Told", "changes_beside", "labels_said"]

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.evaluation.decisions import BLOCKING, Decisions
from models.evaluation.evaluation import Settings, evaluated
from operators.plan import Plan, streams_of
from streamproc.cli.calls import Answers, LiveCalls, declared_defaults
from streamproc.cli.common import CallsMode, load_stages
from streamproc.cli.comparing import compared
from streamproc.cli.files import resolve_inputs
from streamproc.cli.judgements import Judgements, sources_of
from streamproc.cli.learned import learned_from
from streamproc.cli.options import refuse_unless
from streamproc.cli.progress import Progress
from streamproc.cli.replay_files import FileReplay, Result
from streamproc.cli.report_options import ReportOptions
from streamproc.cli.side_rows import sides_of
from streamproc.report.page import page
from streamproc.report.report import Changed, Comparison, Report


class Told(NamedTuple):
    """What was written. `changes`: the list beside the page, if something would change; how many, both ways.

    `immature`: payments whose labels are still to come. `completeness`: the same in words; "": nothing to say.
    `learned`: models that learned from days which are judged, a sentence each.
    """

    page: Path
    changes: Path | None
    stricter: int
    milder: int
    immature: int
    completeness: str
    learned: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        """For programs."""
        said: dict[str, object] = {"report": str(self.page)}
        if self.immature:
            said["immature"] = self.immature
        if self.changes:
            said["changes"] = {"stricter": self.stricter, "milder": self.milder, "output": str(self.changes)}
        if self.learned:
            said["learned"] = self.learned
        return said

    def text(self) -> str:
        """For people."""
        said = f"report -> {self.page}\n" + (f"frauds: {self.completeness}\n" if self.completeness else "")
        if self.changes:
            said += (
                f"decided differently: {self.stricter:,} more strictly, {self.milder:,} more mildly -> {self.changes}\n"
            )
        return said

    def warning(self) -> str:
        """A line for each model that looks better than it is."""
        return "".join(f"warning: {line}\n" for line in self.learned)


def changes_beside(path: Path) -> Path:
    """Where a report lists what would be decided differently."""
    return path.with_suffix(".changes.ndjson")


class Reporting:
    """One report, from its options to its files."""

    def __init__(self, plans: Sequence[Plan], inputs: Sequence[str], options: ReportOptions, calls: CallsMode) -> None:
        """Look at all that can be wrong before the backtest begins.

        Raises:
            ConfigError: a name, a label or the other pipeline is wrong.
        """
        self._plans, self._options, self._calls = plans, options, calls
        unknown = [action for action in options.decline if action not in _actions(plans)]
        refuse_unless(not unknown, f"--decline: no action is called {', '.join(unknown)}", ", ".join(_actions(plans)))
        sources = sources_of(plans, options)
        self._judged = Judgements(plans, sources)
        self._paths = resolve_inputs(inputs, plans)
        self._other: tuple[Sequence[Plan], Judgements, dict[str, list[Path]]] | None = None
        if options.compare is not None:
            others = load_stages(options.compare)
            judged = Judgements(others, sources_of(others, options))
            self._other = others, judged, resolve_inputs(inputs, others)
        self._settings = Settings(
            options.cards_a_day, options.alert_cost, options.insult_cost, options.decline or BLOCKING
        )

    @property
    def path(self) -> Path:
        """Of the page."""
        return self._options.path

    @property
    def changes(self) -> Path:
        """Of the list beside it."""
        return changes_beside(self._options.path)

    def add(self, result: Result) -> None:
        """Keep what is needed of a piece."""
        self._judged.add(result)

    def make(self, page_at: Path, changes_at: Path) -> Told:
        """Run the other pipeline, if there is one, and write the page and the list to these drafts.

        Raises:
            ConfigError: nothing was decided, or no payment has a label where there should be some.
        """
        found = self._judged.decisions()
        comparison, changes = self._compare(found) if self._other else (None, [])
        learned = self._learned(found)
        page_at.write_text(page(self._report(found, comparison, learned)), encoding="utf-8")
        changes_at.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in changes))
        stricter, milder = (comparison.stricter_rows, comparison.milder_rows) if comparison else (0, 0)
        beside, judged = self.changes if changes else None, self._judged
        return Told(self.path, beside, stricter, milder, judged.immature, judged.completeness, learned)

    def _learned(self, found: Decisions) -> tuple[str, ...]:
        """Of both pipelines."""
        own = learned_from(self._plans, found.times)
        if self._other is None:
            return own
        plans = self._other[0]
        name = _name(plans, self._plans, self._options.compare)
        return (*own, *(f"of {name}: {line}" for line in learned_from(plans, found.times)))

    def _report(self, found: Decisions, comparison: Comparison | None, learned: tuple[str, ...]) -> Report:
        plan = self._plans[-1]
        return Report(
            plan.pipeline,
            plan.state_fingerprint,
            tuple(path.name for paths in self._paths.values() for path in paths),
            labels_said(self._options, "input", self._judged),
            int(found.times.min()),
            int(found.times.max()),
            self._judged.undecided,
            self._judged.duplicates,
            self._settings,
            evaluated(found, self._settings),
            comparison,
            learned=learned,
        )

    def _compare(self, before: Decisions) -> tuple[Comparison, list[Changed]]:
        assert self._other is not None
        plans, judged, paths = self._other
        _replayed(plans, judged, paths, self._calls)
        name = _name(plans, self._plans, self._options.compare)
        after, beside = judged.decisions(), self.changes.name
        return compared(before, after, self._judged.ids, name, settings=self._settings, beside=beside)


def labels_said(options: ReportOptions, records: str, judged: Judgements) -> str:
    """Where labels come from, and how far they go; `records`: what the payments themselves are called."""
    if (apart := options.labels) and options.label:
        return f"column {options.label} of {apart.name}"
    if apart:
        return f"the list of frauds {apart.name}; {judged.completeness}"
    return f"column {options.label} of the {records}" if options.label else "none (--label names them)"


def _actions(plans: Sequence[Plan]) -> tuple[str, ...]:
    return plans[-1].decision.actions.names


def _name(plans: Sequence[Plan], first: Sequence[Plan], path: str | None) -> str:
    """Of the other pipeline: of its file, where both are called alike."""
    name = plans[-1].pipeline
    return name if name != first[-1].pipeline or path is None else Path(path).name


def _replayed(plans: Sequence[Plan], judged: Judgements, paths: dict[str, list[Path]], calls: CallsMode) -> None:
    decided = paths[next(iter(streams_of(plans)))]
    live: AbstractContextManager[Answers] = LiveCalls() if calls is CallsMode.LIVE else nullcontext(declared_defaults)
    rows = 0
    with live as answers, Progress("compare", sum(path.stat().st_size for path in decided)) as progress:
        replay = FileReplay(plans, sides_of(plans, paths), answers)
        for result in replay.run(decided):
            judged.add(result)
            replay.told()
            rows += len(result.piece.rows)
            progress.update(result.progress, rows)
