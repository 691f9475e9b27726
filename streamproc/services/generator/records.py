"""Traffic -> what producers write (JSON), files for `feed` and `backtest`, and the labels, apart from both.

Measured: see docs/generator.md.
"""

from __future__ import annotations

__all__ = ["json_records", "write_account_events", "write_labels", "write_ndjson", "write_parquet"]

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc.services.generator.account import ACTIONS
from streamproc.services.generator.credentials import CVV_RESULTS, ENTRY_MODES, RESPONSES, Credentials
from streamproc.services.generator.options import FRAUD_KINDS
from streamproc.services.generator.places import CITIES, MCCS, bin_of
from streamproc.services.generator.rows import Rows
from streamproc.services.generator.traffic import Traffic
from streamproc.services.generator.world import PRODUCTS, REPUTATIONS

_CURRENCY = "USD"
_CHANNELS = ("pos", "ecom", "atm")
_BLOCK = 65_536
_Names = Callable[[npt.NDArray[np.int64]], list[str | None]]
_encode = msgspec.json.Encoder().encode


class _Payment(msgspec.Struct, gc=False, omit_defaults=True):
    transaction_id: str
    user_id: str
    card_id: str
    bin: str
    card_product: str
    amount: float
    merchant_id: str
    mcc: str
    merchant_reputation: str
    terminal_id: str
    country: str
    lat: float
    lon: float
    channel: str
    entry_mode: str
    event_time: int
    currency: str
    device_id: str | None = None
    ip: str | None = None
    cvv_result: str | None = None
    last_response: str | None = None


def json_records(traffic: Traffic) -> tuple[list[bytes], list[bytes]]:
    """Records and their keys (the merchant), in order of arrival."""
    names = _Columns(traffic)
    ids = traffic.ids
    records: list[bytes] = []
    keys: list[bytes] = []
    for start in range(0, len(traffic.arrival), _BLOCK):
        numbers = traffic.arrival[start : start + _BLOCK]
        shown = traffic.credentials.pick(numbers)
        columns = names.of(traffic.rows.pick(numbers), shown, [ids[number] for number in numbers.tolist()])
        records.extend(map(_encode, map(_Payment, *columns.values())))
        keys.extend([merchant.encode() for merchant in columns["merchant_id"]])
    return records, keys


def write_ndjson(traffic: Traffic, path: Path) -> None:
    """The records, one a line, in order of arrival."""
    records, _ = json_records(traffic)
    with open(path, "wb") as file:
        file.writelines(record + b"\n" for record in records)


