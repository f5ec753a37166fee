"""Trajectories as data sets: what is in them, what is left out, and the files they stand in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted import END, make_world, play_script
from typer.testing import CliRunner

from turnwise.errors import ConfigError
from turnwise.records import Ending, Failure, Outcome, RewardValue, Task, Trajectory, Turn, replace
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.store import RunStore
from turnwise.rollout.trainers.conversations import SystemPrompts, conversation
from turnwise.rollout.trainers.export import dpo_rows, kto_rows, sft_rows, training_rows
from turnwise.rollout.trainers.tables import write_rows

FAILED = Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="it hung"))


def said(*messages: tuple[str, float | None], sample: int = 0, success: bool = True, **changes: Any) -> Trajectory:
    """An episode of messages and their turns' rewards; the world answers by what was said."""
    turns, observation = [], "start"
    for index, (text, value) in enumerate(messages):
        reward = RewardValue(invalid="judge: down") if value is None else RewardValue(value=value)
        turns.append(Turn(index=index, observation=observation, action_text=text, rewards={"reward": reward}))
        observation = f"after {text}"
    known = [value for _, value in messages if value is not None]
    whole = RewardValue(value=sum(known)) if len(known) == len(messages) else RewardValue(invalid="judge: down")
    options: dict[str, Any] = {
        "id": f"t#{sample}",
        "env_id": "x/Y-v0",
        "task": Task(id="t", split="train", instruction="?"),
        "seed": 0,
        "sample": sample,
        "agent": "someone",
        "ending": Ending(kind="terminated"),
        "turns": tuple(turns),
        "final_observation": observation,
        "outcome": Outcome(success=success, env_return=0.0),
        "rewards": {"reward": whole},
    }
    return Trajectory(**{**options, **changes})


def contents(messages: list[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


# -- supervised ---------------------------------------------------------------------------------------


def test_an_episode_is_a_conversation() -> None:
    (row,) = sft_rows([said(("a", 0.0), ("b", 1.0))], system="Be good.")
    assert row["messages"] == [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "start"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "after a"},
        {"role": "assistant", "content": "b"},
    ]


def test_a_turn_is_a_prompt_and_a_completion() -> None:
    rows = list(sft_rows([said(("a", 0.0), ("b", 1.0), ("c", None))], level="turn", system=""))
    assert [contents(row["completion"]) for row in rows] == [["a"], ["b"], ["c"]]
    assert contents(rows[2]["prompt"]) == ["start", "a", "after a", "b", "after b"]
    best = list(sft_rows([said(("a", 0.0), ("b", 1.0), ("c", None))], level="turn", least=0.5, system=""))
    assert [contents(row["completion"]) for row in best] == [["b"]]


def test_failed_unsolved_and_poor_episodes_are_left_out() -> None:
    episodes = [
        said(("good", 1.0)),
        said(("poor", 0.1), sample=1),
        said(("lost", 1.0), sample=2, success=False),
        said(("died", 1.0), sample=3, ending=FAILED, outcome=None),
        said(("unknown", None), sample=4),
    ]

    def kept(**options: Any) -> list[str]:
        return [row["messages"][-1]["content"] for row in sft_rows(episodes, system="", **options)]

    assert kept() == ["good", "poor", "unknown"]
    assert kept(least=0.5) == ["good"]
    assert kept(solved=False) == ["good", "poor", "lost", "unknown"]


# -- preferences --------------------------------------------------------------------------------------


def test_a_pair_parts_after_one_history_and_the_higher_return_is_chosen() -> None:
    one, other = said(("a", 0.0), ("b", 0.2), ("x", 0.5)), said(("a", 0.4), ("c", 0.9), sample=1)
    (row,) = dpo_rows([one, other], system="")
    assert contents(row["prompt"]) == ["start", "a", "after a"]
    assert (contents(row["chosen"]), contents(row["rejected"])) == (["c"], ["b"])
    assert row["margin"] == pytest.approx(0.2)
    # The reward of the turn before they part decides nothing.
    (same,) = dpo_rows([said(("a", 9.0), ("b", 0.2), ("x", 0.5)), other], system="")
    assert contents(same["chosen"]) == ["c"]


def test_whole_episodes_can_be_compared() -> None:
    one, other = said(("a", 0.0), ("b", 0.2)), said(("c", 0.4), sample=1)
    (row,) = dpo_rows([one, other], level="trajectory", system="")
    assert contents(row["chosen"]) == ["c"]
    assert contents(row["rejected"]) == ["a", "after a", "b"]
    assert contents(row["prompt"]) == ["start"]


def test_no_pair_where_nothing_is_better() -> None:
    equal = [said(("a", 0.1), ("b", 0.2)), said(("c", 0.30000000000000004), sample=1)]
    assert not list(dpo_rows(equal, system=""))
    unknown = [said(("a", None)), said(("b", 1.0), sample=1)]
    assert not list(dpo_rows(unknown, system=""))
    failed = [said(("a", 0.0)), said(("b", 1.0), sample=1, ending=FAILED, outcome=None)]
    assert not list(dpo_rows(failed, system=""))
    near = [said(("a", 0.1)), said(("b", 0.2), sample=1)]
    assert not list(dpo_rows(near, margin=0.5, system=""))


def test_other_answers_of_the_world_make_no_pair() -> None:
    one, other = said(("a", 0.0), ("b", 0.0)), said(("a", 0.0), ("c", 1.0), sample=1)
    turns = (other.turns[0], replace(other.turns[1], observation="another answer"))
    assert not list(dpo_rows([one, replace(other, turns=turns)], system=""))


def test_equal_pairs_come_once_and_the_largest_first() -> None:
    group = [said(("a", 0.0)), said(("b", 0.5), sample=1), said(("c", 1.0), sample=2), said(("c", 1.0), sample=3)]
    rows = list(dpo_rows(group, system=""))
    assert [(contents(row["chosen"]), contents(row["rejected"])) for row in rows] == [
        (["c"], ["a"]),
        (["b"], ["a"]),
        (["c"], ["b"]),
    ]
    assert len(list(dpo_rows(group, most=1, system=""))) == 1


def test_messages_are_labelled_by_the_sign_of_their_turns_advantage() -> None:
    group = [said(("a", 0.0), ("b", 1.0)), said(("c", 0.0), ("d", 0.0), sample=1), said(("e", None), sample=2)]
    rows = list(kto_rows(group, system=""))
    assert [(contents(row["completion"])[0], row["label"]) for row in rows] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("d", False),
    ]


