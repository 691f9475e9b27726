"""All settings of the Kafka log in one place, with units, defaults and the relations that must hold."""

from __future__ import annotations

__all__ = ["Settings", "parse_url"]

from typing import Any

import msgspec

from state.errors import ConfigError

_SCHEME = "kafka://"
_BATCH_MAX = 900_000
_PART_MIN = 64 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """How to talk to Kafka; times in ms, sizes in bytes.

    The time-outs hang together: a dead worker's transaction blocks every read_committed reader until
    `transaction_timeout_ms`; a member that is revoked gets `rebalance_timeout_ms` to end its transaction; so the
    first is far below the second.
    """

    connect_timeout_ms: int = 5_000
    request_timeout_ms: int = 10_000
    call_timeout_ms: int = 15_000
    """Bound of each call of a writer or appender, and of an offset fetch's wait for pending transactions."""
    retry_backoff_ms: int = 50
    metadata_max_age_ms: int = 60_000

    part_bytes: int = 512 * 1024
    """Per partition and fetch of a group reader: bounds a poll, and with it memory and the time to compute it."""
    scan_part_bytes: int = 1024 * 1024
    poll_bytes: int = 4 * 1024 * 1024
    """A poll stops decoding after this many: about 16,000 records of 260 bytes, 8 ms."""
    fetch_max_wait_ms: int = 50

    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 500
    rebalance_timeout_ms: int = 30_000

    transaction_timeout_ms: int = 8_000
    max_batch_size: int = 900_000
    """Below the 1 MiB that brokers and topics take by default."""
    replication_factor: int = 0
    """Of topics we create; 0: three, or as many brokers as there are."""

    security: dict[str, Any] = {}
    """TLS and SASL as aiokafka names them (security_protocol, ssl_context, sasl_*): the one place for them."""

    def __post_init__(self) -> None:
        rules = {
            "heartbeat_interval_ms": (
                self.heartbeat_interval_ms * 3 <= self.session_timeout_ms,
                "at most session_timeout_ms / 3",
            ),
            "rebalance_timeout_ms": (
                self.rebalance_timeout_ms >= self.session_timeout_ms,
                "session_timeout_ms or more",
            ),
            "transaction_timeout_ms": (
                self.transaction_timeout_ms < self.rebalance_timeout_ms,
                "below rebalance_timeout_ms",
            ),
            "max_batch_size": (0 < self.max_batch_size <= _BATCH_MAX, f"at most {_BATCH_MAX}"),
            "part_bytes": (self.part_bytes >= _PART_MIN, f"at least {_PART_MIN}"),
            "fetch_max_wait_ms": (0 < self.fetch_max_wait_ms < self.request_timeout_ms, "below request_timeout_ms"),
        }
        for name, (good, why) in rules.items():
            if not good:
                raise ConfigError(f"Kafka setting {name}={getattr(self, name)} must be {why}")

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "security")
        return f"Settings({', '.join(shown)})"  # `security` holds passwords


def parse_url(url: str) -> str:
    """`kafka://host:port[,host:port]` to `host:port[,host:port]`.

    Raises:
        ConfigError: no such form.
    """
    hosts = url.removeprefix(_SCHEME).rstrip("/")
    if "@" in hosts:
        raise ConfigError("not a Kafka address: there is a user in it", hint="kafka://host:port[,host:port]")
    if not url.startswith(_SCHEME) or not hosts or not all(_is_address(host) for host in hosts.split(",")):
        raise ConfigError(f"not a Kafka address: {url}", hint="kafka://host:port[,host:port]")
    return hosts


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdecimal() and 0 < int(port) < 65536)
