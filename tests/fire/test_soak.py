"""The campaigns again and again, seed after seed, each kind for its share of the time: `make soak`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Protocol

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, checkpointed
from tests.exactly_once.kills import POINTS_BESIDE, plan_kills
from tests.exactly_once.pods import Pod
from tests.exactly_once.worlds import BENCH, BESIDE, World
from tests.fire.proxy import Proxy
from tests.fire.report import recorded
from tests.fire.soak import forget, seeds
from tests.fire.subject import HASTY, VIOLATIONS, Subject
from tests.fire.test_network import HURTS, INIT_PRODUCER_ID, REQUESTS, STOPS, come_late, go_through
from tests.fire.test_zombies import end, stand_still
from tests.fire.trial import trial
from tests.kafka.broker import Broker
from tests.kafka.shared import Address

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

KILLS = 40
PLACES = ["1", "3", "4", "5", "6", "7", "8", "produced", "ending", "flushing"]
"""Steps, and names of tests/exactly_once/hooks.py."""
EVENTS_BESIDE = 10_000
EXIT_SECONDS_MAX = 180.0


class Make(Protocol):
    def __call__(self, log_url: str, world: World = BENCH) -> Campaign:
        """A campaign on the log of this address, in a directory and under a name of its own."""
        ...


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def campaign(log_url: str, world: World = BENCH) -> Campaign:
        name = f"soak_{uuid.uuid4().hex[:8]}"
        directory = tmp_path / name
        options = checkpointed(directory)
        return Campaign(directory, log_url.replace("DIR", str(directory)), name, *options, world=world)

    return campaign


def kill(campaign: Campaign, seed: int, workers: int, kind: str) -> None:
    kills = plan_kills(random.Random(seed), KILLS, alone=workers > 1)
    go_through_kills(campaign, Plan(kills, workers=workers, seed=seed, roll_call=True), kind)


def kill_beside(campaign: Campaign, seed: int, kind: str) -> None:
    """Two workers: parts of a row come from both, so that some wait."""
    kills = plan_kills(random.Random(seed), KILLS, alone=True, points=POINTS_BESIDE)
    go_through_kills(campaign, Plan(kills, events=EVENTS_BESIDE, workers=2, seed=seed, roll_call=True), kind)


def go_through_kills(campaign: Campaign, plan: Plan, kind: str) -> None:
    try:
        with recorded(kind, plan.seed) as running:
            report = campaign.run(plan)
            running.events, running.kills = report.sent, report.by_name
            running.violations.update({name: report.verdict[name] for name in VIOLATIONS})
            assert_exactly_once(report, plan)
    finally:
        campaign.end_all()
    forget(campaign)


@pytest.mark.xdist_group("campaigns")
def test_kills_on_the_embedded_log(make: Make) -> None:
    for seed in seeds(share=0.3):
        kill(make("file:DIR/log"), seed, 1 + seed % 2, "kills, embedded")


@pytest.mark.kafka
@pytest.mark.xdist_group("campaigns")
def test_kills_on_kafka(make: Make, kafka_bootstrap: str) -> None:
    for seed in seeds(share=0.35):
        kill(make(f"kafka://{kafka_bootstrap}"), seed, 1 + seed % 2, "kills, Kafka")


@pytest.mark.xdist_group("campaigns")
def test_kills_of_stages_side_by_side(make: Make) -> None:
    for seed in seeds(share=0.15):
        kill_beside(make("file:DIR/log", BESIDE), seed, "kills beside, embedded")


@pytest.mark.kafka
@pytest.mark.xdist_group("campaigns")
def test_kills_of_stages_side_by_side_on_kafka(make: Make, kafka_bootstrap: str) -> None:
    for seed in seeds(share=0.15):
        kill_beside(make(f"kafka://{kafka_bootstrap}", BESIDE), seed, "kills beside, Kafka")


@pytest.mark.kafka
@pytest.mark.xdist_group("network")
def test_networks(make: Make, kafka_address: Address) -> None:
    """Every other seed with the time-outs as shipped. The first fault may meet the start, a kill, or a restore."""
    door = kafka_address.doors[0]
    for seed in seeds(share=0.3):
        rng, campaign = random.Random(seed), make(f"kafka://{kafka_address.bootstrap}")
        faults = rng.choices(list((STOPS | HURTS).items()), k=12)
        with Proxy(door.advertised, door.port) as proxy, trial(campaign, "network", seed) as going:
            name, first = rng.choice(list((STOPS | HURTS).items()))
            going.running.faults[f"{name}, at start"] += 1
            first(proxy)
            subject = Subject(campaign, proxy.url, HASTY if seed % 2 else {}, going.running)
            time.sleep(rng.uniform(0.0, 4.0))
            proxy.heal()
            subject.until_well()
            os.kill(subject.pod.child(), signal.SIGKILL)  # it is started again by its parent
            time.sleep(rng.uniform(0.0, 1.0))
            name, second = rng.choice(list((STOPS | HURTS).items()))
            going.running.faults[f"{name}, at restart"] += 1
            second(proxy)
            time.sleep(rng.uniform(0.0, 4.0))
            proxy.heal()
            subject.until_well()
            go_through(faults, subject, proxy, going.sent)
        forget(campaign)


@pytest.mark.kafka
@pytest.mark.xdist_group("network")
def test_late_requests(make: Make, kafka_address: Address) -> None:
    """Of every kind, into every point of a later transaction."""
    door = kafka_address.doors[0]
    for seed in seeds(share=0.1):
        rng, campaign = random.Random(seed), make(f"kafka://{kafka_address.bootstrap}")
        with Proxy(door.advertised, door.port) as proxy, trial(campaign, "late requests", seed) as going:
            subject = Subject(campaign, proxy.url, HASTY, going.running)
            subject.until_started()
            with subject.vitals as vitals:
                for api_key in rng.sample(sorted(REQUESTS.keys() - {INIT_PRODUCER_ID}), k=5):
                    come_late(api_key, rng.choice(PLACES), subject, proxy)
                    subject.until_well()
                subject.judge(going.sent(), vitals)
        forget(campaign)


@pytest.mark.kafka
@pytest.mark.xdist_group("network")
def test_zombies(make: Make, kafka_bootstrap: str) -> None:
    for seed in seeds(share=0.15):
        rng, campaign = random.Random(seed), make(f"kafka://{kafka_bootstrap}")
        with trial(campaign, "zombies", seed) as going:
            one, two, heir = (Pod(campaign, name, kafka=HASTY) for name in ("one", "two", "heir"))
            for pod in (one, two, heir):
                pod.until_more()
            for _ in range(4):
                points = rng.choices(PLACES, k=2)
                stand_still(campaign, points, (one, two), heir)
                going.running.faults.update(f"stopped at {point}" for point in points)
            end(going, one, two, heir)
        forget(campaign)


@pytest.mark.kafka
@pytest.mark.xdist_group("network")
def test_brokers(make: Make, kafka_installed: None, tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka") as broker:
        for seed in seeds(share=0.1):
            rng, campaign = random.Random(seed), make(f"kafka://{broker.bootstrap}")
            with trial(campaign, "brokers", seed) as going:
                subject = Subject(campaign, campaign.log_url, HASTY if seed % 2 else {}, going.running)
                subject.until_started()
                with subject.vitals as vitals:
                    for _ in range(4):
                        fault, name = rng.choice([(broker.kill, "broker killed"), (broker.stop, "broker stopped")])
                        subject.bear(name, fault, broker.start, vitals, stops=True, seconds=rng.uniform(0, 8))
                    subject.judge(going.sent(), vitals)
            forget(campaign)


@pytest.mark.kafka
@pytest.mark.xdist_group("outages")
def test_outages_without_end(make: Make, kafka_address: Address) -> None:
    """Each ends with a reason, within a bound; and nothing is lost or doubled when the log is back. By a door of its
    own, beside the others: it waits more than it works.
    """
    door = kafka_address.doors[1]
    for seed, fault in zip(seeds(share=0.9), STOPS, strict=False):
        campaign = make(f"kafka://{kafka_address.bootstrap}")
        with Proxy(door.advertised, door.port) as proxy, trial(campaign, "outages without end", seed) as going:
            subject = Subject(campaign, proxy.url, {}, going.running)
            subject.until_started()
            going.running.faults[f"{fault}, without end"] += 1
            STOPS[fault](proxy)
            code, seconds = _ended(subject.pod.process)
            line = campaign.logged().splitlines()[-1]
            print(f"{fault}: exit code {code} after {seconds:.0f} s: {line}")
            assert code == 1
            assert line.startswith("error: ")
            proxy.heal()
            again = Subject(campaign, proxy.url, {}, going.running)
            again.until_well()
            with again.vitals as vitals:
                again.judge(going.sent(), vitals)
        forget(campaign)


def _ended(process: subprocess.Popen[str]) -> tuple[int, float]:
    begun = time.monotonic()
    return process.wait(EXIT_SECONDS_MAX), time.monotonic() - begun
