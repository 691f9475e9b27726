"""`streamproc fmt`: what a file says stays, comments and order too; what has been laid out stays as it is."""

from __future__ import annotations

import random
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from state.errors import ConfigError
from streamproc.language.layout import formatted
from tests.docs.test_tutorial import ROOT, blocks
from tests.language.test_wrong import CORPUS

SHIPPED = [*ROOT.glob("configs/**/*.yaml"), *CORPUS.glob("right/*.yaml"), *ROOT.glob("tests/simulation/*.yaml")]
WRONG = [path for path in CORPUS.rglob("*.yaml") if path.parent.name != "yaml"]
PAGES = [
    (f"{page.relative_to(ROOT)}:{block.line}", block.text)
    for page in [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", *ROOT.glob("configs/**/*.md")]
    for block in blocks(page.read_text())
    if block.language == "yaml"
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_are_laid_out(path: Path) -> None:
    assert formatted(path.read_text(), path.name) == path.read_text()


@pytest.mark.parametrize(("where", "text"), PAGES, ids=[where for where, _ in PAGES])
def test_examples_of_the_docs_are_laid_out(where: str, text: str) -> None:
    whole = textwrap.dedent(text)
    assert formatted(whole, where) == whole


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a:   1\nb:\n    c: 2\n", "a: 1\nb:\n  c: 2\n"),
        ("a:\n- 1\n-   b: 2\n    c: 3\n", "a:\n  - 1\n  - b: 2\n    c: 3\n"),
        (
            "a:\n- 1\nb:\n    c: 2\n# d\ne:\n- - 1\n  - 2\nf: 3\n",
            "a:\n  - 1\nb:\n  c: 2\n# d\ne:\n  - - 1\n    - 2\nf: 3\n",
        ),
        ("a: {b:1, 'c':2,d: [ 1,2 ], e: }\n", "a: {b:1, 'c': 2, d: [1, 2], e: }\n"),
        ("\n\na: 1   \n\n\n\nb: 2\n\n\n", "a: 1\n\nb: 2\n"),
        ("a: 1", "a: 1\n"),
        ("a: 1\r\nb: 2\r\n", "a: 1\nb: 2\n"),
        (
            "a:    # why\n    # because\n    b: 1     # so\n  # c\n# d",
            "a:    # why\n  # because\n  b: 1     # so\n# c\n# d\n",
        ),
        ("a:\n     b: >\n         x\n           y\n\n\n     c: 1\n", "a:\n  b: >\n      x\n        y\n\n  c: 1\n"),
        ("a: |+\n  x\n\n\n", "a: |+\n  x\n\n\n"),
        ("a:      [1,\n         2]\n", "a: [1,\n    2]\n"),
        ("a:\n  [\n      1,\n  ]\n", "a:\n  [\n      1,\n  ]\n"),
        ("a:      b and\n          c\n", "a: b and\n     c\n"),
        ("a: 'x\n\n     y'\n", "a: 'x\n\n     y'\n"),
        ("a: &x 1\nb: *x\n", "a: &x 1\nb: *x\n"),
        ("---\n\na: 1\n", "---\n\na: 1\n"),
        ("- - 1\n  - 2\n-\n  - 3\n", "- - 1\n  - 2\n-\n  - 3\n"),
    ],
)
def test_it_is_laid_out_so(before: str, after: str) -> None:
    assert formatted(before, "f.yaml") == after
    assert formatted(after, "f.yaml") == after


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "f.yaml:1:6: not YAML"),
        ("a: 1\na: 2\n", "f.yaml:2:1: 'a' is given twice"),
        ("? a\n: 1\n", "f.yaml:1:1: a key behind '?' is not laid out"),
        ("a: 1 # x\u2028b: 2\n", "a line ends in another sign than LF"),
        ("a:\n    b: >\n      name = 'x\n      y'\n", "a text in it would not stay the same"),
    ],
)
def test_what_it_does_not_lay_out(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        formatted(text, "f.yaml")
    assert said in str(caught.value)


def comments(text: str) -> list[str]:
    """Of files whose texts hold no sharp."""
    return [line.strip() for line in re.findall(r"#[^\n]*", text)]


@pytest.mark.parametrize("path", WRONG, ids=lambda path: str(path.relative_to(CORPUS)))
def test_wrong_pipelines_say_the_same(path: Path) -> None:
    text = path.read_text()
    made = formatted(text, path.name)
    assert yaml.load(made, Loader=yaml.BaseLoader) == yaml.load(text, Loader=yaml.BaseLoader)
    assert comments(made) == comments(text)
    assert formatted(made, path.name) == made


WORDS = st.sampled_from(["a", "b c", "amount > 1", "5m", "''", '"x: y"', "'it''s'", "~", "[]", "{}", "-1", "*", "#x"])
SCALARS = WORDS.map(lambda word: word if word[0] not in "*#" else f"'{word}'")
BLOCKS = st.sampled_from(
    [">\n{i}one\n{i}  two\n\n{i}three\n", "|-\n{i}one\n", "|+\n{i}one\n\n", ">-\n{i}one\n{i}two\n\n\n"]
)
VALUES = st.recursive(
    SCALARS | BLOCKS,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("pqrs"), inner, min_size=1),
    max_leaves=12,
)


class Writer:
    """Writes a value as somebody might who does not care about layout."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.count = 0

    def comment(self, indent: int) -> str:
        kind = self.pick.randrange(8)
        self.count += kind < 2
        if kind == 0:
            return f"{' ' * self.pick.randrange(indent + 3)}# note {self.count}\n"
        return f"{' ' * indent}# note {self.count}\n" if kind == 1 else "\n" * (kind == 2) * 3

    def blanks(self) -> str:
        return " " * self.pick.choice([1, 1, 1, 2, 5])

    def end(self) -> str:
        self.count += (noted := self.pick.randrange(6) == 0)
        return f"{self.blanks()}# note {self.count}\n" if noted else " " * self.pick.randrange(2) + "\n"

    def flow(self, value: object) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(map(self.flow, value)) + "]"
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{key}:{self.blanks()}{self.flow(one)}" for key, one in value.items()) + "}"
        return str(value) if "\n" not in str(value) else "'t'"

    def value(self, value: object, indent: int) -> str:
        """What stands behind `key:` or `-`, its line's end too."""
        if isinstance(value, str):
            if "\n" in value:
                return self.blanks() + value.format(i=" " * (indent + self.pick.randrange(1, 4)))
            return self.blanks() + value + self.end()
        if self.pick.randrange(3) == 0:
            return self.blanks() + self.flow(value) + self.end()
        return self.end() + self.block(value, indent + self.pick.randrange(1, 5))

    def block(self, value: object, indent: int) -> str:
        pad = " " * indent
        if isinstance(value, dict):
            return "".join(self.comment(indent) + f"{pad}{key}:{self.value(one, indent)}" for key, one in value.items())
        assert isinstance(value, list)
        return "".join(self.comment(indent) + f"{pad}-{self.value(one, indent)}" for one in value)


@given(st.dictionaries(st.sampled_from("klmn"), VALUES, min_size=1), st.integers(0, 10_000))
def test_what_a_file_says_stays(value: dict[str, object], seed: int) -> None:
    text = Writer(seed).block(value, 0)
    made = formatted(text, "f.yaml")
    assert yaml.load(made, Loader=yaml.BaseLoader) == yaml.load(text, Loader=yaml.BaseLoader)
    assert re.findall(r"# note \d+", made) == re.findall(r"# note \d+", text)
    assert formatted(made, "f.yaml") == made
    assert not re.search(r"[ \t]\n", made)
