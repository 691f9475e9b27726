"""Wrong use exits with 2 and one clear line; help shows an example that works."""

from __future__ import annotations

import errno
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from state.errors import ConfigError, EventLogError, Place, RecordError
from streamproc.cli.backtest import one_input_each
from streamproc.cli.errors import report
from tests.cli.conftest import COMMANDS, Cli

CONFIGS = Path(__file__).parents[2] / "configs"
CARD_FRAUD = CONFIGS / "card_fraud" / "pipeline.yaml"

LOG = ["--log", "file:{dir}/log"]
WRONG: dict[str, tuple[list[str], str]] = {
    "no command": ([], "Missing command"),
    "unknown command": (["rum"], "No such command 'rum'"),
    "validate without a pipeline": (["validate"], "Missing argument 'PIPELINE'"),
    "validate what is not there": (["validate", "{dir}/no.yaml"], "no.yaml: cannot be read"),
    "run without a log": (["run", "{pipeline}"], "Missing option '--log'"),
    "feed nothing known": (
        ["feed", "payments", "{csv}", "--pipeline", "{pipeline}", "--log", "redis://x"],
        "no event log",
    ),
    "run with no workers": (["run", "{pipeline}", *LOG, "--workers", "0"], "--workers"),
    "run of a missing pipeline by two": (["run", "{dir}/no.yaml", *LOG, "--workers", "2"], "cannot be read"),
    "run with too little memory": (["run", "{pipeline}", *LOG, "--state-memory", "7"], "7 MiB is too little"),
    "sql without inputs": (["sql", "x.sql"], "Missing option '--input'"),
    "sql of what is not there": (["sql", "{dir}/x.sql", "--input", "t={csv}"], "x.sql: cannot be read"),
    "sql with a file of no table": (["sql", "x.sql", "--input", "{csv}"], "whose file is it? (write --input TABLE="),
    "sql with a table of no file": (
        ["sql", "x.sql", "--input", "payments="],
        "--input payments=: the file is missing (write --input payments=FILE)",
    ),
    "sql with a file of a table without a name": (
        ["sql", "x.sql", "--input", "t={csv}", "=pay.ndjson"],
        "--input =pay.ndjson: the table's name is missing (write --input TABLE=pay.ndjson)",
    ),
    "sql with an empty word": (["sql", "x.sql", "--input", ""], "--input '': the file is missing (write --input TABLE"),
    "backtest with a stream of no file": (
        ["backtest", "{pipeline}", "--input", "payments=", "--output", "{dir}/o.parquet"],
        "--input payments=: the file is missing (write --input payments=FILE)",
    ),
    "run with an unknown option": (["run", "{pipeline}", *LOG, "--until"], "No such option: --until"),
    "feed without files": (["feed", "payments", "--pipeline", "{pipeline}", *LOG], "Missing argument 'FILE...'"),
    "feed a file without a name": (
        ["feed", "payments", "", "--pipeline", "{pipeline}", *LOG],
        "error: '': the file is missing (name a file)",
    ),
    "feed a missing file": (["feed", "payments", "x.csv", "--pipeline", "{pipeline}", *LOG], "x.csv: there is no such"),
    "feed an unknown kind": (["feed", "payments", "{pipeline}", "--pipeline", "{pipeline}", *LOG], "kind is not known"),
    "feed an unknown stream": (["feed", "logins", "x.csv", "--pipeline", "{pipeline}", *LOG], "has no stream logins"),
    "feed too slowly": (["feed", "payments", "x.csv", "--pipeline", "{pipeline}", *LOG, "--rate", "0"], "--rate"),
    "tail nothing known": (["tail", "decison", "--pipeline", "{pipeline}", *LOG], "did you mean decisions?"),
    "feed into a file": (
        ["feed", "payments", "{csv}", "--pipeline", "{pipeline}", "--log", "file:{csv}"],
        "error: --log: {csv} is no directory",
    ),
    "feed under a file": (
        ["feed", "payments", "{csv}", "--pipeline", "{pipeline}", "--log", "file:{csv}/log"],
        "error: --log: {csv}/log is no directory, or lies under a file",
    ),
    "feed where nothing can be made": (
        ["feed", "payments", "{csv}", "--pipeline", "{pipeline}", "--log", "file:/proc/log"],
        "error: --log: the directory /proc/log cannot be made: ",
    ),
    "run on a file": (["run", "{pipeline}", "--log", "file:{csv}"], "error: --log: {csv} is no directory"),
    "run on a file by two": (
        ["run", "{pipeline}", "--log", "file:{csv}", "--workers", "2"],
        "error: --log: {csv} is no directory",
    ),
    "run of a log of no kind": (
        ["run", "{pipeline}", "--log", "kafak://b:9092"],
        "'kafak://b:9092' names no event log",
    ),
    "run of a broker without a port": (["run", "{pipeline}", "--log", "kafka://b"], "not a Kafka address: kafka://b"),
    "run of that by two": (["run", "{pipeline}", "--log", "kafka://b", "--workers", "2"], "not a Kafka address"),
    "run with a file as state": (
        ["run", "{pipeline}", *LOG, "--state", "{csv}"],
        "error: --state: {csv} is no directory",
    ),
    "tail of a log that is not there": (
        ["tail", "decisions", "--pipeline", "{pipeline}", *LOG],
        "error: --log: there is no event log in {dir}/log (`run` and `feed` make it)",
    ),
    "tail without a pipeline": (["tail", "decisions", *LOG], "Missing option '--pipeline'"),
    "backtest with the pipeline behind the files": (
        ["backtest", "--input", "{csv}", "{pipeline}", "--output", "{dir}/o.parquet"],
        "Missing argument 'PIPELINE' (put it before --input: what follows that are files)",
    ),
    "backtest without input": (["backtest", "{pipeline}", "--output", "o.parquet"], "Missing option '--input'"),
    "backtest to a wrong kind": (["backtest", "{pipeline}", "--input", "x", "--output", "o.csv"], "no Parquet file"),
    "backtest to nowhere": (
        ["backtest", "{pipeline}", "--input", "x.csv", "--output", "{dir}/no/o.parquet"],
        "folder of",
    ),
    "backtest to a directory": (
        ["backtest", "{pipeline}", "--input", "x.csv", "--output", "{dir}/made.parquet"],
        "made.parquet is a directory",
    ),
    "backtest where nothing can be made": (
        ["backtest", "{pipeline}", "--input", "{csv}", "--output", "/sys/kernel/o.parquet"],
        "/sys/kernel/o.dead_letters.ndjson cannot be written: ",
    ),
    "run with a file as checkpoints": (
        ["run", "{pipeline}", *LOG, "--checkpoints", "{csv}"],
        "error: the checkpoint store {csv} cannot be made: File exists (name a directory ",
    ),
    "run with checkpoints where nothing can be made": (
        ["run", "{pipeline}", *LOG, "--checkpoints", "/sys/kernel"],
        "error: the checkpoint store cannot be used: blob directory: cannot create: ",
    ),
    "run with its lock taken by a directory": (
        ["run", "{pipeline}", *LOG, "--state", "{dir}/state", "--instance", "taken"],
        "error: --state: {dir}/state/shop/run-taken.lock cannot be used: Is a directory (let this user write there",
    ),
    "run with its key taken by a directory": (
        ["run", "{pipeline}", *LOG, "--state", "{dir}/keyless"],
        "error: --state: {dir}/keyless/digest.key cannot be used: Is a directory (let this user write there",
    ),
    "inspect what cannot be locked": (
        ["state", "inspect", "{pipeline}", "--state", "{dir}/state"],
        "error: --state: {dir}/state/shop cannot be locked: Is a directory (run this as the user of the workers",
    ),
    "repartition to nothing": (["repartition", "{pipeline}", *LOG, "--state", "{dir}"], "Missing option '--to'"),
    "repartition to itself": (
        ["repartition", "{pipeline}", "--to", "{pipeline}", *LOG, "--state", "{dir}"],
        "error: both pipelines have one name",
    ),
    "state without a command": (["state"], "Missing command"),
    "inspect what is not there": (
        ["state", "inspect", "{pipeline}", "--state", "{dir}/no"],
        "error: --state: there is no directory {dir}/no",
    ),
    "inspect another pipeline's state": (
        ["state", "inspect", "{pipeline}", "--state", "{dir}"],
        "there is no state of pipeline shop in {dir}",
    ),
    "inspect against a log that is not there": (
        ["state", "inspect", "{pipeline}", "--state", "{dir}", *LOG],
        "error: --log: there is no event log in {dir}/log",
    ),
    "inspect without a directory": (["state", "inspect", "{pipeline}"], "Missing option '--state'"),
    "verify nothing": (["state", "verify", "{pipeline}"], "there is nothing to verify"),
    "verify no checkpoints": (
        ["state", "verify", "{pipeline}", "--checkpoints", "{dir}"],
        "there is nothing to verify: pipeline shop has no state there yet",
    ),
    "checkpoints of nowhere": (
        ["state", "checkpoints", "{pipeline}", "--checkpoints", "{dir}/no"],
        "error: --checkpoints: there is no directory {dir}/no",
    ),
    "checkpoints of an unknown kind": (
        ["state", "checkpoints", "{pipeline}", "--checkpoints", "ftp://x"],
        "the checkpoint store's address is of no known kind",
    ),
    "backtest of an unknown stream": (
        ["backtest", "{pipeline}", "--input", "logins=x.csv", "--output", "{dir}/o.parquet"],
        "has no stream logins",
    ),
}


