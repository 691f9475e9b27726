"""A group member in a process, to be killed: `python -m tests.eventlog.kafka.member BOOTSTRAP GROUP TOPIC`."""

from __future__ import annotations

import asyncio
import sys

from streamproc.eventlog.kafka import KafkaLog
from tests.eventlog.kafka.kit import join, polling


async def main(bootstrap: str, group: str, topic: str) -> None:
    reader, told = await join(KafkaLog(bootstrap), group, [topic])
    print("assigned", len(told.partitions), flush=True)
    async with polling(reader):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
