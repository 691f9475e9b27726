"""Typed pieces of an expression while it is checked: what is known of each, and the conversions between types."""

from __future__ import annotations

__all__ = [
    "BOOL",
    "FLOAT64",
    "INT64",
    "INT_BOUND",
    "PATTERN_MAX",
    "STORED",
    "STRING",
    "TIMESTAMP",
    "TypeMismatchError",
    "Typed",
    "boolean",
    "call",
    "coerce",
    "column_bound",
    "common_type",
    "constant",
    "decimal",
    "number",
    "rescale",
    "settled",
    "unify",
    "written",
]

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from operators.expressions.clock import parse_timestamp
from operators.expressions.nodes import Call, ColumnRef, Constant, Node, Option
from operators.expressions.program import constant_value
from operators.schema import MINOR_LIMIT, SCALE_MAX, DataType, Kind

BOOL: Final = DataType(Kind.BOOL)
FLOAT64: Final = DataType(Kind.FLOAT64)
INT64: Final = DataType(Kind.INT64)
STRING: Final = DataType(Kind.STRING)
TIMESTAMP: Final = DataType(Kind.TIMESTAMP)
NUMBERS: Final = frozenset({Kind.INT64, Kind.DECIMAL, Kind.FLOAT64})
PATTERN_MAX: Final = 500
INT_BOUND: Final = 2**63  # a bound that says nothing: the value may be any int64
_DIGITS_MAX: Final = 40
STORED: Final = {  # least and greatest physical value of a stored column
    Kind.DECIMAL: (1 - MINOR_LIMIT, MINOR_LIMIT - 1),
    Kind.TIMESTAMP: (-62_135_596_800_000, 253_402_300_799_999),  # years 1 to 9999
}
_NOT_FOLDED: Final = frozenset({"contains", "lookup"})


class TypeMismatchError(Exception):
    """Types that do not go together; the checker adds the place."""


class Typed(NamedTuple):
    """A checked piece. `bound`: the physical integer's magnitude is at most this.

    `finite` is False while a float may still be NaN or infinite. `interval`: milliseconds of a duration.
    `untyped`: the literal NULL. `literal`: a number or string as the analyst wrote it.
    """

    node: Node
    bound: int = INT_BOUND
    finite: bool = True
    interval: bool = False
    untyped: bool = False
    literal: Decimal | str | None = None

    @property
    def type(self) -> DataType:
        """Its type."""
        return self.node.type

    @property
    def nullable(self) -> bool:
        """Whether it can be NULL."""
        return self.node.nullable or not self.finite

    @property
    def shown(self) -> str:
        """Its type's name in messages."""
        return "interval" if self.interval else "NULL" if self.untyped else str(self.type)

    @property
    def constant(self) -> Constant | None:
        """Its node if it is a constant."""
        return self.node if isinstance(self.node, Constant) else None


def column_bound(kind: DataType) -> int:
    """Greatest magnitude of a value in a column of this type."""
    return STORED[kind.kind][1] + 1 if kind.kind in STORED else INT_BOUND


def decimal(scale: int) -> DataType:
    """The decimal type of that scale; TypeMismatchError if there are too many decimals."""
    if scale > SCALE_MAX:
        raise TypeMismatchError(f"the result has {scale} decimals, at most {SCALE_MAX} are kept; cast or round first")
    return DataType(Kind.DECIMAL, scale)


def constant(value: float | str | bool | None, kind: DataType, literal: Decimal | str | None = None) -> Typed:
    """A constant, in physical form."""
    bound = abs(value) if isinstance(value, int) else INT_BOUND
    return Typed(Constant(kind, value), bound=bound, literal=literal)


def number(text: str) -> Typed:
    """A number as written: 12 is int64, 12.50 decimal(2), 1e3 or a very long one float64.

    Raises:
        TypeMismatchError: an integer that does not fit int64, or no number after all (1e).
    """
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise TypeMismatchError("this is no number") from None
    digits = exact.as_tuple()
    assert isinstance(digits.exponent, int)
    if text.isdecimal():
        if exact >= INT_BOUND:
            raise TypeMismatchError("the number does not fit int64")
        return constant(int(text), INT64, exact)
    scale = -digits.exponent
    unscaled = int("".join(map(str, digits.digits[:_DIGITS_MAX])))
    if "e" in text.lower() or scale > SCALE_MAX or len(digits.digits) > _DIGITS_MAX or unscaled >= INT_BOUND:
        value = float(text)
        if value in {float("inf"), float("-inf")}:
            raise TypeMismatchError("the number does not fit float64")
        return constant(value, FLOAT64)
    return constant(unscaled, decimal(max(scale, 0)), exact)


