"""``turnwise rewards``, ``envs``, ``check``, ``export``, ``import``, and what all commands share."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import turnwise
from turnwise import registry
from turnwise.errors import TransportError
from turnwise.rollout.cli.options import read_env_options
from turnwise.rollout.store import RunStore


def test_rewards_are_listed_with_range_placement_and_source(cli) -> None:
    text = cli("rewards").output
    for name in registry.rewards:
        assert name in text
    assert "[-0.01, 0]" in text
    assert "2508.10548" in text
    assert "presets for --rewards: default" in text
    rows = {row["name"]: row for row in json.loads(cli("rewards", "--json").stdout)}
    assert set(rows) == set(registry.rewards)
    assert rows["outcome"]["placement"] == "last_turn"


def test_one_reward_a_preset_and_a_file_are_described(cli, tmp_path) -> None:
    assert "penalty" in cli("rewards", "repeat_penalty").output
    assert "valid_action" in cli("rewards", "default").output
    (tmp_path / "mine.yaml").write_text("version: 1\nrewards: [{name: outcome, weight: 2}]\n")
    assert "outcome" in cli("rewards", tmp_path / "mine.yaml").output
    found = json.loads(cli("rewards", tmp_path / "mine.yaml", "--json").stdout)
    assert found["config"]["rewards"][0]["weight"] == 2
    assert json.loads(cli("rewards", "gated", "--json").stdout)["reward"]["name"] == "gated"
    assert "rewards[0]" in cli("rewards", bad(tmp_path), code=2).stderr


def bad(tmp_path) -> str:
    (tmp_path / "bad.yaml").write_text("version: 1\nrewards: [{name: outcom}]\n")
    return str(tmp_path / "bad.yaml")


def test_worlds_are_listed(cli, toy) -> None:
    text = cli("envs").output
    assert toy in text
    assert "idle < counted < reached" in text
    rows = {row["id"]: row for row in json.loads(cli("envs", "--json").stdout)}
    assert rows[toy]["max_turns"] == 12


def test_a_world_that_cannot_be_loaded_is_listed_with_the_reason(cli, monkeypatch) -> None:
    monkeypatch.setitem(registry.envs._entries, "acme/Gone-v0", "acme_gone:World")
    rows = {row["id"]: row for row in json.loads(cli("envs", "--json").stdout)}
    assert "cannot import" in rows["acme/Gone-v0"]["error"]
    assert "cannot import" in cli("envs").output


def test_check_reports_and_sets_the_exit_code(cli, toy) -> None:
    args = ("check", toy, "--episodes", 2, "--rule", "info_keys")
    rules = json.loads(cli("check", toy, "--episodes", 2, "--json", code=None).stdout)["findings"]
    assert len(rules) > 5
    known = rules[0]["rule"]
    found = json.loads(cli(*args[:4], "--rule", known, "--json", code=None).stdout)
    assert [finding["rule"] for finding in found["findings"]] == [known]
    assert "Did you mean" in cli("check", "toy/Countng-v0", code=2).stderr


def test_export_and_import(cli, run, tmp_path) -> None:
    assert "4 trajectories written" in cli("export", run, "--jsonl", tmp_path / "run.jsonl").output
    assert "4 trajectories stored" in cli("import", tmp_path / "copy", "--jsonl", tmp_path / "run.jsonl").output
    assert list(RunStore.open(tmp_path / "copy").trajectories()) == list(RunStore.open(run).trajectories())
    assert "holds a run already" in cli("import", run, "--jsonl", tmp_path / "run.jsonl", code=2).stderr


def test_env_options_are_json_or_text() -> None:
    pairs = ["max_turns=20", "split=val_seen", "flag=true", "names=[1, 2]", "path=/a=b", "empty="]
    assert read_env_options(pairs) == {
        "max_turns": 20,
        "split": "val_seen",
        "flag": True,
        "names": [1, 2],
        "path": "/a=b",
        "empty": "",
    }
    for wrong in (["max_turns"], ["=3"], ["a b=3"], ["a=1", "a=2"]):
        with pytest.raises(turnwise.ConfigError, match="env-option"):
            read_env_options(wrong)


def test_errors_are_one_line_and_a_traceback_on_request(cli, monkeypatch) -> None:
    result = cli("show", "nowhere", code=2)
    assert result.stderr.count("\n") == 1
    monkeypatch.setenv("TURNWISE_TRACEBACK", "1")
    result = cli("show", "nowhere", code=1)
    assert isinstance(result.exception, turnwise.ConfigError)


def test_errors_that_are_nobodys_configuration_exit_with_1(cli, monkeypatch) -> None:
    def fail(*_, **__):
        raise TransportError("the cluster is gone")

    monkeypatch.setattr(RunStore, "open", fail)
    assert cli("show", "x", code=1).stderr == "error: the cluster is gone\n"


def test_the_installed_command() -> None:
    def turnwise_command(*args: str) -> subprocess.CompletedProcess[str]:
        code = "from turnwise.rollout.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)

    done = turnwise_command("--version")
    assert (done.returncode, done.stdout.strip()) == (0, turnwise.__version__)
    done = turnwise_command("shw")
    assert done.returncode == 2
    assert "show" in done.stderr
    done = turnwise_command("show", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere is not a run")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from turnwise.rollout.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'ray', 'torch', 'pyarrow', 'turnwise.envs.household'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()"
    for command in ("rollout", "show", "score", "replay", "rewards", "envs", "check", "export", "import"):
        assert command in done.stdout
