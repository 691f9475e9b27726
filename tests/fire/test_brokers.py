"""Brokers that go away under load and come back, in order and by kill -9; one of one, and one of three."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign
from tests.fire.soak import seeds
from tests.fire.subject import HASTY, Subject
from tests.fire.trial import RATE, trial
from tests.kafka.broker import Broker
from tests.kafka.cluster import Cluster

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.timeout(300)
def test_a_broker_restarts_in_order_and_is_killed(kafka_installed: None, tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka") as broker:
        campaign = Campaign(tmp_path, f"kafka://{broker.bootstrap}", "brokers")
        faults: list[tuple[str, Callable[[], None]]] = [("broker stopped", broker.stop), ("broker killed", broker.kill)]
        with trial(campaign, "brokers", 91) as going:
            subject = Subject(campaign, campaign.log_url, HASTY, going.running)
            subject.until_started()
            with subject.vitals as vitals:
                for name, fault in faults:
                    subject.bear(name, fault, broker.start, vitals, stops=True, seconds=1.0)
                subject.judge(going.sent(), vitals)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_of_three_brokers_is_killed(kafka_installed: None, tmp_path: Path) -> None:
    """Each in turn, in order or not, with two replicas in sync demanded: decisions go on without the one."""
    rng = random.Random(92)
    with Cluster(tmp_path / "kafka") as cluster:
        campaign = Campaign(tmp_path, f"kafka://{cluster.bootstrap}", "three")
        with trial(campaign, "three brokers", 92, RATE * 60) as going:
            subject = Subject(campaign, campaign.log_url, HASTY, going.running)
            subject.until_started()
            with subject.vitals as vitals:
                for _, broker in zip(seeds(share=0.15), itertools.cycle(cluster.brokers), strict=False):
                    end, name = rng.choice([(broker.kill, "killed"), (broker.stop, "stopped")])
                    going.running.faults[f"one of three {name}"] += 1
                    end()
                    without = subject.until_well()
                    broker.start()
                    time.sleep(5)  # in sync again: two of three must always be
                    print(f"{name}: well without it after {without:.1f} s, with it {subject.until_well():.1f} s")
                subject.judge(going.sent(), vitals)
