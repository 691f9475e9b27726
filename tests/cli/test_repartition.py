"""Half of the input decided with N partitions, the rest with M: together what one uninterrupted run decides."""

from __future__ import annotations

import asyncio
import json
import math
import random
import secrets
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from state.hashing import partition_of
from state.rocksdb import RocksRowStores
from streamproc.cli.compose import open_log
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.runtime.transaction import TransactionProtocol
from tests.cli.conftest import Cli, Outcome, finish
from tests.oracle.card_job import HORIZON, expect
from tests.simulation.traffic import START_MS, Record, traffic

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(120)]
SOURCE = (Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml").read_text()
Step = list[tuple[int, Record]]


class Shop:
    """A folder with a log, a state directory, and the benchmark's pipeline under several names.

    `suffix` of the names, for a log that others use, too.
    """

    def __init__(self, folder: Path, log: str = "", suffix: str = "") -> None:
        self.folder = folder
        self.log = log or f"file:{folder}/log"
        self.suffix = suffix
        self.state = folder / "state"

    def pipeline(self, name: str, partitions: int, text: str = SOURCE) -> Path:
        path = self.folder / f"{name}.yaml"
        title = f"pipeline: {name}{self.suffix}\npartitions: {partitions}"
        path.write_text(text.replace("pipeline: bench_v1", title))
        return path

    def feed(self, name: str, partitions: int, records: Sequence[Record]) -> None:
        async def append() -> None:
            log = open_log(self.log)
            topic = f"{name}{self.suffix}.transactions"
            await log.admin().ensure_topics([TopicSpec(topic, partitions)])
            appender = log.appender()
            for record in records:
                key = record.card.encode()
                tp = TopicPartition(topic, partition_of(key, partitions))
                await appender.append([OutputRecords(tp, [key], [record.value], START_MS + HORIZON)])
            await appender.close()
            await log.close()

        asyncio.run(append())

    def run(self, name: str, *more: object) -> Outcome:
        path = self.folder / f"{name}.yaml"
        return finish("run", path, "--log", self.log, "--state", self.state, "--until-end", *more)

    def repartition(self, cli: Cli, *more: object) -> Outcome:
        old, new = self.folder / "old.yaml", self.folder / "new.yaml"
        return cli("repartition", old, "--to", new, "--log", self.log, "--state", self.state, *more)

    def decisions(self, cli: Cli, name: str, partitions: int) -> list[list[dict[str, Any]]]:
        path = self.folder / f"{name}.yaml"
        found = cli("tail", "decisions", "--pipeline", path, "--log", self.log, "--until-end")
        assert found.code == 0, found.err
        out: list[list[dict[str, Any]]] = [[] for _ in range(partitions)]
        for line in map(json.loads, found.lines):
            out[partition_of(line["card_id"].encode(), partitions)].append(line)
        return out

    def rows(self, name: str) -> list[dict[bytes, bytes]]:
        """Rows and chunks of each task."""
        stores = RocksRowStores(self.state / f"{name}{self.suffix}")
        found = []
        for task in stores.tasks():
            store = stores.look(task)
            found.append({key: value for key, value in store.scan(b"") if key[:1] in b"rc"})
            store.close()
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def records(seed: int, count: int = 330) -> list[Record]:
    """Traffic within one horizon, where each id belongs to one card: what is a duplicate depends on no partition."""
    owners: dict[str, str] = {}
    found = []
    for record in traffic(random.Random(seed), count, 14):
        try:
            name = json.loads(record.value)["transaction_id"]
        except (ValueError, KeyError, TypeError):
            name = record.value.decode()
        if owners.setdefault(name, record.card) == record.card:
            found.append(record)
    times = [json.loads(r.value)["event_time"] for r in found if b'"ts": 1' in r.value]
    assert max(times) - min(times) < HORIZON
    return found


def same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return got == wanted


def assert_equal_the_oracle(found: list[list[dict[str, Any]]], given: Step, all_records: Sequence[Record]) -> None:
    """Decisions of each partition, in order, are those of one run over all records."""
    oracle = expect([(n, record.value, START_MS + HORIZON) for n, record in enumerate(all_records)])
    for partition, decisions in enumerate(found):
        mine = [n for n, r in given if partition_of(r.card.encode(), len(found)) == partition and n in oracle.decisions]
        assert len(decisions) == len(mine)
        for n, got in zip(mine, decisions, strict=True):
            assert got.get("duplicate", False) == (n in oracle.duplicates)
            wanted = oracle.decisions[n]
            assert all(same(got.get(k), v) for k, v in wanted.items()), (n, got, wanted)


@pytest.mark.parametrize(("before", "after", "seed"), [(4, 6, 1), (6, 4, 2), (3, 1, 3), (1, 5, 4)])
def test_decisions_equal_an_uninterrupted_run(shop: Shop, cli: Cli, before: int, after: int, seed: int) -> None:
    decide_in_two_halves(shop, cli, before, after, seed)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("before", "after", "seed"), [(4, 6, 5), (3, 2, 6)])
