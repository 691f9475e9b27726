"""Garbage collection: what a kept checkpoint names stays, whoever runs at once and wherever they are killed."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state import checkpoint, garbage
from state.blobs import Blob
from state.checkpoint import Checkpoints, Cut, Written
from state.errors import BlobStoreError
from state.garbage import Collector
from state.manifest import Folder, Intent, digest_of
from state.memory import MemoryBlobs
from tests.state.interleave import Turn, interleave

DAY_MS = 86_400_000
KEEP = 2
CONTENTS = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d", "e"), ("b", "a", "f"), ("g",)]
Step = Callable[[], object]


class Lost(AssertionError):
    """A kept checkpoint lacks a file: what the collector must never bring about."""


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Directories to checkpoint; some files of the older ones come back."""
    base = tmp_path_factory.mktemp("works")
    for number, names in enumerate(CONTENTS):
        (base / str(number)).mkdir()
        for name in names:
            (base / str(number) / name).write_text(name * 3)
    return [base / str(number) for number in range(len(CONTENTS))]


@functools.lru_cache(1000)
def record(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)["record"]
    return found


@functools.cache
def beginning(works: Path) -> dict[str, tuple[bytes, int]]:
    """Three checkpoints."""
    blobs = MemoryBlobs(random.Random(1))
    for number in range(3):
        cut = Cut(sequence=10 * number, chain=b"", position=0, state_fingerprint="", meta=b"")
        checkpoints = Checkpoints(blobs, "p", nonce=lambda: "0" * 16)  # so far unique: each file is sent once
        checkpoints.write(0, cut, works / str(number))
    return blobs.blobs


