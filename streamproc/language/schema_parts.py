"""The parts of the pipeline's JSON Schema. YAML gives `7`, `true` and `x` as different types; to us all are text."""

from __future__ import annotations

__all__ = [
    "CALL",
    "CHALLENGER",
    "DECISION",
    "FEATURE",
    "FIELD",
    "MODEL",
    "RULE",
    "SCALAR",
    "STREAM",
    "TABLE",
    "TOPICS",
    "TYPE",
    "WATERMARK",
    "WINDOW",
    "described",
    "duration",
    "expression",
    "flat",
    "mapping",
    "name",
    "named",
    "numbered",
    "text",
]

from typing import Any

from operators.schema import Kind
from operators.tables import Match
from operators.timed.spec import TimedAggregate, WindowKind
from operators.windows.spec import Aggregate
from operators.wire import PER_MS
from streamproc.language.formats import FORMATS

SCALAR = ["string", "number", "boolean"]
"""Types of one value."""
_DURATION = r"^\s*[0-9]{1,9}(ms|s|m|h|d|w)\s*$"
Schema = dict[str, Any]


def described(schema: Schema, said: str) -> Schema:
    """With what an editor shows beside it."""
    return {"description": said, **schema}


def text(said: str) -> Schema:
    """Any value."""
    return described({"type": SCALAR}, said)


expression = text


def name(said: str) -> Schema:
    """A name or topic."""
    return described({"type": SCALAR}, said)


def duration(said: str) -> Schema:
    """A number and a unit."""
    return described({"type": "string", "pattern": _DURATION, "examples": ["500ms", "30s", "5m", "24h", "7d"]}, said)


def numbered(low: float, high: float, said: str, *, whole: bool = False) -> Schema:
    """A number within bounds."""
    return described({"type": "integer" if whole else "number", "minimum": low, "maximum": high}, said)


def flag(said: str) -> Schema:
    """True or false."""
    return described({"type": "boolean"}, said)


def word(said: str, *words: str) -> Schema:
    """One of some."""
    return described({"enum": list(words)}, said)


def flat(said: str) -> Schema:
    """A value, or a list of them."""
    return described({"type": [*SCALAR, "array"], "items": {"type": SCALAR}}, said)


def mapping(properties: Schema, *required: str) -> Schema:
    """These keys and no other."""
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def named(what: str, said: str) -> Schema:
    """Names of one's own -> `what`; nothing where nothing was written."""
    return described({"type": ["object", "null"], "additionalProperties": {"$ref": f"#/$defs/{what}"}}, said)


def _any_case(word: str) -> str:
    return "".join(f"[{sign}{sign.upper()}]" if sign.isalpha() else sign for sign in word)


