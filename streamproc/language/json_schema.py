"""A JSON Schema (draft 2020-12) of the pipeline file, for editors: completion, descriptions, wrong keys.

It knows keys and the form of values. What else is wrong (columns, types of expressions, files) `validate` says.
"""

from __future__ import annotations

__all__ = ["pipeline_schema"]

from typing import Any

from streamproc.language.load import PARTITIONS_MAX
from streamproc.language.schema_parts import (
    CALL,
    CHALLENGER,
    DECISION,
    FEATURE,
    FIELD,
    MODEL,
    RULE,
    SCALAR,
    STREAM,
    TABLE,
    TOPICS,
    TYPE,
    WATERMARK,
    WINDOW,
    described,
    duration,
    expression,
    flat,
    mapping,
    name,
    named,
    numbered,
    text,
)

_ABSENCE = mapping(
    {
        "after": expression("The event that begins the wait."),
        "without": expression("The event that does not come."),
        "within": duration("How long it is waited for."),
        "per": name("Another key: one alert for each of its values."),
        "reason": text("What the alert quotes; its name if absent."),
    },
    "after", "without", "within",
)  # fmt: skip
_OPERATOR = {
    "type": "object",
    "properties": {"operator": text("./file.py:Class in the pipeline's folder, or package.module:Class.")},
    "required": ["operator"],
}
_PATTERN = {
    "description": "PATTERN (A B) DEFINE A AS ..., B AS ..., or a mapping.",
    "anyOf": [
        {"type": SCALAR},
        mapping(
            {
                "match": text("[MEASURES ...] PATTERN (A{3,} B) [WITHIN INTERVAL '10' MINUTE] DEFINE A AS ..., ..."),
                "per": name("Another key: sequences of its rows."),
                "where": expression("Only rows for which this is true are seen."),
                "timeout": text("Matches that WITHIN ends are told as alerts, with this reason."),
            },
            "match",
        ),
    ],
}
_STATEMENT = {
    "description": "A SELECT statement, or a mapping.",
    "anyOf": [
        {"type": SCALAR},
        mapping(
            {
                "statement": text("SELECT ... FROM a stream of the pipeline ..."),
                "topic": name("Where its rows go; the pipeline's name and the statement's if absent."),
            },
            "statement",
        ),
    ],
}
_STAGE_KEYS = {
    "partition_by": name("The field whose value says which partition a record goes to."),
    "per": name("What state is kept for; partition_by if absent."),
    "ttl": duration("Keys without a record for so long (event time) are forgotten."),
    "features": named("feature", "What is computed for each record, by name."),
    "in_step": duration("How far its partitions may be ahead of each other, if a stage follows (1m)."),
    "patterns": named("pattern", "Sequences of a key's rows, by name; matched(name) in a rule."),
    "sql": named("statement", "SQL statements whose rows go to topics of their own, by name."),
    "windows": named("window", "Windows whose results are told when they close, by name."),
    "absences": named("absence", "Events that do not follow, by name."),
    "watermark": described({"$ref": "#/$defs/watermark"}, "How event time goes on."),
}
_CALL_STAGE = {
    "name": name("The step's name."),
    "call": described({"$ref": "#/$defs/call"}, "The service that is asked about each row."),
    "returns": named("field", "What it returns: name -> type."),
    "default": described({"type": "object"}, "Values for when it fails."),
}
_WAYS = ("stage", "step", "branch")
_PARALLEL = {
    "parallel": described(
        {"type": "array", "minItems": 2, "items": {"anyOf": [{"$ref": f"#/$defs/{one}"} for one in _WAYS]}},
        "Branches side by side: stages, calls or chains; the stage behind them gathers what they make of a row.",
    ),
    "wait": duration("How long what has come of a row waits for the rest (1h)."),
}
_BRANCH = {
    "stages": described(
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"$ref": "#/$defs/stage"}, {"$ref": "#/$defs/step"}]}},
        "The stages of a branch, one after the other, and calls between them.",
    )
}
_ONE_OF_A_CHAIN = ("stage", "parallel", "step")
_TOP = {
    "pipeline": name("The pipeline's name; topics are called after it."),
    "streams": named("stream", "The input streams, by name."),
    "decide": name("The stream that is decided; the first if absent."),
    "stages": described(
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"$ref": f"#/$defs/{one}"} for one in _ONE_OF_A_CHAIN]}},
        "A chain of stages, each keyed by a field of its own or some side by side, and calls between them.",
    ),
    "tables": named("table", "Lists and look-up tables, by name."),
    "operators": named("operator", "Operator classes of your own, by name."),
    "models": named("model", "Scoring models; one for now."),
    "rules": described({"type": ["array", "null"], "items": {"$ref": "#/$defs/rule"}}, "Rules, in order."),
    "decision": described({"$ref": "#/$defs/decision"}, "How rules become one action, and what is shown."),
    "topics": described({"$ref": "#/$defs/topics"}, "Names of the output topics."),
    "partitions": numbered(1, PARTITIONS_MAX, "Partitions of topics that are made (4).", whole=True),
    "retention": duration("How long those topics keep records; for ever if absent."),
    "deadline": duration("Payments taken later than that are decided without the model."),
    "tests": flat("Files of rule tests, relative to the pipeline: tests/*.yaml."),
}


def pipeline_schema() -> dict[str, Any]:
    """The schema, as JSON values."""
    top = mapping({**_TOP, **_STAGE_KEYS}, "pipeline", "streams")
    top["anyOf"] = [{"required": ["partition_by"]}, {"required": ["stages"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamproc pipeline",
        "description": "Which stream comes in, which features are computed for each record, which rules decide.",
        **top,
        "$defs": {
            "type": TYPE,
            "field": FIELD,
            "stream": STREAM,
            "feature": FEATURE,
            "window": WINDOW,
            "absence": _ABSENCE,
            "pattern": _PATTERN,
            "statement": _STATEMENT,
            "watermark": WATERMARK,
            "stage": mapping({"name": name("The stage's name, once in a file."), **_STAGE_KEYS}, "partition_by"),
            "parallel": mapping(_PARALLEL, "parallel"),
            "branch": mapping(_BRANCH, "stages"),
            "step": mapping(_CALL_STAGE, "call", "returns"),
            "call": CALL,
            "table": TABLE,
            "operator": _OPERATOR,
            "model": MODEL,
            "challenger": CHALLENGER,
            "rule": RULE,
            "decision": DECISION,
            "topics": TOPICS,
        },
    }