class World:
    """A bucket with three checkpoints of one task, KEEP of which are kept: file a is needed by none.

    `days`: the first of each is kept, too; `step_ms`: from one operation to the next.
    """

    def __init__(self, works: list[Path], *, grace_ms: int = 0, days: int = 0, step_ms: int = 1) -> None:
        self._works = works
        self._grace_ms, self._days = grace_ms, days
        self._numbers = itertools.count(100)
        self._now_ms = itertools.count(100, step_ms)
        self.blobs = MemoryBlobs(random.Random(1), lambda: next(self._now_ms))
        self.blobs.blobs = dict(beginning(works[0].parent))

    def checkpoints(self) -> Checkpoints:
        """As another process would have it."""
        return Checkpoints(self.blobs, "p", keep=KEEP, grace_ms=self._grace_ms, nonce=self._nonce, days=self._days)

    def _nonce(self) -> str:
        return f"{next(self._numbers):016x}"

    def write(self, sequence: int, work: int) -> Written:
        cut = Cut(sequence=sequence, chain=b"", position=0, state_fingerprint="", meta=b"")
        return self.checkpoints().write(0, cut, self._works[work])

    def writer(self, sequence: int, work: int) -> Step:
        return lambda: self.write(sequence, work)

    def collector(self) -> Step:
        return lambda: self.checkpoints().collect(0)

    # ---- judged from the bucket alone

    def records(self, folder: str) -> dict[str, dict[str, Any]]:
        prefix = f"p/task-00000/{folder}/"
        found = {name: content for name, (content, _) in self.blobs.blobs.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): record(content) for name, content in found.items()}

    def manifests(self) -> dict[str, dict[str, Any]]:
        return {name: found for name, found in self.records("manifests").items() if not found["aborted"]}

    def kept(self) -> set[str]:
        """The newest KEEP checkpoints there are, and the first of each of the last days."""
        names = sorted(self.manifests())
        kept = set(names[-KEEP:])
        day_of = {name: self.blobs.blobs[f"p/task-00000/manifests/{name}"][1] // DAY_MS for name in names}
        today = max((written // DAY_MS for _, written in self.blobs.blobs.values()), default=0)
        for day in range(today - self._days, today + 1) if self._days else ():
            kept.update([name for name in names if day_of[name] == day][:1])
        return kept

    def needed(self) -> set[str]:
        """Names of the files of checkpoints that are kept."""
        manifests = self.manifests()
        return {file["blob"] for name in self.kept() for file in manifests[name]["files"]}

    def files(self) -> set[str]:
        prefix = "p/task-00000/files/"
        return {name.removeprefix(prefix) for name in self.blobs.blobs if name.startswith(prefix)}

    def check(self) -> None:
        lost = self.needed() - self.files()
        if lost:
            raise Lost(sorted(lost))

    def _collect(self) -> None:
        Checkpoints(self.blobs, "p", keep=KEEP, grace_ms=0, nonce=self._nonce, days=self._days).collect(0)
        self.check()

    def check_settled(self) -> None:
        """After everyone is gone, two collections leave just what is kept, and a third one ends the last sweep: the
        first may spare a file for the intent of a killed writer, the second deletes it, the third finds it gone.
        """
        self._collect()
        self._collect()
        assert set(self.manifests()) == self.kept()
        assert len(self.kept()) >= KEEP
        assert self.files() == self.needed()
        assert self.records("intents") == {}
        self._collect()
        for found in self.records("sweeps").values():  # of killed collectors: they stay while they name something
            assert self.files().intersection(found["blobs"])


# ---- alone


def test_the_newest_are_kept_and_all_else_goes(works: list[Path]) -> None:
    world = World(works)
    done = world.checkpoints().collect(0)
    assert [int(name.split("-")[0]) for name in done.kept] == [20, 10]
    assert (done.dropped, done.files_deleted, done.bytes_deleted) == (1, 1, 3)
    world.check_settled()
    again = world.checkpoints().collect(0)
    assert (again.dropped, again.files_deleted, again.held_back) == (0, 0, False)


def test_fewer_than_asked_for_all_stay(works: list[Path]) -> None:
    world = World(works)
    few = Checkpoints(world.blobs, "p", keep=4, grace_ms=0)
    done = few.collect(0)
    assert (len(done.kept), done.dropped, done.files_deleted) == (3, 0, 0)


def test_young_files_stay(works: list[Path]) -> None:
    world = World(works, grace_ms=10_000)
    done = world.checkpoints().collect(0)
    assert (done.dropped, done.files_deleted) == (1, 0)


def test_an_incomplete_checkpoint_does_not_count_as_kept(works: list[Path]) -> None:
    world = World(works)
    newest = world.checkpoints().checkpoints(0).found[0]
    world.blobs.delete([f"p/task-00000/files/{newest.files[1].blob}"])
    done = world.checkpoints().collect(0)
    assert (len(done.kept), done.dropped) == (3, 0)
    assert done.files_deleted == 0


def test_an_unreadable_manifest_holds_deletion_back_until_newer_ones_stand(works: list[Path]) -> None:
    world = World(works)
    world.blobs.flip_bit(f"p/task-00000/manifests/{world.checkpoints().checkpoints(0).found[0].name}")
    done = world.checkpoints().collect(0)
    assert done.held_back
    assert (done.dropped, done.files_deleted, len(done.unreadable)) == (0, 0, 1)
    for sequence in (30, 40):
        world.write(sequence, 5)
    done = world.checkpoints().collect(0)
    assert not done.held_back
    world.check_settled()


def test_an_unreadable_intent_holds_deletion_back_until_it_is_ended(works: list[Path]) -> None:
    world = World(works)
    world.blobs.put(f"p/task-00000/intents/{30:020d}-{'f' * 16}", b"{")
    assert world.checkpoints().collect(0).held_back
    assert not world.checkpoints().collect(0).held_back
    world.check_settled()


def test_an_unreadable_sweep_condemns_what_was_there_before_it(works: list[Path]) -> None:
    world = World(works)
    sweep = f"p/task-00000/sweeps/{'f' * 16}"
    world.blobs.put(sweep, b"{")
    assert world.write(30, 2).files_sent == 2
    assert world.write(40, 2).files_sent == 0
    world.checkpoints().collect(0)
    assert sweep not in world.blobs.blobs or min(t for n, (_, t) in world.blobs.blobs.items() if "/files/" in n)
    world.checkpoints().collect(0)
    assert sweep not in world.blobs.blobs


def test_what_is_not_ours_is_left_alone_and_reported(works: list[Path]) -> None:
    world = World(works)
    foreign = [f"p/task-00000/{folder}/{name}" for folder in ("files", "manifests") for name in ("README", "sub/x")]
    for name in [*foreign, "p/task-00000/intents/README", "p/task-00001/files/x", "q/x"]:
        world.blobs.put(name, b"")
    done = world.checkpoints().collect(0)
    assert sorted(done.foreign) == sorted(foreign)
    assert all(name in world.blobs.blobs for name in [*foreign, "p/task-00001/files/x", "q/x"])


def test_a_discarded_history_does_not_outrank_a_new_one(works: list[Path]) -> None:
    world = World(works)
    for old in world.checkpoints().checkpoints(0).found:
        world.checkpoints().discard(old)
    new = world.write(1, 5).manifest
    world.checkpoints().collect(0)
    world.checkpoints().collect(0)
    assert world.checkpoints().checkpoints(0).found == [new]
    assert world.files() == set(new.blobs)


def test_a_writer_taken_for_dead_is_told_and_starts_anew(works: list[Path]) -> None:
    world = World(works)

    def twice() -> None:
        with pytest.raises(BlobStoreError, match="given up for dead"):
            world.write(30, 3)
        world.write(40, 3)

    interleave(world.blobs, [twice, world.collector()], [Turn(0, 4), Turn(1), Turn(0)], world.check)
    assert world.checkpoints().checkpoints(0).found[0].cut.sequence == 40
    world.check_settled()


# ---- at once: every place to stop, for pairs and triples


STOPS = range(19)  # more than any actor does operations, see `test_two_at_once`


def pairs(first: int, second: int) -> Iterator[list[Turn]]:
    """`first` for a while, `second` for a while; then either goes on, or is killed there."""
    for a in STOPS:
        yield [Turn(first, a, kill=True), Turn(second)]
        for b in STOPS[1:]:
            yield [Turn(first, a), Turn(second, b), Turn(first), Turn(second)]
            if (a + b) % 2:
                yield [Turn(first, a), Turn(second, b, kill=True), Turn(first)]


def triples(one: int, two: int, three: int) -> Iterator[list[Turn]]:
    """One stops, the next stops, the third runs through, then the others, the later one first."""
    for a, b in itertools.product(STOPS[2:16], STOPS[2:16]):
        yield [Turn(one, a), Turn(two, b), Turn(three), Turn(two), Turn(one)]


def play(world: World, actors: list[Step], turns: list[Turn]) -> list[int]:
    done = interleave(world.blobs, actors, turns, world.check)
    world.check_settled()
    return done


def casts(world: World) -> list[Step]:
    """A writer that wants file a back, and two collectors."""
    return [world.writer(30, 3), world.collector(), world.collector()]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 2)])
