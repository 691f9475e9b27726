"""Switches mechanisms off, one by one, and writes what notices into docs/reliability.md.

python -m tests.simulation.ablation_table [--jobs 2]              all, and the table
python -m tests.simulation.ablation_table --test TEST             runs a test that mechanisms name, then without each
                                                                  of them; 0 if it passes, then fails each time
"""

from __future__ import annotations

__all__ = ["DOCUMENT", "recorded", "row"]

import argparse
import contextlib
import io
import multiprocessing
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.simulation.ablations import ABLATIONS, SEEDS, Ablation, caught_by, is_slip

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- ablations, by make -->\n", "<!-- end -->\n"
_HEAD = "| without | which is there so that | what notices |\n|---|---|---|\n"
_ROW = re.compile(r"^\| (.+?) \| .+? \| (?:seed (\d+): .*|(`.+?`)) \|$", re.MULTILINE)
_WORDS = 90


def row(ablation: Ablation, noticed: str) -> str:
    """A line of the table."""
    return f"| {ablation.mechanism} | {ablation.purpose} | {noticed} |\n"


def recorded() -> dict[str, int | None]:
    """The mechanisms of the table with the seeds that notice; None: a test does."""
    return {name: int(seed) if seed else None for name, seed, _ in _ROW.findall(DOCUMENT.read_text())}


class _Failures:
    """A plugin that keeps what tests failed of."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def pytest_exception_interact(self, call: pytest.CallInfo[None]) -> None:
        """See pytest."""
        assert call.excinfo is not None
        self.seen.append(f"{call.excinfo.typename}: {call.excinfo.value}")


def passes(test: str) -> bool:
    """Whether a test passes when nothing is switched off."""
    return _ends(test, _Failures()) == pytest.ExitCode.OK


def fails_without(ablation: Ablation) -> bool:
    """Whether the named test of a mechanism fails when that is switched off."""
    assert ablation.test is not None
    failures = _Failures()
    with ablation.off():
        ended = _ends(ablation.test, failures)
    return ended == pytest.ExitCode.TESTS_FAILED and not any(map(is_slip, failures.seen))


def _ends(test: str, failures: _Failures) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", test], [failures])


def faults_of(test: str) -> list[str]:
    """What is wrong with a test that is to notice when mechanisms are gone."""
    if not passes(test):
        return [f"{test} fails as it is"]
    named = [one for one in ABLATIONS if one.test == test]
    return [f"without {one.mechanism}: NOBODY NOTICES" for one in named if not fails_without(one)]


def notice(number: int) -> str | None:
    """What notices that a mechanism is gone; None if nothing does."""
    ablation = ABLATIONS[number]
    if ablation.test is not None:
        return f"`{ablation.test}`" if passes(ablation.test) and fails_without(ablation) else None
    caught = caught_by(ablation)
    if caught is None:
        return None
    words = re.sub(r"\s+", " ", caught[1]).replace("|", "/")
    return f"seed {caught[0]}: {words if len(words) <= _WORDS else words[:_WORDS].rsplit(' ', 1)[0] + ' ...'}"


def write(noticed: Mapping[str, str]) -> None:
    """The table, in its place in the document."""
    before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = "".join(row(ablation, noticed[ablation.mechanism]) for ablation in ABLATIONS)
    DOCUMENT.write_text(before + _BEGIN + _HEAD + rows + _END + after)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.ablation_table")
    parser.add_argument("--test", choices={one.test for one in ABLATIONS if one.test is not None})
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    given = parser.parse_args()
    if given.test is not None:
        wrong = faults_of(given.test)
        print(*wrong, sep="\n")
        return 1 if wrong else 0
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        noticed: dict[str, str] = {}
        unnoticed: list[str] = []
        for ablation, what in zip(ABLATIONS, pool.imap(notice, range(len(ABLATIONS))), strict=True):
            print(f"without {ablation.mechanism}: {what or 'NOBODY NOTICES'}", flush=True)
            if what is None:
                unnoticed.append(ablation.mechanism)
            else:
                noticed[ablation.mechanism] = what
    if unnoticed:
        print(f"not noticed within {SEEDS} seeds: {', '.join(unnoticed)}; the table stays as it was")
        return 1
    write(noticed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
