"""What lies in the blob store for one task, and how its records are written and read.

    PIPELINE/task-00003/
        files/DIGEST-NONCE          a file's bytes; DIGEST is their SHA-256, NONCE makes the name unique for ever
        manifests/SEQUENCE-NONCE    one checkpoint: where it stands and which blobs its files are
        intents/SEQUENCE-NONCE      digests that a writer at work needs, under the name of its manifest to come
        sweeps/NONCE                blobs that a collector may be deleting

Records are JSON, sealed: `{"sha256": DIGEST, "record": RECORD}`, DIGEST being that of RECORD's bytes as they stand.
SEQUENCE has 20 digits, so that the newest comes last in a listing.
"""

from __future__ import annotations

__all__ = [
    "RECORD_BYTES_MAX",
    "VERSION",
    "Cut",
    "Folder",
    "Intent",
    "Manifest",
    "StoredFile",
    "Sweep",
    "check",
    "decode",
    "digest_of",
    "encode",
    "sequence_of",
]

import hashlib
import re
from pathlib import PurePosixPath
from typing import TypeVar
from urllib.parse import quote

import msgspec

from state.errors import StateCorruptedError

VERSION = 1
RECORD_BYTES_MAX = 64 << 20
_RECORD_NAME = re.compile(r"(\d{20})-[0-9a-f]{16}")
_FILE_NAME = re.compile(r"([0-9a-f]{64})-[0-9a-f]{16}")


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """The point at which a task's state was copied; `meta` is the row store's own row, opaque here."""

    sequence: int
    chain: bytes
    position: int
    state_fingerprint: str
    meta: bytes


class StoredFile(msgspec.Struct, frozen=True):
    """A file of a checkpoint: its path in the directory, size in bytes, SHA-256 in hex, and its blob's last name."""

    path: str
    size: int
    sha256: str
    blob: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One checkpoint. `aborted`: none came about, a collector took the name so that its writer cannot."""

    version: int
    pipeline: str
    task: int
    name: str
    cut: Cut
    files: tuple[StoredFile, ...]
    aborted: bool = False

    @property
    def bytes_total(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def blobs(self) -> dict[str, int]:
        """Size of each blob that it names."""
        return {file.blob: file.size for file in self.files}


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A writer needs blobs of these digests until its manifest stands."""

    version: int
    digests: tuple[str, ...]


class Sweep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A collector may delete these blobs at any time."""

    version: int
    blobs: tuple[str, ...]


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    record: msgspec.Raw


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class Folder:
    """The names of one task of one pipeline."""

    def __init__(self, pipeline: str, task: int) -> None:
        self.pipeline = pipeline
        self.task = task
        base = f"{self.of_pipeline(pipeline)}task-{task:05d}"
        self.files, self.manifests = f"{base}/files/", f"{base}/manifests/"
        self.intents, self.sweeps = f"{base}/intents/", f"{base}/sweeps/"

    @staticmethod
    def of_pipeline(pipeline: str) -> str:
        """The folder of all tasks of a pipeline."""
        # Stores take a percent sign for an escape, and a leading dot is refused by ours.
        return quote(pipeline, safe="").replace("~", "%7E").replace(".", "%2E").replace("%", "~") + "/"


def sequence_of(name: str) -> int | None:
    """The sequence in a manifest's or intent's last name; None if it is not one of ours."""
    found = _RECORD_NAME.fullmatch(name)
    return int(found.group(1)) if found else None


def digest_of(blob: str) -> str | None:
    """The digest in a file's blob's last name; None if it is not one of ours."""
    found = _FILE_NAME.fullmatch(blob)
    return found.group(1) if found else None


def encode(record: Manifest | Intent | Sweep) -> bytes:
    """The sealed bytes of a record."""
    body = msgspec.json.encode(record)
    return msgspec.json.encode(_Sealed(hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))


_R = TypeVar("_R", Manifest, Intent, Sweep)


def decode(data: bytes, kind: type[_R], what: str) -> _R:
    """Read a record back; `what` names it in errors.

    Raises:
        StateCorruptedError: damaged, or written by another release.
    """
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        body = bytes(sealed.record)
        if hashlib.sha256(body).hexdigest() != sealed.sha256:
            raise StateCorruptedError(f"{what} does not have its own digest")
        version = msgspec.json.decode(body, type=_Versioned).version
        if version != VERSION:
            raise StateCorruptedError(f"{what} has version {version}, this release knows {VERSION}")
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise StateCorruptedError(f"{what} cannot be read") from None


def check(manifest: Manifest, folder: Folder, name: str) -> None:
    """That a manifest is what its place says and its files' names are safe.

    Raises:
        StateCorruptedError: it is another task's, or was put under another name, or names impossible files.
    """
    what = f"checkpoint {name}"
    if (manifest.pipeline, manifest.task) != (folder.pipeline, folder.task):
        raise StateCorruptedError(f"{what} is of pipeline {manifest.pipeline!r}, task {manifest.task}")
    if manifest.name != name or manifest.cut.sequence != sequence_of(name):
        raise StateCorruptedError(f"{what} was written as {manifest.name!r}")
    paths = {file.path for file in manifest.files}
    if len(paths) < len(manifest.files):
        raise StateCorruptedError(f"{what} names a file twice")
    if any(str(folder) in paths for path in paths for folder in PurePosixPath(path).parents):
        raise StateCorruptedError(f"{what} names a file that is a folder too")
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != file.path or "\0" in file.path:
            raise StateCorruptedError(f"{what} names a file outside its directory")
        if file.size < 0 or digest_of(file.blob) != file.sha256:
            raise StateCorruptedError(f"{what} names an impossible blob")
