"""Another process: commits numbered transactions over two topics until it has done `count`, or is killed.

Run as `python -m tests.eventlog.embedded.process DIRECTORY NAME COUNT`; prints "ready" when it begins.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.embedded import EmbeddedEventLog

LEFT, RIGHT = TopicPartition("left", 0), TopicPartition("right", 0)
RECORDS = 50


async def main(directory: str, name: str, count: int) -> None:
    log = EmbeddedEventLog(Path(directory), busy_timeout_s=20)
    await log.admin().ensure_topics([TopicSpec("left", 1), TopicSpec("right", 1)])
    writer = log.writer(name)
    await writer.open()
    print("ready", flush=True)
    for number in range(count):
        values: list[bytes | None] = [f"{name}:{number}:{n}".encode().ljust(4000) for n in range(RECORDS)]
        await writer.begin()
        for tp in (LEFT, RIGHT):
            await writer.append([OutputRecords(tp, [name.encode()] * RECORDS, values, 0)])
        await writer.commit()
    await log.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
