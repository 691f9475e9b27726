"""The S3 server of the state's tests, for the registry."""

from __future__ import annotations

__all__ = ["s3", "s3_address", "s3_place"]

from tests.state.conftest import s3, s3_address, s3_place
