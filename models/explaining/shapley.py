"""TreeSHAP: each feature's share of a score, exactly, for many rows at once.

Path-dependent Shapley values (Lundberg et al., 2018, arXiv:1802.03888, algorithm 2), leaf by leaf. A leaf with the
value v is reached if the conditions of each feature i on its path hold: o_i is 1 if they do, 0 if not; z_i is the share
of training rows that go that way where i is not known. Feature i gets

    v (o_i - z_i) * the mean over all orders of the product of o_j (j before i) and z_j (j after it)
    = v (o_i - z_i) * integral over t in 0..1 of prod_(j != i) (t o_j + (1 - t) z_j)

as the integral of t^k (1-t)^(d-1-k) is k!(d-1-k)!/d!, Shapley's weight. The polynomial has degree d - 1, so
Gauss-Legendre with ceil(d/2) points is exact; every factor is positive, so that nothing cancels out, and that of i is
taken out by division. As o is a pattern of d bits, the shares of leaves with few features are tabled beforehand.
"""

from __future__ import annotations

__all__ = ["TreeShares"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.explaining.trees import TreeTable

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
TABLED_BYTES_MAX = 64 << 20
"""Of all tables of patterns; further leaves are computed for each row."""
# Leaves x rows that are worked on at once: they stay in the cache. Both are fixed, so that the order of additions, and
# with it the last bit of a share, does not depend on which rows are asked for together.
_LEAVES, _ROWS = 256, 256


class _Group(NamedTuple):
    """Leaves with the same number d of features; arrays (leaves, d). A condition holds if not x <= low and not x > high
    (NaN: no bound), or x is NaN and `missing`. `table`: (leaves, 2^d, d) shares by pattern; None: not tabled.
    """

    feature: npt.NDArray[np.intp]
    low: Singles
    high: Singles
    missing: npt.NDArray[np.bool_]
    share: Floats
    value: Floats
    table: Floats | None


class _Path(NamedTuple):
    node: int
    conditions: dict[int, tuple[float, float, bool, float]]


class TreeShares:
    """Shares of the features of one ensemble. `base`: the mean raw score of the training rows."""

    def __init__(self, trees: TreeTable, width: int) -> None:
        """Prepare: some 0.1 s for 300 trees of 31 leaves."""
        self._width = width
        leaves = [leaf for root in trees.roots.tolist() for leaf in _leaves(trees, root)]
        self.base = trees.base + sum(
            float(trees.value[leaf.node]) * float(np.prod([one[3] for one in leaf.conditions.values()]))
            for leaf in leaves
        )
        by_size: dict[int, list[_Path]] = {}
        for leaf in leaves:
            by_size.setdefault(len(leaf.conditions), []).append(leaf)
        self._groups: list[_Group] = []
        room = TABLED_BYTES_MAX
        for size in sorted(by_size):
            if size:  # a tree of one leaf is all base
                needed = len(by_size[size]) * size * 8 << size
                self._groups.append(_group(trees, by_size[size], tabled=needed <= room))
                room -= needed if needed <= room else 0

    def of(self, matrix: Singles) -> Floats:
        """(rows, features): what each feature adds to, or takes from, `base`; to the bit the same for a row alone."""
        parts = [self._some(matrix[start : start + _ROWS]) for start in range(0, len(matrix), _ROWS)]
        return np.concatenate(parts) if parts else np.zeros(matrix.shape)

    def _some(self, matrix: Singles) -> Floats:
        """The same of a few rows."""
        found = np.zeros((self._width, len(matrix)))
        columns = np.ascontiguousarray(matrix.T)
        missing = np.isnan(columns)
        for group in self._groups:
            for start in range(0, len(group.feature), _LEAVES):
                part = _part(group, start, start + _LEAVES)
                holds = [_holds(part, slot, columns, missing) for slot in range(part.feature.shape[1])]
                _add(found, part.feature, _tabled(part, holds) if part.table is not None else _shares(part, holds))
        return np.ascontiguousarray(found.T)


def _leaves(trees: TreeTable, root: int) -> list[_Path]:
    """The leaves below a root, with the conditions of each feature on the way joined into one."""
    found = []
    waiting = [_Path(root, {})]
    while waiting:
        path = waiting.pop()
        node = path.node
        feature = int(trees.feature[node])
        if feature < 0:
            found.append(path)
            continue
        threshold, missing_left = float(trees.threshold[node]), bool(trees.missing_left[node])
        low, high, missing, share = path.conditions.get(feature, (np.nan, np.nan, True, 1.0))
        for child, is_left in ((int(trees.left[node]), True), (int(trees.right[node]), False)):
            bounds = (low, float(np.fmin(high, threshold))) if is_left else (float(np.fmax(low, threshold)), high)
            part = share * float(trees.cover[child] / trees.cover[node])
            joined = (*bounds, missing and missing_left is is_left, part)
            waiting.append(_Path(child, {**path.conditions, feature: joined}))
    return found


def _group(trees: TreeTable, leaves: list[_Path], *, tabled: bool) -> _Group:
    conditions = [list(leaf.conditions.values()) for leaf in leaves]
    low, high, missing, share = (np.array([[one[i] for one in row] for row in conditions]) for i in range(4))
    group = _Group(
        np.array([list(leaf.conditions) for leaf in leaves], np.intp), low.astype(np.float32), high.astype(np.float32),
        missing.astype(np.bool_), share, trees.value[[leaf.node for leaf in leaves]], None,
    )  # fmt: skip
    if not tabled:
        return group
    size = group.feature.shape[1]
    patterns = np.arange(1 << size)
    holds = [np.broadcast_to(patterns >> slot & 1 == 1, (len(leaves), 1 << size)) for slot in range(size)]
    return group._replace(table=np.ascontiguousarray(np.stack(_shares(group, holds), axis=2)))


def _part(group: _Group, start: int, stop: int) -> _Group:
    return _Group(*(None if column is None else column[start:stop] for column in group))  # type: ignore[arg-type]


def _holds(group: _Group, slot: int, columns: Singles, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(leaves, rows): whether the conditions of the leaf's `slot`-th feature hold."""
    feature = group.feature[:, slot]
    values = columns[feature]
    held = ~((values <= group.low[:, slot, None]) | (values > group.high[:, slot, None]))
    return np.where(missing[feature], group.missing[:, slot, None], held)


def _shares(group: _Group, holds: list[npt.NDArray[np.bool_]]) -> list[Floats]:
    """Of each slot: (leaves, rows) shares."""
    size = len(holds)
    points, weights = np.polynomial.legendre.leggauss((size + 1) // 2)
    found = [np.zeros(held.shape) for held in holds]
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        rest = [(1 - point) * group.share[:, slot, None] for slot in range(size)]
        product = np.broadcast_to(group.value[:, None] * weight, holds[0].shape)
        for held, part in zip(holds, rest, strict=True):
            product = product * np.where(held, part + point, part)
        for slot, (held, part) in enumerate(zip(holds, rest, strict=True)):
            # (o - z) / factor; where o is 0 the share z falls out, be it 0 or not
            with_it = (1 - group.share[:, slot, None]) / (part + point)
            found[slot] += product * np.where(held, with_it, -1 / (1 - point))
    return found


def _tabled(group: _Group, holds: list[npt.NDArray[np.bool_]]) -> list[Floats]:
    """The same, looked up."""
    assert group.table is not None
    pattern = np.zeros(holds[0].shape, np.intp)
    for slot, held in enumerate(holds):
        pattern |= held.astype(np.intp) << slot
    found = group.table[np.arange(len(pattern))[:, None], pattern]
    return [found[:, :, slot] for slot in range(len(holds))]


def _add(found: Floats, feature: npt.NDArray[np.intp], shares: list[Floats]) -> None:
    """Sum the leaves' shares by feature; always in the same order."""
    for slot, share in enumerate(shares):
        order = np.argsort(feature[:, slot], kind="stable")
        names = feature[order, slot]
        starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
        found[names[starts]] += np.add.reduceat(share[order], starts, axis=0)
