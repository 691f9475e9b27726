"""Shapley values by their definition: all subsets of the features; plain Python, for trees of few features.

What a tree is worth where only a subset is known: the mean of its leaves, each branch of an unknown feature weighed by
the training rows that went there (Lundberg et al., 2018, algorithm 1).
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple


class Leaf(NamedTuple):
    value: float
    cover: float


class Split(NamedTuple):
    feature: int
    threshold: float
    missing_left: bool
    left: Split | Leaf
    right: Split | Leaf

    @property
    def cover(self) -> float:
        return self.left.cover + self.right.cover


def worth(tree: Split | Leaf, row: list[float], known: frozenset[int]) -> float:
    if isinstance(tree, Leaf):
        return tree.value
    if tree.feature in known:
        value = row[tree.feature]
        left = tree.missing_left if math.isnan(value) else value <= tree.threshold
        return worth(tree.left if left else tree.right, row, known)
    parts = [one.cover * worth(one, row, known) for one in (tree.left, tree.right)]
    return sum(parts) / tree.cover


def shapley(trees: list[Split | Leaf], row: list[float]) -> list[float]:
    width = len(row)
    found = []
    for feature in range(width):
        others = [one for one in range(width) if one != feature]
        share = 0.0
        for size in range(width):
            weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
            for some in combinations(others, size):
                known = frozenset(some)
                share += weight * sum(worth(tree, row, known | {feature}) - worth(tree, row, known) for tree in trees)
        found.append(share)
    return found
