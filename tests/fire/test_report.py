"""The report counts what happened, and hides no campaign that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.fire.report import SIMULATION, VARIABLE, About, Entry, read, record, recorded, render
from tests.simulation.__main__ import many
from tests.simulation.campaign import Outcome
from tests.simulation.tally import TROUBLE
from tests.soak.__main__ import Soak

ROOT = Path(__file__).parents[2]
TOLD = About("abc123", "2 cores", "2026-01-02 03:04 UTC", 60.04)


def test_the_page_adds_up() -> None:
    entries = [
        Entry("kills", 1, 1_000, 60.0, {"K1 poll": 2}, {}, {"duplicates": 0}),
        Entry("kills", 2, 2_000, 60.0, {"K1 poll": 1, "K5 end sent, no reply": 4}, {}, {"duplicates": 3}),
        Entry("network", 3, 500, 30.0, {}, {"refused": 6}, {}),
    ]
    page = render(entries, TOLD).splitlines()
    assert "Commit abc123, 2026-01-02 03:04 UTC, 60.0 minutes on 2 cores." in page
    assert "3 campaigns, 3,500 events, 7 kills, 6 other faults, **3 violations**." in page
    assert "| kills | 2 | 3,000 | 2.0 | 7 | 0 | 3 |" in page
    assert "| network | 1 | 500 | 0.5 | 0 | 6 | 0 |" in page
    assert {"| K1 poll | 3 |", "| K5 end sent, no reply | 4 |", "| refused | 6 |"} <= set(page)
    assert "- kills, seed 2: {'duplicates': 3}" in page


def test_what_did_not_run_is_no_run_and_named() -> None:
    page = render(
        [Entry("damage", 0, 0, 0.0, runs=0), Entry("damage", 0, 10, 60.0, {}, {"flipped": 1})], TOLD
    ).splitlines()
    assert "| damage | 1 | 10 | 1.0 | 0 | 1 | 0 |" in page
    assert any(line.startswith("Not run") and line.endswith("damage 1.") for line in page)


def test_simulated_seeds_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "records"))
    seen = dict.fromkeys(TROUBLE, 1) | {"records": 300}
    good = Outcome(1000, 300, [], {"pause": 2}, seen, "", 0, 0.0)
    many([good, Outcome(1001, 400, ["x"], {"pause": 1}, seen, "", 0, 0.0)], 1000)
    (entry,) = (msgspec.json.decode(line, type=Entry) for line in (tmp_path / "records").read_bytes().splitlines())
    assert (entry.campaign, entry.seed, entry.runs, entry.events) == (SIMULATION, 1000, 2, 700)
    assert entry.violations == {"seed 1001 failed": 1}
    page = render([entry, Entry("disk", 0, 10, 6.0, {}, {"full": 1})], TOLD)
    real, _, simulated = page.partition("## Simulated faults by kind")
    assert "| full | 1 |" in real
    assert "| pause | 3 |" not in real
    assert "| pause | 3 |" in simulated
    assert "- simulation, seed 1000: {'seed 1001 failed': 1}" in simulated


def report(records: Path, page: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fire.report", str(records), str(page), "--minutes", "3"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("there", [True, False])
def test_without_records_there_is_no_page(tmp_path: Path, there: bool) -> None:
    records, page = tmp_path / "records", tmp_path / "page"
    if there:
        records.touch()
    done = report(records, page)
    assert done.returncode == 1
    assert done.stderr == f"error: {records} holds no records: no campaign ran, see what pytest said above\n"
    assert not page.exists()


def test_the_page_names_commit_machine_and_minutes(tmp_path: Path) -> None:
    records, page = tmp_path / "records", tmp_path / "page"
    records.write_bytes(msgspec.json.encode(Entry("disk", 0, 10, 6.0)) + b"\n")
    assert report(records, page).returncode == 0
    third = page.read_text().splitlines()[2]
    assert third.startswith("Commit ")
    assert "3.0 minutes on " in third
    assert " cores of " in third


MATRIX = """
import pytest
pytestmark = pytest.mark.matrix("disk")

def test_full_disk(running):
    running.events = 5

@pytest.mark.parametrize("kind", ["cut"])
def test_bad_disk(kind):
    assert kind is None

@pytest.fixture
def broken():
    raise ValueError

def test_no_disk(broken):
    pass
"""


@pytest.mark.parametrize(("until", "ran"), [(2**40, True), (0, False)])
def test_tests_of_the_matrix_are_campaigns(tmp_path: Path, until: int, ran: bool) -> None:
    """Under the hooks of tests/conftest.py; none begins after its time."""
    (tmp_path / "test_it.py").write_text(MATRIX)
    environment = os.environ | {VARIABLE: str(tmp_path / "records"), "SOAK_UNTIL": str(until)}
    options = ["-q", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    found = [msgspec.json.decode(line, type=Entry) for line in (tmp_path / "records").read_bytes().splitlines()]
    if not ran:
        assert done.returncode == 0
        assert found == [Entry("disk", 0, 0, 0.0, runs=0)] * 3
        return
    assert done.returncode == 1
    assert [(entry.campaign, entry.events, entry.faults, entry.violations) for entry in found] == [
        ("disk", 5, {"full disk": 1}, {}),
        ("disk", 0, {"bad disk": 1}, {"test_bad_disk[cut]": 1}),
        ("disk", 0, {"no disk": 1}, {"test_no_disk": 1}),
    ]


def break_off() -> None:
    with recorded("bad", 2) as running:
        running.faults["refused"] += 1
        raise ValueError("stuck")


def test_a_campaign_that_breaks_off_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "records"))
    with recorded("good", 1) as running:
        running.events = 7
    with pytest.raises(ValueError, match="stuck"):
        break_off()
    lines = (tmp_path / "records").read_bytes().splitlines()
    good, bad = (msgspec.json.decode(line, type=Entry) for line in lines)
    assert (good.events, good.violations) == (7, {})
    assert (bad.faults, bad.violations) == ({"refused": 1}, {"failed": 1})
    assert "- bad, seed 2: {'failed': 1}" in render([good, bad], TOLD)


def test_nothing_is_kept_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with recorded("good", 1):
        pass


def test_a_part_of_a_soak_that_died_without_a_word_is_a_violation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "restored at the end")

    def python(_: Soak, module: str, *given: str, **environment: str) -> int:
        if "matrix" in given:
            record(Entry("disk", 0, 10, 6.0, {}, {}, {"test_full_disk": 1}))
        return 1 if module == "pytest" else 0

    monkeypatch.setattr(Soak, "_python", python)
    soak = Soak(1.0, 1, tmp_path)
    assert soak.run() == 1
    assert [(entry.campaign, entry.violations) for entry in read(soak.records)] == [
        ("disk", {"test_full_disk": 1}),
        ("campaigns", {"exit code 1": 1}),
    ]
