"""The entries of `stages:` that call a service."""

from __future__ import annotations

__all__ = ["read_call"]

import re
from typing import Any

from operators.call import Breaking, failed_column
from operators.call_values import ValueFaultError, as_declared
from operators.schema import FieldSpec, Kind
from state.errors import ConfigError
from streamproc.language.load_streams import read_fields
from streamproc.language.model import Call, FieldDeclaration
from streamproc.language.problems import nearest
from streamproc.language.reader import Section, choice, duration, identifier, names, number, text, whole
from streamproc.language.yaml_tree import Mapping, Node, Scalar, word

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(?=[/?]|$)")
_SLOT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL = re.compile(r"[!$%&'()*+,./:;=?@A-Za-z0-9_~\[\]-]*")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_OURS = ("host", "content-length", "connection", "transfer-encoding", "accept-encoding")
_SECRET = ("authorization", "proxy-authorization", "cookie")
_TIMEOUT_MAX_MS = 60_000
_IN_FLIGHT_MAX = 10_000
_CONNECTIONS = 10
"""Calls of a database at a time, unless told: each has a connection."""
_RETRIES_MAX = 5
_WINDOW_MAX = 10_000
_EXAMPLE = '{url: "https://devices.example/reputation?device={device_id}", timeout: 100ms}'


def read_call(section: Section, name: str) -> Call:
    """One call step; expressions there are none, its columns are looked up at compiling."""
    call = Section(section.node("call") or word("", section.place), f"call {name}", section.problems)
    asked = _query(call) if "sql" in call or "database" in call else _request(call)
    usual = Call(name, "", {}, in_flight=_CONNECTIONS if "sql" in call else Call("", "", {}).in_flight)
    returns = read_fields(section, "returns", "returns: {reputation: float64, known_bad: bool}")
    found = Call(
        name=name,
        returns=returns,
        **asked,
        timeout=call.get("timeout", _timeout, usual.timeout),
        in_flight=call.get("in_flight", whole(1, _IN_FLIGHT_MAX), usual.in_flight),
        cache=call.get("cache", duration, usual.cache),
        retries=call.get("retries", whole(0, _RETRIES_MAX), usual.retries),
        retry_budget=call.get("retry_budget", number(0, 1), usual.retry_budget),
        breaker=_breaker(call),
        default=_defaults(section, returns),
        place=section.place,
    )
    call.close()
    _check_returns(section, found)
    return found


def _request(call: Section) -> dict[str, Any]:
    """What an HTTP service is asked: members of a `Call`."""
    method = call.get("method", choice("method", "GET", "POST", "PUT"), "")
    body = call.get("body", _body, dict[str, str]())
    if body and method == "GET":
        call.problems.add("a GET has no body", call.key_place("body"), "method: POST")
    return {
        "url": call.need("url", _url, "", _EXAMPLE),
        "method": method or ("POST" if body else "GET"),
        "headers": call.get("headers", _headers, dict[str, str]()),
        "body": body,
        "url_place": getattr(call.node("url"), "place", call.place),
        "places": {column: node.place for column, node in _body_nodes(call.node("body"))},
    }


def _query(call: Section) -> dict[str, Any]:
    """What a database is asked: members of a `Call`."""
    example = "database: $DEVICES_DATABASE"
    return {
        "url": "",
        "sql": call.need("sql", _sql, ""),
        "database": call.need("database", _database, "", example),
        "url_place": getattr(call.node("sql"), "place", call.place),
    }


def _sql(node: Node) -> str:
    """A query; a column in it is a value of its own, never a piece of text."""
    query = text(node).strip().removesuffix(";").rstrip()
    if not query.lower().startswith(("select", "with", "values", "table")):
        raise ConfigError("sql is a query", node.place, "sql: select risk from devices where id = {device_id}")
    if re.search(r"\$\d", query):
        raise ConfigError("values are given as {column}, not $1", node.place, "where id = {device_id}")
    for slot in _SLOT.finditer(query):
        if query.count("'", 0, slot.start()) % 2:
            raise ConfigError(f"{slot[0]} stands in quotes: it is a value", node.place, f"where id = {slot[0]}")
    return query


def _database(node: Node) -> str:
    address = text(node)
    if address.startswith("$"):
        return address
    if not address.startswith(("postgresql://", "postgres://")):
        scheme = address.partition("://")[0]
        raise ConfigError(f"{scheme!r} begins no address of a database", node.place, "postgresql://host:port/name")
    if re.match(r"\w+://[^/@]*:[^/@]*@", address) or "password" in address:
        raise ConfigError("a password does not stand here", node.place, "database: $VARIABLE")
    return address


