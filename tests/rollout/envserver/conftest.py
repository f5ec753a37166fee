"""A running server for the tests, and a look at what processes are left."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from turnwise.rollout.envserver import ServerOptions

sys.path[:0] = map(str, Path(__file__).resolve().parents[:2])  # processes of sessions get them too

import chaosworld  # noqa: E402
from served import CHAOS, of_session, running, wait_until  # noqa: E402


@pytest.fixture
def none_left() -> Iterator[None]:
    """Fail when the test leaves a zygote or a child of one."""
    token = os.environ[chaosworld.SESSION]
    before = of_session(token)
    yield
    assert wait_until(lambda: not of_session(token) - before), "processes are left"


@pytest.fixture
def serving(none_left: None) -> Iterator[Callable[..., str]]:
    """Return a function that starts a server with given options and returns its address; none of it is left."""
    with contextlib.ExitStack() as stack:
        yield lambda env=CHAOS, **options: stack.enter_context(
            running(ServerOptions(env=env, port=0, spares=options.pop("spares", 1), **options))
        )
