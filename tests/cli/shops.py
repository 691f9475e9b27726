"""The pipeline of docs/language/parallel.md with calls before, within and behind its branches, and payments for it."""

from __future__ import annotations

__all__ = ["PAGE", "example", "payments", "written"]

import json
import random
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "language" / "parallel.md").read_text()
_START = 1_770_000_000_000


def example(folder: Path, port: int = 9000, *changes: tuple[str, str]) -> Path:
    """The page's pipeline, on one partition: rows reach the last stage in the order of the file."""
    text = PAGE.split("```yaml\n")[2].split("```", 1)[0]
    for old, new in (("127.0.0.1:9000", f"127.0.0.1:{port}"), ("partitions: 3", "partitions: 1"), *changes):
        assert old in text
        text = text.replace(old, new)
    path = folder / "shops.yaml"
    path.write_text(text)
    return path


def payments(count: int) -> list[dict[str, Any]]:
    """In order of event time, a minute apart; in the end the first five again."""
    chance = random.Random(3)
    rows = [
        {"payment_id": f"p{n}", "card": f"c{n % 5}", "shop": chance.choice([None, "s1", "s2"]),
         "device": chance.choice(["d1", "d2", "d3", None]), "user": chance.choice(["u1", "u2", "bad one"]),
         "amount": 10 + n, "at": _START + 60_000 * n}
        for n in range(count)
    ]  # fmt: skip
    return rows + rows[:5]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """One record a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
