"""What lies on disks and in logs of ours: manifests, the journal, positions, blocks, state rows, packed records."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.batch import Column, TaskRows
from operators.block import BlockEncoder, BlockRows, block_records, read_block
from operators.decide import Decided
from operators.deduplicate import Deduplicator
from operators.plan import DecisionSpec, RuleSpec
from state import manifest
from state.actions import ActionCodes
from state.errors import ConfigError, EventLogError, StateCorruptedError
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.embedded.codec import pack, unpack
from streamproc.runtime.journal import CHAIN_START, JournalEntry, JournalHead, RangeOfInput, decode_entry, encode_entry
from streamproc.runtime.stored_state import LocalMeta
from tests.fuzz.kit import bounded, for_seconds, fuzz, mutant, traced, wanted
from tests.operators.samples import column, examples, plan_of, stream
from tests.state.driver import PLAIN, SPEC, TASK, Driver

# ---- checkpoints: sealed records

FOLDER = manifest.Folder("cards", 3)
NAME = f"{7:020d}-{'0a' * 8}"
FILE = manifest.StoredFile("db/000001.sst", 10, "ab" * 32, "ab" * 32 + "-" + "0c" * 8)
OTHER = manifest.StoredFile("meta", 0, "cd" * 32, "cd" * 32 + "-" + "0d" * 8)
MANIFEST = manifest.Manifest(
    version=1, pipeline="cards", task=3, name=NAME, files=(FILE, OTHER),
    cut=manifest.Cut(sequence=7, chain=b"c" * 32, position=9, state_fingerprint="f", meta=b"m"),
)  # fmt: skip
SEALED = [
    manifest.encode(MANIFEST),
    manifest.encode(manifest.Intent(1, ("ab" * 32,))),
    manifest.encode(manifest.Sweep(1, (FILE.blob,))),
]


def read_manifest(data: bytes) -> None:
    found = manifest.decode(data, manifest.Manifest, "checkpoint")
    manifest.check(found, FOLDER, NAME)
    for file in found.files:
        assert ".." not in Path(file.path).parts
        assert not Path(file.path).is_absolute()


def read_sealed(data: bytes) -> None:
    with contextlib.suppress(StateCorruptedError):
        manifest.decode(data, manifest.Intent, "an intent")
    with contextlib.suppress(StateCorruptedError):
        manifest.decode(data, manifest.Sweep, "a sweep")
    read_manifest(data)


BODIES = [msgspec.json.encode(json.loads(data)["record"]) for data in SEALED]


def resealed(body: bytes) -> bytes:
    """A changed record under a right seal."""
    return b'{"sha256":"%s","record":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


@examples(150)
@example(["a", "a/b"])
@given(st.lists(st.text("ab/.\0\\~é ", max_size=8), min_size=1, max_size=3))
def test_paths_of_a_manifest_stay_inside_and_can_all_be_files(paths: list[str]) -> None:
    files = tuple(msgspec.structs.replace(FILE, path=path) for path in paths)
    try:
        read_manifest(manifest.encode(msgspec.structs.replace(MANIFEST, files=files)))
    except StateCorruptedError:
        return
    folders = {str(parent) for path in paths for parent in Path(path).parents}
    assert not folders & set(paths), "a file where another one needs a folder"


# ---- the journal, and positions

ENTRY = JournalEntry(
    version=1, task=3, sequence=5, ranges=(RangeOfInput("cards.in", 5, 900), RangeOfInput("other", 0, 1)),
    rejected=((0, 6), (1, 0)), duplicates=((0, 7),), actions=b"\x00\x01\x00" * 9, state_fingerprint="s" * 64,
    decision_fingerprint="d" * 64, numerics="cpu", exact=b"e" * 32, output=b"o" * 32, block=b"b" * 32,
)  # fmt: skip
BODY = dict(encode_entry(ENTRY, CHAIN_START)[0])["journal"]
META = LocalMeta(5, b"c" * 32, 7, 900, "s" * 64, 4).encode()
HEADS = [JournalHead(5, b"\x07" * 32, 4).text().encode(), JournalHead.start().text().encode()]


def read_entry(data: bytes) -> None:
    entry, body, chain = decode_entry([("journal", data), ("chain", b"c" * 32)])
    assert (body, chain, entry.version) == (data, b"c" * 32, 1)
    assert all(type(number) is int for number in (entry.task, entry.sequence))


def read_head(data: bytes) -> None:
    head = JournalHead.parse(data.decode("utf-8", "replace"))
    assert len(head.chain) == 32


# ---- feature blocks

BLOCK_PLAN = plan_of(
    stream({"amount": "decimal(2)"}), {"amount": "decimal(2)", "n": "int64", "t": "string", "b": "bool"},
    [RuleSpec("r1", "c", "decline", "x")], DecisionSpec(severity=("decline", "approve"), otherwise="approve"),
)  # fmt: skip


def block() -> bytes:
    encoder = BlockEncoder(BLOCK_PLAN, ("decline", "approve"))
    columns: dict[str, Column] = {
        "amount": column("decimal(2)", [1, None, 3]), "n": column("int64", [1, 2, None]),
        "t": column("string", ["a", None, "ccc"]), "b": column("bool", [True, False, None]),
    }  # fmt: skip
    rows = BlockRows(["i1", "i2", "i3"], ["k1", "k2", "k3"], np.arange(3), np.arange(3) + 1_600_000_000_000)
    live = np.array([[1], [0], [1]], np.uint64)
    decided = Decided(np.array([0, 1, 0], np.uint8), ("decline", "approve"), [[], [], []], None, live, {})
    return encoder.encode(encoder.arrays(rows, decided, columns))


# ---- packed records of the embedded log

TP = TopicPartition("cards.in", 0)
PACKED = [
    packed.payload
    for output in (
        OutputRecords(TP, [b"k", None], [b"value", None], 1_600_000_000_000, [[("h", b"x")], []]),
        OutputRecords(TP, [b"k"] * 20, [b"v" * 50] * 20, 0),
    )
    for packed in pack(output)
]


def read_packed(data: bytes) -> None:
    records = unpack(data)
    assert len(records.keys) == len(records.values)
    assert records.headers is None or len(records.headers) == len(records.keys)
    assert all(isinstance(value, bytes | None) for column in (records.keys, records.values) for value in column)


BLOCK = block()
TARGETS: list[tuple[str, list[bytes], Callable[[bytes], object], type[Exception]]] = [
    ("manifest", SEALED, read_sealed, StateCorruptedError),
    ("resealed", BODIES, lambda body: read_sealed(resealed(body)), StateCorruptedError),
    ("journal", [BODY], read_entry, StateCorruptedError),
    ("head", HEADS, read_head, StateCorruptedError),
    ("meta", [META], LocalMeta.decode, StateCorruptedError),
    ("block", [BLOCK], lambda data: block_records(read_block(data)), StateCorruptedError),
    ("packed", PACKED, read_packed, EventLogError),
]


@pytest.mark.parametrize(("target", "corpus", "read", "refused"), TARGETS, ids=[target[0] for target in TARGETS])
def test_mutants(target: str, corpus: list[bytes], read: Callable[[bytes], object], refused: type[Exception]) -> None:
    """Read, or refused by the declared error; within the bounds."""
    taken, turned_away = fuzz(target, corpus, read, (refused,), count=1500)
    assert taken + turned_away == 1 or turned_away > 100
    with traced():
        fuzz(target, corpus, read, (refused,), count=200, first=100_000)


def test_a_sealed_record_is_read_as_it_was_or_not_at_all() -> None:
    """Its digest covers every byte."""

    def read(data: bytes) -> None:
        assert manifest.decode(data, manifest.Manifest, "checkpoint") == MANIFEST

    fuzz("seal", SEALED[:1], read, (StateCorruptedError,), count=1000)


# ---- state rows


def stored() -> dict[bytes, bytes]:
    """Rows of two tables and of deduplication, as a worker leaves them."""
    disk = MemoryDisk(random.Random(0))
    driver = Driver(MemoryRowStores(disk, sync=True))
    rng = random.Random(1)
    for _ in range(4):
        driver.apply([(f"card{rng.randrange(6)}", rng.randrange(1000), rng.randrange(2)) for _ in range(60)])
        driver.state.publish()
        driver.flush(META)
    driver.store.close()
    return {key: value for key, (value, _) in disk.volumes[TASK].rows.items()}


ROWS = stored()


def read_state(rows: dict[bytes, bytes]) -> None:
    disk = MemoryDisk(random.Random(0))
    stores = MemoryRowStores(disk, sync=True)
    store = stores.open(TASK)
    store.write(list(rows.items()), [])
    state = WorkerState([SPEC, PLAIN])
    meta = state.add_task(TASK, store)
    if meta is not None:
        LocalMeta.decode(meta)
    state.digest(TASK)
    state.cut(TASK, META).encode()


def changed_rows(target: str, good: dict[bytes, bytes], seed: int) -> dict[bytes, bytes]:
    """One or two rows changed, lost, or under a changed key."""
    rng = random.Random(f"{target}:{seed}")
    rows = dict(good)
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice(sorted(rows))
        kind = rng.random()
        if kind < 0.8:
            rows[key] = mutant(rng, [rows[key], *rng.sample(sorted(good.values()), 2)])
        elif kind < 0.9:
            rows[mutant(rng, [key])] = rows.pop(key)
        else:
            del rows[key]
    return rows


def ids() -> dict[bytes, bytes]:
    """Deduplication's rows, of several segments and chunks."""
    disk = MemoryDisk(random.Random(0))
    store = MemoryRowStores(disk, sync=True).open(TASK)
    part = Deduplicator(HORIZON_MS, actions=ACTIONS)
    state = WorkerState([], (part,))
    state.add_task(TASK, store)
    for batch in range(6):
        judge(part, 40, 10_000 * batch)
        state.publish()
        state.cut(TASK, META).write(store)
    return {key: value for key, (value, _) in disk.volumes[TASK].rows.items()}


