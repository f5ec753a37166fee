"""A cache for the session, so that the embedded shop is made once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TURNWISE_CACHE")
    os.environ["TURNWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TURNWISE_CACHE"]
    else:
        os.environ["TURNWISE_CACHE"] = before
