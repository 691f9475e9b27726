"""One Kafka node (KRaft, no ZooKeeper, no Docker) on 127.0.0.1, from jars `make kafka-jars` downloads.

`python -m tests.kafka.broker --port 9092 --data DIR` runs one until interrupted.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

JARS = Path(__file__).parents[2] / ".kafka" / "lib"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
READY = "Kafka Server started"

# Few partitions in the internal topics: their creation is most of a first transaction's time.
# A short broker session: a killed broker starts again only when its former life has expired.
SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}/logs
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.partitions=4
auto.create.topics.enable=false
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
"""

LOG4J_PROPERTIES = """\
rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
"""


class BrokerError(Exception):
    """The broker cannot start, or ended by itself."""


def missing() -> str | None:
    """What must be installed before a broker can start, and how; None if nothing is missing."""
    if _java() is None:
        return "java is missing: apt-get install openjdk-17-jre-headless"
    if not (JARS / ".stamp").exists():
        return "Kafka's jars are missing: make kafka-jars"
    return None


class Door(NamedTuple):
    """Another way in: who connects to `port` is told to connect to `advertised` from then on, where a proxy listens."""

    port: int
    advertised: int


class Place(NamedTuple):
    """A broker's place among several; `controllers` are the ports of all, by node id from 1 on."""

    node: int
    controllers: tuple[int, ...]
    cluster_id: str

    @classmethod
    def alone(cls) -> Self:
        """The only one."""
        return cls(1, (free_port(),), new_cluster_id())


class Broker:
    """A Kafka process in its own process group, so that Ctrl-C in a terminal does not reach it.

    As a context manager it starts on entry and stops on exit.
    All calls block: on an event loop, use `asyncio.to_thread`.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, *, doors: Sequence[Door] = (), place: Place | None = None
    ) -> None:
        """Keep everything in `data_dir`; without `port`, pick a free one and keep it over restarts."""
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self.doors = tuple(doors)
        self._place = place or Place.alone()
        self.log = self.data_dir / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """What a client calls `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start on what `data_dir` holds, and return once clients are served.

        Raises:
            BrokerError: Java or the jars are missing, the port is taken, or the broker ended or was too slow.
        """
        if not self.running:
            self.await_ready(self.launch())

    def launch(self) -> int:
        """Start, and return at once: one of several is ready only when most of them run. See `await_ready`."""
        if problem := missing():
            raise BrokerError(problem)
        if not _is_free(self.port):
            raise BrokerError(f"port {self.port} on 127.0.0.1 is taken")
        self._write_configuration()
        if not (self.data_dir / "logs").exists():
            self._format()
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [*self._command("-Xms256m", "-Xmx512m"), "kafka.Kafka", str(self.data_dir / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return begin

    def stop(self) -> None:
        """End in order: leaders resign, logs are flushed. Killed if that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End at once, as a power cut would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop, and start again on the same port and data."""
        self.stop()
        self.start()

    def _write_configuration(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        place = self._place
        ways = {"PLAINTEXT": Door(self.port, self.port), **{f"DOOR{i}": door for i, door in enumerate(self.doors)}}
        replicas = len(place.controllers)
        text = SERVER_PROPERTIES.format(
            node=place.node,
            voters=",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(place.controllers, start=1)),
            listeners=",".join(f"{name}://127.0.0.1:{door.port}" for name, door in ways.items()),
            advertised=",".join(f"{name}://127.0.0.1:{door.advertised}" for name, door in ways.items()),
            protocols=",".join(f"{name}:PLAINTEXT" for name in ways),
            controller_port=place.controllers[place.node - 1],
            data=self.data_dir,
            replicas=replicas,
            in_sync=max(1, replicas - 1),
        )
        (self.data_dir / "server.properties").write_text(text)
        (self.data_dir / "log4j2.properties").write_text(LOG4J_PROPERTIES)

    def _format(self) -> None:
        # "=": an id may begin with a dash, which would read as an option.
        arguments = ["format", f"--cluster-id={self._place.cluster_id}", "-c", str(self.data_dir / "server.properties")]
        command = [*self._command("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        if done.returncode:
            raise BrokerError(f"Kafka could not format {self.data_dir}:\n{done.stdout}{done.stderr}")

    def _command(self, *options: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}"
        return [_java() or "java", *options, logging, "-cp", f"{JARS}/*"]

    def await_ready(self, begin: int) -> None:
        """Until clients are served; `begin` is what `launch` returned.

        Raises:
            BrokerError: the broker ended, or was too slow; it is killed.
        """
        try:
            self._await_ready(begin)
        except BaseException:
            self.kill()
            raise

    def _await_ready(self, begin: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with self.log.open("rb") as log:
                log.seek(begin)
                output = log.read().decode(errors="replace")
            if READY in output:
                return
            if not self.running:
                raise BrokerError("Kafka ended while starting:\n" + output[-2000:])
            time.sleep(0.05)
        raise BrokerError(f"Kafka did not start in {START_TIMEOUT_S:.0f} s; see {self.log}")


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")


def free_port(low: int = 20_000, high: int = 32_000) -> int:
    """A port on 127.0.0.1 that nobody has."""
    # Below the ephemeral range: a client's outgoing connection must not take the port while Java starts.
    for port in random.sample(range(low, high), 100):
        if _is_free(port):
            return port
    raise BrokerError("no free port on 127.0.0.1")


def new_cluster_id() -> str:
    """As Kafka makes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: a restart keeps its port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run one broker until SIGINT or SIGTERM; its data stays."""
    parser = argparse.ArgumentParser(description="Run a one-node Kafka broker on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with Broker(arguments.data, arguments.port) as broker:
            print(f"Kafka is ready at {broker.bootstrap}; its log is {broker.log}. Ctrl-C ends it.", flush=True)
            while broker.running:
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    except BrokerError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"Kafka ended by itself; see {arguments.data / 'broker.log'}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
