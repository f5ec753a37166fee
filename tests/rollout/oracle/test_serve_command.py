"""``turnwise serve``: one line with the address, clear errors, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from oraclesupport import episode
from typer.testing import CliRunner

from turnwise.rollout.cli import app

SERVE = [sys.executable, "-c", "from turnwise.rollout.cli import main; main()", "serve", "--port", "0"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    config = tmp_path / "rewards.yaml"
    config.write_text("version: 1\nrewards:\n  - {name: outcome}\n")
    env = {**os.environ, "TURNWISE_TOKEN": "s3cret"}
    command = [*SERVE, "--rewards", str(config), "--workers", "1", "--setting", "max_items=3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()


def test_it_serves_and_ends_on_a_signal(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    headers = {"authorization": "Bearer s3cret"}
    assert httpx.post(f"{url}/v1/score", json={"items": [episode()]}).status_code == 401
    reply = httpx.post(f"{url}/v1/score", json={"items": [episode()]}, headers=headers, timeout=60)
    assert reply.json()["results"][0]["reward"] == 1.0
    assert httpx.post(f"{url}/v1/score", json={"items": [episode()] * 4}, headers=headers).status_code == 413
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, -signal.SIGINT)


def test_the_schema_is_printed() -> None:
    result = CliRunner().invoke(app, ["serve", "--schema"])
    assert result.exit_code == 0
    assert "ScoreRequest" in json.loads(result.stdout)["$defs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "token"),
        (["--rewards", "nowhere.yaml"], "nowhere.yaml"),
        (["--env", "turnwise/Houshold-v0"], "Household"),
        (["--setting", "max_item=3"], "max_items"),
        (["--setting", "max_items"], "--setting"),
        (["--match", "fuzzy"], "exact"),
        (["--deadline", "-1"], "deadline_s"),
        (["--ray", "--replicas", "two"], "--replicas"),
        (["--port", "70000"], "port"),
        (["--rewards", "default", "--env-option", "max_turns=3"], "env"),
    ],
)
def test_mistakes_are_refused_at_start(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURNWISE_TOKEN", raising=False)
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output
