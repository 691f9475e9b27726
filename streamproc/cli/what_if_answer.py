"""What was decided then against what is decided now: the answer of `what-if`, and its report."""

from __future__ import annotations

__all__ = ["Answering"]

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from models.evaluation.decisions import BLOCKING, Decisions
from models.evaluation.evaluation import Settings, evaluated
from operators.plan import ROUTE, Plan
from state.errors import ConfigError
from streamproc.cli.comparing import compared
from streamproc.cli.files import Piece
from streamproc.cli.journaled import Journaled
from streamproc.cli.judgements import Judgements, sources_of
from streamproc.cli.learned import learned_from
from streamproc.cli.replacing import replacing
from streamproc.cli.replay_files import Result
from streamproc.cli.report import changes_beside, labels_said
from streamproc.cli.report_options import ReportOptions
from streamproc.cli.times import rfc3339
from streamproc.cli.what_if_options import Answer, Asked, Begun
from streamproc.report.page import page
from streamproc.report.report import Changed, Comparison, Report
from streamproc.runtime.again import Again

_PLAIN = ReportOptions(
    label=None, labels=None, label_delay=None, fraud_kind=None, segments=(), amount=None, card=None, cards_a_day=100,
    alert_cost=0.0, insult_cost=0.0, decline=(), path=Path(),
)  # fmt: skip


class Answering:
    """Takes what a stage decides again, task by task.

    Args:
        plan: of the stage.
        asked: what.
        options: of the report; None: none is wanted.
    """

    def __init__(self, plan: Plan, asked: Asked, options: ReportOptions | None) -> None:
        """Raises ConfigError if the stream does not have what the report is to say."""
        self._plan, self._asked, self._wanted = plan, asked, options is not None
        self._options = options or _PLAIN
        if not self._options.card and plan.stream.key == ROUTE:
            self._options = replace(self._options, card=plan.subject)
        self._now = Judgements([plan], sources_of([plan], self._options), asked.since_ms)
        self._then = Journaled(plan.stream.id, asked.since_ms, scored=plan.decision.score is not None)
        self._begun: list[Begun] = []
        given = self._options
        self._settings = Settings(given.cards_a_day, given.alert_cost, given.insult_cost, given.decline or BLOCKING)

    def begin(self, begun: Begun) -> None:
        """A task comes next."""
        self._begun.append(begun)

    def add(self, task: int, batch: Again) -> None:
        """What it decides.

        Raises:
            StateCorruptedError: the journal does not fit its input.
            ConfigError: a label is none.
        """
        self._then.add(batch)
        self._now.add(_result(task, batch))

    def answer(self) -> Answer:
        """Hold them against each other; write the report.

        Raises:
            ConfigError: nothing was decided since, or no payment has a label where there should be some.
        """
        since = rfc3339(self._asked.since_ms)
        if not self._now.ids:
            raise ConfigError(f"nothing was decided since {since}", hint="an earlier --since")
        now = self._now.decisions()
        then = self._then.decisions(now)
        beside = changes_beside(self._options.path) if self._wanted else Path()
        name = Path(self._asked.pipeline).name
        found, changes = compared(then, now, self._then.ids, name, settings=self._settings, beside=beside.name)
        learned = learned_from([self._plan], now.times)
        if self._wanted:
            _write(self._options.path, beside, self._report(then, found, learned), changes)
        return Answer(
            self._plan.pipeline, since, len(then.rows), found.same, found.stricter_rows,
            found.milder_rows, found.only_before, found.only_after, found.moves, tuple(self._begun),
            str(self._options.path) if self._wanted else "", str(beside) if self._wanted and changes else "",
            self._now.immature, self._now.completeness, learned,
        )  # fmt: skip

    def _report(self, then: Decisions, found: Comparison, learned: tuple[str, ...]) -> Report:
        return Report(
            self._plan.pipeline,
            self._plan.state_fingerprint,
            (f"the log since {rfc3339(self._asked.since_ms)}",),
            labels_said(self._options, "records", self._now),
            int(then.times.min()) if then.times.size else 0,
            int(then.times.max()) if then.times.size else 0,
            self._now.undecided,
            self._now.duplicates,
            self._settings,
            evaluated(then, self._settings),
            found,
            "Decisions",
            learned,
        )


def _result(task: int, batch: Again) -> Result:
    """A batch as a replay of files would give it: offsets are places in the piece."""
    rows = replace(batch.judged.rows, offsets=np.searchsorted(batch.offsets, batch.judged.rows.offsets))
    piece = Piece([value or b"" for value in batch.values], (), batch.offsets.tolist(), (), 0)
    return Result(Path(f"partition {task}"), piece, replace(batch.judged, rows=rows), rows.refused, 0)


def _write(page_path: Path, changes_path: Path, report: Report, changes: Sequence[Changed]) -> None:
    with replacing(page_path) as page_at, replacing(changes_path) as changes_at:
        page_at.write_text(page(report), encoding="utf-8")
        changes_at.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in changes))
    if not changes:
        changes_path.unlink()
