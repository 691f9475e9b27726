"""Checkpoints of tasks in a blob store: written, listed, restored, collected.

A checkpoint is a copy of a directory (`RowStore.snapshot`, and what else the caller put beside it) as content-addressed
files and a manifest, which is written last. A file that the store has already is not sent again. `state.manifest` says
what lies where, `state.garbage` how writers and collectors keep out of each other's way.

All calls block, on the disk and on the network: make them from a thread, never on the event loop, and not from the
thread that flushes, which they would hold up. One `Checkpoints` is for one thread at a time.

    store.snapshot(work / "db")                           # flush thread, with the meta row of the same moment
    written = checkpoints.write(task, cut, work)          # W1-W7
    checkpoints.collect(task)                             # C1-C9

    for manifest in checkpoints.checkpoints(task).found:  # newest first; the caller knows which fit the journal
        try:
            checkpoints.restore(manifest, work)           # then RowStores.install(task, work / "db")
            break
        except StateCorruptedError:
            ...                                           # loudly, and the next older
"""

from __future__ import annotations

__all__ = ["Checkpoints", "Cut", "Listing", "Manifest", "Written"]

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from state.blobs import BlobStore, sync_folder
from state.errors import BlobMissingError, BlobStoreError, StateCorruptedError
from state.garbage import Collected, Collector, Unreadable, read_manifests, read_sweeps
from state.manifest import VERSION, Cut, Folder, Intent, Manifest, StoredFile, digest_of, encode

KEEP = 3
GRACE_MS = 600_000  # longer than any request is tried for
_REFRESH_BYTES = 128 << 20
_PARTIAL = ".partial"
_TASK = re.compile(r"task-\d{5}")

_Identity = tuple[int, int, int, int]  # device, inode, size, time of change of content


class Written(NamedTuple):
    """A checkpoint that stands, and what of it had to be sent."""

    manifest: Manifest
    files_sent: int
    bytes_sent: int


class Listing(NamedTuple):
    """A task's checkpoints, newest first, and manifests that cannot be read (report them)."""

    found: list[Manifest]
    unreadable: tuple[Unreadable, ...]


class _Local(NamedTuple):
    path: Path
    name: str
    size: int
    digest: str


