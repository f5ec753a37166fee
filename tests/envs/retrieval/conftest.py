from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Each test has a cache of its own, and no open engine of another one."""
    from turnwise.envs.retrieval.open import open_engine

    monkeypatch.setenv("TURNWISE_CACHE", str(tmp_path / "cache"))
    open_engine.cache_clear()
