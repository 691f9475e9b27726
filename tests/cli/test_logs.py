"""Logs are JSON lines on stderr, ours and those of libraries."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from streamproc.cli.logs import OneInAWhile, configure_logs


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


def test_a_broker_that_is_not_there_is_told_of_once_in_a_while() -> None:
    now = 0.0
    chosen = OneInAWhile(lambda: now)

    def written(name: str, text: str) -> bool:
        return chosen.filter(logging.LogRecord(name, logging.ERROR, "", 0, text, ("h", 1, "refused"), None))

    told = []
    for now in range(12):
        texts = ('Unable connect to "%s:%s": %s', "Unable to request metadata from node with id %s %s: %r")
        told += [(now, text[:10]) for text in texts if written("aiokafka.client", text)]
        assert written("worker", "Unable connect %s %s %s")
    assert told == [(second, kind) for second in (0, 5, 10) for kind in ("Unable con", "Unable to ")]


def test_so_are_our_own_attempts(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    for _ in range(3):
        structlog.get_logger("worker").warning("the log does not answer, trying again", error="refused")
        structlog.get_logger("worker").warning("slow")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["the log does not answer, trying again", "slow", "slow", "slow"]
