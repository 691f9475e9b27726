"""Generated traffic, judged by plain Python on the records: no code of the generator decides what is right here."""

from __future__ import annotations

import csv
import json
import math
import time
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from operators.decode import RecordDecoder
from state.errors import ConfigError
from streamproc.language import compile_stages, load_pipeline
from streamproc.services.generator import (
    FRAUD_KINDS,
    SEQUENCE_KINDS,
    GeneratorOptions,
    Traffic,
    generate,
    json_records,
    write_account_events,
    write_labels,
    write_ndjson,
    write_parquet,
)
from tests.language.helpers import CONFIGS, FakeModel

LISTS = CONFIGS / "card_fraud" / "lists"
START = 1_770_000_000_000
DAY = 86_400_000
OPTIONS = GeneratorOptions(events=20_000, seed=3, start_ms=START)
Payment = dict[str, Any]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return generate(OPTIONS)


@pytest.fixture(scope="module")
def payments(traffic: Traffic) -> list[Payment]:
    return [json.loads(record) for record in json_records(traffic)[0]]


@pytest.fixture(scope="module")
def labels(traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    path = tmp_path_factory.mktemp("labels") / "labels.ndjson"
    write_labels(traffic, path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["transaction_id"]: (row["fraud"], row["attack"]) for row in rows}


@pytest.fixture(scope="module")
def account(traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("account") / "account_events.ndjson"
    write_account_events(traffic, path)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def attacks(payments: list[Payment], labels: dict[str, tuple[str, int]]) -> dict[str, list[list[Payment]]]:
    """The payments of each attack, by kind."""
    found: dict[tuple[str, int], list[Payment]] = defaultdict(list)
    for payment in payments:
        if payment["transaction_id"] in labels:
            found[labels[payment["transaction_id"]]].append(payment)
    by_kind: dict[str, list[list[Payment]]] = defaultdict(list)
    for (kind, _), members in found.items():
        by_kind[kind].append(members)
    return by_kind


def seconds(attack: list[Payment]) -> float:
    return float(attack[-1]["event_time"] - attack[0]["event_time"]) / 1000


def km(a: Payment, b: Payment) -> float:
    """Spherical law of cosines: another formula than the generator's."""
    p, q = math.radians(a["lat"]), math.radians(b["lat"])
    turn = math.radians(b["lon"] - a["lon"])
    cosine = math.sin(p) * math.sin(q) + math.cos(p) * math.cos(q) * math.cos(turn)
    return 6371 * math.acos(max(-1.0, min(1.0, cosine)))


def before(payments: list[Payment], payment: Payment) -> list[Payment]:
    """Earlier payments of the same card, by time."""
    card, at = payment["card_id"], payment["event_time"]
    return [other for other in payments if other["card_id"] == card and other["event_time"] < at]


def cents(payment: Payment) -> int:
    return int(Decimal(str(payment["amount"])) * 100)


# ---- the whole


def test_the_same_options_give_the_same_bytes() -> None:
    again = generate(OPTIONS)
    assert json_records(again) == json_records(generate(OPTIONS))
    other = GeneratorOptions(events=20_000, seed=4, start_ms=START)
    assert not set(generate(other).ids) & set(again.ids)


def test_counts_and_order(payments: list[Payment]) -> None:
    assert len(payments) == OPTIONS.events
    assert len({payment["transaction_id"] for payment in payments}) == OPTIONS.events
    times = [payment["event_time"] for payment in payments]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < START + OPTIONS.days * DAY


def test_another_day_changes_ids_and_dates_only() -> None:
    days = [generate(GeneratorOptions(events=2_000, start_ms=n * DAY)) for n in (20_000, 20_400)]
    first, second = ([json.loads(record) for record in json_records(day)[0]] for day in days)
    for a, b in zip(first, second, strict=True):
        assert a.pop("transaction_id") != b.pop("transaction_id")
        assert b.pop("event_time") - a.pop("event_time") == 400 * DAY
        assert a == b


@pytest.mark.parametrize("events", [500, 3_000, 20_000])
def test_nothing_happens_in_the_future(events: int) -> None:
    found = generate(GeneratorOptions(events=events))
    assert max(found.rows.time.tolist()) <= time.time() * 1000
    assert Counter(found.rows.kind.tolist()).keys() >= set(range(len(FRAUD_KINDS)))


def test_every_record_is_valid_for_the_pipeline(traffic: Traffic) -> None:
    records, keys = json_records(traffic)
    plans = compile_stages(load_pipeline(str(CONFIGS / "card_fraud" / "pipeline.yaml")), models=FakeModel)
    schema = plans[0].stream
    decoded = RecordDecoder(schema).decode(records, [START + OPTIONS.days * DAY] * len(records))
    assert not decoded.rejects
    names = {field.source for field in schema.fields}
    required = names - {"device_id", "ip", "cvv_result", "last_response"}
    for record, key in zip(records, keys, strict=True):
        payment = json.loads(record)
        assert required <= payment.keys() <= names
        assert key.decode() == payment["merchant_id"]


def test_the_stream_says_nothing_of_frauds(payments: list[Payment]) -> None:
    text = json.dumps(payments)
    assert not [kind for kind in FRAUD_KINDS if kind in text]
    assert "fraud" not in text


def test_a_card_has_one_owner_and_a_terminal_one_merchant(payments: list[Payment]) -> None:
    for one, other in (("card_id", "user_id"), ("terminal_id", "merchant_id"), ("merchant_id", "merchant_reputation")):
        pairs = {(payment[one], payment[other]) for payment in payments}
        assert len(pairs) == len({first for first, _ in pairs}), one


def test_shares(payments: list[Payment], labels: dict[str, tuple[str, int]]) -> None:
    assert len(labels) / len(payments) == pytest.approx(OPTIONS.fraud_share, rel=0.25)
    channels = Counter(payment["channel"] for payment in payments)
    assert channels["pos"] > channels["ecom"] > channels["atm"] > 0
    assert {kind for kind, _ in labels.values()} == set(FRAUD_KINDS)


def test_days_have_a_rhythm(payments: list[Payment]) -> None:
    hours = Counter(
        (payment["event_time"] // 3_600_000 + round(payment["lon"] / 15)) % 24
        for payment in payments
        if payment["channel"] == "pos"
    )
    assert sum(hours[hour] for hour in range(1, 5)) * 8 < sum(hours[hour] for hour in range(16, 20))


def test_legitimate_traffic_rarely_looks_like_fraud(payments: list[Payment], labels: dict[str, Any]) -> None:
    cards: dict[str, list[Payment]] = defaultdict(list)
    for payment in payments:
        if payment["transaction_id"] not in labels:
            cards[payment["card_id"]].append(payment)
    jumps = bursts = tests = 0
    for mine in cards.values():
        jumps += sum(
            km(a, b) > 100 and km(a, b) > 1000 * (b["event_time"] - a["event_time"]) / 3_600_000
            for a, b in pairwise(mine)
        )
        bursts += sum(mine[i + 4]["event_time"] - mine[i]["event_time"] < 30_000 for i in range(len(mine) - 4))
        small = [payment["event_time"] for payment in mine if 1 <= payment["amount"] <= 2]
        tests += sum(small[i + 2] - small[i] < 600_000 for i in range(len(small) - 2))
    assert jumps < len(payments) / 1000
    assert bursts == 0
    assert tests == 0


def test_no_frauds_if_none_are_wanted() -> None:
    clean = generate(GeneratorOptions(events=2_000, fraud_share=0.0, start_ms=START))
    assert len(clean.frauds) == 0
    assert len(clean.rows.card) == 2_000


# ---- each kind


def test_velocity_attack(attacks: dict[str, list[list[Payment]]]) -> None:
    with open(LISTS / "thresholds.csv", newline="") as file:
        limits = {row["card_product"]: float(row["otp_limit"]) for row in csv.DictReader(file)}
    assert len(attacks["velocity_attack"]) >= 3
    for attack in attacks["velocity_attack"]:
        assert len(attack) >= 5
        assert seconds(attack) < 30
        assert len({payment["card_id"] for payment in attack}) == 1
        assert all(payment["amount"] < limits[payment["card_product"]] for payment in attack)


def test_distributed_attack(attacks: dict[str, list[list[Payment]]]) -> None:
    for attack in attacks["distributed_attack"]:
        assert len(attack) >= 10
        assert seconds(attack) < 20
        assert len({payment["card_id"] for payment in attack}) == 1
        assert len({payment["ip"] for payment in attack}) == len(attack)
        assert {payment["merchant_reputation"] for payment in attack} == {"low"}


def test_geo_spoofing(attacks: dict[str, list[list[Payment]]], payments: list[Payment], labels: dict[str, Any]) -> None:
    for (berlin,) in attacks["geo_spoofing"]:
        mumbai = before(payments, berlin)[-1]
        assert mumbai["transaction_id"] not in labels
        assert (mumbai["country"], berlin["country"]) == ("IN", "DE")
        assert berlin["event_time"] - mumbai["event_time"] <= 120_000
        assert 6_200 < km(mumbai, berlin) < 6_400


def test_card_testing(attacks: dict[str, list[list[Payment]]]) -> None:
    for attack in attacks["card_testing"]:
        small = [payment for payment in attack if payment["amount"] <= 2]
        large = attack[len(small) :]
        assert len(small) >= 3
        assert large
        assert all(1 <= payment["amount"] <= 2 and payment["merchant_reputation"] == "low" for payment in small)
        assert seconds(small) < 600
        assert all(payment["amount"] > 100 for payment in large)


def test_stolen_card(attacks: dict[str, list[list[Payment]]], payments: list[Payment]) -> None:
    listed = {row.split(",")[0] for row in (LISTS / "blocked_cards.csv").read_text().splitlines()[1:]}
    for attack in attacks["stolen_card"]:
        assert len(attack) >= 4
        assert seconds(attack) < 3600
        history = before(payments, attack[0])
        if attack[0]["card_id"] in listed:
            assert not history
            continue
        usual = sum(payment["amount"] for payment in history) / len(history)
        assert sum(payment["amount"] for payment in attack) > 5 * usual
        devices = {payment["device_id"] for payment in attack if "device_id" in payment}
        assert not devices & {payment.get("device_id") for payment in history}


def test_terminal_compromise(
    attacks: dict[str, list[list[Payment]]], payments: list[Payment], labels: dict[str, Any]
) -> None:
    sizes = []
    for attack in attacks["terminal_compromise"]:
        assert len({payment["terminal_id"] for payment in attack}) == 1
        assert {payment["channel"] for payment in attack} == {"atm"}
        firsts = {payment["card_id"]: payment for payment in reversed(attack)}
        sizes.append(len(firsts))
        used = [
            {
                old["terminal_id"]
                for old in before(payments, first)
                if first["event_time"] - old["event_time"] < 5 * DAY and old["transaction_id"] not in labels
            }
            for first in firsts.values()
        ]
        assert set.intersection(*used), "no terminal that all cards used before"
    assert max(sizes) >= 3


def just_before(account: list[dict[str, Any]], payment: Payment, ms: int) -> list[str]:
    """What the payment's user did with the account shortly before it."""
    user, at = payment["user_id"], payment["event_time"]
    return [one["action"] for one in account if one["user_id"] == user and 0 < at - one["event_time"] < ms]


def usual(payments: list[Payment], payment: Payment) -> float:
    history = before(payments, payment)
    return float(sum(other["amount"] for other in history) / len(history))


def test_account_takeover(
    attacks: dict[str, list[list[Payment]]], payments: list[Payment], account: list[dict[str, Any]]
) -> None:
    for attack in attacks["account_takeover"]:
        done = just_before(account, attack[0], 20 * 60_000)
        assert done[-2:] == ["login", "address_changed"]
        assert done[:-2].count("login_failed") >= 3
        assert all(payment["channel"] == "ecom" for payment in attack)
        assert attack[0]["amount"] > 1.5 * usual(payments, attack[0])


def test_reset_then_transfer(attacks: dict[str, list[list[Payment]]], account: list[dict[str, Any]]) -> None:
    for (payment,) in attacks["reset_then_transfer"]:
        assert just_before(account, payment, 10 * 60_000)[-2:] == ["password_reset", "login"]
        assert (payment["mcc"], payment["amount"] >= 350) == ("6051", True)


def test_bust_out(
    attacks: dict[str, list[list[Payment]]], payments: list[Payment], account: list[dict[str, Any]]
) -> None:
    for attack in attacks["bust_out"]:
        assert "limit_raised" in just_before(account, attack[0], 12 * 3_600_000)
        assert len(attack) >= 5
        assert seconds(attack) < 2 * 86_400
        assert sum(payment["amount"] for payment in attack) > 10 * usual(payments, attack[0])


def test_bin_enumeration(attacks: dict[str, list[list[Payment]]]) -> None:
    for attack in attacks["bin_enumeration"]:
        assert len(attack) == len({payment["card_id"] for payment in attack}) >= 5
        assert len({(payment["bin"], payment["merchant_id"]) for payment in attack}) == 1
        assert {payment["cvv_result"] for payment in attack} == {"mismatch"}
        assert seconds(attack) < 600


def test_decline_probing(attacks: dict[str, list[list[Payment]]]) -> None:
    for attack in attacks["decline_probing"]:
        amounts = [payment["amount"] for payment in attack]
        assert len(amounts) >= 5
        assert all(a > b for a, b in pairwise(amounts))
        assert {payment["last_response"] for payment in attack[1:]} <= {"51", "N7"}


def test_small_then_large(attacks: dict[str, list[list[Payment]]]) -> None:
    for small, large in attacks["small_then_large"]:
        assert small["merchant_id"] == large["merchant_id"]
        assert (small["amount"] < 5, large["amount"] > 100) == (True, True)
        assert large["event_time"] - small["event_time"] < 3_600_000


def test_travel_then_fallback(attacks: dict[str, list[list[Payment]]], payments: list[Payment]) -> None:
    for attack in attacks["travel_then_fallback"]:
        assert {payment["entry_mode"] for payment in attack} == {"fallback"}
        assert km(before(payments, attack[0])[-1], attack[0]) > 500


def test_owners_have_accounts_too(account: list[dict[str, Any]], traffic: Traffic) -> None:
    times = [one["event_time"] for one in account]
    assert times == sorted(times)
    assert len({one["event_id"] for one in account}) == len(account) > 1_000
    assert not {one["event_id"] for one in account} & set(traffic.ids)
    counts = Counter(one["action"] for one in account)
    assert counts["login"] > counts["login_failed"] > counts["password_reset"] > 10
    assert counts["address_changed"] > 5
    assert counts["limit_raised"] > 5


def test_kinds_that_are_not_wanted_are_not_planted() -> None:
    kinds = tuple(kind for kind in FRAUD_KINDS if kind not in SEQUENCE_KINDS)
    some = generate(GeneratorOptions(events=2_000, start_ms=START, kinds=kinds))
    assert {FRAUD_KINDS[code] for code in some.rows.kind[some.frauds].tolist()} == set(kinds)


def test_an_owner_is_quiet_after_an_attack(payments: list[Payment], labels: dict[str, tuple[str, int]]) -> None:
    last: dict[str, int] = {}
    disturbed = 0
    for payment in payments:
        if payment["transaction_id"] in labels:
            last[payment["card_id"]] = payment["event_time"]
        elif payment["event_time"] - last.get(payment["card_id"], 0) < DAY:
            disturbed += 1
    assert disturbed == 0


# ---- arrival, files, options


def test_shuffled_and_duplicated_arrival() -> None:
    late = GeneratorOptions(events=5_000, start_ms=START, shuffled_share=0.1, duplicate_share=0.05)
    plain = GeneratorOptions(events=5_000, start_ms=START)
    records, _ = json_records(generate(late))
    ordered, _ = json_records(generate(plain))
    assert set(records) == set(ordered)
    assert 5_000 * 1.03 < len(records) < 5_000 * 1.07
    times = [json.loads(record)["event_time"] for record in dict.fromkeys(records)]
    newest = 0
    behind = []
    for at in times:
        newest = max(newest, at)
        behind.append(newest - at)
    assert 0.02 < sum(by > 0 for by in behind) / len(behind) < 0.2
    assert max(behind) <= late.shuffle_ms


def test_files_hold_the_records(tmp_path: Path) -> None:
    traffic = generate(GeneratorOptions(events=1_000, start_ms=START))
    write_ndjson(traffic, tmp_path / "p.ndjson")
    write_parquet(traffic, tmp_path / "p.parquet")
    write_labels(traffic, tmp_path / "labels.parquet")
    lines = (tmp_path / "p.ndjson").read_bytes().splitlines()
    assert lines == json_records(traffic)[0]
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    for line, row in zip(map(json.loads, lines), rows, strict=True):
        assert cents(line) == row.pop("amount") * 100
        assert line.pop("event_time") == round(row.pop("event_time").timestamp() * 1000)
        del line["amount"]
        assert {name: value for name, value in row.items() if value is not None} == line
    labelled = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert {row["transaction_id"] for row in labelled} == {traffic.ids[i] for i in traffic.frauds.tolist()}


@pytest.mark.parametrize(
    "options",
    [
        GeneratorOptions(events=499),
        GeneratorOptions(fraud_share=0.5),
        GeneratorOptions(cards=3),
        GeneratorOptions(days=1),
        GeneratorOptions(seed=-1),
        GeneratorOptions(shuffled_share=2.0),
        GeneratorOptions(start_ms=1 << 50),
        GeneratorOptions(kinds=("card_testing", "unheard_of")),
        GeneratorOptions(kinds=()),
    ],
)
def test_what_cannot_be_generated_is_refused(options: GeneratorOptions) -> None:
    with pytest.raises(ConfigError, match="the generator cannot make"):
        generate(options)