def judge(part: Deduplicator, count: int, now: int) -> None:
    names = [f"id{now}-{i}" for i in range(count)]
    part.check([TaskRows(TASK, 0, count)], names, np.arange(count), np.arange(count) * 100 + now)


HORIZON_MS = 30_000
ACTIONS = ActionCodes(("decline", "approve"), 1)
IDS = ids()


def read_ids(rows: dict[bytes, bytes]) -> None:
    """Load, and go on: what was taken must bear use."""
    store = MemoryRowStores(MemoryDisk(random.Random(0)), sync=True).open(TASK)
    store.write(list(rows.items()), [])
    part = Deduplicator(HORIZON_MS, actions=ACTIONS)
    state = WorkerState([], (part,))
    state.add_task(TASK, store)
    for batch in range(3):
        judge(part, 40, 10_000 * (batch + 5))
        state.publish()
        state.cut(TASK, META).write(store)
    state.digest(TASK)


def check_rows(target: str, good: dict[bytes, bytes], read: Callable[[dict[bytes, bytes]], None], seed: int) -> bool:
    rows = changed_rows(target, good, seed)
    try:
        with bounded(sum(map(len, rows.values()))):
            read(rows)
    except (StateCorruptedError, ConfigError):
        return False
    except Exception as error:
        error.add_note(f"reproduce: FUZZ={target}:{seed} pytest tests/fuzz")
        raise
    return True


STATES: dict[str, tuple[dict[bytes, bytes], Callable[[dict[bytes, bytes]], None]]] = {
    "state": (ROWS, read_state), "ids": (IDS, read_ids),
}  # fmt: skip


@pytest.mark.parametrize("target", STATES)
def test_state_rows(target: str) -> None:
    with traced():
        found = [check_rows(target, *STATES[target], seed) for seed in wanted(target, range(400))]
    assert len(found) < 2 or {True, False} == set(found)


@pytest.mark.soak
@pytest.mark.matrix("fuzzing")
@pytest.mark.timeout(900)
def test_many() -> None:
    """As the tests above, with other seeds, for SOAK_FUZZ_SECONDS (120)."""

    def run(number: int) -> None:
        first = 1_000_000 + 1_000 * number
        for name, corpus, read, refused in TARGETS:
            fuzz(name, corpus, read, (refused,), count=1_000, first=first)
        for target, (good, load) in STATES.items():
            for seed in range(first, first + 200):
                check_rows(target, good, load, seed)

    print("rounds:", for_seconds(float(os.environ.get("SOAK_FUZZ_SECONDS", "120")), run))
