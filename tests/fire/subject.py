"""A pod under a fault, and what is demanded of it while it lasts and after it."""

from __future__ import annotations

__all__ = ["HASTY", "HEALED_SECONDS_MAX", "Subject", "judge"]

import time
from collections.abc import Callable, Mapping

from tests.exactly_once.campaign import Campaign
from tests.exactly_once.checks import Findings
from tests.exactly_once.pods import Pod, ends, positions, until
from tests.fire.report import Running
from tests.fire.vitals import Vitals, readiness
from tests.kafka.broker import free_port

HASTY = {
    "request_timeout_ms": 3_000,
    "call_timeout_ms": 4_000,
    "connect_timeout_ms": 2_000,
    "session_timeout_ms": 6_000,
    "transaction_timeout_ms": 4_000,
}
"""Time-outs that fit into a test; the session's is the least that brokers take."""
HEALED_SECONDS_MAX = 60.0
STARTED_SECONDS_MAX = 180.0
SHARE_MAX = 0.25
SHARE_SECONDS_MIN = 1.0
"""Over less than that, one turn of work is a large share."""
MEMORY_MB_MAX = 150.0
FILES_MAX = 60
READY, NOT_READY = 200, 503
VIOLATIONS = tuple(Findings().faults)


class Subject:
    """One worker, started; `vitals` are to be taken as a context manager once it is well."""

    def __init__(self, campaign: Campaign, log_url: str, kafka: Mapping[str, int], running: Running) -> None:
        self.campaign = campaign
        self.running = running
        self.port = free_port()
        self.pod = Pod(campaign, "subject", "--log", log_url, "--metrics-port", self.port, kafka=kafka)

    @property
    def vitals(self) -> Vitals:
        """Of the worker, from now on."""
        return Vitals(self.pod.child())

    def until_started(self) -> None:
        """It decides for the first time: no fault to be healed of, but perhaps a log that itself has just started."""
        self.until_well(STARTED_SECONDS_MAX)

    def until_well(self, within_s: float = HEALED_SECONDS_MAX) -> float:
        """I8: it decides again, and says so; seconds until then."""
        begun, wanted = time.monotonic(), self.pod.commits + 10
        until(lambda: self.pod.commits >= wanted and readiness(self.port) == READY, self.pod, within_s=within_s)
        return time.monotonic() - begun

    def bear(
        self, name: str, fault: Callable[[], None], heal: Callable[[], None], vitals: Vitals, *, stops: bool,
        seconds: float = 2.0,
    ) -> None:  # fmt: skip
        """A fault, its end, and what must follow. `stops`: nothing can be decided while it lasts."""
        self.running.faults[name] += 1
        fault()
        if stops:
            until(lambda: readiness(self.port) == NOT_READY, self.pod)
        vitals.cpu_share()
        time.sleep(max(seconds, SHARE_SECONDS_MIN))
        share = vitals.cpu_share()
        heal()
        print(f"{name}: {share:.2f} of a processor, well {self.until_well():.1f} s after", flush=True)
        if stops:
            assert share < SHARE_MAX, f"{name}: it spins"

    def judge(self, sent: int, vitals: Vitals) -> None:
        """No lag, nothing that grew, an end in order, and every decision once, before any drain."""
        until(lambda: positions(self.campaign) == ends(self.campaign), self.pod, within_s=HEALED_SECONDS_MAX)
        assert self.pod.child() == vitals.pid, "the worker has ended, and was started again"
        rss_mb, files, sockets = vitals.first
        print(f"memory {rss_mb:.0f} MB, at most {vitals.rss_mb_max:.0f}; files {files}, at most {vitals.files_max}")
        print(f"connections {sockets}, now {vitals.sockets}; files now {vitals.files}")
        assert vitals.rss_mb_max < rss_mb + MEMORY_MB_MAX
        assert vitals.files_max < files + FILES_MAX
        # Of connections that were given up, the last are closed when their requests time out.
        until(lambda: vitals.sockets < sockets + 5, self.pod, within_s=HEALED_SECONDS_MAX)
        self.pod.stop_in_order()
        judge(self.campaign, sent, self.running)


def judge(campaign: Campaign, sent: int, running: Running) -> None:
    """What the verifier says, for the report too."""
    verdict = campaign.verify(sent)
    running.events += sent
    running.violations.update({name: verdict[name] for name in VIOLATIONS})
    assert verdict["ok"], verdict
