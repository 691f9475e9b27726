"""Payments, logins and account changes of a bank: a pipeline over them, and seeded traffic for it."""

from __future__ import annotations

import random
from typing import Any

MINUTE, HOUR = 60_000, 3_600_000
START = 1_600_000_000_000
STREAMS = """\
pipeline: bank
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 24h
    fields: {payment_id: string, card_id: string, user_id: string, amount: decimal(2), country: string, at: timestamp}
  logins:
    id: login_id
    event_time: logged_in_at
    deduplicate: 24h
    fields: {login_id: int64, user_id: string, outcome: string, country: string, logged_in_at: timestamp}
  account_changes:
    format: debezium
    id: change
    event_time: changed_at
    fields:
      change: {type: int64, from: __source_lsn}
      user_id: string
      address: string
      old_address: {type: string, from: __before_address}
      password: int64
      old_password: {type: int64, from: __before_password}
      changed_at: {type: timestamp, from: __source_ts_ms}
"""
RULES = """\
rules:
  - {id: takeover, when: password_reset and failed_logins_10m >= 2, then: decline, reason: reset after failed logins}
  - {id: moved, when: minutes_since_move < 60 and amount > 200, then: review}
"""
FEATURES = """\
  failed_logins_10m: {count: "*", over: 10m, where: outcome = 'failed'}
  password_resets_30m: {count: "*", over: 30m, where: password <> old_password}
  password_reset: password_resets_30m > 0
  moved_at: {expression: previous(changed_at), where: address <> old_address}
  minutes_since_move: minutes_since(moved_at)
  jump: amount / previous(amount)
  new_country: first_seen(country, '7d')
  n_1h: {count: "*", over: 1h}
  countries_2h: {distinct: country, over: 2h, where: "stream in ('payments', 'logins')"}
"""
PIPELINE = (
    f'{STREAMS}partition_by: user_id\nfeatures:\n{FEATURES}  card_n_1h: {{count: "*", over: 1h, per: card_id}}\n{RULES}'
)
STAGES = f"""\
{STREAMS}stages:
  - {{name: card, partition_by: card_id, features: {{card_n_1h: {{count: "*", over: 1h}}}}}}
  - name: user
    partition_by: user_id
    features:
{"".join(f"    {line}" + chr(10) for line in FEATURES.splitlines())}{RULES}"""
NAMES = [line.strip().partition(":")[0] for line in FEATURES.splitlines()] + ["card_n_1h"]
Row = dict[str, Any]


def traffic(seed: int, size: int = 600, late: float = 0.05) -> dict[str, list[Row]]:
    """Rows by stream, each with its `time`; some come late, a few twice."""
    chance = random.Random(seed)
    rows: dict[str, list[Row]] = {"payments": [], "logins": [], "account_changes": []}
    for name, count in (("payments", size), ("logins", size), ("account_changes", size // 4)):
        time = START
        for number in range(count):
            time += chance.randrange(2 * 8 * HOUR // count)
            at = time - chance.randrange(5 * MINUTE) if chance.random() < late else time - time % 1000
            row: Row = {
                "user_id": f"u{chance.randrange(12)}",
                "country": chance.choice(["be", "fr", "in", None]),
                "time": at,
            }
            if name == "payments":
                row |= {
                    "id": f"p{number}",
                    "card_id": f"{row['user_id']}-{chance.randrange(2)}",
                    "cents": chance.randrange(1, 50_000),
                }
            elif name == "logins":
                row |= {"id": number, "outcome": chance.choice(["ok", "failed", "failed", None])}
            else:
                row |= {
                    "id": number,
                    "address": chance.randrange(3),
                    "password": chance.randrange(3),
                    "was": chance.randrange(3),
                }
            rows[name].append(row)
    for name in ("payments", "logins"):
        again = chance.sample(range(size - 50), size // 30)
        for place in sorted(again, reverse=True):
            rows[name].insert(place + chance.randrange(1, 40), {**rows[name][place], "again": True})
    return rows


def record(name: str, row: Row) -> Row:
    if name == "payments":
        return {
            "payment_id": row["id"], "card_id": row["card_id"], "user_id": row["user_id"],
            "amount": row["cents"] / 100, "country": row["country"], "at": row["time"],
        }  # fmt: skip
    if name == "logins":
        return {
            "login_id": row["id"], "user_id": row["user_id"], "outcome": row["outcome"], "country": row["country"],
            "logged_in_at": row["time"],
        }  # fmt: skip
    before = {"user_id": row["user_id"], "address": f"a{row['was']}", "password": row["was"]}
    after = {"user_id": row["user_id"], "address": f"a{row['address']}", "password": row["password"]}
    source = {"connector": "postgresql", "lsn": row["id"], "ts_ms": row["time"]}
    return {"before": before, "after": after, "source": source, "op": "u", "ts_ms": row["time"]}
