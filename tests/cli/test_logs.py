"""Logs are JSON lines on stderr, ours and those of libraries."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from streamproc.cli.logs import configure_logs


def test_logs_never_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger("worker").bind(worker=1).warning("slow", task=2)
    structlog.get_logger("worker").info("not shown")
    logging.getLogger("aiokafka").warning("node %d is gone", 7)
    captured = capsys.readouterr()
    assert captured.out == ""
    ours, theirs = map(json.loads, captured.err.splitlines())
    assert (ours["event"], ours["level"], ours["task"]) == ("slow", "warning", 2)
    assert (theirs["event"], theirs["logger"]) == ("node 7 is gone", "aiokafka")
