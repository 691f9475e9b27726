"""What the cases came to: for people, as JSON, and what they leave out."""

from __future__ import annotations

__all__ = ["SHOWN_MAX", "CaseReport", "printable"]

from collections.abc import Sequence
from io import StringIO
from typing import Any, TextIO

from operators.plan import Plan
from streamproc.cli.case_runner import CaseOutcome, Difference
from streamproc.language.cases import names_told
from streamproc.language.load import NO_SCORE

SHOWN_MAX = 50
"""Differences of one case that people are shown."""
_WIDTH = 120
"""Columns of a table where stdout is no terminal."""


class CaseReport:
    """Collects the outcomes of all cases."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: of the stages, in order."""
        self._plan = plans[-1]
        self._features = [feature.name for plan in plans for feature in plan.features]
        self._told = names_told(plans)
        self.outcomes: list[CaseOutcome] = []

    def add(self, outcome: CaseOutcome) -> None:
        """Take one."""
        self.outcomes.append(outcome)

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(bool(outcome.differences) for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """What all cases took."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def rules(self) -> list[str]:
        """The rules that cases can hit; `no_score` is not the analyst's, and needs a model that fails."""
        return [rule.id for rule in self._plan.rules if rule.id != NO_SCORE]

    @property
    def rules_never_hit(self) -> list[str]:
        """The rules that no event of any case hit."""
        hit = {rule for outcome in self.outcomes for rule in outcome.hits}
        return [rule for rule in self.rules if rule not in hit]

    @property
    def features_never_looked_at(self) -> list[str]:
        """The features that no case expects anything of."""
        seen = {name for outcome in self.outcomes for expected in outcome.case.expected for name in expected.columns}
        return [name for name in self._features if name not in seen]

    @property
    def never_told(self) -> list[str]:
        """The alerts and statements that told nothing in any case."""
        told = {name for outcome in self.outcomes for name in outcome.told}
        return [name for name in self._told if name not in told]

    def write_case(self, outcome: CaseOutcome, out: TextIO) -> None:
        """One line, and the table of differences."""
        place = outcome.case.place
        word = "FAILED" if outcome.differences else "ok"
        out.write(f"{word:<7}{place.file}:{place.line} {printable(outcome.case.name)}\n")
        if outcome.differences:
            _write_table(outcome.differences, out)

    def summary(self, coverage: bool) -> str:
        """The last lines."""
        total = len(self.outcomes)
        lines = [f"{total} case" + "s" * (total != 1) + f": {total - self.failed} ok, {self.failed} failed"]
        if coverage:
            missed, unseen = self.rules_never_hit, self.features_never_looked_at
            lines.append(f"rules never hit: {len(missed)} of {len(self.rules)}")
            lines += [f"  {rule}" for rule in missed]
            lines.append(f"features never looked at: {len(unseen)} of {len(self._features)}")
            lines += [f"  {name}" for name in unseen]
            if self._told:
                lines.append(f"alerts and statements never told: {len(self.never_told)} of {len(self._told)}")
                lines += [f"  {name}" for name in self.never_told]
        return "\n".join(lines) + "\n"

    def line(self, coverage: bool) -> dict[str, Any]:
        """The same as JSON."""
        said: dict[str, Any] = {
            "pipeline": self._plan.pipeline,
            "cases": [
                {
                    "file": outcome.case.place.file,
                    "line": outcome.case.place.line,
                    "name": outcome.case.name,
                    "ok": not outcome.differences,
                    "differences": outcome.differences,
                    "seconds": round(outcome.seconds, 4),
                }
                for outcome in self.outcomes
            ],
            "ok": len(self.outcomes) - self.failed,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
        }
        if coverage:
            said["rules"] = len(self.rules)
            said["rules_never_hit"] = self.rules_never_hit
            said["features"] = len(self._features)
            said["features_never_looked_at"] = self.features_never_looked_at
            said["alerts_and_statements"] = len(self._told)
            said["never_told"] = self.never_told
        return said


def printable(text: str) -> str:
    """What is no printable character, such as a terminal's escape, as Python writes it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write_table(differences: tuple[Difference, ...], out: TextIO) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("event", "field", "expected", "found"):
        table.add_column(name, overflow="fold")
    for one in differences[:SHOWN_MAX]:
        table.add_row(*map(printable, (one.event, one.field, one.expected, one.found)))
    on_screen = out.isatty()
    text = StringIO()
    console = Console(
        file=text,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=on_screen,
        width=None if on_screen else _WIDTH,
    )
    console.print(Padding(table, (0, 0, 0, 7)))
    out.writelines(line.rstrip() + "\n" for line in text.getvalue().splitlines())
    if len(differences) > SHOWN_MAX:
        out.write(f"{'':7}and {len(differences) - SHOWN_MAX} more\n")
