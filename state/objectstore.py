"""Blobs in S3 (and what speaks its protocol), Google Cloud Storage and Azure. The only importer of obstore.

Credentials come from the environment or the machine's role, never from the address (docs/state/checkpoints.md).
Requests that may be repeated are, with growing pauses, within `_RETRY`; a call blocks at most for about that long
after the network stops answering.

An error says what was tried and the store's status or code, never the store's text: that may quote a signed address.
"""

from __future__ import annotations

__all__ = ["ObjectStoreBlobs", "open_blobs"]

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store, from_url

from state.blobs import Blob, BlobStore, DirectoryBlobs
from state.errors import BlobMissingError, BlobStoreError, ConfigError

if TYPE_CHECKING:  # obstore has these for type checkers only
    from obstore.store import ClientConfig, RetryConfig

_SCHEMES = ("s3", "gs", "az")
_TIMEOUT = timedelta(minutes=5)  # of one request, its body included
_READ_TIMEOUT = timedelta(seconds=30)
_CONNECT_TIMEOUT = timedelta(seconds=5)
_RETRY: RetryConfig = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
_PIECE_BYTES = 4 << 20
_PLAINTEXT = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_REFUSED = {"400", "401", "403", "404", "405", "501"}  # waiting does not help


def open_blobs(url: str, what: str = "checkpoint store") -> BlobStore:
    """The blob store at `url`: a directory (`file:DIR` or a plain path), `s3://bucket/prefix`, `gs://...`, `az://...`.

    Makes a missing directory, else contacts nothing: see `state.blobs.check_blobs`. `what` it is called in errors.

    Raises:
        ConfigError: the address, the directory or the environment's settings cannot be used.
        BlobStoreError: the directory cannot be made now.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme == "file":
        path = (rest if colon else url).removeprefix("//")
        if not path:
            raise ConfigError(f"the {what}'s address names no directory", hint="write file:DIR")
        try:
            return DirectoryBlobs(Path(path))
        except BlobStoreError as error:
            if error.retriable:
                raise
            reason = str(error).rpartition(": ")[2]
            raise ConfigError(
                f"the {what} {path} cannot be made: {reason}", hint="name a directory that this user can write"
            ) from None
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"the {what}'s address is of no known kind",
            hint="write file:DIR, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        )
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"the {scheme}: address of the {what} holds more than a bucket and a prefix",
            hint="credentials and settings belong in the environment, see docs/state/checkpoints.md",
        )
    if not parts.netloc:
        raise ConfigError(f"the {scheme}: address of the {what} names no bucket")
    return ObjectStoreBlobs(url, what)


class ObjectStoreBlobs:
    """The blobs below one prefix of a bucket; made by `open_blobs`."""

    def __init__(self, url: str, what: str = "checkpoint store") -> None:
        options: ClientConfig = {
            "timeout": _TIMEOUT,
            "read_timeout": _READ_TIMEOUT,
            "connect_timeout": _CONNECT_TIMEOUT,
            "allow_http": any(os.environ.get(name, "").lower() in ("1", "true") for name in _PLAINTEXT),
        }
        self._kind = url.partition(":")[0]
        try:
            self._store = from_url(url, client_options=options, retry_config=_RETRY)
        except (BaseError, ValueError):
            raise ConfigError(
                f"the {self._kind}: {what}'s settings cannot be used",
                hint="see docs/state/checkpoints.md for the environment variables",
            ) from None

    def put(self, name: str, content: bytes | Path) -> None:
        """A file of more than 5 MiB is sent in parts, and seen once all are there."""
        with self._mapped("put"):
            obstore.put(self._store, name, content)

    def create(self, name: str, content: bytes) -> bool:
        """A conditional put; a lost answer and its repetition are told apart by reading back."""
        try:
            with self._mapped("create"):
                obstore.put(self._store, name, content, mode="create")
        except _TakenError:
            try:
                return self.get(name) == content
            except BlobMissingError:
                raise BlobStoreError(f"{self._kind}: cannot create: another process made and removed it") from None
        return True

    def get(self, name: str) -> bytes:
        """The whole content."""
        with self._mapped("get", name):
            return obstore.get(self._store, name).bytes().to_bytes()

    def stream(self, name: str) -> Iterator[bytes]:
        """The content in pieces of 4 MiB and more."""
        with self._mapped("get", name):
            for piece in obstore.get(self._store, name).stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)

    def head(self, name: str) -> Blob | None:
        """Size and time."""
        try:
            with self._mapped("head", name):
                found = obstore.head(self._store, name)
        except BlobMissingError:
            return None
        return Blob(name, found["size"], _milliseconds(found["last_modified"]))

    def list_blobs(self, prefix: str) -> list[Blob]:
        """One request a thousand blobs."""
        with self._mapped("list"):
            return sorted(
                Blob(found["path"], found["size"], _milliseconds(found["last_modified"]))
                for some in obstore.list(self._store, prefix.rstrip("/"), chunk_size=1000)
                for found in some
            )

    def delete(self, names: Sequence[str]) -> None:
        """In bulk where the store can; where one is absent, one by one."""
        if not names:
            return
        with self._mapped("delete"):
            try:
                obstore.delete(self._store, list(names))
                return
            except FileNotFoundError:
                if isinstance(self._store, S3Store):
                    raise  # S3 takes an absent blob for deleted: it is the bucket that is absent
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self._store, name)

    def __repr__(self) -> str:
        return f"ObjectStoreBlobs({self._kind})"

    @contextlib.contextmanager
    def _mapped(self, verb: str, name: str | None = None) -> Iterator[None]:
        """Our error for the library's; `name`: whose absence is an error of its own."""
        what = f"{self._kind}: cannot {verb}"
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise _TakenError(what) from None
        except FileNotFoundError as error:
            if name is not None and not _bucket_is_missing(str(error)):
                raise BlobMissingError(name) from None
            raise BlobStoreError(f"{what}: no such bucket or file", retriable=False) from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise BlobStoreError(f"{what}: access refused ({_answer(str(error))})", retriable=False) from None
        except NotImplementedError:
            raise BlobStoreError(f"{what}: the store is set up without it", retriable=False) from None
        except (BaseError, OSError, ValueError) as error:
            status = _STATUS.search(str(error))
            retriable = status is None or status.group(1) not in _REFUSED
            raise BlobStoreError(f"{what}: {_answer(str(error))}", retriable=retriable) from None


class _TakenError(BlobStoreError):
    """There is a blob of this name already."""


def _bucket_is_missing(text: str) -> bool:
    code = _CODE.search(text)
    return code is not None and code.group(1) in ("NoSuchBucket", "ContainerNotFound")


def _answer(text: str) -> str:
    """The status and code in an error's text, which are no secret."""
    status, code = _STATUS.search(text), _CODE.search(text)
    told = [f"status {status.group(1)}"] if status else []
    told += [code.group(1)] if code else []
    return ", ".join(told) or "no answer"


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
