"""Fixtures that several test packages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

try:
    from hypothesis import settings
except ImportError:
    pass  # the environments of the real trainers have none
else:
    # How long an example takes depends on what else the machine does.
    settings.register_profile("turnwise", deadline=None)
    settings.load_profile("turnwise")

ROOT = Path(__file__).resolve().parent.parent

SKIPPING_FAILS = bool(os.environ.get("CI")) and not os.environ.get("TURNWISE_TRAINER")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """On CI everything that a test needs is there: a skip means that something was not installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if SKIPPING_FAILS and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, outside the repository: ``$TURNWISE_SHARED/data``."""
    shared = Path(os.environ.get("TURNWISE_SHARED", ROOT.parent / "shared")).resolve()
    if not (shared / "data").is_dir():
        pytest.skip(f"real data not found at {shared / 'data'}: set TURNWISE_SHARED to the folder that holds data/")
    return shared / "data"
