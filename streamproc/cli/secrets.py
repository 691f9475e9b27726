"""The deployment's secret, and the keys that come of it."""

from __future__ import annotations

__all__ = ["SECRET_VARIABLE", "derived", "digest_key", "pan_secret", "secret"]

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from state.errors import ConfigError

if TYPE_CHECKING:
    from operators.plan import Plan

SECRET_VARIABLE = "STREAMPROC_SECRET"  # noqa: S105 - the variable's name
_SECRET_BYTES_MIN = 16
_KEY_BYTES = 32


def secret() -> bytes | None:
    """The deployment's secret, from the environment.

    Raises:
        ConfigError: it is too short to be one.
    """
    text = os.environ.get(SECRET_VARIABLE)
    if text is None:
        return None
    if len(text) < _SECRET_BYTES_MIN:
        raise ConfigError(f"{SECRET_VARIABLE} is shorter than {_SECRET_BYTES_MIN} characters")
    return text.encode()


def pan_secret(plan: Plan) -> bytes | None:
    """The secret, if the plan has card numbers to hash with it.

    Raises:
        ConfigError: there is none, or it is too short.
    """
    if not any(field.pan for stream in plan.streams for field in stream.fields):
        return None
    master = secret()
    if master is None:
        raise ConfigError("the stream has card numbers (pan)", hint=f"set {SECRET_VARIABLE} to hash them with")
    return master


def derived(purpose: bytes, master: bytes) -> bytes:
    """A key of its own for each `purpose`."""
    return hashlib.blake2b(purpose, digest_size=32, key=master[:64]).digest()


def digest_key(state: Path | None) -> bytes:
    """The key of dead letters' payload digests: from the secret, else from a file made once in `state`.

    Raises:
        ConfigError: the secret, or the file, cannot be used.
    """
    master = secret()
    if master is not None:
        return derived(b"dead letters", master)
    if state is None:
        return os.urandom(32)
    path = state / "digest.key"
    try:
        key = _kept_key(path)
    except OSError as error:
        raise ConfigError(
            f"--state: {path} cannot be used: {error.strerror}",
            hint=f"let this user write there, name another --state, or set {SECRET_VARIABLE}",
        ) from None
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path} is no key of {_KEY_BYTES} bytes", hint="remove it, a new one is made")
    return key


def _kept_key(path: Path) -> bytes:
    """The content of `path`, made once by whichever worker is first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another worker was first: its key counts
            os.link(fresh, path)
        fresh.unlink()
    return path.read_bytes()
