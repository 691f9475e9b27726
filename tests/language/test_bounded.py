"""What a file can ask for is bounded: no YAML, expression or pattern takes long or much memory.

Each is asked in a process of its own, which the kernel ends at `SECONDS` of processor time or `MEMORY` bytes of data.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from streamproc.language.problems import SAID_MAX
from tests.language.test_wrong import CORPUS, ROOT
from tests.processes import Process
from tests.sql.support import payments, write

SECONDS = 30
MEMORY = 1 << 30
ROWS = 10_000
RIGHT = (CORPUS / "right" / "cards.yaml").read_text()


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamproc.cli.main", *words]
    with Process(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def bomb(levels: int, item: str) -> str:
    """Each level is ten of the one before."""
    lines = [f"a0: &a0 {item}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return RIGHT + "\n".join(lines) + "\n"


RULE = "  - {{id: r{n}, when: amuont{n} > 5, then: review}}\n"
FILES = {
    "10 MB of comment": (RIGHT + "# " + "x" * 10_000_000, "larger than 1048576 characters"),
    "10 MB of rules": (RIGHT + "  - {id: a, when: amount > 1, then: review}\n" * 250_000, "larger than 1048576"),
    "aliases of lists": (bomb(30, "[x, x, x, x]"), "entries, aliases counted"),
    "aliases of mappings": (bomb(30, "{a: x, b: x}"), "entries, aliases counted"),
    "half a million brackets": ("a: " + "[" * 500_000, "nested deeper than 32 levels"),
    "half a million braces": ("a: " + "{" * 500_000, "nested deeper than 32 levels"),
    "a deep block": ("".join(" " * n + "a:\n" for n in range(1000)), "nested deeper than 32 levels"),
    "a key of a megabyte": (RIGHT + "x" * 1_000_000 + ": 1\n", "not YAML"),
    "an expression of a megabyte": (RIGHT.replace("amount / prev", "1 + " * 250_000 + "prev"), "at most 20000 char"),
    "an expression of brackets": (RIGHT.replace("amount / prev", "(" * 900 + "prev"), "nested more than 30 levels"),
    "an expression of minuses": (
        RIGHT.replace("amount / prev", "0 " + "- " * 900 + "prev"),
        "nested more than 30 levels",
    ),
    "a number of 10,000 digits": (
        RIGHT.replace("amount / prev", "1" * 10_000 + " + prev"),
        "the number does not fit int64",
    ),
    "20,000 unknown keys": (RIGHT + "".join(f"keyy{n}: 1\n" for n in range(20_000)), "are not shown"),
    "6,000 unknown columns": (
        RIGHT.replace("rules:\n", "rules:\n" + "".join(RULE.format(n=n) for n in range(6_000))),
        "5900 more are not shown",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_refused(case: str, tmp_path: Path) -> None:
    text, said = FILES[case]
    (tmp_path / "p.yaml").write_text(text)
    done = ask("validate", str(tmp_path / "p.yaml"))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr[:500]
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) <= SAID_MAX + 1
    assert max(map(len, lines)) < 1_000


PATTERNS = [
    "((A*)*)* B",
    "((A+)+)+ B",
    "((A*?)*?)*? B",
    "(((A | A)* | A*)*)* B",
    "((A?){1,20})* B",
    "(A{0,20}){0,20} B",
    "((A*)* | (A* A*)*)* B",
    "A* A* A* A* A* A* A* A* B",
    "(A (A (A (A?)?)?)?)* B",
]
"""Whose ways through a backtracking matcher double with each row; A is every row, B none."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of one key, in order of time."""
    rows = [{**row, "card_id": "c"} for row in payments(ROWS)]
    return write(tmp_path_factory.mktemp("rows"), "payments", rows)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_over_many_rows_ends(pattern: str, table: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PIPELINE.replace("PATTERN_HERE", pattern))
    done = ask("backtest", str(tmp_path / "p.yaml"), "--input", str(table), "--output", str(tmp_path / "out.parquet"))
    assert done.returncode == 0, done.stderr[-500:]
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == ROWS


PIPELINE = """\
pipeline: rows
streams:
  payments:
    id: payment_id
    event_time: event_time
    fields: {payment_id: string, card_id: string, amount: float64, event_time: timestamp}
partition_by: card_id
patterns:
  bomb: PATTERN (PATTERN_HERE) DEFINE A AS amount > 0 OR amount IS NULL, B AS amount < 0
rules:
  - {id: found, when: matched(bomb), then: review}
"""
