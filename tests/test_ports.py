"""What a simulation runs asks its ports for time, chance and threads, never the machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIMULATED = ("streamproc/clock.py", "streamproc/eventlog/contract.py", "streamproc/eventlog/simulated",
             "streamproc/calls",
             "streamproc/language", "streamproc/runtime", "operators", "models", "state")  # fmt: skip
"""All but the command line, the services and the logs of real machines."""
PORTS = {
    "streamproc/clock.py": {"time"},  # the clock
    "streamproc/runtime/executor.py": {"concurrent", "run_in_executor", "threading"},  # threads
    "models/training/train.py": {"time"},  # a search may have so many minutes; no worker trains
    "models/registry.py": {"secrets"},  # who has taken a number; no worker adds a version
    "state/blobs.py": {"secrets"},  # names of uploads in a directory
    "state/checkpoint.py": {"secrets"},  # the nonce, if none is given
    "state/rocksdb.py": {"threading"},  # the row store
}
MODULES = {"time", "secrets", "uuid", "threading", "_thread", "concurrent", "multiprocessing", "subprocess", "sched"}
CALLS = {"urandom", "getrandom", "to_thread", "run_in_executor", "call_soon_threadsafe", "utcnow", "today", "now"}
SEEDED = {"Random", "Generator", "default_rng", "SFC64", "PCG64"}


def foreign(tree: ast.AST) -> Iterator[str]:
    """What asks the machine."""
    chance: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                if top in MODULES:
                    yield top
                if top == "random":
                    chance.add(alias.asname or top)
        elif isinstance(node, ast.ImportFrom) and node.module:
            top = node.module.split(".")[0]
            if top in MODULES or (top == "random" and any(alias.name not in SEEDED for alias in node.names)):
                yield top
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_random = isinstance(node.value, ast.Name) and node.value.id in chance
            of_numpy = isinstance(node.value, ast.Attribute) and node.value.attr == "random"
            if node.attr in CALLS or ((of_random or of_numpy) and node.attr not in SEEDED):
                yield node.attr
        called = node.func if isinstance(node, ast.Call) and not node.args else None
        if isinstance(called, ast.Attribute) and called.attr in {"Random", "default_rng"}:
            yield "unseeded"


def sources() -> list[Path]:
    found: list[Path] = []
    for name in SIMULATED:
        path = ROOT / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def test_nobody_but_a_port_asks_the_machine() -> None:
    asked = {path.relative_to(ROOT).as_posix(): set(foreign(ast.parse(path.read_text()))) for path in sources()}
    assert len(asked) > 100
    assert {name: names for name, names in asked.items() if names} == PORTS


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import time\nat = time.time()", "time"),
        ("from time import monotonic", "time"),
        ("import random\nrandom.random()", "random"),
        ("import random as r\nr.choice([1])", "choice"),
        ("from random import shuffle", "random"),
        ("import random\nrandom.Random()", "unseeded"),
        ("import numpy as np\nnp.random.default_rng()", "unseeded"),
        ("import numpy as np\nnp.random.rand(3)", "rand"),
        ("import uuid", "uuid"),
        ("import os\nos.urandom(4)", "urandom"),
        ("import asyncio\nasyncio.to_thread(print)", "to_thread"),
        ("loop.run_in_executor(None, print)", "run_in_executor"),
        ("from datetime import datetime\ndatetime.now()", "now"),
        ("import concurrent.futures", "concurrent"),
    ],
)
def test_it_would_be_seen(source: str, name: str) -> None:
    assert name in set(foreign(ast.parse(source)))


def test_a_seed_is_no_chance() -> None:
    source = "import random\nimport numpy as np\nrandom.Random(7)\nnp.random.default_rng(7)"
    assert set(foreign(ast.parse(source))) == set()
