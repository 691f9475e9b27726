"""Garbage collection of checkpoints, and the protocol by which it never removes what a kept manifest names.

Pods share nothing but the store, and any of them may stop at any point, for good or for an hour. There is no lock and
no clock to agree on. The store sees one operation after the other (`state.blobs` says what is relied on).

A writer (state/checkpoint.py)
  W1  hashes its files
  W2  puts an intent: the digests of all of them
  W3  lists and reads the sweeps
  W4  lists the stored files; takes those of its digests that no sweep names
  W5  sends the others, each under a name that was never used before
  W6  creates the manifest, if there is nothing of its name
  W7  deletes the intent
A collector
  C1  lists manifests, then files; candidates are the files that no manifest from the oldest kept on names
  C2  puts a sweep: the names of all candidates
  C3  lists and reads the intents
  C4  lists and reads the manifests, then lists the files
  C5  spares candidates whose digest an intent has (C3) and those that a manifest from the oldest kept on names (C4)
  C6  ends intents: those whose manifest stands, and those of writers that are long gone (see 4)
  C7  deletes manifests older than the oldest kept
  C8  deletes the candidates that were not spared
  C9  deletes its sweep, and those read before C2 that name nothing that was there at C4

"Kept" are the newest N manifests all of whose files are there, and of each of the last days, if any are asked for, the
first such manifest: which one that is does not change while newer ones come. "From the oldest kept on" is from the
oldest of the N on, and those of days. Why no file f of a manifest M that is kept is deleted:

1. M was there at C4: f was spared, at C5, or was no candidate.
2. M came after C4, and f was sent by M's writer, at W5. To be a candidate f was there at C1, so W2 was before C1, and
   C3 after it: C3 saw the intent, or the intent was gone, which by W6, W7 means that M was there at C4: see 1.
3. M came after C4, and its writer found f at W4. If W2 was before C3, go on as in 2. Else C2 was before W3: the writer
   saw the sweep and did not take f; or the sweep was gone, by C9, and f with it: then W4 did not find it, since names
   are never used again. (A sweep of a collector that was killed stands, and just makes a writer send f again.)
4. The intent was ended, at C6 by another collector, before M was there: that collector had *created* a mark under M's
   name, so W6 fails, and M never comes to be. The writer's next attempt starts anew. The mark goes with the manifests
   of its age, at C7: an M that comes after that is older than N complete ones, and so is not kept.

A kill between any two steps leaves intents, sweeps and files that later runs end, and never a kept manifest without
its files. Manifests go before the files that only they name.

One thing is relied on beside the order: a put that its sender gave up on does not happen once `grace_ms` have passed.

Beside this, and not relied on: files and intents younger than `grace_ms` are left alone, by the store's own clock, its
present being the newest time in the listings. And where a manifest cannot be read that would be among the kept ones,
or an intent, no file is deleted at all: it may be of a newer release.
"""

from __future__ import annotations

__all__ = ["Collected", "Collector", "Unreadable", "View", "read_manifests", "read_sweeps"]

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeVar

from state.blobs import Blob, BlobStore
from state.errors import BlobMissingError, StateCorruptedError
from state.manifest import (
    RECORD_BYTES_MAX,
    VERSION,
    Cut,
    Folder,
    Intent,
    Manifest,
    Sweep,
    check,
    decode,
    digest_of,
    encode,
    sequence_of,
)


class Unreadable(NamedTuple):
    """A record that cannot be read, or is not ours, and why."""

    name: str
    reason: str


class Collected(NamedTuple):
    """What a collection did.

    `kept`: names of the kept manifests, newest first; `unreadable` and `foreign` (names below the task's folder that
    are not ours) want a look; `held_back`: nothing was deleted since an unreadable record may name it.
    """

    kept: tuple[str, ...]
    dropped: int
    files_deleted: int
    bytes_deleted: int
    unreadable: tuple[Unreadable, ...]
    foreign: tuple[str, ...]
    held_back: bool


class View(NamedTuple):
    """Manifests of a task by name and when they were written, the marks of aborted ones, what cannot be read, what is
    not ours, and the time.
    """

    manifests: dict[str, Manifest]
    written_ms: dict[str, int]
    aborted: frozenset[str]
    unreadable: tuple[Unreadable, ...]
    foreign: tuple[str, ...]
    now_ms: int

    @property
    def newest_first(self) -> list[Manifest]:
        """The manifests, by descending name."""
        return [self.manifests[name] for name in sorted(self.manifests, reverse=True)]


class _Intents(NamedTuple):
    digests: frozenset[str]
    blobs: dict[str, Blob]  # by last name
    unreadable: tuple[Unreadable, ...]


