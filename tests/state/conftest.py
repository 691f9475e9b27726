"""The S3 server of these tests, one a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.state.s3 import s3_server


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address
