"""The shipped card_fraud pipeline, all its stages in one worker: generated payments through two hops.

    python -m benchmarks.card_fraud [work] [drain] [latency] [--records 200000] [--log kafka embedded] [--repeats 3]

work: the engines alone (steps 2 to 4 of all stages, flush left out), CPU by batch size. drain: as drain.py; a payment's
decision counts. latency: as latency.py, at 1,000/s. Decisions are counted (missing, doubled, unknown); those that
differ from a backtest's are told: stages see rows of different partitions in about their order only.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import drain as drains
from benchmarks import latency as latencies
from benchmarks.job import PARTITIONS
from benchmarks.machine import Usage
from benchmarks.world import Worker, World, append, fresh, prepare_outputs, stages, watch, world
from operators.plan import Plan, lean
from state.hashing import partitions_of
from streamproc.cli.common import load_stages
from streamproc.cli.compose import build_engine, open_log
from streamproc.cli.files import Piece
from streamproc.cli.loops import run_async
from streamproc.cli.replay_files import FileReplay, NothingStored
from streamproc.eventlog.contract import Chunk, OutputRecords, TopicPartition, TopicSpec
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.rows import TaskInput
from streamproc.services.generator import GeneratorOptions, generate, json_records

Result = dict[str, Any]
CONFIG = Path(__file__).parents[1] / "configs" / "card_fraud"
SIZES = (1, 8, 64, 512, 2_000)
_START_MS = 1_767_225_600_000
_END_MS = _START_MS + 14 * 86_400_000
_PRELOAD = 8_000
_CARDS_MIN = 60  # of the generator
_ID = re.compile(rb'"transaction_id":"(\w+)"')
_TIME = re.compile(rb'"event_time":\d+,')


class Payments(msgspec.Struct, frozen=True):
    """Generated payments, `a_card` of each card."""

    seed: int = 1
    a_card: int = 40

    def records(self, count: int) -> tuple[list[bytes], list[bytes]]:
        """(keys, records) of 14 days, in order of event time."""
        cards = max(_CARDS_MIN, count // self.a_card)
        options = GeneratorOptions(events=count, seed=self.seed, start_ms=_START_MS, cards=cards)
        records, keys = json_records(generate(options))
        return keys, records

    def unfinished(self, count: int, start: int) -> tuple[list[bytes], list[bytes]]:
        """See `Job.unfinished`: they happen when they are sent, and are numbered."""
        keys, records = self.records(start + count)
        texts = []
        for number, record in enumerate(records[start:], start):
            numbered = _ID.sub(b'"transaction_id":"t%08d"' % number, _TIME.sub(b"", record, count=1), count=1)
            texts.append(numbered[:-1] + b',"event_time":')
        return keys[start:], texts


def pipeline(directory: Path, name: str) -> Path:
    """A copy of the shipped pipeline under a name of its own."""
    text = (CONFIG / "pipeline.yaml").read_text()
    text = text.replace("pipeline: card_fraud\n", f"pipeline: {name}\npartitions: {PARTITIONS}\n")
    text = text.replace("file: ", f"file: {CONFIG}/").replace("tests: tests/*.yaml", f"tests: {CONFIG}/tests/*.yaml")
    path = directory / f"{name}.yaml"
    path.write_text(text)
    return path


# ---- the engines alone


class Chain:
    """All stages' engines, fed batch by batch as one worker would; `cpu` seconds so far."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._stages = []
        for plan in map(lean, plans):
            engine, state = build_engine(plan, bytes(32), PARTITIONS)
            engine.prepare()
            tasks = {}
            for number in range(PARTITIONS):
                state.add_task(number, NothingStored())
                task = PartitionTask(number, TopicPartition(plan.stream.topic, number))
                task.enter(Phase.RUNNING)
                tasks[task.source] = task
            self._stages.append((plan, engine, tasks))
        self._offsets: Counter[TopicPartition] = Counter()
        self.cpu = 0.0

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Payments through all stages."""
        source = self._stages[0][0].stream.topic
        places = partitions_of(keys, PARTITIONS).tolist()
        given: dict[TopicPartition, list[tuple[Any, Any]]] = {}
        for key, value, place in zip(keys, values, places, strict=True):
            given.setdefault(TopicPartition(source, place), []).append((key, value))
        at_hand = None
        for plan, engine, tasks in self._stages:
            inputs = [self._input(tp, *map(list, zip(*rows, strict=True))) for tp, rows in sorted(given.items())]
            begun = time.process_time()
            computed = engine.compute(inputs, tasks, _END_MS, at_hand)
            handed = computed.handed
            at_hand = None if handed is None else handed.at_hand(sorted(handed.places))
            engine.publish()
            engine.make_room()
            self.cpu += time.process_time() - begun
            for tp, head in computed.heads.items():
                tasks[tp].advance(head, head.sequence)
            given = {out.tp: list(zip(out.keys, out.values, strict=True)) for out in self._handed_on(plan, computed)}

    @staticmethod
    def _handed_on(plan: Plan, computed: Any) -> list[OutputRecords]:
        return [out for out in computed.outputs if plan.handoff is not None and out.tp.topic == plan.handoff.topic]

    def _input(self, tp: TopicPartition, keys: list[bytes | None], values: list[bytes | None]) -> TaskInput:
        begin = self._offsets[tp]
        end = self._offsets[tp] = begin + len(keys)
        return TaskInput(tp.partition, tp, [Chunk(tp, range(begin, end), keys, values, [_END_MS] * len(keys), end)])


def work(count: int = 40_000, sizes: Sequence[int] = SIZES) -> list[Result]:
    """CPU of all stages by batch size, after `count` payments."""
    keys, values = Payments().records(2 * count)
    results = []
    for size in sizes:
        chain = Chain(load_stages(str(CONFIG / "pipeline.yaml")))
        for at in range(0, count, 2_000):
            chain.batch(keys[at : at + 2_000], values[at : at + 2_000])
        gc.freeze()
        chain.cpu, rounds = 0.0, min(400, count // size)
        for at in range(count, count + rounds * size, size):
            chain.batch(keys[at : at + size], values[at : at + size])
        results.append({
            "what": "work", "batch": size, "batches": rounds, "ms_a_batch": chain.cpu / rounds * 1e3,
            "us_a_payment": chain.cpu / rounds / size * 1e6,
        })  # fmt: skip
        print(f"  work at batch {size}: {results[-1]['us_a_payment']:.1f} us a payment", file=sys.stderr)
    return results


# ---- a worker


class _Decision(msgspec.Struct):
    transaction_id: str
    decision: str


def _expected(plans: Sequence[Plan], keys: list[bytes], values: list[bytes]) -> dict[str, str]:
    """What a backtest decides."""
    piece = Piece(list(values), list(keys), range(1, len(values) + 1), (), 0)
    judged, _ = FileReplay(plans).decide(piece, [_END_MS] * len(values))
    names = judged.decided.action_names
    return dict(zip(judged.rows.ids, [names[code] for code in judged.actions.tolist()], strict=True))


def _against(expected: dict[str, str], found: Sequence[bytes]) -> Result:
    decoded = list(map(msgspec.json.Decoder(_Decision).decode, found))
    seen = {one.transaction_id: one.decision for one in decoded}
    return {
        "missing": len(expected.keys() - seen.keys()), "duplicates": len(decoded) - len(seen),
        "unknown": len(seen.keys() - expected.keys()),
        "unlike_backtest": sum(expected[name] != action for name, action in seen.items() if name in expected),
    }  # fmt: skip


async def _fill(url: str, plans: Sequence[Plan], keys: list[bytes], values: list[bytes]) -> None:
    """The topics, and `values` in the first of them."""
    log, topic = open_log(url), plans[0].stream.topic
    await log.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
    appender = log.appender()
    for at in range(0, len(keys), _PRELOAD):
        await append(appender, topic, keys[at : at + _PRELOAD], values[at : at + _PRELOAD])
    await appender.close()
    await prepare_outputs(log, plans[-1])
    await log.close()


async def _drained(on: World, url: str, worker: Worker, topic: str, count: int) -> tuple[Result, list[bytes]]:
    """Figures, and the decisions."""
    log, found = open_log(url), list[bytes]()

    def keep(chunks: list[Chunk]) -> None:
        found.extend(bytes(value) for chunk in chunks for value in chunk.values if value)

    with worker:
        usage = Usage(worker.pid)
        seen = await watch(log, topic, lambda seen: seen.count >= count, worker=worker, usages=(usage,), on_chunks=keep)
        told = worker.memory() | stages({}, worker.metrics())
    await log.close()
    seconds, cpu = seen.last_arrival - seen.first_stamp, usage.between(seen.first_stamp, seen.last_arrival)
    figures = {"records_per_s": count / seconds, "cpu_s_per_1000": cpu / count * 1e3, "worker_core_busy": cpu / seconds}
    return figures | told, found


def drain(on: World, log: str, count: int, repeats: int) -> list[Result]:
    """A backlog, one worker on one core."""
    keys, values = Payments().records(count)
    expected, results = dict[str, str](), list[Result]()
    for _ in range(repeats):
        name = fresh("card-fraud")
        path, url = pipeline(on.directory, name), on.url(log, name)
        plans = load_stages(str(path))
        expected = expected or _expected(plans, keys, values)
        run_async(_fill(url, plans, keys, values))
        figures, found = run_async(_drained(on, url, Worker(on, path, url, name), plans[-1].topics.decisions, count))
        results.append({"what": "drain", "log": log, "records": count} | figures | _against(expected, found))
        print(f"  drain {log}: {results[-1]['records_per_s']:,.0f}/s", file=sys.stderr)
    return [drains.middle(results)]


def latency(on: World, log: str, rate: int, warm_up: float, seconds: float) -> list[Result]:
    """Open loop through two hops."""
    name = fresh("card-fraud")
    path, url = pipeline(on.directory, name), on.url(log, name)
    plans = load_stages(str(path))

    run_async(_fill(url, plans, [], []))
    with Worker(on, path, url, name) as worker:
        worker.await_ready()
        before, count = worker.metrics(), int(rate * (warm_up + seconds))
        source, target = plans[0].stream.topic, plans[-1].topics.decisions
        found = latencies.measure(
            latencies.Task(url, source, target, Payments(), rate, 0, count), warm_up, {"worker": worker.pid}
        )
        found |= stages(before, worker.metrics()) | worker.memory()
    return [{"what": "latency", "log": log} | found]


def run(on: World, logs: Sequence[str], count: int, repeats: int, *, warm_up: float, seconds: float) -> list[Result]:
    """All of it."""
    results = work()
    for log in logs:
        results += drain(on, log, count, repeats)
        results += latency(on, log, 1_000, warm_up, seconds)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="The shipped card_fraud pipeline, all stages in one worker.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="work, drain, latency [default: all]")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--log", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    parts = chosen.parts or ["work", "drain", "latency"]
    if "work" in parts:
        for result in work():
            print(json.dumps(result))
    if {"drain", "latency"} & set(parts):
        with world(kafka="kafka" in chosen.log) as on:
            drains.warm(on)
            for log in chosen.log:
                found = drain(on, log, chosen.records, chosen.repeats) if "drain" in parts else []
                found += latency(on, log, chosen.rate, 10.0, chosen.seconds) if "latency" in parts else []
                for result in found:
                    print(json.dumps(result))


if __name__ == "__main__":
    main()