def test_on_kafka_too(kafka_bootstrap: str, tmp_path: Path, cli: Cli, before: int, after: int, seed: int) -> None:
    """Its offsets have gaps, and what ends a topic is no record but a transaction's mark."""
    shop = Shop(tmp_path, f"kafka://{kafka_bootstrap}", f"-{secrets.token_hex(4)}")
    decide_in_two_halves(shop, cli, before, after, seed)


def decide_in_two_halves(shop: Shop, cli: Cli, before: int, after: int, seed: int) -> None:
    given = list(enumerate(records(seed)))
    first, rest = given[: len(given) // 2], given[len(given) // 2 :]
    shop.pipeline("old", before)
    shop.pipeline("new", after)
    shop.feed("old", before, [record for _, record in first])
    assert shop.run("old").code == 0
    told = shop.repartition(cli, "--json")
    assert (told.code, told.err) == (0, "")
    report = json.loads(told.out)

    old, new = shop.rows("old"), shop.rows("new")
    assert {k: v for task in old for k, v in task.items()} == {k: v for task in new for k, v in task.items()}
    assert sum(map(len, old)) == sum(map(len, new)) > 14
    assert sum(report["keys"].values()) == sum(key[:1] == b"r" for task in old for key in task)
    assert report["partitions"] == [before, after]
    verified = cli("state", "verify", shop.folder / "new.yaml", "--state", shop.state)
    assert verified.code == 0, verified.out

    shop.feed("new", after, [record for _, record in rest])
    ran = shop.run("new")
    assert ran.code == 0, ran.err
    assert "discarded" not in ran.err
    everything = [record for _, record in given]
    assert_equal_the_oracle(shop.decisions(cli, "old", before), first, everything)
    assert_equal_the_oracle(shop.decisions(cli, "new", after), rest, everything)
    alone = expect([(n, record.value, START_MS + HORIZON) for n, record in rest])  # the check sees what state is for
    whole = expect([(n, record.value, START_MS + HORIZON) for n, record in given])
    assert alone.duplicates < {n for n in whole.duplicates if n >= rest[0][0]}
    assert sum(whole.decisions[n] != decision for n, decision in alone.decisions.items()) > 20


def begun(shop: Shop, cli: Cli, *more: object) -> None:
    shop.pipeline("old", 4)
    shop.pipeline("new", 6)
    shop.feed("old", 4, records(5)[:100])
    assert shop.run("old", *more).code == 0


def test_without_the_moved_state_the_new_pipeline_refuses_to_start(shop: Shop, cli: Cli) -> None:
    begun(shop, cli)
    assert shop.repartition(cli).code == 0
    shop.feed("new", 6, records(5)[100:])
    assert shop.run("new").code == 0
    shutil.rmtree(shop.state / "new")
    ran = shop.run("new")
    assert ran.code == 2
    assert "is missing and its journal no longer begins at the first record" in ran.err


def test_checkpoints_are_read_and_written(shop: Shop, cli: Cli) -> None:
    """The old pod's disk is gone, and so is the one that the new state was made on."""
    where = ("--checkpoints", shop.folder / "cp")
    begun(shop, cli, *where)
    shutil.rmtree(shop.state / "old" / "task-00001")
    shutil.rmtree(shop.state / "old" / "task-00002")
    refused = shop.repartition(cli)
    assert refused.code == 2
    assert "no state of task 1 of old stands where its committed offsets do" in refused.err
    assert not (shop.state / "new.repartition").exists()
    told = shop.repartition(cli, *where)
    assert told.code == 0, told.err
    shutil.rmtree(shop.state / "new")
    rest = records(5)[100:]
    shop.feed("new", 6, rest)
    ran = shop.run("new", *where)
    assert ran.code == 0, ran.err
    given = list(enumerate(records(5)))
    assert_equal_the_oracle(shop.decisions(cli, "new", 6), given[100:], [record for _, record in given])


def test_undecided_input_is_refused(shop: Shop, cli: Cli) -> None:
    begun(shop, cli)
    shop.feed("old", 4, records(6)[:50])
    refused = shop.repartition(cli)
    assert (refused.code, refused.out) == (2, "")
    assert "that are not decided yet" in refused.err
    assert "--until-end" in refused.err
    assert shop.run("old").code == 0
    assert shop.repartition(cli).code == 0


def test_a_second_time_is_refused(shop: Shop, cli: Cli) -> None:
    begun(shop, cli)
    assert shop.repartition(cli).code == 0
    refused = shop.repartition(cli)
    assert refused.code == 2
    assert "pipeline new has begun already, on this very state of the old one" in refused.err


def test_a_pipeline_begun_otherwise_is_left_alone(shop: Shop, cli: Cli) -> None:
    begun(shop, cli)
    shop.feed("new", 6, records(5)[100:])
    assert shop.run("new").code == 0
    before = shop.rows("new")
    refused = shop.repartition(cli)
    assert refused.code == 2
    assert "pipeline new has begun already (the new one needs a name of its own)" in refused.err
    assert shop.rows("new") == before


@pytest.mark.parametrize("step", [None, 5, 6, 7])
def test_a_killed_attempt_can_be_made_again(
    shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    repartition_again(shop, cli, monkeypatch, step)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", [5, 6, 7])
def test_on_kafka_too_where_aborted_records_take_offsets(
    kafka_bootstrap: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    shop = Shop(tmp_path, f"kafka://{kafka_bootstrap}", f"-{secrets.token_hex(4)}")
    repartition_again(shop, cli, monkeypatch, step)


def repartition_again(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch, step: int | None) -> None:
    """Nothing has begun. The state that comes out is good, on another pod and behind a replay, too."""
    where = ("--checkpoints", shop.folder / "cp")
    begun(shop, cli)
    killed_at(step, shop, cli, monkeypatch, *where)
    again = shop.repartition(cli, *where)
    assert again.code == 0, again.err
    assert "WARNING: state of new" in again.err
    assert "is set aside: 6 tasks" in again.err
    given = list(enumerate(records(5)))
    everything = [record for _, record in given]
    shop.feed("new", 6, everything[100:200])
    assert shop.run("new").code == 0
    shutil.rmtree(shop.state / f"new{shop.suffix}")
    shop.feed("new", 6, everything[200:])
    ran = shop.run("new", *where)
    assert ran.code == 0, ran.err
    assert "discarded" not in ran.err
    assert_equal_the_oracle(shop.decisions(cli, "new", 6), given[100:], everything)


def killed_at(step: int | None, shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch, *more: object) -> None:
    """Before its transaction, or before a step of that (runtime/transaction.py)."""
    from streamproc.cli import repartitioner
    from streamproc.runtime import generation

    def kill(at: int | None) -> None:
        if at == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step is None:
            patch.setattr(repartitioner, "begin_generation", lambda *_: kill(None))
        else:
            patch.setattr(generation, "TransactionProtocol", partial(TransactionProtocol, probe=kill))
        assert shop.repartition(cli, *more).code == 130


def test_an_attempt_killed_when_all_was_done_says_so(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(shop, cli)
    killed_at(8, shop, cli, monkeypatch)
    again = shop.repartition(cli)
    assert again.code == 2
    assert "has begun already, on this very state of the old one (nothing is left to do: `run` it" in again.err
    given = list(enumerate(records(5)))
    everything = [record for _, record in given]
    shop.feed("new", 6, everything[100:])
    ran = shop.run("new")
    assert ran.code == 0, ran.err
    assert_equal_the_oracle(shop.decisions(cli, "new", 6), given[100:], everything)


def test_pipelines_that_do_not_fit_are_refused(shop: Shop, cli: Cli) -> None:
    begun(shop, cli)
    shop.pipeline("new", 6, SOURCE.replace("[5m, 1h, 24h]", "[5m, 2h, 24h]").replace("n_1h, s_1h", "n_2h, s_2h"))
    assert "differ in more than name, topics and partitions" in shop.repartition(cli).err
    shop.pipeline("new", 6, SOURCE.replace("  transactions:\n", "  transactions:\n    topic: old.transactions\n"))
    assert "both pipelines read one topic" in shop.repartition(cli).err
    (shop.folder / "new.yaml").write_text((shop.folder / "old.yaml").read_text())
    assert "both pipelines have one name" in shop.repartition(cli).err


def test_nothing_decided_needs_no_repartition(shop: Shop, cli: Cli) -> None:
    shop.pipeline("old", 4)
    shop.pipeline("new", 6)
    shop.feed("old", 4, [])
    shop.state.mkdir()
    refused = shop.repartition(cli)
    assert refused.code == 2
    assert "has decided nothing yet" in refused.err


def test_a_changed_number_of_partitions_names_the_command(shop: Shop, cli: Cli) -> None:
    """The topics were made anew with more partitions, and the state was kept."""
    begun(shop, cli)
    shutil.rmtree(shop.folder / "log")
    shop.pipeline("old", 6)
    shop.feed("old", 6, records(5)[:100])
    stash = shop.folder / "stash"
    shutil.copytree(shop.state, stash)
    shutil.rmtree(shop.state)
    assert shop.run("old").code == 0
    shutil.rmtree(shop.state)
    shutil.copytree(stash, shop.state)
    ran = shop.run("old")
    assert ran.code == 2
    assert "the state was kept with 4 partitions, the topic has 6" in ran.err
    assert "see `streamproc repartition`" in ran.err
