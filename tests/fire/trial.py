"""A campaign under a steady feed, recorded: what tests of faults have in common."""

from __future__ import annotations

__all__ = ["RATE", "Trial", "trial"]

import contextlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from tests.exactly_once.campaign import Campaign, Plan
from tests.fire.report import Running, recorded

RATE = 500
"""Events a second."""


class Trial(NamedTuple):
    """One under way."""

    campaign: Campaign
    running: Running
    feeder: subprocess.Popen[str]

    def sent(self) -> int:
        """Let the feed come to its end; how many events there were."""
        sent: int = self.campaign.end_of(self.feeder)["sent"]
        return sent


@contextlib.contextmanager
def trial(campaign: Campaign, kind: str, seed: int, events: int = RATE * 20) -> Iterator[Trial]:
    """`events` at the least; in the end no process is left."""
    try:
        with (
            recorded(kind, seed) as running,
            campaign.feeding(Plan(rate=RATE, events=events, seed=seed)) as feeder,
        ):
            yield Trial(campaign, running, feeder)
    except BaseException:
        print(campaign.logged(), flush=True)
        raise
    finally:
        campaign.end_all()
