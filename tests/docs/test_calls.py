"""docs/language/calls.md: its files are written, its service started, its commands run, its output compared."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from state.errors import ConfigError
from streamproc.calls.metrics import CallRegistry
from streamproc.language import compile_stages, load_pipeline
from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = ROOT / "docs" / "language" / "calls.md"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def files(folder: Path, port: int = 9000) -> None:
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (folder / block.options["file"]).write_text(block.text.replace("9000", str(port)))


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "service.py"], cwd=folder) as service:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert service.poll() is None
                time.sleep(0.05)
            yield
        finally:
            service.terminate()


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_example_runs(tmp_path: Path) -> None:
    port = free_port()
    files(tmp_path, port)
    commands = [block for block in blocks(PAGE.read_text()) if block.language == "sh"]
    shown = [block.text for block in blocks(PAGE.read_text()) if block.language == "text"]
    assert shell(commands[0], tmp_path) == shown[0]
    (tmp_path / "shop.yaml").write_text((tmp_path / "shop.yaml").read_text().replace("100ms", "20s"))
    with served(tmp_path, port):
        decisions = shell(commands[1], tmp_path)
    assert sorted(decisions.splitlines()) == sorted(shown[1].splitlines())


@pytest.mark.timeout(180)
def test_without_the_service_decisions_say_so(tmp_path: Path) -> None:
    files(tmp_path, free_port())
    commands = [block for block in blocks(PAGE.read_text()) if block.language == "sh"]
    first, *_ = sorted(shell(commands[1], tmp_path).splitlines())
    (end,) = re.findall(r"would end in `(.*)`", PAGE.read_text())
    assert first.endswith(end)
    assert json.loads(first)["reputation"] == 0.5


def test_the_errors_are_those_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    path = Path("shop.yaml")
    path.write_text(path.read_text().replace("={device_id}", "={device}").replace("known_bad: bool", "amount: bool")
                    .replace("known_bad: false", "amount: false"))  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        compile_stages(load_pipeline("shop.yaml"))
    written = re.findall(r"^    error: (.*)$", PAGE.read_text(), re.MULTILINE)
    assert str(caught.value).splitlines()[: len(written)] == written


def test_every_metric_is_described() -> None:
    registry = CollectorRegistry()
    CallRegistry(registry)
    named = set(re.findall(r"`(streamproc_call\w*?)(?:_total)?(?:\{\w+\})?`", PAGE.read_text()))
    assert named == {metric.name for metric in registry.collect()}