_KINDS = [str(kind) for kind in Kind if kind is not Kind.DECIMAL]
_MATCHES = [str(match) for match in Match if match is not Match.EXACT]
TYPE: Schema = {
    "description": "A type.",
    "anyOf": [
        {"enum": [*_KINDS, "decimal(2)"]},
        {"type": "string", "pattern": r"^\s*" + _any_case("decimal") + r"\s*\(\s*0*[0-9]\s*\)\s*$"},
        {"type": "string", "pattern": rf"^\s*({'|'.join(map(_any_case, _KINDS))})\s*$"},
    ],
}
_TYPE_REF = {"$ref": "#/$defs/type"}
FIELD: Schema = {
    "anyOf": [
        _TYPE_REF,
        mapping(
            {
                "type": described(_TYPE_REF, "Its type."),
                "from": name("Its name in the record, where that differs."),
                "pan": flag("A card number: replaced by a keyed token before anything sees it."),
                "required": flag("A record without it becomes a dead letter."),
                "encoding": word("Of debezium: how it is written.", *PER_MS, "days", "unscaled"),
            },
            "type",
        ),
    ]
}
STREAM = mapping(
    {
        "fields": described({"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/field"}},
                            "Name -> type, or a mapping."),
        "id": name("The field that identifies a record; string or int64."),
        "event_time": name("The timestamp field that says when it happened."),
        "topic": name("The topic; <pipeline>.<stream> if absent."),
        "format": word("How records are written.", *FORMATS),
        "schema": text("Of avro: the reader's schema, an .avsc file relative to the pipeline."),
        "registry": text("Of avro: the schema registry, a URL or file:DIR."),
        "deduplicate": duration("A record that comes again within this is answered by the first action again."),
        "max_ahead": duration("How far an event time may lie after the record's log time (1d)."),
        "extra": word("Fields that are not declared.", "ignore", "refuse"),
        "stage": name("Of a stream that is not decided: the stage it enters."),
        "wait": duration("How long the rows of other streams wait for this one (1s)."),
    },
    "fields", "id", "event_time",
)  # fmt: skip
_PARTS = {"type": [*SCALAR, "array", "object"], "items": {"type": SCALAR}}
_AGGREGATES = [str(aggregate) for aggregate in Aggregate]
_LENGTH = {"type": "string", "pattern": _DURATION}
FEATURE: Schema = {
    "anyOf": [
        {"type": SCALAR},
        {
            **mapping(
                {
                    "expression": expression("An expression, where other keys are needed beside it."),
                    "of": text('What a group aggregates: a column or an expression; "*": rows.'),
                    "aggregates": {
                        "description": "A list, or a mapping aggregate -> its part of the name.",
                        "anyOf": [
                            {"enum": _AGGREGATES},
                            {"type": "array", "items": {"enum": _AGGREGATES}},
                            {"type": "object", "propertyNames": {"enum": _AGGREGATES}},
                        ],
                    },
                    "over": {
                        "description": "A window, a list of them, or a mapping window -> its part of the name.",
                        "anyOf": [
                            _LENGTH,
                            {"type": "array", "items": _LENGTH},
                            {"type": "object", "propertyNames": {"pattern": _DURATION}},
                        ],
                    },
                    "where": expression("Only rows for which this is true count."),
                    "delay": duration("The window ends so long before the row."),
                    "precision": duration("Time is rounded to this: less memory for long windows."),
                    "per": name("Another key for this feature's state."),
                    "name": text("A template of {group}, {aggregate} and {over}."),
                    **{each: text(f"One window: {each} of this.") for each in _AGGREGATES},
                }
            ),
            "anyOf": [{"required": ["expression"]}, {"required": ["over"]}],
        },
    ],
    "description": "An expression, one window {aggregate: what, over: 5m}, or a group {of:, aggregates:, over:}.",
}
_TIMED_AGGREGATES = [str(aggregate) for aggregate in TimedAggregate]
WINDOW: Schema = {
    **mapping(
        {
            **{str(kind): duration(f"Its length, as a {kind} window.") for kind in WindowKind},
            "every": duration("How far apart they begin (hop), or by what they grow (cumulate)."),
            "offset": duration("By how much their beginnings are moved."),
            "lateness": duration("So long rows that come late still count."),
            "of": text("What is aggregated; rows if absent."),
            "aggregates": {
                "description": "What is told; count if absent.",
                "anyOf": [{"enum": _TIMED_AGGREGATES}, {"type": "array", "items": {"enum": _TIMED_AGGREGATES}}],
            },
            "where": expression("Only rows for which this is true count."),
            "when": expression("Over the results: only then it is told."),
            "per": name("Another key."),
            "reason": text("What the alert quotes; its name if absent."),
        }
    ),
    "anyOf": [{"required": [str(kind)]} for kind in WindowKind],
}
WATERMARK = mapping(
    {
        "disorder": duration("How far behind the newest row others may come."),
        "idle": duration("After so long without input time goes on all the same."),
    }
)
_URL = text("The address; {column} stands for a value.")
CALL: Schema = {
    **mapping(
        {
            "url": _URL,
            "method": word("POST if there is a body, else GET.", "GET", "POST", "PUT"),
            "headers": described({"type": "object"}, "Name -> value; $NAME is an environment variable."),
            "body": described(_PARTS, "Columns that are sent, or a mapping member -> column."),
            "sql": text("A query of a database; {column} stands for a value."),
            "database": text("Its address: $VARIABLE, or postgresql://host:port/name without a password."),
            "timeout": duration("A decision waits at most so long (100ms)."),
            "in_flight": numbered(1, 10_000, "Calls at a time.", whole=True),
            "cache": duration("So long an answer is used again; not at all if absent."),
            "retries": numbered(0, 5, "Attempts after a failed one (1).", whole=True),
            "retry_budget": numbered(0, 1, "Retries to calls, at most (0.1)."),
            "breaker": mapping(
                {
                    "failures": numbered(0.01, 1, "The share of failures from which on nobody is asked."),
                    "calls": numbered(1, 10_000, "Of how many calls.", whole=True),
                    "pause": duration("For how long."),
                }
            ),
        }
    ),
    "anyOf": [{"required": ["url"]}, {"required": ["sql", "database"]}],
}
_COLUMN_TYPES = {"anyOf": [_TYPE_REF, {"enum": _MATCHES}]}
TABLE = mapping(
    {
        "key": name("The column that is looked up."),
        "file": text("A CSV file with a header, or NDJSON, relative to the pipeline."),
        "topic": name("The compacted topic from which workers read its rows, and follow their changes."),
        "columns": described({"type": "object", "additionalProperties": _COLUMN_TYPES}, "Column -> type."),
    },
    "key", "file",
)  # fmt: skip
CHALLENGER = mapping(
    {
        "version": numbered(1, 999_999_999, "Of the registered model of this name.", whole=True),
        "share": numbered(0.0001, 1, "Which share: 0.1 is every tenth key."),
    },
    "version", "share",
)  # fmt: skip
MODEL = mapping(
    {
        "file": text("An ONNX classifier, relative to the pipeline."),
        "registry": text(
            "In the place of `file`: where `streamproc train` has put it: a directory, relative to the pipeline, or an "
            "address."
        ),
        "version": numbered(1, 999_999_999, "Of the registered model of this name: the champion.", whole=True),
        "challenger": described({"$ref": "#/$defs/challenger"}, "Another version, which scores a share of the keys."),
        "shadow": flat("Versions that score every row, and change nothing."),
        "by": name("The column whose value says which keys the challenger has; what payments are keyed by if absent."),
        "shadow_budget": duration("What shadows may take of the time of a batch (5ms)."),
        "features": flat("The columns it takes, in its order."),
        "tiers": described({"type": "object", "additionalProperties": numbered(0, 100, "The score from which on.")},
                           "Name -> score from which on it holds; rising, the first from 0."),
        "no_score": text("The action for a row that the model gives no score."),
        "increasing": flat("Features with which the score may only rise: training keeps to it."),
        "decreasing": flat("Features with which the score may only fall: training keeps to it."),
    },
    "features",
)  # fmt: skip
RULE = mapping(
    {
        "id": text("Its name, once in a file."),
        "when": expression("The condition; NULL is no hit."),
        "then": text("The action: one of severity."),
        "reason": text("What the decision quotes; the id if absent."),
        "final": flag("If it hits, later rules are not looked at."),
        "mode": word("shadow: reported, changes nothing.", "live", "shadow"),
        "to": name("A side output <pipeline>.<to> that gets a copy of the decision."),
    },
    "id", "when", "then",
)  # fmt: skip
DECISION = mapping(
    {
        "severity": flat("All actions, most severe first."),
        "otherwise": text("The action if no rule hits."),
        "include": flat("Columns that the decision shows."),
    }
)
TOPICS = mapping(
    {
        "decisions": name("One decision a record."),
        "dead_letters": name("Records that could not be decided, masked."),
        "journal": name("What restores and explains them."),
        "alerts": name("Results of windows and absences."),
        "late": name("Rows that came too late for them."),
    }
)
