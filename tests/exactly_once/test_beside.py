"""Stages side by side whose processes are killed: each row is gathered and decided once, by oracles of each stage."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.exactly_once.campaign import Campaign, Plan, checkpointed
from tests.exactly_once.readers import Record, open_reader
from tests.exactly_once.verify_stages import ByTask, Committed, check_stages, read_stages
from tests.exactly_once.worlds import BESIDE

pytestmark = pytest.mark.timeout(240)

RECORDS = 600
RATE = 100.0
PLACES = "holding:2:0", "ending:3:0"
GATHERING = 3
"""The stage that gathers."""
Change = Callable[[Committed], Committed]


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Campaign]:
    campaign = Campaign(directory, f"file:{directory}/log", "beside", *checkpointed(directory), world=BESIDE)
    try:
        yield campaign
    finally:
        campaign.end_all()


class Killed(NamedTuple):
    sent: int
    data: Committed


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """What is committed by two workers that died at each of the places, and came to the end then.

    The feed goes on until they died: how many batches a worker makes of what lies there is a matter of their starts.
    """
    directory = tmp_path_factory.mktemp("killed")
    steady = Plan(rate=RATE, events=RECORDS, seed=1)
    with opened(directory) as campaign, campaign.feeding(steady) as feeder:
        for number, place in enumerate(PLACES):
            died = campaign.start(directory / f"marks-{number}", "--workers", 2, place=place).wait(90)
            assert died == -signal.SIGKILL, campaign.logged()
        sent = campaign.end_of(feeder)["sent"]
        campaign.drain()
        return Killed(sent, read_stages(open_reader(campaign.log_url), "beside"))


@pytest.fixture
def data(killed: Killed) -> Committed:
    return killed.data


def test_killed_while_it_gathers_each_row_is_decided_once(killed: Killed) -> None:
    found = check_stages(killed.data)
    assert not any(found.faults.values()), found.examples
    assert found.decisions + found.dead_letters == found.records == killed.sent >= RECORDS
    assert min(found.actions["approve"], found.actions["decline"], found.dead_letters, found.repeated) > 20


def test_who_holds_no_parts_is_found(tmp_path: Path) -> None:
    """Rows whose parts come in two batches, of two workers, are never whole."""
    with opened(tmp_path) as campaign:
        campaign.feed(RECORDS, seed=1)
        options = "--workers", 2, "--until-end"
        assert campaign.start(tmp_path / "marks", *options, forgetful=True).wait(90) == 0, campaign.logged()
        assert check_stages(read_stages(open_reader(campaign.log_url), "beside")).missing > 0


def in_task(records: ByTask, change: Callable[[list[Record]], list[Record]], task: int = 0) -> ByTask:
    return {**records, task: change(list(records[task]))}


def source(change: Callable[[list[Record]], list[Record]], stage: int = GATHERING) -> Change:
    """What a stage has read."""

    def changed(data: Committed) -> Committed:
        sources = [*data.sources]
        sources[stage] = in_task(sources[stage], change)
        return data._replace(sources=sources)

    return changed


def last_gone(records: list[Record]) -> list[Record]:
    return records[:-1]


def last_twice(records: list[Record]) -> list[Record]:
    return [*records, records[-1]._replace(offset=records[-1].offset + 1)]


def edited(**fields: object) -> Callable[[list[Record]], list[Record]]:
    """The last record that has one of the fields."""

    def changed(records: list[Record]) -> list[Record]:
        at = max(i for i, one in enumerate(records) if fields.keys() & json.loads(one.value).keys())
        value = json.dumps({**json.loads(records[at].value), **fields}, separators=(",", ":")).encode()
        return [*records[:at], records[at]._replace(value=value), *records[at + 1 :]]

    return changed


def decisions(change: Callable[[list[Record]], list[Record]]) -> Change:
    return lambda data: data._replace(decisions=in_task(data.decisions, change))


def letters(change: Callable[[list[Record]], list[Record]]) -> Change:
    return lambda data: data._replace(dead_letters=in_task(data.dead_letters, change))


def journal(change: Callable[[list[Record]], list[Record]]) -> Change:
    def changed(data: Committed) -> Committed:
        return data._replace(journals=[*data.journals[:-1], in_task(data.journals[-1], change)])

    return changed


def offset_behind(data: Committed) -> Committed:
    mine = {task: (offset - 1, named) for task, (offset, named) in data.offsets[GATHERING].items()}
    return data._replace(offsets=[*data.offsets[:-1], mine])


FAULTS: list[tuple[str, Change]] = [
    ("mismatches", source(last_gone)),  # a part that never came
    ("mismatches", source(last_twice)),
    ("mismatches", source(edited(terminal_n_1h=99))),
    ("mismatches", source(edited(holder_s_24h=0.01))),
    ("mismatches", source(edited(_place="0-1"))),
    ("mismatches", source(edited(device_last=0.01), stage=1)),
    ("mismatches", source(edited(device_s_24h=0.01), stage=2)),
    ("missing", decisions(last_gone)),
    ("duplicates", decisions(last_twice)),
    ("mismatches", decisions(edited(decision="pass"))),
    ("wrong_dead_letters", letters(last_gone)),
    ("wrong_dead_letters", letters(last_twice)),
    ("broken_journal", journal(last_gone)),
    ("broken_journal", journal(last_twice)),
    ("broken_journal", decisions(last_gone)),
    ("broken_journal", offset_behind),
]


@pytest.mark.parametrize(("kind", "change"), FAULTS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(FAULTS)])
def test_a_planted_fault_is_found(data: Committed, kind: str, change: Change) -> None:
    found = check_stages(change(data))
    assert found.faults[kind] > 0, found.faults
    assert found.examples
