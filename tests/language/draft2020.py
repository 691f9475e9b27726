"""A validator of the part of JSON Schema (2020-12) that the pipeline's schema uses, and YAML as editors read it.

It was compared with the `jsonschema` package on all pipelines that the tests read; a keyword it does not know fails.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
SAID = {"$schema", "title", "description", "examples", "$defs"}


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema: `no` and `12:30` are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


for tag, pattern in (
    ("null", r"^(~|null|)$"),
    ("bool", r"^(true|false)$"),
    ("int", r"^[-+]?[0-9]+$"),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)$"),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), None)


def read(text: str) -> Any:
    return yaml.load(text, Loader=Core)


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, at: str = "") -> list[str]:
    """Where `value` breaks the schema; empty: it is valid."""
    root = root or schema
    found: list[str] = []
    for keyword, wanted in schema.items():
        if keyword not in SAID:
            found += KEYWORDS[keyword](schema, wanted, value, root, at)
    return found


def is_a(value: Any, names: str | list[str]) -> bool:
    return any(
        isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in ([names] if isinstance(names, str) else names)
    )


def said(fine: bool, at: str, what: str) -> list[str]:
    return [] if fine else [f"{at or '/'}: {what}"]


def reference(schema: Any, wanted: str, value: Any, root: Any, at: str) -> list[str]:
    return faults(root["$defs"][wanted.removeprefix("#/$defs/")], value, root, at)


def any_of(schema: Any, wanted: Any, value: Any, root: Any, at: str) -> list[str]:
    return said(any(not faults(one, value, root, at) for one in wanted), at, "fits none")


def properties(schema: Any, wanted: Any, value: Any, root: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [fault for key in wanted if key in value for fault in faults(wanted[key], value[key], root, f"{at}/{key}")]


def additional(schema: Any, wanted: Any, value: Any, root: Any, at: str) -> list[str]:
    others = [key for key in value if key not in schema.get("properties", {})] if isinstance(value, dict) else []
    if wanted is False:
        return said(not others, at, f"unknown {others}")
    return [fault for key in others for fault in faults(wanted, value[key], root, f"{at}/{key}")]


def items(schema: Any, wanted: Any, value: Any, root: Any, at: str) -> list[str]:
    listed = value if isinstance(value, list) else []
    return [fault for n, item in enumerate(listed) for fault in faults(wanted, item, root, f"{at}/{n}")]


def property_names(schema: Any, wanted: Any, value: Any, root: Any, at: str) -> list[str]:
    return [fault for key in (value if isinstance(value, dict) else []) for fault in faults(wanted, key, root, at)]


KEYWORDS: dict[str, Any] = {
    "$ref": reference,
    "anyOf": any_of,
    "properties": properties,
    "additionalProperties": additional,
    "items": items,
    "propertyNames": property_names,
    "type": lambda s, w, v, r, at: said(is_a(v, w), at, f"is no {w}"),
    "enum": lambda s, w, v, r, at: said(v in w, at, f"is none of {w}"),
    "pattern": lambda s, w, v, r, at: said(not isinstance(v, str) or bool(re.search(w, v)), at, f"is not {w}"),
    "required": lambda s, w, v, r, at: said(not isinstance(v, dict) or set(w) <= set(v), at, f"lacks of {w}"),
    "minimum": lambda s, w, v, r, at: said(not is_a(v, "number") or v >= w, at, f"is below {w}"),
    "maximum": lambda s, w, v, r, at: said(not is_a(v, "number") or v <= w, at, f"is above {w}"),
    "minItems": lambda s, w, v, r, at: said(not isinstance(v, list) or len(v) >= w, at, "has too few"),
    "minProperties": lambda s, w, v, r, at: said(not isinstance(v, dict) or len(v) >= w, at, "has too few"),
}
