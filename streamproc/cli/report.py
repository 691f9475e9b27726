"""A backtest's report: what is collected while it runs, and the page at the end. `--compare` runs a second pipeline."""

from __future__ import annotations

__all__ = ["Reporting", "Told", "changes_beside"]

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.decisions import BLOCKING, Decisions
from models.evaluation.differences import differences
from models.evaluation.evaluation import Settings, evaluated
from operators.plan import Plan, streams_of
from streamproc.cli.calls import Answers, LiveCalls, declared_defaults
from streamproc.cli.common import CallsMode, load_stages
from streamproc.cli.files import resolve_inputs
from streamproc.cli.judgements import Judgements, sources_of
from streamproc.cli.options import refuse_unless
from streamproc.cli.progress import Progress
from streamproc.cli.replay_files import FileReplay, Result
from streamproc.cli.report_options import ReportOptions
from streamproc.cli.side_rows import sides_of
from streamproc.report.page import page
from streamproc.report.report import Changed, Comparison, Report

LISTED_MAX = 10_000
SHOWN_MAX = 20


class Told(NamedTuple):
    """What was written. `changes`: the list beside the page, if something would change; how many, both ways."""

    page: Path
    changes: Path | None
    stricter: int
    milder: int

    def summary(self) -> dict[str, object]:
        """For programs."""
        said: dict[str, object] = {"report": str(self.page)}
        if self.changes:
            said["changes"] = {"stricter": self.stricter, "milder": self.milder, "output": str(self.changes)}
        return said

    def text(self) -> str:
        """For people."""
        said = f"report -> {self.page}\n"
        if self.changes:
            said += (
                f"decided differently: {self.stricter:,} more strictly, {self.milder:,} more mildly -> {self.changes}\n"
            )
        return said


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
        page_at.write_text(page(self._report(found, comparison)), encoding="utf-8")
        changes_at.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in changes))
        if comparison is None:
            return Told(self.path, None, 0, 0)
        return Told(self.path, self.changes if changes else None, comparison.stricter_rows, comparison.milder_rows)

    def _report(self, found: Decisions, comparison: Comparison | None) -> Report:
        options, apart = self._options, self._options.labels
        said = f"column {options.label} of the input" if options.label else "none (--label names them)"
        if apart:
            said = f"column {options.label} of {apart.name}" if options.label else f"the list of frauds {apart.name}"
        plan = self._plans[-1]
        return Report(
            plan.pipeline,
            plan.state_fingerprint,
            tuple(path.name for paths in self._paths.values() for path in paths),
            said,
            int(found.times.min()),
            int(found.times.max()),
            self._judged.undecided,
            self._judged.duplicates,
            self._settings,
            evaluated(found, self._settings),
            comparison,
        )

    def _compare(self, before: Decisions) -> tuple[Comparison, list[Changed]]:
        assert self._other is not None
        plans, judged, paths = self._other
        _replayed(plans, judged, paths, self._calls)
        after = judged.decisions()
        found = differences(before, after)
        both = [
            [_changed(direction, before, after, self._judged.ids[row], one) for row, one in _pairs(pairs)]
            for direction, pairs in (("stricter", found.stricter), ("milder", found.milder))
        ]
        stricter, milder = both
        comparison = Comparison(
            _name(plans, self._plans, self._options.compare),
            evaluated(after, self._settings),
            found.moves,
            found.same,
            found.only_before,
            found.only_after,
            tuple(stricter[:SHOWN_MAX]),
            len(found.stricter),
            tuple(milder[:SHOWN_MAX]),
            len(found.milder),
            len(stricter) + len(milder),
            self.changes.name,
        )
        return comparison, [*stricter, *milder]


def _actions(plans: Sequence[Plan]) -> tuple[str, ...]:
    decision = plans[-1].decision
    return tuple(dict.fromkeys([*decision.severity, decision.otherwise]))


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


def _pairs(pairs: npt.NDArray[np.int64]) -> list[tuple[int, tuple[int, int]]]:
    """Of the first `LISTED_MAX`: the place before, and both places."""
    return [(before, (before, after)) for before, after in pairs[:LISTED_MAX].tolist()]


def _changed(direction: str, before: Decisions, after: Decisions, payment: str, pair: tuple[int, int]) -> Changed:
    old, new = pair
    when = datetime.fromtimestamp(int(before.times[old]) / 1000, UTC).isoformat(timespec="seconds")
    label = int(before.labels[old])
    return Changed(
        direction,
        payment,
        when.replace("+00:00", "Z"),
        _known(before.amounts[old]),
        None if label < 0 else label == 1,
        before.actions[before.action[old]],
        after.actions[after.action[new]],
        _known(before.scores[old]),
        _known(after.scores[new]),
        _rules(before, old),
        _rules(after, new),
    )


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _rules(found: Decisions, row: int) -> tuple[str, ...]:
    return tuple(found.rules[at] for at in np.flatnonzero(found.hits[row]).tolist() if at not in found.shadow)
