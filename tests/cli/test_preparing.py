"""What is told while engines make themselves ready."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

from streamproc.cli.preparing import prepare


def engine_of(prepare: Any) -> Any:
    return cast(Any, SimpleNamespace(prepare=prepare))


def test_a_long_preparation_is_told_while_it_lasts() -> None:
    said: list[str] = []
    told = threading.Event()

    def tell(what: str) -> None:
        said.append(what)
        told.set()

    prepare(engine_of(told.wait), tell, patience=0.0)  # it ends when it was told
    assert said == [
        "steps make themselves ready: code is compiled for this machine where none is kept, once, about 20 s"
    ]


def test_a_short_one_is_not() -> None:
    said: list[str] = []
    before = threading.active_count()
    prepare(engine_of(lambda: None), said.append, patience=60.0)
    while threading.active_count() > before:
        pass
    assert not said
