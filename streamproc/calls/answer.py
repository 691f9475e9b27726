"""What a service replies -> what is added to the record. Pure."""

from __future__ import annotations

__all__ = ["AnswerReader", "BadAnswerError"]

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from operators.call import CallSpec, failed_column
from operators.call_values import ValueFaultError, as_declared
from operators.encode import json_encoder

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ABSENT = object()


class BadAnswerError(Exception):
    """The reply is not what `returns:` says; the text never quotes it."""


class AnswerReader:
    """Reads the replies of one call; each gives the members that are added to a record's JSON object.

    `default`: those of a call that failed; `nothing`: of a row there was nothing to ask about.
    """

    def __init__(self, spec: CallSpec) -> None:
        self._fields = spec.returns
        self._paths = [tuple(field.source.split(".")) for field in spec.returns]
        self._failed = failed_column(spec.name)
        self.default = self._members(as_declared(self._fields, spec.default), failed=True)
        self.nothing = self._members([None] * len(self._fields), failed=False)

    def read(self, reply: bytes) -> bytes:
        """The members that a reply gives.

        Raises:
            BadAnswerError: it is no JSON object, lacks a field, or a field has another type.
        """
        try:
            found = _decode(reply)
        except _FAILURES:
            raise BadAnswerError("the answer is not JSON") from None
        values = [_at(found, path) for path in self._paths]
        for field, value in zip(self._fields, values, strict=True):
            if value is _ABSENT:
                raise BadAnswerError(f"the answer has no {field.source}")
        try:
            return self._members(as_declared(self._fields, values), failed=False)
        except ValueFaultError as fault:
            raise BadAnswerError(str(fault)) from None

    def given(self, values: Mapping[str, Any]) -> bytes:
        """The members of an answer with these JSON values; NULL where there is none. As `as_declared` gives them."""
        return self._members([values.get(field.name) for field in self._fields], failed=False)

    def _members(self, values: Sequence[Any], *, failed: bool) -> bytes:
        members = {field.name: value for field, value in zip(self._fields, values, strict=True)}
        return json_encoder.encode({**members, self._failed: failed})[1:-1]


def _at(found: Any, path: Sequence[str]) -> Any:
    for name in path:
        found = found.get(name, _ABSENT) if isinstance(found, dict) else _ABSENT
    return found
