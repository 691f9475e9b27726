"""Call steps between two stages: what each needs and returns, and the stream that the stage behind them reads."""

from __future__ import annotations

__all__ = ["answered"]

import re
from collections.abc import Collection, Mapping

import msgspec

from operators.call import CallSpec, HttpRequest, SqlQuery, failed_column
from operators.operator import BOOL
from operators.plan import DIGEST, ROUTE, Handoff
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


def answered(
    pipeline: str, sent: Handoff, stage: Stage, stream: Stream, *, refused: Collection[str], problems: Problems
) -> tuple[Stream, tuple[CallSpec, ...]]:
    """What `stage` reads of the rows `sent` towards it, which would come as `stream`, and the calls on their way.

    `refused`: columns of which it was said already what is wrong.
    """
    fields, specs = dict(stream.fields), list[CallSpec]()
    names = [call.name for call in stage.calls] + [stage.name]
    source = sent.topic
    for call, behind in zip(stage.calls, names[1:], strict=True):
        target = f"{pipeline}.{behind}"
        known = [*(name for name in fields if name not in (ROUTE, DIGEST)), *refused]
        _check(call, stage, known, problems)
        specs.append(_spec(pipeline, call, source, target, {name: field.type for name, field in fields.items()}))
        fields |= call.returns
        fields[failed_column(call.name)] = FieldDeclaration(
            BOOL, failed_column(call.name), required=True, place=call.place
        )
        source = target
    fields = {
        name: msgspec.structs.replace(field, source=name) if name not in stream.fields else field
        for name, field in fields.items()
    }
    return msgspec.structs.replace(stream, fields=fields, topic=source), tuple(specs)


def _check(call: Call, stage: Stage, known: Collection[str], problems: Problems) -> None:
    """Its columns exist, and it returns none that do; nor the key by which rows have come here."""
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
        elif name == stage.partition_by:
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
