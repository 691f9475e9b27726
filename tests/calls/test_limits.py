"""Cache, breaker, retry budget: tables of what happens when, with the time given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.call import Breaking
from streamproc.calls.limits import AnswerCache, Breaker, RetryBudget, UsualTime


def test_an_answer_serves_until_its_time_is_over() -> None:
    cache = AnswerCache(10.0)
    cache.put(b"a", b"1", 100.0)
    assert [cache.get(b"a", now) for now in (100.0, 109.9, 110.0)] == [b"1", b"1", None]
    cache.put(b"a", b"2", 111.0)
    assert cache.get(b"a", 120.9) == b"2"


def test_the_oldest_answer_goes_first() -> None:
    cache = AnswerCache(10.0, entries_max=2)
    for time, name in enumerate((b"a", b"b", b"a", b"c")):
        cache.put(name, name, float(time))
    assert len(cache) == 2
    assert [cache.get(name, 4.0) for name in (b"a", b"b", b"c")] == [b"a", None, b"c"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), max_size=100), st.integers(1, 8))
def test_the_cache_is_a_dictionary_with_times(steps: list[tuple[int, int, bool]], most: int) -> None:
    """Against a list of everything that was ever put."""
    cache, ever, now = AnswerCache(7.0, most), list[tuple[bytes, bytes, float]](), 0.0
    for number, (wait, name, puts) in enumerate(steps):
        now += wait
        key, value = bytes([name]), str(number).encode()
        if puts:
            cache.put(key, value, now)
            ever = [one for one in ever if one[0] != key] + [(key, value, now)]
        fresh = [one for one in ever if now < one[2] + 7.0][-most:]
        assert [cache.get(bytes([n]), now) for n in range(6)] == [
            next((value for key, value, _ in fresh if key == bytes([n])), None) for n in range(6)
        ]
        assert len(cache) <= most


@pytest.mark.parametrize(
    ("share", "calls", "granted"), [(0.0, 100, 0), (0.1, 0, 10), (0.1, 100, 10), (0.5, 100, 10), (1.0, 3, 10)]
)
def test_a_quiet_time_saves_ten_retries(share: float, calls: int, granted: int) -> None:
    budget = RetryBudget(share)
    for _ in range(calls):
        budget.called()
    assert sum(budget.take() for _ in range(1000)) == granted


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 500))
def test_retries_are_a_share_of_the_calls(share: float, calls: int) -> None:
    budget, retries = RetryBudget(share), 0
    for _ in range(calls):
        budget.called()
        retries += budget.take()
    assert retries <= share * calls + 10


def told(breaker: Breaker, outcomes: str, now: float) -> str:
    """One call after the other: `+` well, `-` failed; what became of each: `x` was not let through."""
    seen = ""
    for outcome in outcomes:
        ticket = breaker.admit(now)
        if ticket is None:
            seen += "x"
            continue
        breaker.settle(ticket, {"+": True, "-": False, "?": None}[outcome], now)
        seen += outcome
    return seen


BREAKING = Breaking(failures=0.5, calls=4, pause_ms=5_000)


@pytest.mark.parametrize(
    ("outcomes", "seen"),
    [
        ("++++++", "++++++"),
        ("----++", "----xx"),  # half of the last four, as soon as there are four
        ("-++-+", "-++-x"),
        ("-+++-+++-+++", "-+++-+++-+++"),  # never more than a quarter
        ("+++--+", "+++--x"),
        ("--??--", "--??--"),  # of which nobody knows, they do not count
        ("--??---", "--??--x"),
    ],
)
def test_it_opens_when_a_share_of_the_last_calls_fails(outcomes: str, seen: str) -> None:
    assert told(Breaker(BREAKING), outcomes, 0.0) == seen


@pytest.mark.parametrize(
    ("trials", "after"),
    [("+++", "+"), ("++", "+"), ("-", "x"), ("++-", "x"), ("???", "+")],
)
def test_after_a_pause_it_tries(trials: str, after: str) -> None:
    breaker = Breaker(BREAKING)
    assert told(breaker, "----", 0.0) == "----"
    assert told(breaker, "+", 4.9) == "x"
    assert told(breaker, trials, 5.0) == trials
    assert told(breaker, "+", 5.0) == after
    assert breaker.is_closed is (trials in ("+++", "++"))


def test_one_trial_at_a_time() -> None:
    breaker = Breaker(BREAKING)
    told(breaker, "----", 0.0)
    ticket = breaker.admit(5.0)
    assert ticket is not None
    assert breaker.blocks(5.0)
    assert breaker.admit(5.0) is None
    breaker.settle(ticket, True, 5.0)
    assert not breaker.blocks(5.0)


def test_stragglers_change_nothing() -> None:
    """Calls from before it opened say nothing of the service after the pause."""
    breaker = Breaker(BREAKING)
    old = [breaker.admit(0.0) for _ in range(3)]
    told(breaker, "----", 0.0)
    trial = breaker.admit(5.0)
    assert trial is not None
    for ticket in old:
        assert ticket is not None
        breaker.settle(ticket, False, 5.0)
    breaker.settle(trial, True, 5.0)
    assert told(breaker, "++", 5.0) == "++"
    assert breaker.is_closed


def test_what_calls_usually_take_follows_what_they_took() -> None:
    usual = UsualTime()
    assert usual.seconds == 0.0
    usual.took(0.08)
    assert usual.seconds == 0.08
    usual.took(0.16)  # mean 0.08 + 0.08 / 8, deviation 0.08 / 4
    assert usual.seconds == pytest.approx(0.09 + 2 * 0.02)
    for _ in range(100):
        usual.took(0.001)
    assert usual.seconds == pytest.approx(0.001, abs=1e-5)
