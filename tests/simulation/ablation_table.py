"""Switches mechanisms off, one by one, and writes what notices into docs/reliability.md.

python -m tests.simulation.ablation_table [--jobs 2]              all, and the table
python -m tests.simulation.ablation_table --test MECHANISM        runs its named test without it; 0 if that fails
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


def fails_without(ablation: Ablation) -> bool:
    """Whether the named test of a mechanism fails when that is switched off, and passes when not."""
    assert ablation.test is not None
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", ablation.test]
    with contextlib.redirect_stdout(io.StringIO()):
        passed = pytest.main(arguments) == pytest.ExitCode.OK
        failures = _Failures()
        with ablation.off():
            failed = pytest.main(arguments, [failures]) == pytest.ExitCode.TESTS_FAILED
    return passed and failed and not any(map(is_slip, failures.seen))


def notice(number: int) -> str | None:
    """What notices that a mechanism is gone; None if nothing does."""
    ablation = ABLATIONS[number]
    if ablation.test is not None:
        return f"`{ablation.test}`" if fails_without(ablation) else None
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
    parser.add_argument("--test", metavar="MECHANISM")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    given = parser.parse_args()
    if given.test is not None:
        return 0 if fails_without(next(one for one in ABLATIONS if one.mechanism == given.test)) else 1
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
