"""Outputs are written whole or not at all, and never in the place of a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.cli.replacing import replacing
from tests.cli.conftest import Cli


def half_written(path: Path) -> None:
    with replacing(path) as draft:
        draft.write_text("half of")
        raise RuntimeError


def test_it_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        half_written(path)
    assert path.read_text() == "old"
    with replacing(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_stays(cli: Cli, tmp_path: Path) -> None:
    """A pipe stands for `/dev/null`, which root could replace by a file."""
    pipe, query, rows = tmp_path / "pipe", tmp_path / "q.sql", tmp_path / "t.ndjson"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="is no regular file"), replacing(pipe):
        pass
    query.write_text("SELECT a FROM t")
    rows.write_text('{"a":1}\n')
    outcome = cli("sql", query, "--input", f"t={rows}", "--output", pipe)
    assert (outcome.code, outcome.err) == (2, f"error: {pipe} is no regular file (name another --output)\n")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
