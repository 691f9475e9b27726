"""The soak's rule itself."""

from __future__ import annotations

import random

from tests.soak.levels import Figure, growing

RULE = {"rss": Figure(0.05, 8.0)}


def test_what_goes_up_and_down_is_level() -> None:
    rng = random.Random(1)
    for _ in range(50):
        start = [{"rss": 100.0 + 2 * i} for i in range(40)]
        level = [{"rss": 200 + rng.uniform(-20, 20)} for _ in range(80)]
        assert not growing(start + level, RULE)


def test_what_goes_up_by_a_fifth_in_the_last_half_is_seen() -> None:
    samples = [{"rss": 200.0 + 0.7 * i} for i in range(120)]
    assert growing(samples, RULE).keys() == {"rss"}
