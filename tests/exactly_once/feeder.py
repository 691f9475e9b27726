"""A producer in a process of its own: an open loop at a steady rate, until it is told to stop.

`python -m tests.exactly_once.feeder --pipeline YAML --log URL --rate N --least N --most N --stop FILE --seed N`,
after `--skip N` records, of so many `--cards`; `--roll-call`: instead of what follows these, one more payment of every
card. `--traffic`: the module that draws them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
from itertools import islice
from pathlib import Path

from streamproc.cli.compose import open_log
from streamproc.cli.feeder import Sender
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog
from streamproc.eventlog.kafka import KafkaLog
from streamproc.runtime.topics import prepare_topics


async def feed(arguments: argparse.Namespace) -> None:
    """At least `least` records, then until the stop file is there, at most `most`; says what it did on stdout."""
    plan = load_stages(arguments.pipeline)[0]
    log = _open(arguments.log)
    partitions = await prepare_topics(log, plan)
    rate = arguments.rate or None
    sender = Sender(plan.stream.topic, partitions, log.appender(), SystemClock(), rate)
    traffic = importlib.import_module(arguments.traffic)
    drawn = traffic.blocks(arguments.seed, arguments.cards or traffic.CARDS)
    following = islice(drawn, arguments.skip // traffic.BLOCK, None)
    for block in traffic.roll_call(arguments.seed, arguments.skip) if arguments.roll_call else following:
        await sender.send(list(block.rows), list(block.keys))
        if sender.sent >= arguments.least and (arguments.stop.exists() or sender.sent + traffic.BLOCK > arguments.most):
            break
    print(json.dumps({"sent": sender.sent, "seconds": round(sender.seconds, 2)}), flush=True)
    await sender.close()
    await log.close()


def _open(url: str) -> EventLog:
    """Patient: a broker that is away must not end the feed."""
    return KafkaLog.from_url(url, call_timeout_ms=120_000) if url.startswith("kafka:") else open_log(url)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--least", type=int, required=True)
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--roll-call", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cards", type=int, default=0, help="0: as many as that traffic has")
    parser.add_argument("--traffic", default="tests.exactly_once.traffic")
    asyncio.run(feed(parser.parse_args()))


if __name__ == "__main__":
    main()
