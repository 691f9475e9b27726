"""`streamproc new`: a project that checks itself, from a checkout and from the wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from streamproc.cli.project import PIPELINE, project_files
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "configs" / "project" / "README.md").read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    monkeypatch.chdir(tmp_path)
    done = cli("new", "my-fraud")
    assert (done.code, done.out) == (0, "")
    return tmp_path / "my-fraud"


def run(words: list[str], folder: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    """With our commands first on the path, on the packages that lie in `packages`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(packages)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.timeout(120)
def test_a_project_checks_itself(project: Path) -> None:
    """What its CI runs: validate, test and backtest."""
    done = run(["sh", "check.sh"], project, ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ cases: \d+ ok, 0 failed$", done.stdout, re.MULTILINE)
    assert "rules never hit: 0 of" in done.stdout
    assert "validate prod" in done.stdout
    assert (project / "decided.parquet").stat().st_size > 0
    ignored = (project / ".gitignore").read_text().split()
    before = set(project_files("my-fraud"))
    made = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()} - before
    assert {f"/{name}" for name in made} <= set(ignored)


@pytest.mark.timeout(120)
def test_a_broken_project_fails_its_check(project: Path) -> None:
    pipeline = project / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("burst_30s >= 5", "burst_30s >= 7"))
    assert run(["sh", "check.sh"], project, ROOT).returncode == 1
    (project / "environments" / "prod.yaml").write_text("wokers: 4\n")
    assert run(["sh", "check.sh"], project, ROOT).returncode == 2


def test_it_is_the_shipped_pipeline_under_its_own_name(project: Path) -> None:
    shipped = (PIPELINE / "pipeline.yaml").read_text()
    assert (project / "pipeline.yaml").read_text() == shipped.replace("pipeline: card_fraud", "pipeline: my-fraud")
    for path in ("model.onnx", "lists/thresholds.csv", "tests/rules.yaml"):
        assert (project / path).read_bytes() == (PIPELINE / path).read_bytes()


def test_no_word_of_the_template_is_left(project: Path) -> None:
    assert (project / "requirements.txt").read_text() == f"streamproc=={version('streamproc')}\n"
    assert (project / "README.md").read_text().startswith("# my-fraud\n")
    texts = [path.read_bytes() for path in project.rglob("*") if path.is_file() and path.suffix != ".onnx"]
    assert not any(word in text for word in (b"{name}", b"{version}") for text in texts)


def test_ci_runs_the_check(project: Path) -> None:
    """Both CI systems read YAML, and run the one script."""
    github = yaml.safe_load((project / ".github" / "workflows" / "check.yml").read_text())
    assert [step["run"] for step in github["jobs"]["check"]["steps"] if "run" in step][-1] == "sh check.sh"
    gitlab = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    assert gitlab["check"]["script"][-1] == "sh check.sh"
    assert gitlab["check"]["artifacts"]["reports"]["junit"] in (project / "check.sh").read_text()


def test_the_readme_names_what_is_there(project: Path) -> None:
    named = set(re.findall(r"^\| `([^`]+)`(?:, `([^`]+)`)? \|", README, re.MULTILINE))
    paths = [path for pair in named for path in pair if path]
    assert [path for path in paths if not (project / path).exists()] == []
    there = {path.name for path in project.iterdir()} - {".gitignore", "README.md"}
    assert there == {path.strip("/") for path in paths}


def test_the_commands_of_the_readme_run(project: Path) -> None:
    """Those under "Running it"; with ends, so that they do not wait for more."""
    shown = README.split("## Running it")[1].split("`--env NAME`")[0]
    commands = {line.split()[1]: line.split() for line in shown.splitlines() if line.startswith("    streamproc")}
    outputs = {}
    for name, more in {
        "generate": ["--events", "500"],
        "feed": [],
        "run": ["--until-end"],
        "tail": ["--until-end"],
    }.items():
        words = [sys.executable, "-m", "streamproc.cli.main", *commands.pop(name)[1:], *more]
        done = run(words, project, ROOT)
        assert done.returncode == 0, done.stderr
        outputs[name] = done.stdout
    assert commands == {}
    assert len({json.loads(line)["transaction_id"] for line in outputs["tail"].splitlines()}) == 500


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-fraud", "error: my-fraud exists already (choose another name)"),
        ("file", "error: file exists already"),
        ("dangling", "error: dangling exists already"),
        ("9th", "error: '9th' cannot name a project (a letter, then letters, digits, _ and -"),
        ("a/b", "error: 'a/b' cannot name a project"),
        ("..", "error: '..' cannot name a project"),
        ("über", "error: 'über' cannot name a project"),
        ("name\n", "error: 'name\\n' cannot name a project"),
        ("", "error: '' cannot name a project"),
        ("x" * 65, "cannot name a project"),
    ],
)
def test_what_is_refused(name: str, said: str, project: Path, cli: Cli) -> None:
    (project.parent / "file").write_text("mine")
    (project.parent / "dangling").symlink_to("nowhere")
    before = sorted(project.parent.rglob("*"))
    done = cli("new", name)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert sorted(project.parent.rglob("*")) == before


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a directory in which not even root can write")
def test_where_nothing_can_be_made(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/sys/kernel")
    done = cli("new", "mine")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"error: mine cannot be made: [\w ]+ \(go where you may write\)\n", done.err)


def test_a_project_is_a_folder_like_any_other(project: Path) -> None:
    plain = project.parent / "plain"
    plain.mkdir()
    assert project.stat().st_mode == plain.stat().st_mode
    assert sorted(path.name for path in project.parent.iterdir()) == ["my-fraud", "plain"]


def test_its_files_are_package_data() -> None:
    shipped = files("configs")
    assert (shipped / "project" / "check.sh").is_file()
    assert (shipped / "card_fraud" / "model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_wheel_makes_the_same_project(project: Path, tmp_path: Path) -> None:
    """The wheel is unpacked and put before everything else; its dependencies are those of this environment."""
    built = run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")], ROOT, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made = run([sys.executable, "-m", "streamproc.cli.main", "new", "my-fraud"], elsewhere, tmp_path / "unpacked")
    assert made.returncode == 0, made.stderr
    for path, content in project_files("my-fraud").items():
        assert (elsewhere / "my-fraud" / path).read_bytes() == content, path
    checked = run(["sh", "check.sh"], elsewhere / "my-fraud", tmp_path / "unpacked")
    assert checked.returncode == 0, checked.stderr
    words = [sys.executable, "-m", "streamproc.cli.main", "explain", "pipeline.yaml"]
    explained = run(words, elsewhere / "my-fraud", tmp_path / "unpacked")
    assert explained.stdout.startswith("pipeline my-fraud: "), explained.stderr