def write_parquet(traffic: Traffic, path: Path) -> None:
    """The same as a Parquet file; amounts are decimals, times timestamps."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    numbers = traffic.arrival
    rows = traffic.rows.pick(numbers)
    ids = traffic.ids
    shown = traffic.credentials.pick(numbers)
    columns: dict[str, Any] = _Columns(traffic).of(rows, shown, [ids[number] for number in numbers.tolist()])
    cents = pa.array(rows.cents).cast(pa.decimal128(19, 0))
    columns["amount"] = pc.multiply(cents, pa.scalar(Decimal("0.01"))).cast(pa.decimal128(12, 2))
    columns["event_time"] = pa.array(rows.time).cast(pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(columns), path, compression="zstd")


def write_labels(traffic: Traffic, path: Path) -> None:
    """Each planted payment's id, its kind (`fraud`) and the number of its attack, as Parquet or NDJSON by suffix.

    A payment that is not listed is legitimate.
    """
    places = traffic.frauds
    ids = traffic.ids
    kinds = [FRAUD_KINDS[code] for code in traffic.rows.kind[places].tolist()]
    columns = {
        "transaction_id": [ids[place] for place in places.tolist()],
        "fraud": kinds,
        "attack": traffic.rows.attack[places].tolist(),
    }
    _write_columns(columns, path)


def write_account_events(traffic: Traffic, path: Path) -> None:
    """The account events in order of event time, as Parquet or NDJSON by suffix."""
    users = [f"user-{user + 1:06d}" for user in traffic.account.user.tolist()]
    columns = {
        "event_id": traffic.account_ids,
        "user_id": users,
        "action": [ACTIONS[action] for action in traffic.account.action.tolist()],
        "event_time": traffic.account.time.tolist(),
    }
    _write_columns(columns, path)


def _write_columns(columns: dict[str, list[Any]], path: Path) -> None:
    if path.suffix == ".ndjson":
        lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_bytes(b"".join(_encode(line) + b"\n" for line in lines))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    if "event_time" in columns:
        at = table.column("event_time").cast(pa.timestamp("ms", "UTC"))
        table = table.set_column(table.column_names.index("event_time"), "event_time", at)
    pq.write_table(table, path)


class _Columns:
    """Turns indices into names: each name is made once."""

    def __init__(self, traffic: Traffic) -> None:
        world, rows = traffic.world, traffic.rows
        self._world = world
        self._cards = _table(f"card-{i + 1:06d}" for i in range(world.cards))
        self._users = _table(f"user-{i + 1:06d}" for i in range(world.users))
        self._merchants = _table(f"merchant-{i + 1:04d}" for i in range(len(world.merchant_mcc)))
        self._mccs = _table(MCCS[i].code for i in world.merchant_mcc.tolist())
        self._reputations = _table(REPUTATIONS[i] for i in world.merchant_reputation.tolist())
        self._products = _table(PRODUCTS[i] for i in world.card_product.tolist())
        self._bins = _table(bin_of(city, i) for city, i in zip(*world.issued.tolist(), strict=True))
        self._countries = _table(city.country for city in CITIES)
        self._channels = _table(_CHANNELS)
        self._entry_modes = _table(ENTRY_MODES)
        self._cvv_results = _table([*CVV_RESULTS, None])  # the last: NONE
        self._responses = _table([*RESPONSES, None])  # the last: NONE
        self._addresses = _table([*world.addresses.tolist(), None])  # the last: NONE
        self._terminals = _sparse(rows.terminal, "terminal-{:06d}")
        self._devices = _sparse(rows.device, "device-{:07d}")

    def of(self, rows: Rows, shown: Credentials, ids: Sequence[str]) -> dict[str, list[Any]]:
        """The columns of `rows`, in the order of `_Payment`."""
        count = len(rows.card)
        return {
            "transaction_id": list(ids),
            "user_id": self._users[self._world.card_user[rows.card]].tolist(),
            "card_id": self._cards[rows.card].tolist(),
            "bin": self._bins[rows.card].tolist(),
            "card_product": self._products[rows.card].tolist(),
            "amount": (rows.cents / 100).tolist(),
            "merchant_id": self._merchants[rows.merchant].tolist(),
            "mcc": self._mccs[rows.merchant].tolist(),
            "merchant_reputation": self._reputations[rows.merchant].tolist(),
            "terminal_id": self._terminals(rows.terminal),
            "country": self._countries[rows.city].tolist(),
            "lat": np.round(rows.lat, 4).tolist(),
            "lon": np.round(rows.lon, 4).tolist(),
            "channel": self._channels[rows.channel].tolist(),
            "entry_mode": self._entry_modes[shown.entry].tolist(),
            "event_time": rows.time.tolist(),
            "currency": [_CURRENCY] * count,
            "device_id": self._devices(rows.device),
            "ip": self._addresses[rows.address].tolist(),
            "cvv_result": self._cvv_results[shown.cvv].tolist(),
            "last_response": self._responses[shown.answered].tolist(),
        }


def _table(names: Any) -> npt.NDArray[np.object_]:
    listed = list(names)
    made = np.empty(len(listed), np.object_)
    made[:] = listed
    return made


def _sparse(used: npt.NDArray[np.int64], template: str) -> _Names:
    """Names of the indices that occur; None for NONE."""
    known = np.unique(used)
    names = _table(template.format(index + 1) if index >= 0 else None for index in known.tolist())

    def of(indices: npt.NDArray[np.int64]) -> list[str | None]:
        found: list[str | None] = names[np.searchsorted(known, indices)].tolist()
        return found

    return of