class _Sweeps(NamedTuple):
    blobs: dict[str, frozenset[str]]  # named blobs, by the sweep's last name
    unreadable: dict[str, int]  # when it was put, by last name

    def condemns(self, file: str, modified_ms: int) -> bool:
        """Whether a collector may be deleting a file; an unreadable sweep may name all that was there before it."""
        return any(file in named for named in self.blobs.values()) or any(
            modified_ms <= put_ms for put_ms in self.unreadable.values()
        )


class _Kept(NamedTuple):
    """Names of manifests that stay: from `floor` on, which is empty, below every name, if there are fewer than asked
    for; and those of `days`.
    """

    floor: str
    days: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name >= self.floor or name in self.days)


_R = TypeVar("_R", Manifest, Intent, Sweep)
_DAY_MS = 86_400_000


def _record(blobs: BlobStore, blob: Blob, kind: type[_R], what: str) -> _R | None:
    """A record's content; None if it was deleted since it was listed. StateCorruptedError: cannot be read."""
    if blob.size > RECORD_BYTES_MAX:
        raise StateCorruptedError(f"{what} is larger than any record")
    try:
        return decode(blobs.get(blob.name), kind, what)
    except BlobMissingError:
        return None


def read_manifests(blobs: BlobStore, folder: Folder, known: View | None = None) -> View:
    """All manifests of a task; those in `known` are not read again. Blocks.

    Raises:
        BlobStoreError: the store failed; an unreadable manifest is part of the answer instead.
    """
    manifests: dict[str, Manifest] = {}
    aborted, unreadable, foreign = set(), [], []
    listed = blobs.list_blobs(folder.manifests)
    for blob in listed:
        name = blob.name.removeprefix(folder.manifests)
        if sequence_of(name) is None:
            foreign.append(blob.name)
            continue
        try:
            found = known.manifests.get(name) if known else None
            found = found or _record(blobs, blob, Manifest, f"checkpoint {name}")
            if found is not None:
                check(found, folder, name)
        except StateCorruptedError as error:
            unreadable.append(Unreadable(name, str(error)))
            continue
        if found is not None and found.aborted:
            aborted.add(name)
        elif found is not None:
            manifests[name] = found
    now_ms = max((blob.modified_ms for blob in listed), default=-1)
    written_ms = {blob.name.removeprefix(folder.manifests): blob.modified_ms for blob in listed}
    return View(manifests, written_ms, frozenset(aborted), tuple(unreadable), tuple(foreign), now_ms)


def read_sweeps(blobs: BlobStore, folder: Folder) -> _Sweeps:
    """Which files collectors may be deleting (W3). Blocks."""
    named: dict[str, frozenset[str]] = {}
    unreadable = {}
    for blob in blobs.list_blobs(folder.sweeps):
        name = blob.name.removeprefix(folder.sweeps)
        try:
            found = _record(blobs, blob, Sweep, "a sweep")
        except StateCorruptedError:
            unreadable[name] = blob.modified_ms
            continue
        if found is not None:  # else its collector has finished, and so have its deletions
            named[name] = frozenset(found.blobs)
    return _Sweeps(named, unreadable)


