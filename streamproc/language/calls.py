"""Call steps between two stages: what each needs and returns, and the stream that the stage behind them reads."""

from __future__ import annotations

__all__ = ["Coming", "calls_before", "entrances", "onward"]

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from operators.call import CallSpec, Fork, HttpRequest, SqlQuery, failed_column
from operators.operator import BOOL
from operators.plan import RESERVED, Handoff
from operators.schema import DataType, FieldSpec, Kind
from streamproc.language.model import Call, FieldDeclaration, Stage, Stream
from streamproc.language.problems import Problems, nearest

_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")
_CASTS = {
    Kind.STRING: "$%d::text",
    Kind.INT64: "$%d::text::bigint",
    Kind.FLOAT64: "$%d::text::float8",
    Kind.DECIMAL: "$%d::text::numeric",
    Kind.BOOL: "$%d::text::boolean",
    Kind.TIMESTAMP: "to_timestamp($%d::text::numeric / 1000)",
}


class Coming(NamedTuple):
    """What a stage reads of one before it, and the calls on the way. `shared`: of a stage in a branch: the columns that
    all branches have.
    """

    stream: Stream
    calls: tuple[CallSpec, ...] = ()
    shared: frozenset[str] = frozenset()


def calls_before(following: Sequence[Stage]) -> tuple[Call, ...]:
    """The services that are asked before rows go to several stages at once."""
    group = following[0].beside if len(following) > 1 else None
    return () if group is None else group.asked


def entrances(pipeline: str, following: Sequence[Stage]) -> list[tuple[str, Stage]]:
    """The topics by which rows go to stages, or to the calls before each."""
    return [(f"{pipeline}.{one.calls[0].name if one.calls else one.name}", one) for one in following]


def onward(
    pipeline: str, sent: Handoff, following: Sequence[Stage], coming: Coming, *, refused: Collection[str],
    problems: Problems,
) -> list[Coming]:  # fmt: skip
    """What each of the stages that follow reads of the rows `sent` towards them, which would be `coming` as they are.

    `refused`: columns of which it was said already what is wrong.
    """
    ways = entrances(pipeline, following)
    if calls := calls_before(following):
        fork = Fork(tuple((topic, one.partition_by) for topic, one in ways), coming.stream.id)
        steps = _steps(pipeline, calls, ways[0][0])
        coming = _answered(pipeline, steps, None, coming, refused=refused, problems=problems)
        *before, last = coming.calls
        coming = coming._replace(calls=(*before, msgspec.structs.replace(last, fork=fork)))
    if len(following) > 1:
        coming = coming._replace(shared=frozenset(coming.stream.fields))
    found = []
    for _, one in ways:
        steps = _steps(pipeline, one.calls, f"{pipeline}.{one.name}")
        found.append(_answered(pipeline, steps, one, coming, refused=refused, problems=problems))
    return found


def _steps(pipeline: str, calls: Sequence[Call], last: str) -> tuple[Sequence[Call], Sequence[str]]:
    """The calls, and the topic of each and of what stands behind them."""
    return calls, [*(f"{pipeline}.{call.name}" for call in calls), last]


def _answered(
    pipeline: str, steps: tuple[Sequence[Call], Sequence[str]], keyed: Stage | None, coming: Coming, *,
    refused: Collection[str], problems: Problems,
) -> Coming:  # fmt: skip
    """What is `coming`, behind the calls of `steps` (see `_steps`). `keyed`: the stage by whose key rows go there."""
    calls, topics = steps
    fields, specs = dict(coming.stream.fields), list[CallSpec]()
    for call, source, target in zip(calls, topics, topics[1:], strict=False):
        known = [*(name for name in fields if name not in RESERVED), *refused]
        _check(call, keyed, known, problems)
        specs.append(_spec(pipeline, call, source, target, {name: field.type for name, field in fields.items()}))
        fields |= call.returns
        fields[failed_column(call.name)] = FieldDeclaration(
            BOOL, failed_column(call.name), required=True, place=call.place
        )
    fields = {
        name: msgspec.structs.replace(field, source=name) if name not in coming.stream.fields else field
        for name, field in fields.items()
    }
    stream = msgspec.structs.replace(coming.stream, fields=fields, topic=topics[-1])
    return coming._replace(stream=stream, calls=(*coming.calls, *specs))


def _check(call: Call, stage: Stage | None, known: Collection[str], problems: Problems) -> None:
    """Its columns exist, and it returns none that do; nor the key of the `stage` to which rows are on their way."""
    for column in _SLOT.findall(call.url or call.sql):
        if column not in known:
            problems.add(f"call {call.name}: unknown column {column!r}", call.url_place, nearest(column, known))
    for column in call.body.values():
        if column not in known:
            place = call.places.get(column, call.place)
            problems.add(f"call {call.name}: unknown column {column!r}", place, nearest(column, known))
    for name, field in call.returns.items():
        if name in known:
            problems.add(f"{name!r} exists already", field.place, f"{name}_of_{call.name}: {{type: ..., from: ...}}")
        elif stage is not None and name == stage.partition_by:
            problems.add(
                f"partition_by: {name} is returned by {call.name}: rows are on their way by then", stage.place,
                "use it in a stage after this one",
            )  # fmt: skip
    if failed_column(call.name) in known:
        problems.add(f"{failed_column(call.name)!r} exists already", call.place, "call the step otherwise")


def _spec(pipeline: str, call: Call, source: str, target: str, types: Mapping[str, DataType]) -> CallSpec:
    return CallSpec(
        pipeline=pipeline,
        name=call.name,
        source=source,
        target=target,
        asks=_query(call, types) if call.sql else _request(call),
        returns=tuple(FieldSpec(name, field.type, field.source) for name, field in call.returns.items()),
        default=tuple(call.default[name] for name in call.returns),
        timeout_ms=call.timeout,
        in_flight=call.in_flight,
        cache_ms=call.cache,
        retries=call.retries,
        retry_budget=call.retry_budget,
        breaking=call.breaker,
    )


def _request(call: Call) -> HttpRequest:
    return HttpRequest(_parts(call.url), call.method, tuple(call.headers.items()), tuple(call.body.items()))


def _query(call: Call, types: Mapping[str, DataType]) -> SqlQuery:
    """Each column is bound as text, and cast to its own type."""
    columns = tuple(dict.fromkeys(name for name in _SLOT.findall(call.sql) if name in types))
    cast = {name: _CASTS[types[name].kind] % number for number, name in enumerate(columns, 1)}
    return SqlQuery(call.database, _SLOT.sub(lambda slot: cast.get(slot[1], ""), call.sql), columns)


def _parts(url: str) -> tuple[str, ...]:
    """Literal, column, literal, ...; the root's path is written, as the client would."""
    literal, *rest = _SLOT.split(url)
    return (literal + "/" if literal.count("/") == 2 and not rest else literal, *rest)