@pytest.mark.blocking  # a command that is the first of its process imports within its loop
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case: str, cli: Cli, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    csv = tmp_path / "one.csv"
    csv.write_text("Payment,Card,Amount,Country,At\n")
    for made in ("made.parquet", "state/shop/run-taken.lock", "keyless/digest.key", "state/shop/task-00000.lock"):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "state" / "shop" / "task-00000").mkdir()
    outcome = cli(*(argument.format(dir=tmp_path, pipeline=pipeline, csv=csv) for argument in arguments))
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert said.format(dir=tmp_path, csv=csv) in outcome.err
    assert "run" in case or not (tmp_path / "log").exists()
    assert not (tmp_path / "streamproc-state").exists()


def test_a_wrong_pipeline_is_refused_with_its_places(cli: Cli, pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text().replace("[1h, 24h]", "[1h, 24q]").replace("then: review}", "then: revue}"))
    outcome = cli("validate", pipeline)
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {pipeline}:") for line in lines)
    assert "did you mean" in outcome.err


def test_validate_explains(cli: Cli, pipeline: Path) -> None:
    outcome = cli("validate", pipeline)
    assert (outcome.code, outcome.err) == (0, "")
    assert "stream payments" in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_can_be_parsed(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = tmp_path / "configs" / "environments" / "prod.yaml"
    environment.parent.mkdir(parents=True)
    environment.write_text("log: file:log\n")
    monkeypatch.chdir(tmp_path)
    outcome = cli(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    _, _, examples = outcome.out.partition("Example:\n")
    found = [line.strip() for line in examples.splitlines() if line.strip()]
    assert found
    for example in found:
        words, length = shlex.split(example), 1 + len(name.split())
        assert words[:length] == ["streamproc", *name.split()]
        COMMANDS[name].make_context(name, words[length:])


def test_help_lists_all_commands(cli: Cli) -> None:
    outcome = cli("--help")
    assert outcome.code == 0
    assert all(f"  {name.split()[0]} " in outcome.out for name in COMMANDS)


def test_help_comes_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from streamproc.cli.main import run_command; run_command(['--help'])\n"
        "print([m for m in ('numpy', 'pyarrow', 'structlog', 'rich', 'sqlglot', 'asyncio') if m in sys.modules])"
    )
    started = time.monotonic()
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert time.monotonic() - started < 3  # 0.1 s on an idle machine


def test_input_takes_several_files() -> None:
    given = ["p.yaml", "--input", "a", "b", "--output", "o", "--input=c", "d"]
    spread = ["p.yaml", "--input", "a", "--input", "b", "--output", "o", "--input=c", "--input", "d"]
    assert one_input_each(given) == spread


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("odd", Place("p.yaml", 3, 4), "make it even"), 2, "error: p.yaml:3:4: odd (make it even)\n"),
        (EventLogError("the broker\nis gone"), 1, "error: the broker is gone\n"),
        (RecordError("overflow", "amount"), 1, "error: a record cannot be decided: overflow\n"),
        (KeyboardInterrupt(), 130, ""),
        (ExceptionGroup("two", [ConfigError("a"), EventLogError("b")]), 2, "error: a\nerror: b\n"),
    ],
)
def test_errors_in_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert report(error) == code
    assert capsys.readouterr().err == said


