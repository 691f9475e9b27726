"""What is asked about a record. Expected addresses are split again by the standard library, not by us."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.call import HttpRequest
from streamproc.calls.request import RequestWriter

GET = RequestWriter(HttpRequest(("http://h:9/q?d=", "device", "&a=", "amount", "")))
PATH = RequestWriter(HttpRequest(("http://h:9/devices/", "device", "/reputation")))
POST = RequestWriter(HttpRequest(("http://h:9/score",), "POST", body=(("amount", "amount"), ("dev", "device"))))


def record(**members: Any) -> bytes:
    return json.dumps({"id": "t1", **members, "_route": "r"}).encode()


@pytest.mark.parametrize(
    ("device", "amount", "url"),
    [
        ("d1", "12.50", "http://h:9/q?d=d1&a=12.50"),
        ("a b/c&d=e?#%", "0", "http://h:9/q?d=a%20b%2Fc%26d%3De%3F%23%25&a=0"),
        ("Zürich", "-1", "http://h:9/q?d=Z%C3%BCrich&a=-1"),
        ("", "true", "http://h:9/q?d=&a=true"),
        ('"\r\nHost: evil', "1", "http://h:9/q?d=%22%0D%0AHost%3A%20evil&a=1"),
    ],
)
def test_values_stand_in_the_address(device: str, amount: str, url: str) -> None:
    text = b'{"amount":%b,"device":%b}' % (amount.encode(), json.dumps(device).encode())
    request = GET.write(text)
    assert request is not None
    assert (request.method, request.url, request.body) == ("GET", url, None)


@settings(deadline=None)
@given(st.text())
def test_a_value_stays_in_its_place(device: str) -> None:
    device = device.encode("utf-8", "replace").decode()
    asked, named = GET.write(record(device=device, amount=1)), PATH.write(record(device=device))
    assert asked is not None
    assert named is not None
    for request in (asked, named):
        assert urlsplit(request.url).netloc == "h:9"
        assert request.url.isascii()
        assert request.url.isprintable()
    assert parse_qs(urlsplit(asked.url).query, keep_blank_values=True) == {"d": [device], "a": ["1"]}
    _, first, middle, last = urlsplit(named.url).path.split("/")
    assert (first, unquote(middle), last) == ("devices", device, "reputation")
    assert middle not in (".", "..")  # which a client, or a proxy, would take for a way up


@pytest.mark.parametrize("text", [record(device=None, amount=1), record(amount=1), b'{"device": null}'])
def test_without_a_value_there_is_nothing_to_ask(text: bytes) -> None:
    assert GET.write(text) is None
    assert PATH.write(text) is None


def test_a_body_holds_what_the_record_holds() -> None:
    request = POST.write(b'{"device":"d\\u00e91","amount":12.3400000000000000001,"other":1}')
    assert request is not None
    assert (request.method, request.url) == ("POST", "http://h:9/score")
    assert request.body == b'{"amount":12.3400000000000000001,"dev":"d\\u00e91"}'
    nothing = POST.write(b'{"amount":null}')
    assert nothing is not None
    assert json.loads(nothing.body or b"") == {"amount": None, "dev": None}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'{"device":"\xff","amount":1}', b'{"device":"\\ud800","amount":1}',
     b'{"device":' + b"[" * 100_000],
)  # fmt: skip
def test_what_no_stage_wrote_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a record that a stage has handed on"):
        GET.write(text)


def test_equal_requests_and_only_they_have_one_digest() -> None:
    texts = [record(device=d, amount=a) for d in ("a", "b", "a&a=1") for a in (1, 2, 1)]
    digests = [request.digest for text in texts if (request := GET.write(text))]
    assert [digests.index(digest) for digest in digests] == [0, 1, 0, 3, 4, 3, 6, 7, 6]
    first, second = POST.write(record(amount=1)), POST.write(record(amount=2))
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
