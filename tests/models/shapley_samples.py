"""Trees of the oracle as those that are exported."""

from __future__ import annotations

from collections.abc import Iterator

from models.training.export import Node
from tests.oracle.shapley import Leaf, Split


def nodes(tree: Split | Leaf) -> Iterator[Node]:
    waiting: list[Split | Leaf] = [tree]
    number = 1
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Leaf):
            yield Node(weight=one.value, cover=one.cover)
            continue
        yield Node(one.feature, one.threshold, number, number + 1, one.missing_left, cover=one.cover)
        waiting += [one.left, one.right]
        number += 2