class Collector:
    """One collection of one task's checkpoints; `run` it once.

    Args:
        keep: how many complete checkpoints stay, at least 1.
        days: of how many days the first one stays, too.
        grace_ms: files and intents younger than this are left alone; see the module's text.
        nonce: gives 16 hexadecimal digits, never the same twice.
    """

    def __init__(
        self, blobs: BlobStore, folder: Folder, *, keep: int, grace_ms: int, nonce: Callable[[], str], days: int = 0
    ) -> None:
        self._blobs = blobs
        self._folder = folder
        self._keep, self._days = keep, days
        self._grace_ms = grace_ms
        self._sweep = nonce()

    def run(self) -> Collected:
        """Steps C1 to C9. Blocks: 6 listings, a small write and a read of each manifest, and what there is to delete.

        Raises:
            BlobStoreError: the store failed; what was not done is left to the next run.
        """
        before = read_manifests(self._blobs, self._folder)  # C1
        files = self._files()
        candidates = self._unnamed(before, files)
        sweeps = read_sweeps(self._blobs, self._folder)
        self._announce(candidates)  # C2
        intents = self._intents()  # C3
        view = read_manifests(self._blobs, self._folder, before)  # C4
        present = self._files()
        kept = self._kept(view, present)
        held_back = bool(intents.unreadable) or any(bad.name >= kept.floor for bad in view.unreadable)
        doomed = [] if held_back else self._doomed(candidates, intents, view, kept)  # C5
        now_ms = max(view.now_ms, *_times(present), *_times(intents.blobs))
        self._end_intents(intents, view, now_ms)  # C6
        dropped = [] if held_back else self._drop(view, kept)  # C7
        self._delete(self._folder.files, doomed)  # C8
        self._end_sweeps(sweeps, present, own=bool(candidates))  # C9
        return Collected(
            kept=tuple(manifest.name for manifest in view.newest_first if manifest.name in kept),
            dropped=len(dropped),
            files_deleted=len(doomed),
            bytes_deleted=sum(files[name].size for name in doomed),
            unreadable=view.unreadable + intents.unreadable,
            foreign=view.foreign + tuple(blob.name for name, blob in present.items() if digest_of(name) is None),
            held_back=held_back,
        )

    def _files(self) -> dict[str, Blob]:
        """Stored files by last name."""
        listed = self._blobs.list_blobs(self._folder.files)
        return {blob.name.removeprefix(self._folder.files): blob for blob in listed}

    def _kept(self, view: View, files: dict[str, Blob]) -> _Kept:
        complete = [
            manifest.name
            for manifest in view.newest_first
            if all(name in files and files[name].size == size for name, size in manifest.blobs.items())
        ]
        newest = complete[: self._keep]
        now_ms = max(view.now_ms, *_times(files))
        firsts: dict[int, str] = {}
        for name in reversed(complete if self._days else ()):
            firsts.setdefault(view.written_ms[name] // _DAY_MS, name)
        days = frozenset(name for day, name in firsts.items() if now_ms // _DAY_MS - day <= self._days)
        return _Kept(newest[-1] if len(newest) == self._keep else "", days)

    def _unnamed(self, view: View, files: dict[str, Blob]) -> list[str]:
        """Files of ours, old enough, that no manifest from the oldest kept on names."""
        named = _named(view, self._kept(view, files))
        now_ms = max(view.now_ms, *_times(files))
        return [
            name
            for name, blob in files.items()
            if digest_of(name) and name not in named and now_ms - blob.modified_ms >= self._grace_ms
        ]

    def _announce(self, candidates: list[str]) -> None:
        if candidates:
            self._blobs.put(self._folder.sweeps + self._sweep, encode(Sweep(VERSION, tuple(candidates))))

    def _intents(self) -> _Intents:
        digests: set[str] = set()
        standing, unreadable = {}, []
        for blob in self._blobs.list_blobs(self._folder.intents):
            name = blob.name.removeprefix(self._folder.intents)
            if sequence_of(name) is None:
                continue
            standing[name] = blob
            try:
                found = _record(self._blobs, blob, Intent, f"intent {name}")
            except StateCorruptedError as error:
                unreadable.append(Unreadable(name, str(error)))
                continue
            digests.update(found.digests if found else ())
        return _Intents(frozenset(digests), standing, tuple(unreadable))

    def _doomed(self, candidates: list[str], intents: _Intents, view: View, kept: _Kept) -> list[str]:
        named = _named(view, kept)
        return [name for name in candidates if digest_of(name) not in intents.digests and name not in named]

    def _end_intents(self, intents: _Intents, view: View, now_ms: int) -> None:
        ended = []
        standing = view.manifests.keys() | view.aborted | {bad.name for bad in view.unreadable}
        for name, blob in intents.blobs.items():
            if name in standing:
                ended.append(name)
            elif now_ms - blob.modified_ms >= self._grace_ms:
                self._blobs.create(self._folder.manifests + name, self._mark(name))
                ended.append(name)
        self._delete(self._folder.intents, ended)

    def _mark(self, name: str) -> bytes:
        cut = Cut(sequence=sequence_of(name) or 0, chain=b"", position=0, state_fingerprint="", meta=b"")
        folder = self._folder
        return encode(
            Manifest(
                version=VERSION, pipeline=folder.pipeline, task=folder.task, name=name, cut=cut, files=(), aborted=True
            )
        )

    def _drop(self, view: View, kept: _Kept) -> list[str]:
        names = view.manifests.keys() | view.aborted | {bad.name for bad in view.unreadable}
        old = sorted(name for name in names if name not in kept)
        self._delete(self._folder.manifests, old)
        return old

    def _end_sweeps(self, sweeps: _Sweeps, present: dict[str, Blob], *, own: bool) -> None:
        ended = [self._sweep] if own else []
        ended += [name for name, named in sweeps.blobs.items() if not named & present.keys()]
        oldest_ms = min(_times(present), default=None)
        ended += [name for name, put_ms in sweeps.unreadable.items() if oldest_ms is None or oldest_ms > put_ms]
        self._delete(self._folder.sweeps, ended)

    def _delete(self, prefix: str, names: Collection[str]) -> None:
        if names:
            self._blobs.delete([prefix + name for name in names])


def _named(view: View, kept: _Kept) -> set[str]:
    """Blobs named by kept manifests and by what is newer, whether complete or not."""
    return {blob for name, manifest in view.manifests.items() if name in kept for blob in manifest.blobs}


def _times(files: dict[str, Blob]) -> Iterable[int]:
    return [blob.modified_ms for blob in files.values()]
