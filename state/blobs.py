"""The blob store port: named, immutable or overwritten byte strings; and the store that is a directory.

Implementations: `DirectoryBlobs` (here), `state.objectstore` (S3, GCS, Azure) and `state.memory` (simulated).
Every call blocks: make them from a thread, never on the event loop.

What checkpoints rely on, and `check_blobs` tries out at start:

- a blob is seen whole or not at all, and is durable when `put` or `create` returns
- what was put, created or deleted before a call began is seen by that call, also by `list_blobs`, from any process
- `create` is atomic: of any number of callers exactly one makes the blob
"""

from __future__ import annotations

__all__ = ["Blob", "BlobStore", "DirectoryBlobs", "check_blobs"]

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from state.errors import BlobMissingError, BlobStoreError, ConfigError

_NAME = re.compile(r"(?!\.)[\w.%=~+-]+(?:/(?!\.)[\w.%=~+-]+)*")
_CHUNK_BYTES = 1 << 20
_UPLOADS = ".uploads"
_ABANDONED_S = 86_400  # an unfinished upload this old, in seconds, has no process any more
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_RETRIABLE = {*_READ_ONLY, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG}


class Blob(NamedTuple):
    """What a store tells about a blob; `size` in bytes, `modified_ms` by the store's own clock."""

    name: str
    size: int
    modified_ms: int


class BlobStore(Protocol):
    """Blobs by name (`a/b/c`). Calls block.

    Every call may raise BlobStoreError; the operation may then have happened all the same, or happen later.
    """

    def put(self, name: str, content: bytes | Path) -> None:
        """Store `content`, or the content of a file, in place of what may be there."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Store `content` if there is no blob of this name; whether it did."""
        ...

    def get(self, name: str) -> bytes:
        """The whole content, for small blobs.

        Raises:
            BlobMissingError: there is none.
        """
        ...

    def stream(self, name: str) -> Iterator[bytes]:
        """The content in pieces; may end early without an error, so compare digests.

        Raises:
            BlobMissingError: there is none; when first advanced.
        """
        ...

    def head(self, name: str) -> Blob | None:
        """Size and time; None if there is no such blob."""
        ...

    def list_blobs(self, prefix: str) -> list[Blob]:
        """All blobs below the folder `prefix` (which ends with a slash; "": all there are), by name."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove blobs; absent ones are not an error."""
        ...


def check_blobs(blobs: BlobStore, what: str = "the checkpoint store") -> None:
    """Try out what checkpoints rely on, with a small blob below `check/`; to be called once at start, from a thread.

    `what` it is called in errors.

    Raises:
        ConfigError: access is refused, or the store does not do atomic creation.
        BlobStoreError: it cannot be reached now.
    """
    name = f"check/{secrets.token_hex(8)}"
    try:
        first = blobs.create(name, b"first")
        second = blobs.create(name, b"second")
        kept = blobs.get(name)
        listed = [blob.name for blob in blobs.list_blobs("check/")]
        blobs.delete([name])
        gone = blobs.head(name) is None
    except BlobMissingError:
        raise ConfigError(f"{what} does not find what was just stored in it") from None
    except BlobStoreError as error:
        if error.retriable:
            raise
        raise ConfigError(f"{what} cannot be used: {error}", hint="see docs/state/checkpoints.md") from None
    if not first or second or kept != b"first":
        raise ConfigError(
            f"{what} overwrites a blob that it was told to create only if absent",
            hint="use a store with conditional puts (If-None-Match), see docs/state/checkpoints.md",
        )
    if name not in listed or not gone:
        raise ConfigError(f"{what} does not list what was just stored, or lists what was just deleted")


class DirectoryBlobs:
    """Blobs as files below a directory, made if missing; a network file system must have hard links and fsync."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._uploads = directory / _UPLOADS
        with _mapped("make"):
            directory.mkdir(parents=True, exist_ok=True)
            try:
                self._remove_abandoned()
            except OSError as error:
                if error.errno not in _READ_ONLY:  # it can be read all the same; a write fails by itself
                    raise

    def put(self, name: str, content: bytes | Path) -> None:
        """Written beside, synced, moved into place, and the move synced."""
        with _mapped("put"):
            target = self._path(name)
            with self._upload(content) as upload:
                self._make_folder(target.parent)
                upload.replace(target)
            sync_folder(target.parent)

    def create(self, name: str, content: bytes) -> bool:
        """As `put`, but a hard link is the move: it fails where a file is."""
        with _mapped("create"):
            target = self._path(name)
            with self._upload(content) as upload:
                self._make_folder(target.parent)
                try:
                    target.hardlink_to(upload)
                except FileExistsError:
                    return False
            sync_folder(target.parent)
            return True

    def get(self, name: str) -> bytes:
        """The whole content."""
        with _mapped("get", name):
            return self._path(name).read_bytes()

    def stream(self, name: str) -> Iterator[bytes]:
        """The content in pieces of 1 MiB."""
        with _mapped("get", name), self._path(name).open("rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                yield piece

    def head(self, name: str) -> Blob | None:
        """Size and time of modification."""
        with _mapped("head"):
            try:
                found = self._path(name).stat()
            except FileNotFoundError:
                return None
            return Blob(name, found.st_size, found.st_mtime_ns // 1_000_000)

    def list_blobs(self, prefix: str) -> list[Blob]:
        """Walks the folder."""
        found = []
        with _mapped("list"):
            top = self._path(prefix.rstrip("/")) if prefix else self.directory
            for folder, _, files in os.walk(top, onerror=_unless_missing):
                below = Path(folder).relative_to(self.directory)
                names = [(below / file).as_posix() for file in files]
                found += [self.head(name) for name in names if _NAME.fullmatch(name)]
        return sorted(blob for blob in found if blob is not None)

    def delete(self, names: Sequence[str]) -> None:
        """Unlinks, then syncs the folders."""
        with _mapped("delete"):
            paths = [self._path(name) for name in names]
            for path in paths:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in paths}:
                if folder.exists():
                    sync_folder(folder)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("not a blob's name")
        return self.directory / name

    @contextlib.contextmanager
    def _upload(self, content: bytes | Path) -> Iterator[Path]:
        """A synced file beside the blobs; removed if it was not moved away."""
        self._uploads.mkdir(exist_ok=True)
        path = self._uploads / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                _copy(content, file)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and sync each new name above it."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)

    def _remove_abandoned(self) -> None:
        """What killed processes left half uploaded; old by the file system's own clock."""
        with self._upload(b"") as mine:
            now = mine.stat().st_mtime
            for path in self._uploads.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < now - _ABANDONED_S:
                        path.unlink()


def _copy(content: bytes | Path, file: BinaryIO) -> None:
    if isinstance(content, bytes):
        file.write(content)
        return
    with content.open("rb") as source:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)


def sync_folder(folder: Path) -> None:
    """Make durable what was created, renamed or removed in a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _mapped(verb: str, name: str | None = None) -> Iterator[None]:
    """Our error for the file system's; `name`: whose absence is an error of its own."""
    try:
        yield
    except FileNotFoundError as error:
        if name is None:
            raise BlobStoreError(f"blob directory: cannot {verb}: {error.strerror}") from error
        raise BlobMissingError(name) from None
    except OSError as error:
        raise BlobStoreError(
            f"blob directory: cannot {verb}: {error.strerror}", retriable=error.errno not in _NOT_RETRIABLE
        ) from error
