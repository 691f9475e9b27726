"""The HTTP client: the only importer of aiohttp.

It goes to the host that the pipeline names and nowhere else: no redirect is followed, no proxy taken from the
environment, no cookie kept. A reply is read up to a bound; its compression is not undone.
"""

from __future__ import annotations

__all__ = ["HttpTransport"]

from collections.abc import Mapping

import aiohttp
from yarl import URL

from operators.call import CallSpec, HttpRequest
from state.errors import ConfigError
from streamproc.calls.request import Request
from streamproc.calls.service import CallError

REPLY_BYTES_MAX = 64 * 1024
_RETRIABLE = (502, 503, 504)
_OVERLOADED = (408, 425, 429)


class HttpTransport:
    """Sends the requests of one call step; to be made in a running loop.

    Args:
        spec: the step.
        environment: where `$NAME` in a header is looked up.

    Raises:
        ConfigError: a header names a variable that is not set.
    """

    def __init__(self, spec: CallSpec, environment: Mapping[str, str]) -> None:
        assert isinstance(spec.asks, HttpRequest)
        headers = {name: _header(spec, name, value, environment) for name, value in spec.asks.headers}
        headers.setdefault("Accept", "application/json")
        headers["Accept-Encoding"] = "identity"
        if spec.asks.body:
            headers.setdefault("Content-Type", "application/json")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=spec.in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # whoever calls has one
            headers=headers,
            auto_decompress=False,
        )
        self._session._retry_connection = False  # aiohttp would send a GET again by itself, past the budget of retries

    async def send(self, request: Request) -> bytes:
        url = URL(request.url, encoded=True)
        try:
            async with self._session.request(request.method, url, data=request.body, allow_redirects=False) as response:
                reply = await _bounded(response)
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError):
            raise CallError("no_connection", retriable=True) from None  # its text may name what was asked
        if 200 <= status < 300:
            return reply
        if status >= 500 or status in _OVERLOADED:
            raise CallError("server_error", retriable=status in _RETRIABLE)
        raise CallError("refused", well=True)

    async def close(self) -> None:
        await self._session.close()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > REPLY_BYTES_MAX:
            response.close()
            raise CallError("too_large")
    return b"".join(parts)


def _header(spec: CallSpec, name: str, value: str, environment: Mapping[str, str]) -> str:
    if not value.startswith("$"):
        return value
    found = environment.get(value[1:])
    if found is None:
        raise ConfigError(
            f"call {spec.name}: header {name} is {value}, and the environment has no {value[1:]}", hint="set it"
        )
    return found.strip()
