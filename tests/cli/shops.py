"""The pipeline of docs/language/parallel.md with calls before, within and behind its branches, and payments for it."""

from __future__ import annotations

__all__ = ["PAGE", "at_ends", "example", "payments", "written"]

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


_AT_ENDS = """\
  - parallel:
      - name: device_reputation
        call: {url: "http://127.0.0.1:9000/reputation/{device}", timeout: 2s}
        returns: {reputation: float64}
        default: {reputation: 0.5}
      - stages:
          - name: shop
            partition_by: shop
            features:
              shop_n_1h: {count: "*", over: 1h}
          - name: watch_list
            call: {url: "http://127.0.0.1:9000/watched/{user}", timeout: 2s}
            returns: {watched: {type: bool, from: known_bad}}
  - name: score
    call: {url: "http://127.0.0.1:9000/score/{shop_n_1h}/{watched}/{user}", timeout: 2s}
    returns: {outside_score: {type: float64, from: reputation}}
  - parallel:
      - name: device
        partition_by: device
        features:
          device_users_24h: {distinct: user, over: 24h}
      - name: holder
        partition_by: user
        features:
          doubtful: reputation < 0.4 or watched
          doubtful_24h: {count: "*", over: 24h, where: doubtful}
"""
"""In the place of the page's stages between the first and the last: a call by itself, one that ends a branch, and one
between two groups.
"""


def at_ends(folder: Path, port: int) -> Path:
    """The page's pipeline with its calls there; as many, and all columns are the same."""
    path = example(folder, port)
    head, rest = path.read_text().split("  - name: watch_list")
    path.write_text(head + _AT_ENDS.replace("9000", str(port)) + "  - name: user" + rest.split("  - name: user")[1])
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
