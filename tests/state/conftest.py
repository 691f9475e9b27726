"""The S3 server of these tests, one a test process, and a bucket of it, one a test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from state.blobs import BlobStore
from state.objectstore import open_blobs
from tests.state.s3 import environment, make_bucket, s3_server


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def s3_place(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where there is nothing yet, in a bucket of its own; clients of this process find the server."""
    bucket = f"bucket-{secrets.token_hex(6)}"
    make_bucket(s3_address, bucket)
    for name, value in environment(s3_address).items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def s3(s3_place: str) -> BlobStore:
    return open_blobs(s3_place)
