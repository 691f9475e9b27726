"""The job card-fraud v1: its events, drawn block by block, and its pipelines.

    python -m benchmarks.job --records 5 [--cards 20000] [--step 10] [--hot 0.5] [--late 0.1]     (prints NDJSON)

Event i is the same however many are asked for: blocks of 50,000 are drawn whole, each from its own seed. Popularity
is skewed (the first of 20,000 cards has about 0.5 %), 2 % of events lie in bursts of six payments within 28 s of
steps, 0.5 % in card-testing runs: a few amounts below 2.00, then one above 100.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from operators.plan import Plan

SEED = 20_251_122
BLOCK = 50_000
EPOCH_MS = 1_540_000_000_000
PARTITIONS = 4
CONFIGS = Path(__file__).parents[1] / "configs" / "bench_v1"
VARIANTS = {"R": "pipeline.yaml", "M": "pipeline_model.yaml"}
_LATE_MS = 600_000
_CITIES = 60
_CURRENCIES = (b"EUR", b"EUR", b"EUR", b"GBP", b"USD")
_CODES = (5411, 5812, 5541, 5999, 4829, 6011, 7995, 5732)
_COUNTRIES = (b"FR", b"DE", b"ES", b"IT", b"GB", b"US", b"NL", b"BE", b"PT", b"PL")
_CHANNELS = (b"pos", b"ecom", b"atm")
_TEXT = (
    b'{"transaction_id":"t%08d","card_id":"c%07d","merchant_id":"m%05d","terminal_id":"t%05d","device_id":"d%06d",'
    b'"amount":%.2f,"currency":"%b","mcc":%d,"country":"%b","lat":%.2f,"lon":%.2f,"channel":"%b",'
    b'"event_time":%d,"ts":'
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Job(msgspec.Struct, frozen=True):
    """What is drawn. `step_ms` between events; `hot`: share of events on card 0; `late`: share of the hot card's
    events (of all, if no card is hot) that come up to ten minutes late; `skew` 0: all cards alike."""

    cards: int = 20_000
    step_ms: int = 10
    hot: float = 0.0
    late: float = 0.0
    skew: float = 0.9

    def unfinished(self, count: int, start: int) -> tuple[list[bytes], list[bytes]]:
        """Keys and texts of events start .. start + count: complete a text with b"%d}" % its time in ms."""
        drawn = list(events(self, count, start))
        return [key for some in drawn for key in keys(some)], [text for some in drawn for text in texts(some)]


class Events(NamedTuple):
    """Consecutive events, column by column; amounts in cents."""

    number: Ints
    card: Ints
    cents: Ints
    lat: Floats
    lon: Floats
    event_time: Ints
    rest: Ints
    """Columns that no feature reads: merchant, terminal, currency, code, channel, city."""

    def take(self, rows: Ints | slice) -> Events:
        """Some of them."""
        return Events._make(column[rows] for column in self)


@lru_cache(maxsize=4)
def _people(cards: int, skew: float) -> tuple[Floats, Ints, Ints, Floats, Floats]:
    """Cumulated popularity by rank, card of each rank, home city of each card, cities' positions."""
    rng = np.random.default_rng([SEED, cards])
    weight = (np.arange(cards) + 21.0) ** -skew
    popularity = np.cumsum(weight / weight.sum())
    lat, lon = rng.uniform(36, 60, _CITIES).round(2), rng.uniform(-9, 25, _CITIES).round(2)
    return popularity, rng.permutation(cards), rng.integers(0, _CITIES, cards), lat, lon