class Checkpoints:
    """The checkpoints of one pipeline. Calls block; each may raise BlobStoreError: try again later.

    Args:
        blobs: where they are.
        pipeline: its name; several pipelines may share a store.
        keep: how many complete ones `collect` keeps of each task.
        days: of how many days, by the store's clock and in UTC, it keeps the first one, too.
        grace_ms: what `collect` leaves alone for its youth, by the store's clock.
        nonce: gives 16 hexadecimal digits, never the same twice in this store.
    """

    def __init__(
        self,
        blobs: BlobStore,
        pipeline: str,
        *,
        keep: int = KEEP,
        days: int = 0,
        grace_ms: int = GRACE_MS,
        nonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        if keep < 1:
            raise ValueError("at least one checkpoint is kept")
        self._blobs = blobs
        self._pipeline = pipeline
        self._keep, self._days = keep, days
        self._grace_ms = grace_ms
        self._nonce = nonce
        self._digests: dict[int, dict[_Identity, str]] = {}
        self._damaged: set[str] = set()  # blobs that once failed their check are not taken again

    # ---- writing

    def write(self, task: int, cut: Cut, directory: Path) -> Written:
        """Store the files below `directory`, which must not change meanwhile, as the checkpoint at `cut`.

        An unchanged file is neither read nor sent again, if it is the same one (RocksDB's snapshots are hard links).

        Raises:
            BlobStoreError: there is no new checkpoint, or none that is known of; try again with a later cut.
            OSError: the directory cannot be read.
        """
        if cut.sequence < 0:
            raise ValueError("there is nothing to checkpoint before the first transaction")
        folder = Folder(self._pipeline, task)
        name = f"{cut.sequence:020d}-{self._nonce()}"
        files = self._hashed(task, directory)  # W1
        if not files:
            raise FileNotFoundError(errno.ENOENT, "there are no files to be checkpointed")
        announce = encode(Intent(VERSION, tuple(sorted({file.digest for file in files}))))
        self._blobs.put(folder.intents + name, announce)  # W2
        try:
            stored = self._stored(folder)
            written = self._send(folder, files, stored, lambda: self._blobs.put(folder.intents + name, announce))
        except (BlobStoreError, OSError):
            with contextlib.suppress(BlobStoreError):  # no manifest will come, so nothing is needed
                self._blobs.delete([folder.intents + name])
            raise
        manifest = Manifest(
            version=VERSION, pipeline=self._pipeline, task=task, name=name, cut=cut, files=tuple(written[0])
        )
        if not self._blobs.create(folder.manifests + name, encode(manifest)):  # W6
            raise BlobStoreError("the checkpoint took so long that it was given up for dead; the next starts anew")
        with contextlib.suppress(BlobStoreError):  # the checkpoint stands; a collector ends the intent
            self._blobs.delete([folder.intents + name])  # W7
        return Written(manifest, *written[1:])

    def _hashed(self, task: int, directory: Path) -> list[_Local]:
        """All files below `directory` with their digests; those of hard links seen before are remembered."""
        known, seen = self._digests.get(task, {}), {}
        files = []
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            stat = path.stat()
            identity = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
            digest = known.get(identity) or _digest(path)
            seen[identity] = digest
            files.append(_Local(path, path.relative_to(directory).as_posix(), stat.st_size, digest))
        self._digests[task] = seen
        return files

    def _stored(self, folder: Folder) -> dict[tuple[str, int], str]:
        """Blobs that may be taken, by digest and size. The order of the two listings matters."""
        sweeps = read_sweeps(self._blobs, folder)  # W3
        found = {}
        for blob in self._blobs.list_blobs(folder.files):  # W4
            name = blob.name.removeprefix(folder.files)
            digest = digest_of(name)
            if digest and name not in self._damaged and not sweeps.condemns(name, blob.modified_ms):
                found[digest, blob.size] = name
        return found

    def _send(
        self, folder: Folder, files: list[_Local], stored: dict[tuple[str, int], str], refresh: Callable[[], None]
    ) -> tuple[list[StoredFile], int, int]:
        """Step W5: what is not in `stored`; the intent is put anew now and then, that it does not look abandoned."""
        entries = []
        count = total = unannounced = 0
        for file in files:
            blob = stored.get((file.digest, file.size))
            if blob is None:
                blob = f"{file.digest}-{self._nonce()}"
                if unannounced > _REFRESH_BYTES:
                    refresh()
                    unannounced = 0
                self._blobs.put(folder.files + blob, file.path)
                stored[file.digest, file.size] = blob
                count, total, unannounced = count + 1, total + file.size, unannounced + file.size
            entries.append(StoredFile(file.name, file.size, file.digest, blob))
        return entries, count, total

    # ---- reading

    def checkpoints(self, task: int) -> Listing:
        """The task's checkpoints, newest first. Whether their files are whole, `restore` finds out."""
        view = read_manifests(self._blobs, Folder(self._pipeline, task))
        return Listing(view.newest_first, view.unreadable)

    def tasks(self) -> list[int]:
        """Tasks of the pipeline of which something is stored. Lists all of it: for people, not for workers."""
        parts = [blob.name.split("/") for blob in self._blobs.list_blobs(Folder.of_pipeline(self._pipeline))]
        return sorted({int(part[1][5:]) for part in parts if len(part) > 2 and _TASK.fullmatch(part[1])})

    def written_ms(self, task: int) -> dict[str, int]:
        """When each manifest was written, by the store's clock, by its name."""
        folder = Folder(self._pipeline, task).manifests
        return {blob.name.removeprefix(folder): blob.modified_ms for blob in self._blobs.list_blobs(folder)}

    def restore(self, manifest: Manifest, directory: Path, go_on: Callable[[], None] = lambda: None) -> None:
        """Download into `directory`, which must not exist: it appears whole, checked and synced, or not at all.

        `go_on` is called for each piece of some MiB, and may raise.

        Raises:
            StateCorruptedError: a file is missing, cut short or altered; says which. Take the next older checkpoint.
            BlobStoreError: the store failed: this checkpoint may well be whole.
            OSError: the local disk failed, or `directory` exists.
        """
        if directory.exists():
            raise FileExistsError(f"{directory.name} exists already")
        partial = directory.with_name(directory.name + _PARTIAL)
        if partial.exists():
            shutil.rmtree(partial)  # of a restore that was killed
        partial.mkdir(parents=True)
        try:
            for file in manifest.files:
                path = partial / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as sink:
                    self._fetch(manifest, file, sink, go_on)
                    sink.flush()
                    os.fsync(sink.fileno())
            for folder, _, _ in os.walk(partial, topdown=False):
                sync_folder(Path(folder))
            partial.rename(directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(directory.parent)

    def verify(self, manifest: Manifest) -> None:
        """Read every file of a checkpoint and compare digests, as `restore` does, keeping nothing.

        Raises:
            StateCorruptedError, BlobStoreError: as `restore`.
        """
        for file in manifest.files:
            self._fetch(manifest, file, None, lambda: None)

    def _fetch(self, manifest: Manifest, file: StoredFile, sink: BinaryIO | None, go_on: Callable[[], None]) -> None:
        name = Folder(self._pipeline, manifest.task).files + file.blob
        digest, size = hashlib.sha256(), 0
        try:
            for piece in self._blobs.stream(name):
                go_on()
                size += len(piece)
                if size > file.size:
                    break
                digest.update(piece)
                if sink:
                    sink.write(piece)
        except BlobMissingError:
            raise self._corrupted(manifest, file, "is missing") from None
        if size != file.size:
            raise self._corrupted(manifest, file, "is cut short" if size < file.size else "is too long")
        if digest.hexdigest() != file.sha256:
            raise self._corrupted(manifest, file, "does not have its digest")

    def _corrupted(self, manifest: Manifest, file: StoredFile, what: str) -> StateCorruptedError:
        self._damaged.add(file.blob)
        error = StateCorruptedError(f"checkpoint {manifest.name} of task {manifest.task}: file {file.path} {what}")
        error.task = manifest.task
        return error

    # ---- removing

    def collect(self, task: int) -> Collected:
        """Remove what no checkpoint to be kept needs; safe at any time, from any pod, killed anywhere."""
        folder = Folder(self._pipeline, task)
        return Collector(
            self._blobs, folder, keep=self._keep, grace_ms=self._grace_ms, nonce=self._nonce, days=self._days
        ).run()

    def discard(self, manifest: Manifest) -> None:
        """Forget a checkpoint at once, such as one of a history that the journal does not know.

        Without this, sequences of a lost history would count as newer than all to come. Its files go with `collect`.
        """
        self._blobs.delete([Folder(self._pipeline, manifest.task).manifests + manifest.name])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
