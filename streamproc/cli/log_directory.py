"""The directory of a `file:DIR` log: what is wrong with it is said in one line, before anything starts."""

from __future__ import annotations

__all__ = ["make_directories", "refuse_missing_log"]

from pathlib import Path

from state.errors import ConfigError

_SCHEME = "file:"


def make_directories(log_url: str, *more: Path) -> None:
    """Make the log's directory, if it has one, and others.

    Raises:
        ConfigError: one cannot be made, or is something else.
    """
    if directory := _directory(log_url):
        _make(directory, "--log")
    for path in more:
        _make(path, "--state")


def refuse_missing_log(log_url: str) -> None:
    """Refuse to read an embedded log that nobody has written: reading must not make one.

    Raises:
        ConfigError: there is none.
    """
    from streamproc.eventlog.embedded.file import FILE_NAME

    directory = _directory(log_url)
    if directory and not (directory / FILE_NAME).is_file():
        raise ConfigError(f"--log: there is no event log in {directory}", hint="`run` and `feed` make it")


def _directory(log_url: str) -> Path | None:
    rest = log_url.removeprefix(_SCHEME)
    return Path(rest) if rest and rest != log_url else None


def _make(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{option}: {path} is no directory, or lies under a file", hint="name a directory") from None
    except OSError as error:
        raise ConfigError(f"{option}: the directory {path} cannot be made: {error.strerror}") from None