def _url(node: Node) -> str:
    """An address whose host is fixed; `{column}` may stand behind that."""
    url = text(node)
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigError("a user in an address would be logged", node.place, "headers: {Authorization: $VARIABLE}")
    if not _ADDRESS.match(url):
        what = "the host of an address is fixed" if "{" in rest.partition("/")[0] else f"{scheme!r} begins no address"
        raise ConfigError(what, node.place, "http://host:port/path?key={column}")
    if "#" in url:
        raise ConfigError("what follows # is never sent", node.place, "leave it out")
    for literal in _SLOT.split(url)[0::2]:
        if not _LITERAL.fullmatch(literal):
            raise ConfigError(
                "an address has letters, digits and %, and {column} for a value", node.place, "write a blank as %20"
            )
    return url


def _headers(node: Node) -> dict[str, str]:
    if not isinstance(node, Mapping):
        raise ConfigError("headers must be a mapping of names to values", node.place)
    found = {}
    for name, value in node.entries.items():
        place = node.keys[name]
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            raise ConfigError(f"{name!r} cannot be given as a header", place)
        said = text(value)
        if not said.isascii() or not said.isprintable():
            raise ConfigError(f"header {name}: a value is one line of ASCII", value.place)
        if name.lower() in _SECRET and not said.startswith("$"):
            raise ConfigError(f"header {name}: a secret does not stand here", value.place, f"{name}: $VARIABLE")
        found[name] = said
    return found


def _body(node: Node) -> dict[str, str]:
    """Name -> column."""
    if isinstance(node, Mapping):
        for name in node.entries:
            if not name.isprintable() or '"' in name or "\\" in name:
                raise ConfigError(f"{name!r} cannot name a member of the body", node.keys[name])
        return {name: identifier(entry) for name, entry in node.entries.items()}
    return {name: name for name in names(node)}


def _body_nodes(node: Node | None) -> list[tuple[str, Node]]:
    """Column, and where it is named."""
    if node is None:
        return []
    items = list(node.entries.values()) if isinstance(node, Mapping) else getattr(node, "items", [node])
    return [(item.text, item) for item in items if isinstance(item, Scalar)]


def _timeout(node: Node) -> int:
    found = duration(node)
    if found > _TIMEOUT_MAX_MS:
        raise ConfigError("a time-out is at most a minute", node.place, "a decision waits for it: timeout: 100ms")
    return found


def _breaker(call: Section) -> Breaking:
    usual = Breaking()
    node = call.node("breaker")
    if node is None:
        return usual
    section = Section(node, "breaker", call.problems)
    found = Breaking(
        section.get("failures", number(0.01, 1), usual.failures),
        section.get("calls", whole(1, _WINDOW_MAX), usual.calls),
        section.get("pause", duration, usual.pause_ms),
    )
    section.close()
    return found


def _defaults(section: Section, returns: dict[str, FieldDeclaration]) -> dict[str, Any]:
    """A JSON value for each field that is returned; None: NULL."""
    found: dict[str, Any] = dict.fromkeys(returns)
    node = section.node("default")
    if node is None:
        return found
    given = Section(node, "default", section.problems)
    declared = section.node("returns")
    if "returns" not in section:
        return found
    for name in given:
        if name not in returns:
            if isinstance(declared, Mapping) and name in declared.entries:
                continue  # what is wrong with it was said
            section.problems.add(f"default: {name} is not returned", given.key_place(name), nearest(name, returns))
        elif (value := given.node(name)) is not None:
            with section.problems.caught():
                found[name] = _default(value, name, returns[name])
    return found


def _default(node: Node, name: str, field: FieldDeclaration) -> Any:
    if isinstance(node, Scalar) and node.empty:
        return None
    written, kind = text(node), field.type.kind
    value: Any = written
    try:
        if kind is Kind.BOOL:
            value = {"true": True, "false": False}[written]
        elif kind is Kind.INT64 or (kind is Kind.TIMESTAMP and written.lstrip("-").isdecimal()):
            value = int(written)
        elif kind is Kind.FLOAT64:
            value = float(written)
        return as_declared([FieldSpec(name, field.type, name)], [value])[0]
    except (ValueError, KeyError, ValueFaultError):
        raise ConfigError(f"default: {name} is {field.type}, not {written!r}", node.place) from None


def _check_returns(section: Section, call: Call) -> None:
    flag = failed_column(call.name)
    for name, field in call.returns.items():
        if field.pan or field.required:
            key = "pan" if field.pan else "required"
            section.problems.add(f"returns: {key} is not for what a service returns", field.place, "leave it out")
        if name == flag:
            section.problems.add(f"returns: {flag} says whether the call failed", field.place, "choose another name")
