"""Rules -> one action a row, with reasons.

The semantics, row by row:

1. Rules are looked at in order. A rule hits where its condition is true; NULL is no hit.
2. A live `final` rule that hits ends the evaluation: later rules, live or shadow, are not looked at.
3. Of the live rules that hit, the most severe action wins (`severity` lists the most severe first);
   `otherwise` if none hit. So a white list is a final rule that stands first.
4. Shadow rules that hit are reported and change nothing: no action, no reason, no output, no end.
5. `reasons` are those of the live rules that hit, in rule order, each once; a row whose id was seen with
   another payload has `id_reused` before them. `to` outputs get the rows that their live rules hit.

Conditions are packed into a bit mask a row; a mask's verdict is worked out once and kept, so rows cost a look-up
and share their lists of reasons (never change them).
"""

from __future__ import annotations

__all__ = ["ID_REUSED", "Decided", "RuleDecider", "Verdict"]

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.plan import DecisionSpec, RuleSpec
from state.errors import ConfigError

ID_REUSED = "id_reused"
VERDICTS_MAX = 8192  # masks remembered; rules that hit at random would otherwise fill the memory

Mask = int | tuple[int, ...]  # bit i of word i // 64: rule i's condition; a bare int up to 64 rules


class Verdict(NamedTuple):
    """What a combination of true conditions comes to. `live`: bit i set: live rule i hit and was looked at."""

    action: int
    reasons: list[str]
    reasons_reused: list[str]
    live: int
    shadow: list[str]
    outputs: tuple[str, ...]


class Decided(NamedTuple):
    """Decisions of a batch, one a row.

    `action`: uint8 index into `action_names`; `reasons`: shared lists, read only; `shadow`: ids of the shadow rules
    that hit, or None when no row has any; `live`: uint64 (rows, words) bit mask of the live rules that hit, bit
    i % 64 of word i // 64 for rule i of the plan; `outputs`: row indices by side output, only those with rows.
    """

    action: npt.NDArray[np.uint8]
    action_names: tuple[str, ...]
    reasons: list[list[str]]
    shadow: list[list[str]] | None
    live: npt.NDArray[np.uint64]
    outputs: dict[str, npt.NDArray[np.intp]]