def call(
    kernel: str,
    *args: Typed,
    to: DataType,
    nullable: bool | None = None,
    options: tuple[Option, ...] = (),
    bound: int = INT_BOUND,
    finite: bool = True,
    strict: bool = True,
    raw: bool = False,
) -> Typed:
    """A call of a kernel; folded if all arguments are constants.

    `nullable` None: if an argument is. `strict`: NULL if an argument is. `raw`: arguments may still be NaN or infinite.

    Raises:
        RecordError: folding overflows.
    """
    pieces = args if raw else tuple(map(settled, args))
    nodes = tuple(piece.node for piece in pieces)
    constants = [node for node in nodes if isinstance(node, Constant)]
    if strict and any(one.value is None for one in constants):
        return constant(None, to)
    if nullable is None:
        nullable = any(node.nullable for node in nodes)
    made = Call(kernel, nodes, to, nullable, options)
    if len(constants) == len(nodes) and kernel not in _NOT_FOLDED:
        return constant(constant_value(made), to)._replace(finite=finite)
    return Typed(made, bound=min(bound, INT_BOUND), finite=finite)


def settled(piece: Typed) -> Typed:
    """The piece with NaN and infinity turned into NULL."""
    if piece.finite:
        return piece
    return call("finite", piece, to=FLOAT64, nullable=True, raw=True)


def boolean(piece: Typed) -> Typed:
    """The piece as a bool; TypeMismatchError if it is none."""
    if piece.untyped:
        return constant(None, BOOL)
    if piece.type != BOOL:
        raise TypeMismatchError(f"a bool (a condition) is wanted here, not {piece.shown}")
    return piece


def common_type(pieces: Sequence[Typed]) -> DataType:
    """The one type that all can be converted to without loss (int64 to float64 is allowed to round).

    Raises:
        TypeMismatchError: there is none; names two types.
    """
    known = [piece for piece in pieces if not piece.untyped]
    if not known:
        raise TypeMismatchError("the type of NULL is not known here; write CAST(NULL AS <type>)")
    kinds = {piece.type.kind for piece in known}
    if len({piece.interval for piece in known}) > 1:
        raise _mismatch(known, "; compare a duration with an INTERVAL, or use date_diff")
    if len(kinds) == 1 or kinds == {Kind.INT64, Kind.DECIMAL}:
        scale = max(piece.type.scale for piece in known)
        return DataType(Kind.DECIMAL, scale) if Kind.DECIMAL in kinds else known[0].type
    if kinds <= NUMBERS:
        return FLOAT64
    texts = [piece for piece in known if piece.type == STRING]
    if kinds == {Kind.TIMESTAMP, Kind.STRING} and all(isinstance(piece.literal, str) for piece in texts):
        return TIMESTAMP
    raise _mismatch(known, "")


def _mismatch(pieces: Sequence[Typed], advice: str) -> TypeMismatchError:
    first = pieces[0]
    other = next((piece for piece in pieces if piece.shown != first.shown), first)
    return TypeMismatchError(f"{first.shown} and {other.shown} do not go together{advice}")


def unify(pieces: Sequence[Typed]) -> list[Typed]:
    """All converted to their common type."""
    target = common_type(pieces)
    return [coerce(piece, target) for piece in pieces]


def coerce(piece: Typed, target: DataType) -> Typed:
    """The piece as a `target`, where that loses nothing (int64 to float64 may round).

    Raises:
        TypeMismatchError: there is no such implicit conversion.
    """
    if piece.untyped:
        return constant(None, target)
    source = piece.type
    if source == target:
        return piece
    if target == FLOAT64 and source.kind in NUMBERS:
        if isinstance(piece.literal, Decimal):
            return constant(float(piece.literal), FLOAT64)
        return call("cast", piece, to=FLOAT64, options=(False,))
    if target.kind is Kind.DECIMAL and source.kind in {Kind.INT64, Kind.DECIMAL} and source.scale <= target.scale:
        return rescale(piece, target)
    if target == TIMESTAMP and source == STRING and isinstance(piece.literal, str):
        moment = parse_timestamp(piece.literal)
        if moment is None:
            raise TypeMismatchError("the text is not a timestamp such as '2026-05-03T10:00:00Z'")
        return constant(moment, TIMESTAMP)
    raise TypeMismatchError(f"{target} is wanted here, not {piece.shown}")


def written(piece: Typed, what: str) -> str:
    """The text of a literal; TypeMismatchError if it is none, `what` it is meant as."""
    text = piece.literal
    if not isinstance(text, str) or len(text) > PATTERN_MAX:
        raise TypeMismatchError(f"the {what} must be a text literal of at most {PATTERN_MAX} characters")
    return text


def rescale(piece: Typed, target: DataType) -> Typed:
    """An exact number with more decimals (or as many)."""
    factor = 10 ** (target.scale - piece.type.scale)
    if factor == 1:
        node = piece.node
        if isinstance(node, Constant):
            return piece._replace(node=Constant(target, node.value))
        if isinstance(node, ColumnRef):
            return piece._replace(node=Call("same", (node,), target, node.nullable))
        return piece._replace(node=Call("same", (node,), target, node.nullable))
    bound = piece.bound * factor
    kernel = "multiply" if bound < INT_BOUND else "multiply_checked"
    scaled = call(kernel, piece, constant(factor, INT64), to=target, bound=bound)
    return scaled._replace(literal=piece.literal)
