"""Daily reports of `models watch`: a JSON file and a page each."""

from __future__ import annotations

__all__ = ["Reports"]

import os
from pathlib import Path

import msgspec
import structlog

from models.watching.watch import DayReport
from state.errors import ConfigError
from streamproc.report.watched import watched_page

_logger = structlog.get_logger("watching")


class _Rows(msgspec.Struct):
    rows: int


class _Written(msgspec.Struct):
    figures: _Rows
    matured: bool

    def beats(self, other: DayReport) -> bool:
        """Whether it is of more than `other`."""
        return self.figures.rows > other.figures.rows or self.matured > other.matured


class Reports:
    """Writes `PIPELINE-YYYY-MM-DD.json` and `.html`, each whole or not at all. `written`: days, since the start."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError if it cannot be made."""
        self.folder = folder
        self.written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ConfigError(f"--report: {folder} is a file", hint="name a directory") from None
        except OSError as error:
            raise ConfigError(f"--report: {folder} cannot be made: {error.strerror}") from None

    def write(self, report: DayReport) -> None:
        """Unless that is what is there. One of more payments stays, and one of mature labels before one whose are not:
        the log has lost some of what it was made of.

        Raises:
            ConfigError: it cannot be written.
        """
        path = self.folder / f"{report.pipeline}-{report.day}.json"
        text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
        try:
            before = path.read_bytes() if path.exists() else b""
            if (there := _written(before)) is not None and there.beats(report):
                _say_it_stays(there, report)
                return
            page = path.with_suffix(".html")
            if before == text and page.exists():
                return
            _replace(page, watched_page(report).encode())
            _replace(path, text)
        except OSError as error:
            raise ConfigError(f"--report: {path} cannot be written: {error.strerror}") from None
        self.written += 1


def _say_it_stays(there: _Written, found: DayReport) -> None:
    if there.figures.rows > found.figures.rows:
        _logger.warning("the report stays: the log has less of that day", day=found.day,
                        reported=there.figures.rows, found=found.figures.rows)  # fmt: skip
    else:
        _logger.warning("the report stays: its labels are mature, with this --label-delay they are not yet "
                        "(to write it anew, remove it)", day=found.day)  # fmt: skip


def _written(text: bytes) -> _Written | None:
    try:
        return msgspec.json.decode(text, type=_Written)
    except msgspec.DecodeError:
        return None


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    os.replace(fresh, path)
