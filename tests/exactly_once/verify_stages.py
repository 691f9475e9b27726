"""The verifier of stages side by side, a process of its own: what each made of what it read, and what was decided.

`python -m tests.exactly_once.verify_stages --log URL --pipeline NAME --records N --report FILE`; exit code 1 on any
fault. The oracles are those of the simulation, each row of a stage against all before it; only names are the program's.
"""

from __future__ import annotations

__all__ = ["Committed", "check_stages", "read_stages"]

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from operators.plan import Plan
from streamproc.language import compile_stages, read_pipeline
from tests.exactly_once.checks import Entry, Findings
from tests.exactly_once.readers import LogReader, Record, open_reader
from tests.exactly_once.verify import report
from tests.exactly_once.worlds import BESIDE
from tests.oracle.card_job import Expected
from tests.simulation import committed
from tests.simulation.decided import judge_decisions
from tests.simulation.handed_on import expect_stage, judge_handoff
from tests.simulation.parts import whole_rows

ByTask = Mapping[int, Sequence[Record]]


class Committed(NamedTuple):
    """All committed records of a pipeline: each stage's source, journal and offsets (with their metadata), by task."""

    plans: Sequence[Plan]
    sources: Sequence[ByTask]
    journals: Sequence[ByTask]
    offsets: Sequence[Mapping[int, tuple[int, str]]]
    decisions: ByTask
    dead_letters: ByTask
    unsettled: Sequence[str]


def read_stages(log: LogReader, pipeline: str) -> Committed:
    """Of a pipeline that has come to rest."""
    plans = compile_stages(read_pipeline(BESIDE.named(pipeline), str(BESIDE.pipeline)))
    topics = plans[-1].topics

    def read(topic: str) -> dict[int, list[Record]]:
        return {task: log.read(topic, task) for task in range(log.partitions(topic))}

    sources = [plan.stream.topic for plan in plans]
    named = [*sources, *(plan.topics.journal for plan in plans), topics.decisions, topics.dead_letters]
    return Committed(
        plans, [read(topic) for topic in sources], [read(plan.topics.journal) for plan in plans],
        [log.committed(pipeline, topic) for topic in sources], read(topics.decisions), read(topics.dead_letters),
        [open_one for topic in named for open_one in log.unsettled(topic)],
    )  # fmt: skip


def check_stages(data: Committed) -> Findings:
    """I1, I2, I4, I5 and I7 of every stage: rows handed on, parts gathered, decisions, dead letters, journals."""
    found = Findings(sum(map(len, data.sources[0].values())))
    found.dead_letters = sum(map(len, data.dead_letters.values()))
    _add(found, "broken_journal", "unsettled", data.unsettled)
    read = [{task: _plain(records) for task, records in sources.items()} for sources in data.sources]
    for number, plan in enumerate(data.plans):
        rows = {task: whole_rows(plan, records) for task, records in read[number].items()}
        expected = {task: expect_stage(plan, number, records) for task, records in rows.items()}
        for task, wanted in expected.items():
            where = f"{plan.stage} {task}"
            _add(found, "wrong_dead_letters", where, _dead_letters(data, plan, task, wanted))
            _add(found, "broken_journal", where, _journal(data, number, task, wanted))
        if plan.handoff is None:
            _check_decisions(data, expected, found)
            continue
        for following, sources in zip(data.plans, read, strict=True):
            if following.entrance in plan.handoff.topics:
                told = judge_handoff(plan, following, number, sources=rows, expected=expected, found=sources)
                _add(found, "mismatches", "handed on", told)
    return found


def _add(found: Findings, kind: str, where: str, told: Sequence[str] | Iterator[str]) -> None:
    for what in told:
        setattr(found, kind, getattr(found, kind) + 1)
        found.say(f"{where}: {what}")


def _plain(records: Sequence[Record]) -> list[committed.Record]:
    """As the simulation's judges read them."""
    return [committed.Record(one.offset, one.value, one.timestamp, [], one.key) for one in records]


def _check_decisions(data: Committed, expected: Mapping[int, Expected], found: Findings) -> None:
    for task, wanted in expected.items():
        got = data.decisions[task]
        found.decisions += len(got)
        found.repeated += len(wanted.duplicates)
        found.actions.update(json.loads(record.value)["decision"] for record in got)
        found.duplicates += max(0, len(got) - len(wanted.decisions))
        found.missing += max(0, len(wanted.decisions) - len(got))
        _add(found, "mismatches", f"decisions {task}", judge_decisions(wanted, _plain(got), "device_id"))


def _dead_letters(data: Committed, plan: Plan, task: int, expected: Expected) -> Iterator[str]:
    letters = [json.loads(record.value) for record in data.dead_letters[task]]
    mine = [letter["offset"] for letter in letters if letter["topic"] == plan.stream.topic]
    if mine != sorted(expected.dead):
        yield f"{len(mine)} dead letters, expected {len(expected.dead)}, or of other records"
    if {letter["topic"] for letter in letters} - {known.stream.topic for known in data.plans}:
        yield "a dead letter of another topic"


def _journal(data: Committed, number: int, task: int, expected: Expected) -> Iterator[str]:
    """One chain over all that the stage has read, whose last record the group's offset names."""
    plan, source, journal = data.plans[number], data.sources[number][task], data.journals[number][task]
    chain, at, accounted = bytes(32), source[0].offset if source else 0, set[int]()
    outputs = iter(data.decisions[task]) if plan.handoff is None else None
    previous = last = -1
    for sequence, record in enumerate(journal):
        body = record.headers["journal"]
        entry = msgspec.msgpack.decode(body, type=Entry)
        chain = hashlib.sha256(chain + body).digest()
        ((topic, start, stop),) = entry.ranges
        if (record.headers["chain"], entry.task, entry.sequence, topic) != (chain, task, sequence, plan.stream.topic):
            yield f"journal record {sequence} does not follow from the one before"
            return
        if start < at or any(at <= one.offset < start for one in source):
            yield f"journal record {sequence} begins at {start}, {at} comes next"
        if len(entry.actions) != sum(start <= offset < stop for offset in expected.decisions):
            yield f"journal record {sequence} has {len(entry.actions)} actions, other rows came"
        if outputs is not None:
            texts = [one.value for one in islice(outputs, len(entry.actions))]
            if hashlib.sha256(b"\n".join(texts)).digest() != entry.output:
                yield f"journal record {sequence} is not of the decisions that it covers"
        accounted |= {offset for _, offset in (*entry.rejected, *entry.duplicates)}
        at, previous, last = stop, last, record.offset
    if accounted != expected.dead | expected.duplicates:
        yield "the journal's rejects or duplicates are not the oracle's"
    end, named = data.offsets[number].get(task, (0, "::::"))
    if source and (end != at or end <= source[-1].offset):
        yield f"the group's offset is {end}, the journal ends at {at}, the input at {source[-1].offset + 1}"
    if journal and named.split(":")[1:4] != [str(len(journal) - 1), str(previous), chain.hex()]:
        yield "the group's offset does not name the journal's last record"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--report", type=Path, required=True)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = check_stages(read_stages(open_reader(arguments.log), arguments.pipeline))
    result = report(found, arguments.records, time.monotonic() - started)
    arguments.report.write_text(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
