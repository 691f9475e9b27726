"""Directories of logs and state: what is wrong with them, or with --log, is said in one line before anything starts."""

from __future__ import annotations

__all__ = ["check_address", "has_log", "make_directories", "make_run_directories", "refuse_missing_log"]

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from state.errors import ConfigError
from streamproc.cli.secrets import pan_secret

if TYPE_CHECKING:
    from operators.plan import Plan

_SCHEME, _KAFKA = "file:", "kafka://"
_MARK = "log-address"
_THIS_HOST = ("localhost", "127.0.0.1", "[::1]")


def make_directories(log_url: str, state: Path | None = None, pipeline: str = "") -> None:
    """Make the log's directory, if it has one, and the pipeline's one in `state`, which is then kept for this log.

    Raises:
        ConfigError: the log's address is wrong; one cannot be made, or is something else, or was kept for another log.
    """
    directory = _directory(log_url)
    if directory is None:
        check_address(log_url)
    else:
        _refuse_under_file(directory, "--log")
    if state is not None:  # before a log is made that nobody wants
        _refuse_under_file(state, "--state")
        _refuse_another_log(state / pipeline, log_url)
    if directory is not None:
        _make(directory, "--log")
    if state is not None:
        _make(state, "--state")
        _claim(state / pipeline, log_url)


def make_run_directories(plans: Sequence[Plan], log_url: str, state: Path, checkpoints: str | None) -> None:
    """The same for a run of `plans`, once all else that can be looked at before is fine: a refused one leaves nothing.

    Raises:
        ConfigError: as `make_directories`; card numbers lack their secret; checkpoints cannot go to `checkpoints`.
        BlobStoreError: its directory cannot be made now.
    """
    from state.objectstore import open_blobs

    for plan in plans:
        pan_secret(plan)
    if checkpoints is not None:
        open_blobs(checkpoints)
    make_directories(log_url, state, plans[0].pipeline)


def has_log(log_url: str) -> bool:
    """Whether there is a log to read; of brokers, who have to be asked, True.

    Raises:
        ConfigError: the log's address is wrong.
    """
    from streamproc.eventlog.embedded.file import FILE_NAME

    check_address(log_url)
    directory = _directory(log_url)
    return directory is None or (directory / FILE_NAME).is_file()


def refuse_missing_log(log_url: str) -> None:
    """Refuse to read an embedded log that nobody has written: reading must not make one.

    Raises:
        ConfigError: there is none.
    """
    if not has_log(log_url):
        raise ConfigError(f"--log: there is no event log in {_directory(log_url)}", hint="`run` and `feed` make it")


def _directory(log_url: str) -> Path | None:
    rest = log_url.removeprefix(_SCHEME)
    return Path(rest) if rest and rest != log_url else None


def check_address(log_url: str) -> None:
    """Refuse what names no event log; nothing is opened.

    Raises:
        ConfigError: it does not.
    """
    from streamproc.eventlog.contract import masked
    from streamproc.eventlog.kafka.settings import parse_url

    if _directory(log_url) is not None:
        return
    if not log_url.startswith(_KAFKA):
        hint = "use kafka://host:port[,host:port] or file:DIR"
        raise ConfigError(f"--log: {masked(log_url)!r} names no event log", hint=hint)
    parse_url(log_url)


def _claim(home: Path, log_url: str) -> None:
    """Note in `home` whose log its state goes with: with another one it would be worthless, and be thrown away."""
    _make(home, "--state")
    mark, addresses = home / _MARK, _addresses(log_url, home)
    try:
        if _noted(mark) != addresses:
            draft = home / f"{_MARK}.{os.getpid()}"
            draft.write_text("".join(f"{address}\n" for address in addresses))
            draft.replace(mark)
    except OSError as error:
        raise ConfigError(f"--state: {mark} cannot be used: {error.strerror}") from None


def _refuse_another_log(home: Path, log_url: str) -> None:
    """Kafka is known again by any one of its addresses: they are added and taken away one after the other."""
    mark = home / _MARK
    noted = _noted(mark)
    if noted and not set(noted) & set(_addresses(log_url, home)):
        raise ConfigError(
            f"--state: {home} is kept for the log {', '.join(_shown(noted, home))}, not for {log_url}",
            hint=f"give this log a --state of its own; if it is the same log elsewhere, remove {mark}",
        )


def _noted(mark: Path) -> list[str]:
    """The addresses of the log that state is kept for; none, if it is new."""
    try:
        return mark.read_text().split("\n")[:-1] if mark.exists() else []
    except OSError as error:
        raise ConfigError(f"--state: {mark} cannot be used: {error.strerror}") from None


def _addresses(log_url: str, home: Path) -> list[str]:
    """What tells a log from others. A directory is named as seen from `home`: both may be moved together."""
    if directory := _directory(log_url):
        return [f"{_SCHEME}{os.path.relpath(directory.resolve(), home.resolve())}"]
    brokers = [address.lower().rpartition(":") for address in log_url.removeprefix(_KAFKA).rstrip("/").split(",")]
    return sorted({f"{_KAFKA}{'localhost' if host in _THIS_HOST else host}:{port}" for host, _, port in brokers})


def _shown(noted: list[str], home: Path) -> list[str]:
    """The addresses, directories in full: as seen from `home` they tell nobody anything."""
    directories = [_directory(address) for address in noted]
    return [
        f"{_SCHEME}{(home / directory).resolve()}" if directory else address
        for directory, address in zip(directories, noted, strict=True)
    ]


def _refuse_under_file(path: Path, option: str) -> None:
    if not next((one for one in (path, *path.parents) if one.exists()), Path()).is_dir():
        raise _no_directory(path, option)


def _no_directory(path: Path, option: str) -> ConfigError:
    return ConfigError(f"{option}: {path} is no directory, or lies under a file", hint="name a directory")


def _make(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _no_directory(path, option) from None
    except OSError as error:
        raise ConfigError(f"{option}: the directory {path} cannot be made: {error.strerror}") from None