class RuleDecider:
    """Decides batches by a plan's rules.

    >>> import numpy as np
    >>> from operators.schema import DataType, Kind
    >>> rules = (RuleSpec("trusted", "t", "approve", "trusted shop", final=True),
    ...          RuleSpec("fast", "f", "decline", "too fast"))
    >>> decider = RuleDecider(rules, DecisionSpec(severity=("decline", "approve"), otherwise="approve"))
    >>> def bools(*values): return Column(DataType(Kind.BOOL), np.array(values))
    >>> done = decider.decide({"t": bools(True, False, False), "f": bools(True, True, False)}, 3)
    >>> [done.action_names[code] for code in done.action], done.reasons
    (['approve', 'decline', 'approve'], [['trusted shop'], ['too fast'], []])
    """

    def __init__(self, rules: Sequence[RuleSpec], decision: DecisionSpec) -> None:
        """Raises ConfigError for an action that `severity` does not list, and for a rule id given twice."""
        _check_rules(rules, decision)
        self._rules = tuple(rules)
        self._conditions = [rule.condition for rule in rules]
        self.action_names, self._otherwise = decision.actions
        self._rank = [self.action_names.index(rule.action) for rule in rules]
        self._words = max(1, -(-len(rules) // 64))
        self._outputs = tuple(dict.fromkeys(rule.to for rule in rules if rule.to and not rule.shadow))
        self._has_shadow = any(rule.shadow for rule in rules)
        self._verdicts: dict[Mask, Verdict] = {}

    def decide(self, columns: Mapping[str, Column], size: int, reused: npt.NDArray[np.intp] | None = None) -> Decided:
        """Decide `size` rows.

        Args:
            columns: holds each rule's condition as a bool column.
            size: rows.
            reused: indices of rows whose id came before with another payload.
        """
        if not self._rules:
            return self._without_rules(size, reused)
        verdicts = self._look_up(self._masks(columns, size))
        reasons = [verdict.reasons for verdict in verdicts]
        if reused is not None:
            for row in reused.tolist():
                reasons[row] = verdicts[row].reasons_reused
        shadow = [verdict.shadow for verdict in verdicts] if self._has_shadow else None
        return Decided(
            np.array([verdict.action for verdict in verdicts], np.uint8),
            self.action_names,
            reasons,
            shadow if shadow and any(shadow) else None,
            self._live(verdicts, size),
            self._output_rows(verdicts),
        )

    def _without_rules(self, size: int, reused: npt.NDArray[np.intp] | None) -> Decided:
        """All rows get the same."""
        reasons: list[list[str]] = [[]] * size
        for row in () if reused is None else reused.tolist():
            reasons[row] = [ID_REUSED]
        actions, live = np.full(size, self._otherwise, np.uint8), np.zeros((size, self._words), np.uint64)
        return Decided(actions, self.action_names, reasons, None, live, {})

    def _masks(self, columns: Mapping[str, Column], size: int) -> list[Mask]:
        """The true conditions of each row as bits."""
        conditions = [columns[name] for name in self._conditions]
        true = np.concatenate([one.values if one.valid is None else one.values & one.valid for one in conditions])
        bits = np.zeros((size, self._words * 64), np.bool_)
        bits[:, : len(conditions)] = true.reshape(len(conditions), size).T
        words = np.packbits(bits, axis=1, bitorder="little").view("<u8")  # (rows, words)
        if self._words == 1:
            masks: list[Mask] = words[:, 0].tolist()
            return masks
        return list(map(tuple, words.tolist()))

    def _look_up(self, masks: list[Mask]) -> list[Verdict]:
        known = self._verdicts
        try:
            return [known[mask] for mask in masks]
        except KeyError:
            if len(known) > VERDICTS_MAX:
                known.clear()
            for mask in set(masks) - known.keys():
                known[mask] = self._judge(mask)
            return [known[mask] for mask in masks]

    def _judge(self, mask: Mask) -> Verdict:
        """Steps 1 to 5 of the module's text for one combination of conditions."""
        words = (mask,) if isinstance(mask, int) else mask
        true = sum(word << 64 * i for i, word in enumerate(words))
        live = 0
        hits: list[int] = []
        shadow: list[str] = []
        for i, rule in enumerate(self._rules):
            if not true >> i & 1:
                continue
            if rule.shadow:
                shadow.append(rule.id)
                continue
            hits.append(i)
            live |= 1 << i
            if rule.final:
                break
        reasons = list(dict.fromkeys(self._rules[i].reason for i in hits))
        action = min((self._rank[i] for i in hits), default=self._otherwise)
        outputs = tuple(dict.fromkeys(to for i in hits if (to := self._rules[i].to)))
        return Verdict(action, reasons, [ID_REUSED, *reasons], live, shadow, outputs)

    def _live(self, verdicts: list[Verdict], size: int) -> npt.NDArray[np.uint64]:
        live = np.empty((size, self._words), np.uint64)
        if self._words == 1:
            live[:, 0] = [verdict.live for verdict in verdicts]
            return live
        low = (1 << 64) - 1
        for word in range(self._words):
            live[:, word] = np.fromiter((v.live >> 64 * word & low for v in verdicts), np.uint64, size)
        return live

    def _output_rows(self, verdicts: list[Verdict]) -> dict[str, npt.NDArray[np.intp]]:
        if not self._outputs:
            return {}
        rows: dict[str, list[int]] = {name: [] for name in self._outputs}
        for row in [row for row, verdict in enumerate(verdicts) if verdict.outputs]:
            for name in verdicts[row].outputs:
                rows[name].append(row)
        return {name: np.array(found, np.intp) for name, found in rows.items() if found}


def _check_rules(rules: Sequence[RuleSpec], decision: DecisionSpec) -> None:
    if len({*decision.severity, decision.otherwise}) > 256:
        raise ConfigError("more than 256 actions")
    if len(set(decision.severity)) != len(decision.severity):
        raise ConfigError("severity lists an action twice")
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise ConfigError(f"two rules have the id {rule.id}")
        seen.add(rule.id)
        if rule.action not in decision.severity and rule.action != decision.otherwise:
            raise ConfigError(
                f"rule {rule.id}: {rule.action} is not an action", hint=f"severity has {', '.join(decision.severity)}"
            )
