"""Several Kafka nodes on 127.0.0.1: what is written is on two of three at least, whichever is killed."""

from __future__ import annotations

__all__ = ["Cluster"]

from pathlib import Path
from typing import Self

from tests.kafka.broker import Broker, Place, free_port, new_cluster_id


class Cluster:
    """All are brokers and controllers; topics have a replica on each, and take what all but one have."""

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        controllers, cluster_id = tuple(free_port() for _ in range(nodes)), new_cluster_id()
        self.brokers = [
            Broker(directory / f"node-{node}", place=Place(node, controllers, cluster_id))
            for node in range(1, nodes + 1)
        ]

    @property
    def bootstrap(self) -> str:
        """All of them."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def __enter__(self) -> Self:
        try:
            begun = [broker.launch() for broker in self.brokers]
            for broker, begin in zip(self.brokers, begun, strict=True):
                broker.await_ready(begin)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers:
            broker.kill()
