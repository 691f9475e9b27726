"""Pipeline files and expressions: compiled, or refused by a ConfigError; nothing else, and within bounds."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.language import compile_stages, load_pipeline
from tests.fuzz.kit import bounded, for_seconds, mutant, traced, wanted
from tests.language.helpers import BASE, CONFIGS, FakeModel, compiled

CARD_FRAUD = (CONFIGS / "card_fraud" / "pipeline.yaml").read_bytes()
FILES = [CARD_FRAUD, (CONFIGS / "bench_v1" / "pipeline.yaml").read_bytes(), BASE.encode()]
TOKENS = re.findall(rb"\w+|\s+|\W", CARD_FRAUD)
ODD = [
    b"\x00",
    b'"\\U00110000"',
    b'"\\UFFFFFFFF"',
    b'"\\ud800"',
    b"%YAML " + b"9" * 5_000 + b".1\n---\n",
    b"%TAG ! x\n",
    b"&a ",
    b"*a",
    b"9" * 5_000,
    b"1e999",
    b"-0",
    b"9" * 30 + b"d",
    b"0.0000001ms",
    b"99999999d",
    b"{",
    b"[",
    b"? ",
    b"- ",
    b"|",
    b">-",
    b'"a\\0b"',
    b"!!str x",
    b"\xef\xbb\xbf",
    b"\xff",
    "\u2028é".encode(),
    b"'",
    b'"',
    b"#",
    b"---\n",
    b"...\n",
    b": ",
    b"\t",
]
EXPRESSIONS = [
    b"amount / previous(amount) > 2.5 and country in ('DE', 'FR')",
    b"case when spend_count_1m >= 5 then cast(amount as int64) else coalesce(price, 1e3) end",
    b"timestampdiff(second, previous(event_time), event_time) between -5 and 10 or not (country like 'A%')",
    b"substring(upper(trim(country)), 1, 2) || cast(amount as string) = 'x' and abs(-price) ** 2 < 9",
    b"date_trunc(day, event_time) = date_add(day, -1, event_time) and extract(hour from event_time) % 7 = 3",
    b"count_if(amount > 3, 5m) >= 2 and nullif(round(price, 2), 0) is not null and price is distinct from 1",
]  # fmt: skip
WORDS = (
    re.findall(rb"\w+|\s+|\W", b" ".join(EXPRESSIONS))
    + ODD
    + [
        b"select",
        b"from",
        b"(",
        b")",
        b"((((",
        b"not " * 40,
        b"::int",
        b"interval '1' day",
        b"/*",
        b"*/",
        b"--",
        b";",
        b"?",
        b":x",
        b"@x",
        b"$1",
        b"x'ff'",
        b"e'\\'",
        b"[1]",
        b"{a:1}",
        b"->",
        b"=>",
        b"lambda",
        b"over ()",
        b"exists(select 1)",
        b"cast(1 as int64)",
        b"array[1]",
        b"struct(1)",
        b"try_cast(",
        b"1_000",
        b"0x1F",
        b".5",
        b"5.",
        b"1e",
        b"1e5000",
        b"a.b.c.d.e",
        b'"quoted"',
        b"`q`",
        b"null",
        b"true",
        b"and",
        b"or",
        b"in",
        b"between",
        b"like",
        b"escape",
        b"is",
        b"filter (where true)",
        b"within group",
        b"table(x)",
        b"*",
        b"%",
        b"||",
        b"<=>",
        b"::",
        b"at time zone 'x'",
        b"collate x",
        b"similar to",
        b"rlike",
        b"glob",
        b"any(",
        b"all(",
        b"unnest(",
    ]
)


def tokens_changed(rng: random.Random, tokens: list[bytes], others: list[bytes]) -> bytes:
    changed = list(tokens)
    for _ in range(rng.choice((1, 1, 2, 4))):
        changed[rng.randrange(len(changed))] = rng.choice(others)
    return b"".join(changed)


def file_of(seed: int) -> bytes:
    rng = random.Random(f"file:{seed}")
    if seed % 2:
        return mutant(rng, FILES)
    return tokens_changed(rng, TOKENS, [*ODD, *TOKENS] if seed % 4 else ODD)


def expression_of(seed: int) -> str:
    rng = random.Random(f"expression:{seed}")
    if seed % 3 == 0:
        data = b"".join(rng.choice(WORDS) for _ in range(rng.choice((1, 3, 8, 20))))
    elif seed % 3 == 1:
        data = tokens_changed(rng, re.findall(rb"\w+|\s+|\W", rng.choice(EXPRESSIONS)), WORDS)
    else:
        data = mutant(rng, EXPRESSIONS)
    return data.decode("utf-8", "surrogateescape" if seed % 2 else "replace")


def read_file(path: Path, data: bytes) -> tuple[Plan, ...]:
    path.write_bytes(data)
    return compile_stages(load_pipeline(path), models=FakeModel)


def read_expression(text: str) -> Plan:
    """As a feature, folded into YAML as it is: so the YAML reader has its say too."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "\\0")
    return compiled(BASE.replace("jump: amount / previous(amount)", f'jump: "{escaped}"'))


