"""Progress without a terminal: lines, and few."""

from __future__ import annotations

import pytest

from streamproc.cli.progress import Progress


def test_without_a_terminal_lines_come_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("streamproc.cli.progress.time.monotonic", lambda: now)
    with Progress("backtest", 200) as progress:
        for second in range(25):
            now = float(second)
            progress.update(second, 1000 * second)
    assert capsys.readouterr().err == "backtest: 5%, 10,000 rows\nbacktest: 10%, 20,000 rows\n"
