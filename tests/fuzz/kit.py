"""Mutants of good bytes, and the bounds within which a reader must take or refuse each of them.

Everything is drawn from a seed. A failing case prints its one-line reproduction: `FUZZ=TARGET:SEED pytest tests/fuzz`.
"""

from __future__ import annotations

__all__ = ["Case", "bounded", "cases", "for_seconds", "fuzz", "mutant", "traced", "wanted"]

import gc
import os
import random
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

CPU_SECONDS_MAX = 10.0
"""Of one case: a hang, whatever the machine. CPU time of this process, so that a busy machine changes nothing."""
MEMORY_BASE = 16 << 20
MEMORY_FACTOR = 64
"""Bytes of the interpreter that one byte of input may cost at the peak."""
_TOKENS = (
    b"[" * 10_000, b"{" * 1_000, b'{"a":' * 500, b"(" * 2_000, b"9" * 5_000, b"-" + b"9" * 400, b"1e999", b"-1e-999",
    b"NaN", b"Infinity", b"null", b"\\ud800", b"\xed\xa0\x80", b"\xff\xfe", b"\x00", b"'", b'"', b"\\", b"\n", b"\r\n",
    b"0x", b"1e400", b"18446744073709551616", b"-9223372036854775809", b"\xe2\x80\xa8", b"*x", b"&x ", b"!!python/x ",
    b"%YAML 1.9\n", b"\\U00110000", b"\\xff", b"? ", b"- " * 200,
)  # fmt: skip
_EXTREMES = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, -(2**63))


class Case(NamedTuple):
    """One input: its seed says how it was made."""

    seed: int
    data: bytes


def mutant(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of the corpus with one to four changes."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_CHANGES)(rng, data, corpus)
    return bytes(data)


def wanted(target: str, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds to run: all of them, or the one that FUZZ names."""
    name, _, seed = os.environ.get("FUZZ", "").partition(":")
    if not name:
        return seeds
    return [int(seed)] if name == target else []


def cases(target: str, corpus: Sequence[bytes], count: int, first: int = 0) -> Iterator[Case]:
    """`count` mutants, one a seed."""
    for seed in wanted(target, range(first, first + count)):
        yield Case(seed, mutant(random.Random(f"{target}:{seed}"), corpus))


def fuzz(
    target: str, corpus: Sequence[bytes], read: Callable[[bytes], object], refused: tuple[type[Exception], ...],
    *, count: int, first: int = 0,
) -> tuple[int, int]:  # fmt: skip
    """Read each mutant within the bounds; how many were taken, and how many refused by one of `refused`.

    Any other error, a case that takes too long or too much memory fails with its seed.
    """
    taken = turned_away = 0
    for seed, data in cases(target, corpus, count, first):
        try:
            with bounded(len(data)):
                read(data)
            taken += 1
        except refused:
            turned_away += 1
        except Exception as error:
            error.add_note(f"reproduce: FUZZ={target}:{seed} pytest tests/fuzz; {len(data)} bytes: {data[:200]!r}")
            raise
    return taken, turned_away


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Fail what uses more CPU time than any honest reader, or more memory than `size` bytes of input are worth."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"a hang: {CPU_SECONDS_MAX} s of CPU time for {size} bytes")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_MAX)
    tracemalloc.reset_peak()
    begun = tracemalloc.get_traced_memory()[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if tracemalloc.is_tracing():
            used = tracemalloc.get_traced_memory()[1] - begun
            allowed = MEMORY_BASE + MEMORY_FACTOR * size
            assert used <= allowed, f"{used} bytes of memory for {size} bytes of input, {allowed} are allowed"


@contextmanager
def traced() -> Iterator[None]:
    """Memory is measured within."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def for_seconds(seconds: float, run: Callable[[int], None]) -> int:
    """`run(first)` with rising first seeds until the time is over; how many times."""
    rounds = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run(rounds)
        rounds += 1
    return rounds


# ---- changes


def _flip(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _cut(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 8, 64))]


def _splice(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = rng.choice(corpus)
    start = rng.randrange(len(other) + 1)
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 1, 16))] = other[start : start + rng.choice((1, 8, 64, 4096))]


def _number(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    """What may be a length or a count becomes an extreme one."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) < width:
        return
    at = rng.randrange(len(data) - width + 1)
    value = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _token(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 1, 4))] = rng.choice(_TOKENS)


def _repeat(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    piece = bytes(data[at : at + rng.choice((1, 4, 32))])
    data[at:at] = piece * rng.choice((2, 16, 200))


_CHANGES = (_flip, _flip, _truncate, _cut, _splice, _number, _number, _token, _repeat)
