"""A broker that goes away under a run: not ready, told of once in a while, and the run still stops in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fire.vitals import readiness
from tests.kafka.broker import Broker, free_port

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "configs" / "bench_v1" / "pipeline.yaml"
PATIENCE_S = 60.0


def until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_stops_in_order_while_the_broker_is_away(kafka_installed: None, tmp_path: Path) -> None:
    port = free_port()
    with Broker(tmp_path / "kafka") as broker:
        command = [
            sys.executable, "-m", "streamproc.cli.main", "run", str(PIPELINE), "--log", f"kafka://{broker.bootstrap}",
            "--state", str(tmp_path / "state"), "--instance", "pod", "--metrics-port", str(port),
        ]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: readiness(port) == 200, process)
            broker.stop()
            until(lambda: readiness(port) == 503, process)
            time.sleep(3)
            process.send_signal(signal.SIGTERM)
            _, text = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, text[-2000:]
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert "the log does not answer" in events
    assert events[-1] == "stopped"
    assert len(events) < 60
