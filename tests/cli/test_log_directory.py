"""State is kept for one log: with another one it is refused, and left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.cli.log_directory import make_directories
from tests.cli.conftest import Cli, finish, payments
from tests.cli.test_round_trip import ndjson


def test_a_run_on_another_log_leaves_the_state_alone(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path, state = ndjson(tmp_path / "x.ndjson", payments(100)), tmp_path / "state"
    for name in ("first", "second"):
        log = f"file:{tmp_path / name}"
        assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
    run = ["run", pipeline, "--state", state, "--until-end", "--log-level", "warning", "--log"]
    first, second = f"file:{tmp_path / 'first'}", f"file:{tmp_path / 'second'}"
    assert finish(*run, first).code == 0
    for more in ([], ["--workers", 2]):
        refused = finish(*run, second, *more)
        assert refused.code == 2
        assert refused.err == (
            f"error: --state: {state}/shop is kept for the log {first}, not for {second} (give this log a"
            f" --state of its own; if it is the same log elsewhere, remove {state}/shop/log-address)\n"
        )
    again = finish(*run, first)
    assert (again.code, again.err) == (0, "")
    assert finish(*run, f"file:{tmp_path / 'third'}").code == 2
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("more", [["--checkpoints", "s4://x"], ["--state", "shop.yaml/s"]])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_refused_run_makes_no_log(pipeline: Path, tmp_path: Path, more: list[str], workers: int) -> None:
    more = [part.replace("shop.yaml", str(pipeline)) for part in more]
    refused = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--workers", workers, "--until-end", *more)
    assert refused.code == 2
    assert not (tmp_path / "log").exists()


def test_a_run_without_the_secret_makes_no_log(pipeline: Path, tmp_path: Path) -> None:
    pipeline.write_text(
        pipeline.read_text().replace("{type: string, from: Card}", "{type: string, from: Card, pan: true}")
    )
    for workers in (1, 2):
        refused = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--workers", workers, "--until-end")
        assert refused.code == 2
        assert refused.err.startswith("error: the stream has card numbers (pan) (set STREAMPROC_SECRET")
        assert not (tmp_path / "log").exists()


def test_state_of_a_changed_pipeline_is_refused_by_name(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    log, state = f"file:{tmp_path}/log", tmp_path / "state"
    path = ndjson(tmp_path / "x.ndjson", payments(100))
    assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
    run = ["run", pipeline, "--log", log, "--state", state, "--until-end", "--log-level", "error"]
    assert finish(*run).code == 0
    for before, after in (("over: [1h, 24h]", "over: [1h, 12h]"), ("_24h", "_12h")):
        pipeline.write_text(pipeline.read_text().replace(before, after))
    refused = finish(*run)
    assert refused.code == 2
    assert "streams, keys or features changed since this state was written" in refused.err
    assert f": {state}/shop, and the journal of shop (no replay crosses that" in refused.err


def test_other_partitions_are_refused_and_repartition_is_named(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    log = f"file:{tmp_path}/log"
    path = ndjson(tmp_path / "x.ndjson", payments(10))
    assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
    run = ["run", pipeline, "--log", log, "--until-end", "--log-level", "error"]
    assert finish(*run).code == 0
    pipeline.write_text("partitions: 6\n" + pipeline.read_text())
    refused = finish(*run)
    assert refused.code == 2
    assert "if it is `partitions:`, see `streamproc repartition`)" in refused.err


@pytest.mark.parametrize("other", ["kafka://b:9092", "kafka://C:9092,b:9092", "kafka://b:9092/"])
def test_a_cluster_is_known_by_any_of_its_brokers(other: str, tmp_path: Path) -> None:
    make_directories("kafka://a:9092,b:9092", tmp_path, "shop")
    make_directories(other, tmp_path, "shop")
    with pytest.raises(ConfigError, match="is kept for the log kafka://b:9092"):
        make_directories("kafka://b:9093", tmp_path, "shop")
    make_directories("kafka://b:9093", tmp_path, "another")


def test_this_host_has_several_names(tmp_path: Path) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        make_directories(f"kafka://{host}:9092", tmp_path, "shop")


def test_log_and_state_move_together(tmp_path: Path) -> None:
    make_directories(f"file:{tmp_path}/a", tmp_path / "a" / "state", "shop")
    (tmp_path / "a").rename(tmp_path / "b")
    make_directories(f"file:{tmp_path}/b", tmp_path / "b" / "state", "shop")
