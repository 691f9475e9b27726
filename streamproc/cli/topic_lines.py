"""Records of a pipeline's topics as lines of JSON, and the topics' short names."""

from __future__ import annotations

__all__ = ["Lines", "topic_lines"]

from collections.abc import Callable, Sequence

import msgspec

from operators.block import block_records, read_block
from operators.encode import json_encoder
from operators.plan import ROUTE, Plan, streams_of
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.eventlog.contract import Chunk, Headers
from streamproc.language.problems import nearest
from streamproc.runtime.journal import decode_entry
from streamproc.services.explanations.follow import topic_of

Lines = Callable[[Chunk], Sequence[bytes]]


def topic_lines(topic: str, plans: Sequence[Plan]) -> tuple[str, Lines]:
    """The full name of `topic` and how its records become lines; `plans`: of the stages, in order.

    Raises:
        ConfigError: the pipeline has no such topic.
    """
    plan = plans[-1]
    topics = plan.topics
    known: dict[str, tuple[str, Lines]] = {
        **({"decisions": (topics.decisions, _values)} if topics.decisions else {}),
        "dead_letters": (topics.dead_letters, _values),
        "journal": (topics.journal, _journal),
        "features": (topics.journal, _Features(plan)),
        **{name: (stream.topic, _input) for name, stream in streams_of(plans).items()},
    }
    if plan.model is not None:
        known["explanations"] = (topic_of(plan), _values)
    if topics.alerts:
        known |= {"alerts": (topics.alerts, _values), "late": (topics.late, _values)}
    for name, full in topics.side.items():
        known.setdefault(name, (full, _values))
    for statement in (one for stage in plans for one in stage.statements):
        known.setdefault(statement.name, (statement.topic, _values))
    for stage in plans[:-1]:
        known |= {f"journal.{stage.stage}": (stage.topics.journal, _journal)}
        known |= {f"features.{stage.stage}": (stage.topics.journal, _Features(stage))}
    for stage in plans[1:]:
        for call in stage.calls:
            known.setdefault(call.name, (call.source, _values))
        known.setdefault(stage.stage, (stage.stream.topic, _values))
    if topic in known:
        return known[topic]
    for full, lines in known.values():
        if topic == full:
            return full, lines
    if any(topic == table.topic for stage in plans if stage.live for table in stage.live.tables):
        return topic, _rows
    raise ConfigError(f"the pipeline {plan.pipeline} has no topic {topic}", hint=nearest(topic, known))


def _values(chunk: Chunk) -> Sequence[bytes]:
    return [value for value in chunk.values if value]


def _rows(chunk: Chunk) -> Sequence[bytes]:
    """Records of a table: what a key's rows are from now on, null if it has none any more."""
    return [
        msgspec.json.encode(
            {"key": _text(key), "rows": msgspec.Raw(value) if value and _is_json(value) else _text(value)}
        )
        for key, value in zip(chunk.keys, chunk.values, strict=True)
    ]


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return b"\n" not in value


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "backslashreplace") if value else None


def _input(chunk: Chunk) -> Sequence[bytes]:
    """A stream's records as they are; one that would break the lines is shown as {"not_json": its text}."""
    lines = []
    for value in chunk.values:
        try:
            msgspec.json.decode(value or b"null")
            lines.append(value if value and b"\n" not in value else msgspec.json.format(value or b"null", indent=-1))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = (value or b"").decode("utf-8", "backslashreplace")
            lines.append(msgspec.json.encode({"not_json": text}))
    return lines


class _Features:
    """The rows of the journal's feature blocks, with the partition that `offset` belongs to."""

    def __init__(self, plan: Plan) -> None:
        key = plan.stream.key if plan.stream.key != ROUTE else plan.subject
        names = dict.fromkeys((plan.stream.id, key))
        self._numbers = [name for name in names if plan.stream.field(name).type.kind is Kind.INT64]

    def __call__(self, chunk: Chunk) -> Sequence[bytes]:
        rows = [row for block in chunk.values if block for row in block_records(read_block(block))]
        for row in rows:
            row["partition"] = chunk.tp.partition
            for name in self._numbers:  # a block has ids and keys as text
                row[name] = int(row[name])
        return list(map(json_encoder.encode, rows))


def _journal(chunk: Chunk) -> Sequence[bytes]:
    headers = chunk.headers or [[] for _ in chunk.offsets]
    return [_entry(offset, given) for offset, given in zip(chunk.offsets, headers, strict=True)]


def _entry(offset: int, headers: Headers) -> bytes:
    entry, _, chain = decode_entry(headers)
    shown = {
        "task": entry.task,
        "sequence": entry.sequence,
        "offset": offset,
        "ranges": [part._asdict() for part in entry.ranges],
        "records": len(entry.actions) + len(entry.rejected),
        "decided": len(entry.actions) - len(entry.duplicates),
        "duplicates": len(entry.duplicates),
        "rejected": len(entry.rejected),
        "tick": entry.tick,
        "state_fingerprint": entry.state_fingerprint,
        "decision_fingerprint": entry.decision_fingerprint,
        "numerics": entry.numerics,
        "exact": entry.exact.hex(),
        "output": entry.output.hex(),
        "block": entry.block.hex(),
        "chain": chain.hex(),
    }
    return msgspec.json.encode(shown)