def test_two_at_once(order: tuple[int, int], works: list[Path]) -> None:
    most = [0, 0, 0]
    for turns in pairs(*order):
        world = World(works)
        most = list(map(max, most, play(world, casts(world), turns)))
    assert min(most) > 5
    assert max(most) < len(STOPS)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_at_once(order: tuple[int, int, int], works: list[Path]) -> None:
    for turns in triples(*order):
        world = World(works)
        play(world, casts(world), turns)


@settings(max_examples=200, deadline=None)
@given(
    turns=st.lists(st.builds(Turn, st.integers(0, 4), st.integers(1, 6), st.integers(0, 9).map(lambda n: n == 0))),
    grace_ms=st.sampled_from([0, 0, 30, 200]),
)
def test_two_writers_and_three_collectors_in_any_order(works: list[Path], turns: list[Turn], grace_ms: int) -> None:
    world = World(works, grace_ms=grace_ms)
    actors = [world.writer(30, 3), world.writer(15, 4), world.collector(), world.collector(), world.collector()]
    play(world, actors, turns)


@settings(max_examples=200, deadline=None)
@given(
    turns=st.lists(st.builds(Turn, st.integers(0, 4), st.integers(1, 6), st.integers(0, 9).map(lambda n: n == 0))),
    step_ms=st.sampled_from([1, DAY_MS // 50, DAY_MS // 9, DAY_MS]),
    days=st.integers(1, 4),
)
def test_the_first_of_each_day_stays_in_any_order(
    works: list[Path], turns: list[Turn], step_ms: int, days: int
) -> None:
    world = World(works, days=days, step_ms=step_ms)
    actors = [world.writer(30, 3), world.writer(15, 4), world.collector(), world.writer(40, 3), world.collector()]
    play(world, actors, turns)


def test_the_first_of_each_day_stays_for_so_many_days(works: list[Path]) -> None:
    world = World(works, days=2, step_ms=DAY_MS // 20)
    for sequence in range(30, 130):
        world.write(sequence, sequence % 4)
        world.checkpoints().collect(0)
    written = world.checkpoints().written_ms(0)
    today = max(written.values()) // DAY_MS
    days = [written[name] // DAY_MS for name in sorted(written)]
    assert days[:2] == [today - 2, today - 1]
    assert set(days[2:]) <= {today - 1, today}
    assert len(written) <= KEEP + 3
    for manifest in world.checkpoints().checkpoints(0).found:
        world.checkpoints().verify(manifest)


# ---- the checker is seen to fail: the protocol without one of its parts


def no_sweep_is_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "read_sweeps", lambda blobs, folder: garbage._Sweeps({}, {}))


def no_sweep_is_put(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Collector, "_announce", lambda self, candidates: None)


def no_intent_is_put(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "Intent", lambda version, digests: Intent(version, ()))


def intents_are_read_before_the_sweep(patch: pytest.MonkeyPatch) -> None:
    announce, intents = Collector._announce, Collector._intents

    def early(self: Collector, candidates: list[str]) -> None:
        found = intents(self)
        announce(self, candidates)
        patch.setattr(Collector, "_intents", lambda self: found)

    patch.setattr(Collector, "_announce", early)


def manifests_are_not_read_again(patch: pytest.MonkeyPatch) -> None:
    read = garbage.read_manifests
    patch.setattr(garbage, "read_manifests", lambda blobs, folder, known=None: known or read(blobs, folder))


def abandoned_intents_go_without_a_mark(patch: pytest.MonkeyPatch) -> None:
    create = MemoryBlobs.create
    patch.setattr(MemoryBlobs, "create", lambda self, name, data: b'"aborted":true' in data or create(self, name, data))


def a_manifest_overwrites_the_mark(patch: pytest.MonkeyPatch) -> None:
    def create(self: MemoryBlobs, name: str, content: bytes) -> bool:
        self.put(name, content)
        return True

    patch.setattr(MemoryBlobs, "create", create)


def files_are_listed_before_the_sweeps(patch: pytest.MonkeyPatch) -> None:
    listed: list[Blob] = []
    read = garbage.read_sweeps

    def early(blobs: MemoryBlobs, folder: Folder) -> object:
        listed[:] = MemoryBlobs.list_blobs(blobs, folder.files)
        found = read(blobs, folder)
        patch.setattr(blobs, "list_blobs", lambda prefix: relist(blobs, prefix, folder))
        return found

    def relist(blobs: MemoryBlobs, prefix: str, folder: Folder) -> list[Blob]:
        patch.delattr(blobs, "list_blobs")
        assert prefix == folder.files
        return listed

    patch.setattr(checkpoint, "read_sweeps", early)


def files_go_without_asking(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Collector, "_doomed", lambda self, candidates, intents, view, floor: candidates)


def names_are_used_again(patch: pytest.MonkeyPatch) -> None:
    send = Checkpoints._send

    def always_same(self: Checkpoints, *args: object) -> object:
        nonce, self._nonce = self._nonce, lambda: "0" * 16
        try:
            return send(self, *args)  # type: ignore[arg-type]
        finally:
            self._nonce = nonce

    patch.setattr(Checkpoints, "_send", always_same)


def all_sweeps_are_ended(patch: pytest.MonkeyPatch) -> None:
    def end(self: Collector, sweeps: garbage._Sweeps, present: object, *, own: bool) -> None:
        self._delete(self._folder.sweeps, [*sweeps.blobs, self._sweep])

    patch.setattr(Collector, "_end_sweeps", end)


def fours() -> Iterator[list[Turn]]:
    """A collector stops, a writer stops, another collector runs through, and both writers after it."""
    for a, b in itertools.product(STOPS[8:14], STOPS[1:4]):
        yield [Turn(1, a), Turn(0, b), Turn(2), Turn(0), Turn(3), Turn(1)]


@pytest.mark.parametrize(
    ("without", "plans"),
    [
        (no_sweep_is_read, pairs(1, 0)),
        (no_sweep_is_put, pairs(1, 0)),
        (no_intent_is_put, pairs(0, 1)),
        (intents_are_read_before_the_sweep, pairs(1, 0)),
        (manifests_are_not_read_again, pairs(1, 0)),
        (abandoned_intents_go_without_a_mark, triples(0, 1, 2)),
        (a_manifest_overwrites_the_mark, triples(0, 1, 2)),
        (files_are_listed_before_the_sweeps, pairs(1, 0)),
        (files_go_without_asking, pairs(0, 1)),
        (names_are_used_again, triples(1, 2, 0)),
        (all_sweeps_are_ended, fours()),
    ],
)
def test_without_a_part_of_the_protocol_files_are_lost(
    without: Callable[[pytest.MonkeyPatch], None], plans: Iterator[list[Turn]], works: list[Path]
) -> None:
    for turns in plans:
        world = World(works)
        with pytest.MonkeyPatch.context() as patch:
            without(patch)
            try:
                interleave(world.blobs, [*casts(world), world.writer(40, 3)], turns, world.check)
            except Lost:
                return
    pytest.fail("nothing was lost")


def test_names_say_the_digest(works: list[Path]) -> None:
    world = World(works)
    for manifest in world.checkpoints().checkpoints(0).found:
        assert [digest_of(file.blob) for file in manifest.files] == [file.sha256 for file in manifest.files]
