"""A report of payments that chance made."""

from __future__ import annotations

import random

from models.evaluation.differences import differences
from models.evaluation.evaluation import Settings, evaluated
from streamproc.report.report import Changed, Comparison, Report
from tests.models.test_evaluation import decisions
from tests.oracle.evaluation import Payment

DAY_MS = 86_400_000
SETTINGS = Settings(capacity=10, alert_cost=2.0, insult_cost=20.0)
ODD = '<b>"odd" & café</b>'


def payments(seed: int, size: int = 3000, days: int = 14) -> list[Payment]:
    chance = random.Random(seed)
    some = []
    for place in range(size):
        fraud = chance.random() < 0.05
        score = min(100.0, max(0.0, chance.gauss(60 if fraud else 15, 18)))
        action = "decline" if score > 70 else "challenge" if score > 55 else "review" if score > 48 else "approve"
        label = fraud if chance.random() < 0.95 else None
        rules = tuple(rule for rule, line in (("fast", 50), ("far", 65), ("maybe", 60)) if score > line)
        some.append(
            Payment(20_000 + place * days // size, chance.randrange(400), round(chance.lognormvariate(3.5, 1), 2),
                    label, score, action, rules, chance.choice(["be", "fr", ODD, None]))
        )  # fmt: skip
    return some


def changed(direction: str, number: int) -> Changed:
    return Changed(
        direction, f"p{number}", "2026-05-01T10:00:00Z", 12.5, True, "review", "decline", 61.0, 62.5, ("fast",),
        ("fast", "far", "with_a_rather_long_name_of_a_rule", "and_another_one_that_is_long"),
    )  # fmt: skip


def report(*, compared: bool = True, some: list[Payment] | None = None) -> Report:
    before = decisions(some or payments(1))
    after = decisions(
        [one._replace(action="review") if one.action == "challenge" else one for one in some or payments(1)]
    )
    found, comparison = evaluated(before, SETTINGS), None
    if compared:
        moves = differences(before, after)
        comparison = Comparison(
            "other.yaml", evaluated(after, SETTINGS), moves.moves, moves.same, 0, 0,
            tuple(changed("stricter", n) for n in range(3)), len(moves.stricter),
            tuple(changed("milder", n) for n in range(20)), len(moves.milder), 23, "report.changes.ndjson",
        )  # fmt: skip
    return Report(
        "shop", "0" * 64, ("may.parquet", "june.parquet"), "column is_fraud of the input", int(before.times.min()),
        int(before.times.max()), 3, 17, SETTINGS, found, comparison,
    )  # fmt: skip
