"""What a stage hands on, and the stream that the next one reads it as.

A record of a repartition topic carries all fields of the stream, the features of the stages before, and two fields of
its own: which partition it belongs to, and the digest of the record as it first came, by which repeats are known. Where
there is a deadline, a third says when it came; no state depends on that.
"""

from __future__ import annotations

__all__ = ["handed_on", "handoff"]

from collections.abc import Mapping, Sequence

import msgspec

from operators.operator import INT64, STRING, OutputField
from operators.plan import ARRIVED, DIGEST, PLACE, RESERVED, ROUTE, Branch, Handoff, Target
from streamproc.language.calls import Coming, calls_before, entrances
from streamproc.language.model import FieldDeclaration, Pipeline, Stage, Stream
from streamproc.language.parallel import Ways

_ANY_TIME = 1 << 62
"""ms. A handed-on record's log time is by the clock of the worker that wrote it, which may be behind."""


def handoff(pipeline: Pipeline, coming: Coming, stage: Stage, way: Ways, features: Sequence[str]) -> Handoff | None:
    """How rows that come, with the stage's features added, reach those that follow; None: none does."""
    if not way.following:
        return None
    name, stream = pipeline.pipeline, coming.stream
    targets = [Target(topic, one.partition_by) for topic, one in entrances(name, way.following)]
    is_fork = len(targets) > 1
    if is_fork and (asked := calls_before(way.following)):  # rows go several ways behind these, from where they are
        targets = [Target(f"{name}.{asked[0].name}", stage.partition_by)]
    branch = None
    if way.gathering is not None and way.number is not None:
        branch = Branch(f"{name}.{way.gathering.name}", way.gathering.partition_by, way.number)
    passed = tuple(stream.fields) if ROUTE in stream.fields else ()
    first, *beside = targets
    fields = [] if passed else list(stream.fields)
    if branch is not None and branch.number and branch.topic == first.topic:
        fields = [field for field in stream.fields if field not in coming.shared]
    added = [feature for feature in features if feature not in stream.fields]
    return Handoff(
        first.topic, first.key, (*fields, *added), stage.in_step, pipeline.deadline > 0, tuple(beside), branch, passed,
        placed=is_fork or branch is not None,
    )  # fmt: skip


def handed_on(stream: Stream, sent: Handoff, scope: Mapping[str, OutputField]) -> Stream:
    """The stream that the next stage reads. Card numbers are tokens by now; times were checked when they first came."""
    place = stream.place
    fields = {
        name: FieldDeclaration(
            scope[name].type, name, required=_is_required(stream, scope[name]), made=_is_made(stream, name), place=place
        )
        for name in dict.fromkeys([*stream.fields, *sent.columns])
        if name in scope and name not in RESERVED  # what is in no scope is wrong: that has been said
    }
    fields[ROUTE] = FieldDeclaration(STRING, ROUTE, required=True, place=place)
    if stream.deduplicate:
        fields[DIGEST] = FieldDeclaration(INT64, DIGEST, required=True, place=place)
    if sent.arrived:
        fields[ARRIVED] = FieldDeclaration(INT64, ARRIVED, place=place)
    if sent.placed and sent.part is None:
        fields[PLACE] = FieldDeclaration(STRING, PLACE, required=True, place=place)
    return msgspec.structs.replace(
        stream, fields=fields, topic=sent.topic, format="json", extra="ignore", max_ahead=_ANY_TIME
    )


def _is_made(stream: Stream, name: str) -> bool:
    """Whether it is a feature, of this stage or of one before."""
    return name not in stream.fields or stream.fields[name].made


def _is_required(stream: Stream, column: OutputField) -> bool:
    """A row that repeats another is handed on without features."""
    return column.name in stream.fields and not column.nullable
