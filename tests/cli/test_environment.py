"""`--env NAME`: options from a file beside the pipeline; the command line wins; errors have a place."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamproc.cli import run, worker_process
from streamproc.cli.environment import keys, read_environment
from streamproc.cli.worker_process import COMMAND, Share
from tests.cli.conftest import COMMANDS, Cli, payments
from tests.cli.test_round_trip import ndjson

OF_ONE_POD_OR_RUN = {"environment", "instance", "until_end", "worker", "parent", "pipeline"}
PROD = """\
log: kafka://a:9092,b:9092
partitions: 24
workers: 2
state: /var/lib/streamproc
state_memory: 2048
checkpoints: s3://bucket/prefix
checkpoint_seconds: 12.5
checkpoint_days: 8
commit_interval: 5
leave: true
metrics_port: 9464
metrics_host: 0.0.0.0
log_level: warning
"""


@pytest.fixture
def prod(pipeline: Path) -> Path:
    path = pipeline.parent / "environments" / "prod.yaml"
    path.parent.mkdir()
    path.write_text(PROD)
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Share]:
    """What a `run` would have started."""
    found: list[Share] = []

    def supervise(commands: Sequence[list[str]], _: object = None) -> int:
        found.extend(worker_process._parse(command[len(COMMAND) :])[0] for command in commands)
        return 0

    monkeypatch.setattr(run, "supervise", supervise)
    monkeypatch.setattr(run, "make_run_directories", lambda *_: None)
    monkeypatch.setattr(run, "hold_run", lambda *_: os.open(tmp_path / "held", os.O_CREAT))
    return found


def test_an_environment_has_the_options_of_run() -> None:
    options = {parameter.name for parameter in COMMANDS["run"].params} - {"help"}
    assert set(keys()) == options - OF_ONE_POD_OR_RUN


def test_they_reach_the_workers(prod: Path, pipeline: Path, cli: Cli, started: list[Share]) -> None:
    done = cli("run", pipeline, "--env", "prod", "--instance", "pod-3")
    assert (done.code, done.err) == (0, "")
    (share, _) = started
    assert share._asdict() == {
        "pipeline": str(pipeline), "log": "kafka://a:9092,b:9092", "state": Path("/var/lib/streamproc"),
        "instance": "pod-3", "workers": 2, "until_end": False, "metrics_port": 9464, "log_level": "warning",
        "checkpoints": "s3://bucket/prefix", "checkpoint_seconds": 12.5, "checkpoint_days": 8, "leave": True,
        "commit_interval_ms": 5.0,
        "metrics_host": "0.0.0.0", "state_memory": 2048, "partitions": 24,
    }  # fmt: skip


def test_the_command_line_wins(prod: Path, pipeline: Path, cli: Cli, started: list[Share]) -> None:
    assert cli("run", "--env=prod", "--workers", 1, pipeline, "--log", "file:here", "--partitions", 3).code == 0
    (share,) = started
    assert (share.workers, share.log, share.partitions, share.state_memory) == (1, "file:here", 3, 2048)


def test_the_same_pipeline_in_an_environment_of_its_own(pipeline: Path, cli: Cli, tmp_path: Path) -> None:
    """Fed, decided, read and looked at by the name of the environment alone."""
    folder = tmp_path / "environments"
    folder.mkdir()
    (folder / "dev.yaml").write_text(f"log: file:{tmp_path}/log\nstate: {tmp_path}/kept\npartitions: 3\n")
    rows = ndjson(tmp_path / "rows.ndjson", payments(300))
    env = ["--env", "dev"]
    assert cli("feed", "payments", rows, "--pipeline", pipeline, *env).code == 0
    assert cli("run", pipeline, *env, "--until-end", "--log-level", "warning").code == 0
    decided = cli("tail", "decisions", "--pipeline", pipeline, *env, "--until-end")
    assert len(decided.lines) == len(rows.read_text().splitlines())
    looked = json.loads(cli("state", "inspect", pipeline, *env, "--json").out)
    assert [task["partitions"] for task in looked["tasks"]] == [3, 3, 3]
    assert {task["plan"] for task in looked["tasks"]} == {True}
    assert {task["behind"] for task in looked["tasks"]} == {0}


USE = "use kafka://host:port[,host:port] or file:DIR)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workrs: 2\n", "{path}:1:1: unknown key 'workrs' in the environment prod (did you mean workers?)"),
        ("log: file:a\nworkers: 0\n", "{path}:2:10: '0' is not a whole number from 1 to 256"),
        ("leave: yes\n", "{path}:1:8: 'yes' is neither true nor false"),
        ("log_level: loud\n", "{path}:1:12: unknown log level 'loud' (one of debug, info, warning, error)"),
        ("until: 1\n", "{path}:1:1: unknown key 'until' in the environment prod (" + f"one of {', '.join(keys())})"),
        ("- log\n", "{path}:1:1: the environment prod must be a mapping of keys to values"),
        ("log: kafka://b\n", "{path}:1:6: not a Kafka address: kafka://b (kafka://host:port[,host:port])"),
        ("log: kafak://ann:secret@b:1\n", "{path}:1:6: 'kafak://b:1' names no event log (" + USE),
        ("log: [a, b]\n", "{path}:1:6: a single value is expected here"),
    ],
)
def test_what_is_wrong_has_a_place(text: str, said: str, prod: Path, pipeline: Path, cli: Cli) -> None:
    prod.write_text(text)
    for command in (["validate", pipeline], ["run", pipeline]):
        done = cli(*command, "--env", "prod")
        assert (done.code, done.out) == (2, "")
        assert done.err == f"error: {said.format(path=prod)}\n"


@pytest.mark.parametrize("name", ["prdo", "../environments/prod", "staging"])
def test_an_unknown_environment_is_refused(name: str, prod: Path, pipeline: Path, cli: Cli) -> None:
    done = cli("validate", pipeline, "--env", name)
    if name == "../environments/prod":
        assert done.err.startswith("error: --env: '../environments/prod' is not a name")
    else:
        hint = "did you mean prod?" if name == "prdo" else "there is only prod"
        assert done.err.endswith(f"there is no environment {name!r} ({hint})\n")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_validate_checks_an_environment(prod: Path, pipeline: Path, cli: Cli) -> None:
    assert cli("validate", pipeline, "--env", "prod") == cli("validate", pipeline)


def test_an_option_that_is_needed_is_asked_for_all_the_same(prod: Path, pipeline: Path, cli: Cli) -> None:
    prod.write_text("workers: 2\n")
    assert read_environment(str(pipeline), "prod") == {"workers": 2}
    assert "Missing option '--log'" in cli("run", pipeline, "--env", "prod").err


def test_every_command_that_takes_an_option_of_it_takes_an_environment() -> None:
    options = {name: {parameter.name for parameter in command.params} for name, command in COMMANDS.items()}
    assert {name for name, its in options.items() if its & keys().keys() and "environment" not in its} == set()


@pytest.mark.parametrize("command", ["explain-decisions", "models watch"])
def test_the_port_of_an_environment_is_the_workers(command: str, prod: Path, pipeline: Path) -> None:
    """Beside a worker of the same machine it is taken."""
    given = [str(pipeline), "--env", "prod"]
    params = COMMANDS[command].make_context(command, [*given]).params
    assert (params["log"], params["metrics_host"]) == ("kafka://a:9092,b:9092", "0.0.0.0")
    assert 9464 not in params.values()
    assert 9470 in COMMANDS[command].make_context(command, [*given, "--metrics-port", "9470"]).params.values()
