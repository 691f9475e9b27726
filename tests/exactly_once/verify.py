"""The independent verifier, a process of its own: reads what is committed and compares it with the oracle.

`python -m tests.exactly_once.verify --log URL --pipeline NAME --records N --report FILE`; exit code 1 on any fault.
"""

from __future__ import annotations

__all__ = ["read_partition", "verify"]

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.exactly_once.checks import Findings, PartitionData, check_partition
from tests.exactly_once.readers import LogReader, open_reader
from tests.exactly_once.worlds import DEADLINE_MS

TOPICS = ("transactions", "decisions", "dead_letters", "journal")


def verify(log: LogReader, pipeline: str, deadline_ms: int = 0) -> Findings:
    """All partitions of a pipeline that has come to rest; `deadline_ms`: its deadline, 0: it has none."""
    total = Findings()
    for name in TOPICS:
        for open_one in log.unsettled(f"{pipeline}.{name}"):
            total.broken_journal += 1
            total.say(f"unsettled: {open_one}")
    for partition in range(log.partitions(f"{pipeline}.transactions")):
        total.add(check_partition(read_partition(log, pipeline, partition, deadline_ms)))
    return total


def read_partition(log: LogReader, pipeline: str, partition: int, deadline_ms: int = 0) -> PartitionData:
    """Everything of one partition."""
    source, decisions, dead_letters, journal = (log.read(f"{pipeline}.{name}", partition) for name in TOPICS)
    topic = f"{pipeline}.transactions"
    committed = log.committed(pipeline, topic).get(partition)
    partitions = log.partitions(topic)
    return PartitionData(topic, partition, source, decisions, dead_letters, journal, committed, partitions, deadline_ms)


def report(found: Findings, records: int, seconds: float) -> dict[str, Any]:
    """The findings as JSON; `ok` only if nothing is wrong and all that was sent is there."""
    if found.records != records:
        found.say(f"{found.records} records in the input, {records} were sent")
    ok = found.records == records and not any(found.faults.values())
    return {"ok": ok, **vars(found), "seconds": round(seconds, 1)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--deadline-ms", type=int, default=DEADLINE_MS)
    parser.add_argument("--report", type=Path, required=True)
    arguments = parser.parse_args()
    gc.disable()  # millions of small objects, no cycles
    started = time.monotonic()
    found = verify(open_reader(arguments.log), arguments.pipeline, arguments.deadline_ms)
    result = report(found, arguments.records, time.monotonic() - started)
    arguments.report.write_text(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
