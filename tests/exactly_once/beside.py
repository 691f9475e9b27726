"""Payments without end for the stages side by side of tests/simulation/beside.yaml: the simulation's, by the block.

Six records take a second of event time, so a day, within which nothing is forgotten, has room for any campaign.
"""

from __future__ import annotations

__all__ = ["BLOCK", "CARDS", "blocks", "roll_call"]

import json
import random
from collections.abc import Iterator
from itertools import islice

from tests.exactly_once.traffic import Block
from tests.simulation.traffic import START_MS, staged_stream

BLOCK = 200
CARDS = 400
_STEPS_MS = (1, 50, 200, 450)
_CALLED_AFTER_MS = 1_000


def blocks(seed: int, cards: int = CARDS) -> Iterator[Block]:
    """Blocks of `BLOCK` records, for ever."""
    records = staged_stream(random.Random(seed), cards, START_MS, _STEPS_MS)
    while True:
        some = list(islice(records, BLOCK))
        yield Block([record.value for record in some], [record.card.encode() for record in some])


def roll_call(seed: int, skip: int, cards: int = CARDS) -> Iterator[Block]:
    """A payment of every card, later than all of the first `skip` records: on its device, on a terminal of eight."""
    newest = 0
    for block in islice(blocks(seed, cards), skip // BLOCK):
        times = (json.loads(row)["event_time"] for row in block.rows if row.startswith(b'{"transaction_id": "t'))
        newest = max(newest, *times)
    rows = [
        {
            "transaction_id": f"call{card}", "card_id": f"c{card}", "amount": 1.0, "lat": 48.85, "lon": 2.35,
            "event_time": newest + _CALLED_AFTER_MS + card, "ts": 1, "device_id": f"d{card // 2}",
            "terminal_id": f"t{card % 8}",
        }
        for card in range(cards)
    ]  # fmt: skip
    yield Block([json.dumps(row).encode() for row in rows], [str(row["device_id"]).encode() for row in rows])