def check_file(path: Path, seed: int) -> bool:
    data = file_of(seed)
    try:
        with bounded(len(data)):
            read_file(path, data)
    except ConfigError:
        return False
    except Exception as error:
        error.add_note(f"reproduce: FUZZ=file:{seed} pytest tests/fuzz")
        raise
    return True


def check_expression(seed: int) -> bool:
    text = expression_of(seed)
    try:
        with bounded(len(text)):
            read_expression(text)
    except ConfigError:
        return False
    except Exception as error:
        error.add_note(f"reproduce: FUZZ=expression:{seed} pytest tests/fuzz; {text[:200]!r}")
        raise
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A pipeline file beside what card_fraud's names."""
    for name in ("lists", "model.onnx"):
        (tmp_path / name).symlink_to(CONFIGS / "card_fraud" / name)
    return tmp_path / "pipeline.yaml"


def test_files(path: Path) -> None:
    found = [check_file(path, seed) for seed in wanted("file", range(120))]
    assert len(found) < 2 or {True, False} == set(found)


def test_expressions() -> None:
    found = [check_expression(seed) for seed in wanted("expression", range(600))]
    assert len(found) < 2 or {True, False} == set(found)


def test_within_memory(path: Path) -> None:
    with traced():
        for seed in range(100_000, 100_020):
            check_file(path, seed)
        for seed in range(100_000, 100_100):
            check_expression(seed)


@pytest.mark.soak
@pytest.mark.matrix("fuzzing")
@pytest.mark.timeout(900)
def test_many(path: Path) -> None:
    """As above, with other seeds, for SOAK_FUZZ_SECONDS (120)."""

    def run(number: int) -> None:
        first = 1_000_000 + 200 * number
        for seed in range(first, first + 50):
            check_file(path, seed)
        for seed in range(first, first + 200):
            check_expression(seed)

    print("rounds:", for_seconds(float(os.environ.get("SOAK_FUZZ_SECONDS", "120")), run))


LONG = "9" * 5_000
FOUND = [
    ("amount > 1e", "no number"),
    (f"cast(country as decimal({LONG}))", "decimals"),
    ("event_time + interval '--5' day > event_time", "interval"),
    (f"price > 0.{LONG}", None),
    (f"amount > {LONG}", "int64"),
]


@pytest.mark.parametrize(("text", "said"), FOUND, ids=[text[:24] for text, _ in FOUND])
def test_numbers_that_python_does_not_read(text: str, said: str | None) -> None:
    """Python refuses to read more than 4,300 digits; `1e` and `--5` are none."""
    pipeline = BASE.replace("jump: amount / previous(amount)", f"jump: {text}")
    if said is None:
        assert compiled(pipeline).steps
        return
    with pytest.raises(ConfigError, match=said):
        compiled(pipeline)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE.replace("id: burst", r'id: "\UFFFFFFFF"'), "not YAML"),
        (BASE.replace("id: burst", r'id: "\U00110000"'), "not YAML"),
        (f"%YAML {LONG}.1\n---\n{BASE}", "not YAML"),
        (BASE.replace("id: burst", r'id: "\ud800"'), "surrogate"),
        (BASE.replace("streams:", 'tables: {x: {file: "a\\0b", key: k, columns: {v: int64}}}\nstreams:'), "NUL"),
        (BASE.replace("price: float64", f"price: decimal({LONG})"), "too many decimals"),
    ],
    ids=["escape", "beyond Unicode", "version", "surrogate", "NUL", "scale"],
)
def test_text_that_is_none(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compiled(text)
