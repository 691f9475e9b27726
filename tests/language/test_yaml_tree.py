"""YAML: only mappings, lists and text; nothing that grows, runs or surprises."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.errors import ConfigError, Place
from streamproc.language.yaml_tree import DEPTH_MAX, SIZE_MAX, Items, Mapping, Scalar, parse_yaml


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


def scalar(text: str) -> Scalar:
    root = parse_yaml(text, "f.yaml")
    assert isinstance(root, Mapping)
    node = root.entries["a"]
    assert isinstance(node, Scalar)
    return node


def test_text_stays_text() -> None:
    root = parse_yaml("{a: no, b: 012, c: 1e3, d: 2020-01-01, e: null}", "f.yaml")
    assert isinstance(root, Mapping)
    assert [getattr(node, "text", None) for node in root.entries.values()] == ["no", "012", "1e3", "2020-01-01", "null"]


@pytest.mark.parametrize(
    ("text", "written", "line", "column"),
    [
        ("a: x > 1", "x > 1", 1, 4),
        ("a: 'x > 1'", "x > 1", 1, 5),
        ("a: >\n  x > 1\n  and y\n", "  x > 1\n  and y\n", 2, 1),
        ("a: |-\n    x > 1\n\n    and y\n", "    x > 1\n\n    and y\n", 2, 1),
        ("a: x > 1\n   and y\nb: 1", "x > 1\n   and y", 1, 4),
    ],
)
def test_text_is_found_where_it_was_written(text: str, written: str, line: int, column: int) -> None:
    node = scalar(text)
    assert node.written == written
    assert node.body == Place("f.yaml", line, column)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml:1:1: the file is empty"),
        ("a: !!python/object:os.system x", "f.yaml:1:4: YAML tags are not allowed"),
        ("a: !!str x", "f.yaml:1:4: YAML tags are not allowed"),
        ("a: 1\na: 2", "f.yaml:2:1: 'a' is given twice (first in line 1)"),
        ("a: *b", "f.yaml:1:4: alias *b has no anchor before it"),
        ("a: {count: *, over: 5m}", "not YAML"),
        ("a: &a [*a]", "alias *a has no anchor before it"),
        ("? [a]\n: b", "f.yaml:1:3: a key must be plain text"),
        ("a: [1", "f.yaml:1:6: not YAML"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a file holds one YAML document"),
        ("a: \x00", "not YAML"),
        ("a:\n\t- b", "f.yaml:2:1: not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\nb\uff1a 2\nc: 3", "could not find expected ':' ('\uff1a' is a full-width sign: write ':')"),
        ("[" * (DEPTH_MAX + 1), f"nested deeper than {DEPTH_MAX} levels"),
        ("x" * (SIZE_MAX + 1), f"larger than {SIZE_MAX} characters"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in refused(text)


def test_an_alias_is_the_same_value() -> None:
    root = parse_yaml("a: &x [1, 2]\nb: *x", "f.yaml")
    assert isinstance(root, Mapping)
    assert isinstance(root.entries["b"], Items)
    assert root.entries["b"] == root.entries["a"]


def test_an_alias_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    started = time.monotonic()
    assert "aliases counted" in refused("\n".join(lines))
    assert time.monotonic() - started < 5


def read_or_refused(text: str) -> bool:
    try:
        parse_yaml(text, "f.yaml")
    except ConfigError as error:
        return error.place is not None
    return True


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert read_or_refused(text)


@given(st.text(alphabet="ab:{}[],&*!|>-'\"#? \n\t0", max_size=60))
def test_any_layout_is_read_or_refused(text: str) -> None:
    assert read_or_refused(text)
