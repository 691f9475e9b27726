"""What a model and a deadline add to the benchmark's job: by the log's times alone. Imports nothing of ours.

The model gives 95 to amounts above 100, and 5 to the others; its rule reviews what has more than 90. A payment that was
decided more than the deadline after it came to the log has no score, and what its other rules say.
"""

from __future__ import annotations

__all__ = ["ABOVE", "HIGH", "LOW", "answer"]

from collections.abc import Mapping

from tests.oracle.card_job import Expected

ABOVE, HIGH, LOW = 100, 95.0, 5.0


def answer(expected: Expected, came: Mapping[int, int], decided: Mapping[int, int], deadline_ms: int) -> set[int]:
    """The offsets that are late; `expected` is changed to what is to be decided of all. Times in ms, by offset."""
    late = {offset for offset in expected.decisions if came[offset] + deadline_ms < decided[offset]}
    actions: dict[str, str] = {}
    for offset in sorted(expected.decisions):
        decision = expected.decisions[offset]
        name = decision["transaction_id"]
        if offset in expected.duplicates:
            decision |= {"decision": actions[name], "score": None, "late_answer": None}
            continue
        score = None if offset in late else HIGH if decision["amount"] > ABOVE else LOW
        if score == HIGH:
            decision["reasons"].append("score")
            decision["decision"] = "review" if decision["decision"] == "approve" else decision["decision"]
        decision |= {"score": score, "late_answer": score is None or None}
        actions[name] = decision["decision"]
    return late
