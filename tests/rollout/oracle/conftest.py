"""Served oracles, with rewards that misbehave on demand."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get it too: the server passes it on

from oraclesupport import MOODY, Served, run_server


@pytest.fixture(scope="session")
def moody() -> Iterator[Served]:
    """An oracle with two workers and a deadline of 3 s; cached results stay."""
    settings = {"workers": 2, "deadline_s": 3.0, "stall_s": 0.3, "max_body_bytes": 200_000, "max_items": 64}
    with run_server(MOODY, settings=settings) as served:
        yield served


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start an oracle of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda rewards=MOODY, **options: stack.enter_context(run_server(rewards, **options))