def _plant(rng: np.random.Generator, rank: Ints, cents: Ints, cards: int) -> None:
    """Bursts and card-testing runs, in place."""
    for _ in range(BLOCK * 2 // 100 // 6):
        at = int(rng.integers(0, BLOCK - 2_800)) + np.sort(rng.choice(2_800, 6, replace=False))
        rank[at] = rng.integers(cards // 40, cards)
    for _ in range(BLOCK // 200 // 5):
        small = int(rng.integers(3, 6))
        at = int(rng.integers(0, BLOCK - 8_000)) + np.sort(rng.choice(8_000, small + 1, replace=False))
        rank[at] = rng.integers(cards // 7, cards)
        cents[at[:small]] = rng.integers(50, 200, small)
        cents[at[small]] = rng.integers(10_100, 40_000)


def block(job: Job, index: int) -> Events:
    """Events `index` x 50,000 and on."""
    popularity, card_of, home, city_lat, city_lon = _people(job.cards, job.skew)
    rng = np.random.default_rng([SEED, job.cards, index])
    rank = np.minimum(np.searchsorted(popularity, rng.random(BLOCK), side="right"), job.cards - 1)
    cents = np.maximum(np.round(np.exp(np.log(25) + 0.9 * rng.standard_normal(BLOCK)) * 100), 50).astype(np.int64)
    _plant(rng, rank, cents, job.cards)
    card = card_of[rank]
    hot = rng.random(BLOCK) < job.hot
    card[hot] = 0
    city = np.where(rng.random(BLOCK) < 0.015, rng.integers(0, _CITIES, BLOCK), home[card])
    shift = np.where(rng.random((2, BLOCK)) < 0.05, rng.uniform(-0.05, 0.05, (2, BLOCK)), 0.0).round(2)
    number = np.arange(index * BLOCK, (index + 1) * BLOCK)
    late = (rng.random(BLOCK) < job.late) & (hot if job.hot else True)
    rest = rng.integers(0, (5_000, 20_000, len(_CURRENCIES), len(_CODES), len(_CHANNELS)), (BLOCK, 5))
    return Events(
        number, card, cents, (city_lat[city] + shift[0]).round(2), (city_lon[city] + shift[1]).round(2),
        EPOCH_MS + number * job.step_ms - late * rng.integers(1, _LATE_MS, BLOCK), np.column_stack((rest, city)),
    )  # fmt: skip


def events(job: Job, count: int, start: int = 0) -> Iterator[Events]:
    """Events start .. start + count, in pieces of at most a block."""
    for index in range(start // BLOCK, -(-(start + count) // BLOCK)):
        drawn = block(job, index)
        part = slice(max(start - index * BLOCK, 0), min(start + count - index * BLOCK, BLOCK))
        yield drawn.take(part)


def keys(some: Events) -> list[bytes]:
    """The records' keys."""
    return [b"c%07d" % card for card in some.card.tolist()]


def texts(some: Events) -> list[bytes]:
    """The records' JSON up to the value of `ts`: complete it with b"%d}"."""
    merchant, terminal, currency, code, channel, city = (column.tolist() for column in some.rest.T)
    rows: Iterator[tuple[Any, ...]] = zip(
        some.number.tolist(), some.card.tolist(), merchant, terminal, (some.card * 7 % 900_000).tolist(),
        (some.cents / 100).tolist(), [_CURRENCIES[i] for i in currency], [_CODES[i] for i in code],
        [_COUNTRIES[i % 10] for i in city], some.lat.tolist(), some.lon.tolist(), [_CHANNELS[i] for i in channel],
        some.event_time.tolist(), strict=True,
    )  # fmt: skip
    return [_TEXT % row for row in rows]


def records(job: Job, count: int, start: int = 0, ts_ms: int = EPOCH_MS) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Keys and whole values, in pieces of at most a block."""
    end = b"%d}" % ts_ms
    for some in events(job, count, start):
        yield keys(some), [text + end for text in texts(some)]


def pipeline(directory: Path, variant: str, name: str, topic: str, *, deduplicate: bool = True) -> Path:
    """A copy of the variant's pipeline called `name` that reads `topic`, with deduplication on or off."""
    directory.mkdir(parents=True, exist_ok=True)
    shipped = CONFIGS / VARIANTS[variant]
    lines = []
    for line in shipped.read_text().splitlines():
        if line.startswith("pipeline:"):
            lines.append(f"pipeline: {name}")
        elif line.strip() == "event_time: event_time":
            lines += [line, f"    topic: {topic}", *(["    deduplicate: 24h"] if deduplicate else [])]
        elif line.strip() != "deduplicate: 24h":
            lines.append(line.replace("file: model.onnx", f"file: {CONFIGS / 'model.onnx'}"))
    path = directory / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def plan_of(path: Path) -> Plan:
    """The plan of a pipeline file."""
    from streamproc.cli.options import load_stages

    return load_stages(str(path))[0]


def has_model() -> bool:
    """Whether variant M can run; make its model with benchmarks.make_bench_model."""
    return (CONFIGS / "model.onnx").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description="Print events of the job as NDJSON.")
    parser.add_argument("--records", type=int, default=10)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--cards", type=int, default=20_000)
    parser.add_argument("--step", type=int, default=10)
    parser.add_argument("--hot", type=float, default=0.0)
    parser.add_argument("--late", type=float, default=0.0)
    chosen = parser.parse_args()
    job = Job(chosen.cards, chosen.step, chosen.hot, chosen.late)
    for _, values in records(job, chosen.records, chosen.start):
        sys.stdout.buffer.write(b"\n".join(values) + b"\n")


if __name__ == "__main__":
    main()
