"""Hot keys: who they are, by a name that says nothing, and how far partitions of each stage are behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter, defaultdict
from unittest import mock

from prometheus_client import CollectorRegistry, generate_latest

from state.hashing import partition_of
from streamproc.runtime import hot_keys
from streamproc.runtime.hot_keys import INTERVAL_S, KEYS_MAX, HotKeys
from streamproc.runtime.observe import watch_tasks
from streamproc.runtime.watchdog import Watchdog
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.test_in_step import steady
from tests.simulation.traffic import Record
from tests.simulation.variants import simulated_plans

KEY = b"k" * 32


def name(key: str, secret: bytes = KEY) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16, key=secret).hexdigest()[:16]


def shown(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    samples = [sample for family in registry.collect() for sample in family.samples]
    found = [sample for sample in samples if sample.name == "streamproc_hot_key_rows"]
    return {(sample.labels["stage"], sample.labels["key"]): sample.value for sample in found}


def made() -> tuple[HotKeys, CollectorRegistry]:
    registry = CollectorRegistry()
    found = HotKeys(registry, KEY)
    found.look(0.0)
    return found, registry


def share(registry: CollectorRegistry, stage: str) -> float | None:
    return registry.get_sample_value("streamproc_hot_key_share", {"stage": stage})


def test_the_five_keys_with_the_most_rows_of_the_last_interval() -> None:
    hot, registry = made()
    for number, card in enumerate("abcdefg"):
        hot.note("cards", [card] * (10 * number))
    hot.note("shops", ["s"] * 3 + ["t"])
    hot.look(INTERVAL_S - 0.1)
    assert shown(registry) == {}
    hot.look(INTERVAL_S)
    cards = {("cards", name(card)): rows for card, rows in zip("cdefg", (20, 30, 40, 50, 60), strict=True)}
    assert shown(registry) == cards | {("shops", name("s")): 3, ("shops", name("t")): 1}
    assert (share(registry, "cards"), share(registry, "shops")) == (60 / 210, 3 / 4)
    hot.note("cards", ["z"])
    hot.look(2 * INTERVAL_S)
    assert shown(registry) == {("cards", name("z")): 1}, "an interval forgets the one before"
    hot.look(3 * INTERVAL_S)
    assert shown(registry) == {}


def test_no_key_is_shown_and_another_secret_gives_other_names() -> None:
    hot, registry = made()
    hot.note("cards", ["4000001234567899"] * 9)
    hot.look(INTERVAL_S)
    assert b"4000001234567899" not in generate_latest(registry)
    assert name("4000001234567899", b"x" * 32) not in generate_latest(registry).decode()


def test_of_large_batches_counts_are_near() -> None:
    hot, registry = made()
    rng = random.Random(1)
    hot_ones = rng.choices("abcde", (3, 4, 5, 6, 7), k=40_000)
    keys = [hot_one if rng.random() < 0.25 else f"c{rng.randrange(5_000)}" for hot_one in hot_ones]
    for start in range(0, len(keys), 2_000):
        hot.note("main", keys[start : start + 2_000])
    hot.look(INTERVAL_S)
    real = {name(key): count for key, count in Counter(keys).items()}
    found = shown(registry)
    assert {key for _, key in found} == {name(one) for one in "abcde"}
    assert all(abs(rows - real[key]) < 0.2 * real[key] for (_, key), rows in found.items())


def test_many_keys_take_bounded_memory_and_the_hot_one_stays() -> None:
    hot, registry = made()
    for start in range(0, 4 * KEYS_MAX, 200):
        hot.note("main", [f"c{start + n}" for n in range(200)] + ["hot"] * 20)
        assert len(hot._counts["main"]) <= KEYS_MAX + 201
    hot.look(INTERVAL_S)
    assert max(shown(registry).items(), key=lambda item: item[1])[0] == ("main", name("hot"))
    assert len(shown(registry)) == hot_keys.TOP


def test_a_worker_of_two_stages_shows_lag_by_topic_and_partition_and_hot_keys_by_stage() -> None:
    """One device has four fifths of the payments, and the worker is slow."""
    plans = simulated_plans()[2]
    source, between = (plan.stream.topic for plan in plans)

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, 3, loop, settings={"batch_rows_max": 20})
        fleet.feed([])
        fleet.start(slow_s=0.05)
        (run,) = fleet.shared.runs
        registry = run.metrics.registry

        def lag(topic: str, partition: int) -> float | None:
            return registry.get_sample_value("streamproc_lag_records", {"topic": topic, "partition": str(partition)})

        watch = watch_tasks(
            run.log.admin(), run.worker, {}, metrics=run.metrics, clock=fleet.machines[0].clock, watchdog=Watchdog()
        )
        watching = asyncio.ensure_future(watch)
        await asyncio.sleep(6.0)
        fleet.feed(payments_of_one_device())
        hot, partitions = partition_of(b"d0", 4), range(4)
        seen: dict[tuple[str, int], list[float]] = defaultdict(list)
        for _ in range(40):
            await asyncio.sleep(1.0)
            for topic in (source, between):
                for partition in partitions:
                    seen[topic, partition].append(lag(topic, partition) or 0.0)
        assert seen[source, hot] == sorted(seen[source, hot], reverse=True)
        assert 100 < seen[source, hot][0] < 200
        assert all(seen[source, p][-1] == 0.0 for p in partitions)
        assert max(max(seen[between, p]) for p in partitions) > 0
        assert {stage for stage, _ in best} == {"device", "card"}
        watching.cancel()
        fleet.stop()
        assert await fleet.ended() == ["stopped"]

    best: dict[tuple[str, str], float] = {}
    real = HotKeys._show

    def show(self: HotKeys) -> None:
        for stage, counts in self._counts.items():
            best.update({(stage, key): rows for key, rows in hot_keys._most(counts, 1)})
        real(self)

    with mock.patch.object(HotKeys, "_show", show):
        run_fleet(play, 3)
    assert max(best, key=lambda one: best[one]) == ("device", "d0")


def payments_of_one_device() -> list[Record]:
    """All but each fifth."""
    records = []
    for number, record in enumerate(steady(random.Random(3), 200)):
        event = json.loads(record.value) | ({"device_id": "d0"} if number % 5 else {})
        records.append(Record(event["device_id"], json.dumps(event).encode()))
    return records