# -- token rows ---------------------------------------------------------------------------------------


def test_training_rows_hold_tokens_rewards_and_their_origin() -> None:
    world = make_world()
    played = [play_script(world, world.tasks[0], ["look", "nonsense"], sample=n) for n in range(2)]
    rows = training_rows(played, credit=GroupCredit(level="turn"))
    assert [row["id"] for row in rows] == [f"{world.tasks[0]}#0", f"{world.tasks[0]}#1"]
    row = rows[0]
    assert (row["env_id"], row["task_id"], row["sample"]) == ("turnwise/Household-v0", world.tasks[0], 0)
    assert row["response_ids"][:5] == [*b"look", END]
    assert row["turn_spans"][0] == [0, 5]
    assert row["components"] == {"outcome": 0.0, "progress": 0.0, "valid_action": pytest.approx(0.1)}
    assert row["advantages"] == [0.0] * len(row["response_ids"])  # two equal episodes


def test_episodes_without_tokens_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'t#0' has no token ids: its agent 'someone' records none"):
        training_rows([said(("a", 1.0))])


# -- files --------------------------------------------------------------------------------------------

ROWS = [{"messages": [{"role": "user", "content": "naïve → 1"}], "n": 1}, {"messages": [], "n": None}]


def test_the_name_says_how_rows_are_written(tmp_path: Path) -> None:
    assert write_rows(iter(ROWS), tmp_path / "deep" / "a.jsonl") == 2
    assert [json.loads(line) for line in (tmp_path / "deep" / "a.jsonl").read_text().splitlines()] == ROWS
    write_rows(ROWS, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == ROWS
    write_rows(ROWS, tmp_path / "folder")
    with pa.ipc.open_stream(tmp_path / "folder" / "data-00000-of-00001.arrow") as stream:
        assert stream.read_all().to_pylist() == ROWS
    assert json.loads((tmp_path / "folder" / "state.json").read_text())["_data_files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "deep", "folder"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to write"):
        write_rows([], tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"'a.csv' is no known kind of file: end it in .jsonl or .parquet"):
        write_rows(ROWS, tmp_path / "a.csv")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="taken exists"):
        write_rows(ROWS, tmp_path / "taken")
    with pytest.raises(ConfigError, match="do not fit one table"):
        write_rows([{"a": 1}, {"a": "x"}], tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"unknown level 'turns'. Did you mean 'turn'"):
        list(sft_rows([], level="turns"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="margin must be"):
        list(dpo_rows([], margin=-1.0))


def test_the_worlds_own_system_prompt_stands_first() -> None:
    world = make_world()
    played = play_script(world, world.tasks[0], ["look"])
    messages = conversation(played, SystemPrompts())
    assert messages[0]["role"] == "system"
    assert "You are in a house" in messages[0]["content"]
    with pytest.raises(ConfigError, match=r"the system prompt of x/Y-v0 cannot be found here"):
        conversation(said(("a", 1.0)), SystemPrompts())


# -- the command line ---------------------------------------------------------------------------------


def export(*arguments: str) -> Any:
    from turnwise.rollout.cli.app import app

    return CliRunner().invoke(app, ["export", *arguments])


def test_a_run_is_exported_by_the_command_line(tmp_path: Path) -> None:
    world = make_world()
    task = world.tasks[0]
    with RunStore.create(tmp_path / "run", {}) as store:
        for sample, script in enumerate((["look", "look"], ["inventory", "nonsense"])):
            store.append(play_script(make_world(max_turns=2), task, script, sample=sample))
    out = {name: str(tmp_path / name) for name in ("t.jsonl", "r.parquet", "s", "d.jsonl", "k.jsonl")}
    done = export(
        str(tmp_path / "run"),
        *("--jsonl", out["t.jsonl"], "--rows", out["r.parquet"], "--credit", "rloo"),
        *("--sft", out["s"], "--unsolved", "--dpo", out["d.jsonl"], "--kto", out["k.jsonl"]),
    )
    assert done.exit_code == 0, done.output
    assert "2 sft rows written" in " ".join(done.output.split())
    rows = pq.read_table(out["r.parquet"]).to_pylist()
    assert rows[0]["advantages"][0] == pytest.approx(0.1)  # 0.2 to earn against 0.1
    (pair,) = [json.loads(line) for line in Path(out["d.jsonl"]).read_text().splitlines()]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("look", "inventory")
    labels = [json.loads(line)["label"] for line in Path(out["k.jsonl"]).read_text().splitlines()]
    assert labels == [True, True, False, False]


def test_the_command_line_asks_what_to_write(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        store.append(said(("a", 1.0)))
    assert "say what to write and where" in export(str(tmp_path / "run")).output
    assert "unknown credit 'grp'" in export(str(tmp_path / "run"), "--rows", "x", "--credit", "grp").output
