"""Statements with words lost, doubled, swapped and put in from elsewhere: taken, or refused with a place."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from state.errors import ConfigError
from tests.sql import test_group, test_join, test_match, test_over, test_refusals, test_select
from tests.sql.support import changes, ours, payments, write

WORDS = re.compile(r"\s+|\w+|'[^']*'|.", re.DOTALL)
STATEMENTS = [
    *test_select.BOTH.values(),
    *[mine for mine, _ in test_group.CASES.values()],
    *test_join.PLAIN.values(),
    *test_refusals.WRONG,
    test_match.TAKEOVER.format(within="WITHIN INTERVAL '10' MINUTE").replace("account_events", "payments"),
    f"SELECT {test_over.FUNCTIONS['sums']} FROM payments WINDOW w AS (PARTITION BY card_id ORDER BY event_time)",
    "CREATE TABLE payments (amount DECIMAL(10, 2), event_time TIMESTAMP(3), WATERMARK FOR event_time AS event_time);"
    "SELECT amount FROM payments",
]


def mutated(pick: random.Random) -> str:
    words = WORDS.findall(pick.choice(STATEMENTS))
    for _ in range(pick.randrange(1, 4)):
        at, other = pick.randrange(len(words) + 1), WORDS.findall(pick.choice(STATEMENTS))
        match pick.randrange(4):
            case 0:
                del words[at : at + pick.randrange(1, 4)]
            case 1:
                words[at:at] = words[at : at + pick.randrange(1, 6)]
            case 2:
                words[at : at + 1] = other[: pick.randrange(1, 9)]
            case _:
                begin = pick.randrange(max(len(other), 1))
                words[at:at] = other[begin : begin + pick.randrange(1, 9)]
        words = words or [" "]
    return "".join(words)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_else_is_raised(seed: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments(20)), "changes": write(tmp_path, "changes", changes(8))}
    pick = random.Random(seed)
    for _ in range(60):
        sql = mutated(pick)
        try:
            ours(sql, files)
        except ConfigError:
            continue
        except Exception as error:
            raise AssertionError(sql) from error