def test_an_unexpected_error_quotes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("4111 1111 1111 1111")

    with pytest.raises(ValueError, match="4111") as caught:
        fail()
    assert report(caught.value) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected ValueError in test_usage.py:")
    assert err.count("\n") == 1
    assert "4111" not in err
    monkeypatch.setenv("STREAMPROC_DEBUG", "1")
    assert report(caught.value) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["validate", "tail", "backtest", "test"])
def test_a_full_stdout_is_one_line(command: str, cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    log = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    rows, output = tmp_path / "x.csv", tmp_path / "o.parquet"
    rows.write_text("Payment,Card,Amount,Country,At\np1,c1,1.00,be,2026-05-01T00:00:00Z\n")
    if command == "tail":
        assert cli("feed", "payments", rows, *log).code == 0
    arguments: dict[str, list[object]] = {
        "validate": ["validate", CARD_FRAUD],
        "test": ["test", CARD_FRAUD],
        "tail": ["tail", "payments", *log, "--until-end"],
        "backtest": ["backtest", pipeline, "--input", rows, "--output", output, "--json"],
    }
    words = [sys.executable, "-m", "streamproc.cli.main", *map(str, arguments[command])]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: stdout cannot be written: No space left on device\n")


def test_a_missing_shipped_model_says_how_it_is_made(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "bench_v1"
    folder.mkdir()
    shutil.copy(CONFIGS / "bench_v1" / "pipeline_model.yaml", folder)
    outcome = cli("validate", folder / "pipeline_model.yaml")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.endswith("No such file or directory (train it with `python -m benchmarks.make_bench_model`)\n")
    (folder / "pipeline_model.yaml").rename(tmp_path / "mine.yaml")
    assert cli("validate", tmp_path / "mine.yaml").err.endswith("(train it, or correct its path)\n")


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"streamproc {version('streamproc')}\n", "")


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a directory in which not even root can write")
def test_checkpoints_are_looked_at_where_nothing_can_be_written(cli: Cli, pipeline: Path) -> None:
    outcome = cli("state", "checkpoints", pipeline, "--checkpoints", "/sys/kernel")
    assert outcome == (0, "", "no checkpoints of pipeline shop there yet\n")


def test_what_a_file_says_does_not_reach_the_terminal_as_it_is(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\x1b[2JPayment\x07,Carte bancaire é\n")
    outcome = cli("feed", "payments", tmp_path / "x.csv", "--pipeline", pipeline, "--log", f"file:{tmp_path}/log")
    assert outcome.code == 2
    assert r"\x1b[2JPayment\x07, Carte bancaire é" in outcome.err
    assert outcome.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("path", ["a/b", Path("a/b")])
def test_a_failing_file_is_named(path: str | Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(PermissionError(errno.EACCES, "x", path)) == 1
    assert capsys.readouterr().err.startswith("error: a/b: Permission denied, ")
    assert report(OSError(errno.ENOSPC, "x")) == 1
    assert "No space left on device, outside any code (free space, or name another place; " in capsys.readouterr().err


@pytest.mark.parametrize(("handler", "code"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
def test_ctrl_c_while_it_is_imported_shows_no_traceback(handler: str, code: int) -> None:
    script = f"""
import os, signal, sys
from importlib.abc import MetaPathFinder
class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.{handler})
sys.argv[1:] = ["--version"]
from streamproc.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
