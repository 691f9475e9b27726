"""Decide one row by its rules, one after the other. Imports nothing of ours; specs are read by attribute."""

from __future__ import annotations

from typing import Any


def decide_one(rules: Any, decision: Any, hits: dict[str, bool | None], reused: bool = False) -> dict[str, Any]:
    """The row's action, reasons, ids of live and shadow hits, and outputs.

    `hits`: each rule's condition by its column; None is NULL.
    """
    live = []
    shadow = []
    for rule in rules:
        if hits[rule.condition] is not True:
            continue
        if rule.shadow:
            shadow.append(rule.id)
            continue
        live.append(rule)
        if rule.final:
            break
    action = decision.otherwise
    if live:
        order = [*decision.severity, decision.otherwise]
        action = sorted((order.index(rule.action), rule.action) for rule in live)[0][1]
    reasons = ["id_reused"] if reused else []
    outputs = set()
    for rule in live:
        if rule.reason not in reasons[1:] if reused else rule.reason not in reasons:
            reasons.append(rule.reason)
        if rule.to is not None:
            outputs.add(rule.to)
    return {
        "action": action,
        "reasons": reasons,
        "live": [rule.id for rule in live],
        "shadow": shadow,
        "outputs": outputs,
    }
