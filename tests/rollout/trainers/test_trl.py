"""TRL's adapters as far as they go without TRL."""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import OPTIONS, clumsy, expert_actions, make_world, play_script

from turnwise.errors import ConfigError
from turnwise.records import Trajectory
from turnwise.rollout.engine.wire import EpisodeRequest
from turnwise.rollout.trainers.install import MissingTrainerError
from turnwise.rollout.trainers.trl import (
    Rollouts,
    component_reward,
    episode_reward,
    make_async_reward,
    make_environment,
    make_reward,
    turn_grpo_trainer,
)
from turnwise.rollout.trainers.trl.environments import tool_method
from turnwise.rollout.trainers.trl.players import own_model
from turnwise.rollout.trainers.trl.rewards import messages_of

WORLD: dict[str, Any] = {key: OPTIONS[key] for key in ("env", "max_turns", "rewards")}


def test_a_missing_trl_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingTrainerError, match=r"pip install 'trl>=1.16'"):
        turn_grpo_trainer()
    assert issubclass(MissingTrainerError, ImportError)


# -- reward functions ---------------------------------------------------------------------------------


def test_a_completion_is_played_and_scored_by_the_tree() -> None:
    world = make_world()
    task = world.tasks[0]
    actions = clumsy(expert_actions(world, task))
    as_messages = [{"role": "assistant", "content": action} for action in actions]
    reward = make_reward(**WORLD)
    expected = play_script(world, task, actions).rewards["reward"].value
    got = reward(prompts=["", ""], completions=[as_messages, actions[0]], task_id=[task, task], other=[1, 2])
    assert got[0] == pytest.approx(expected)
    assert expected is not None
    assert expected > 1.0
    assert got[1] == pytest.approx(0.1)
    later = asyncio.run(make_async_reward(**WORLD)(completions=[as_messages, actions[0]], task_id=[task, task]))
    assert later == got


def test_one_reward_of_the_tree_can_be_asked_for() -> None:
    world = make_world()
    only = make_reward(**WORLD, reward="valid_action")
    assert only.__name__ == "valid_action"
    assert only(completions=["look"], task_id=[world.tasks[0]]) == [1.0]
    with pytest.raises(ConfigError, match=r"the reward tree has no reward 'valid_acton'. Did you mean 'valid_action'"):
        make_reward(**WORLD, reward="valid_acton")
    with pytest.raises(ConfigError, match="unknown task"):
        only(completions=["look"], task_id=["nowhere"])


def test_messages_of_a_completion() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    completion = [
        {"role": "assistant", "content": "Hm.", "tool_calls": [call, call]},
        {"role": "tool", "content": "You see nothing."},
        {"role": "assistant", "content": "go to desk 1"},
        {"role": "assistant", "content": None},
    ]
    first, second, third, fourth = messages_of(completion)
    assert first == second
    assert make_world().make().unwrapped.grammar.parse(first).command == "look"  # type: ignore[attr-defined]
    assert (third, fourth) == ("go to desk 1", "")
    with pytest.raises(ConfigError, match="a completion is text or a list of messages, got int"):
        messages_of(3)


def test_rollouts_columns_become_rewards_and_metrics() -> None:
    logged: dict[str, float] = {}
    got = episode_reward(
        prompts=["a"] * 3,
        episode_reward=[0.5, None, 0.0],
        episode_outcome=[1.0, None, 0.0],
        log_metric=logged.__setitem__,
    )
    assert got == [0.5, None, 0.0]
    assert logged == {"turnwise/success": 0.5, "turnwise/invalid": pytest.approx(1 / 3)}
    shares = [{"progress": 0.25, "outcome": 0.0}, None]
    assert component_reward("progress")(prompts=[], reward_components=shares) == [0.25, None]
    with pytest.raises(ConfigError, match=r"the total has no part 'progres'. Did you mean 'progress'"):
        component_reward("progres")(reward_components=shares)


# -- rollouts -----------------------------------------------------------------------------------------


class Scripted:
    """Plays by script; keeps what it was asked."""

    def __init__(self, world: Any, scripts: list[list[str]]) -> None:
        self.world, self.scripts, self.seeds = world, scripts, list[int]()

    def play(self, requests: list[EpisodeRequest], *, trainer: Any, seed: int) -> list[Trajectory]:
        self.seeds.append(seed)
        return [
            play_script(self.world, request.task.id, script, sample=request.sample)
            for request, script in zip(requests, self.scripts, strict=True)
        ]

    def close(self) -> None:
        pass


def a_trainer(step: int = 0, *, training: bool = True) -> Any:
    return SimpleNamespace(
        num_generations=2,
        num_generations_eval=1,
        model=SimpleNamespace(training=training),
        state=SimpleNamespace(global_step=step),
        accelerator=SimpleNamespace(process_index=0),
        processing_class=SimpleNamespace(pad_token_id=7),
    )


def test_rows_of_an_episode_are_what_trl_takes() -> None:
    rollouts = Rollouts(**OPTIONS)
    task, other = rollouts.world.tasks[:2]
    world = make_world()
    rollouts._player = Scripted(world, [["look", "nonsense"], ["look"], ["inventory"], ["inventory"]])
    columns = rollouts([task, task, other, other], a_trainer())
    lengths = {name: [len(one) for one in columns[name] or ()] for name in ("completion_ids", "env_mask", "logprobs")}
    assert lengths["completion_ids"] == lengths["env_mask"] == lengths["logprobs"]
    assert columns["episode_id"] == [f"{task}#0", f"{task}#1", f"{other}#0", f"{other}#1"]
    (start, end), (later, last) = columns["turn_spans"][0]  # type: ignore[index]
    mask, advantages = columns["env_mask"][0], columns["token_advantages"][0]  # type: ignore[index]
    assert mask[start:end] == [1] * 5
    assert sum(mask[end:later]) == 0
    assert sum(mask) == (end - start) + (last - later)
    assert columns["turn_rewards"][0] == pytest.approx([0.1, 0.0])  # type: ignore[index]
    assert columns["episode_reward"] == pytest.approx([0.1] * 4)
    # Both episodes of the first group earned 0.1 in all; then one went on for nothing.
    assert set(advantages[start:end]) == {0.0}
    assert max(advantages[later:last]) < 0.0
    assert {value for row in columns["token_advantages"][2:] for value in row} == {0.0}  # type: ignore[index]


def test_seeds_differ_by_call_and_step_and_repeat_with_the_run() -> None:
    def seeds() -> list[int]:
        rollouts = Rollouts(**OPTIONS)
        task = rollouts.world.tasks[0]
        player = Scripted(make_world(), [["look"], ["look"]])
        rollouts._player = player
        for step in (0, 0, 1):
            rollouts([task, task], a_trainer(step))
        return player.seeds

    first = seeds()
    assert len(set(first)) == 3
    assert first == seeds()


def test_groups_must_be_whole() -> None:
    rollouts = Rollouts(**OPTIONS)
    one, other = rollouts.world.tasks[:2]
    for prompts in ([one], [one, other], [one, other, one, other]):
        with pytest.raises(ConfigError, match="a group of 2 episodes is not in one process"):
            rollouts(prompts, a_trainer())
    with pytest.raises(ConfigError, match="a prompt is the id of a task"):
        rollouts([[{"role": "user"}]] * 2, a_trainer())  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="concurrency is a whole number"):
        Rollouts(**OPTIONS, concurrency=0)
    rollouts._player = Scripted(make_world(), [["look"], ["look"]])
    assert len(rollouts([one, other], a_trainer(training=False))["prompt_ids"] or ()) == 2  # groups of one


# -- environments -------------------------------------------------------------------------------------


def test_an_environment_plays_by_tool_calls() -> None:
    environment = make_environment(**{**OPTIONS, "tasks": "train:1"})
    one, other = environment(), environment()
    task = environment._world.tasks[0]
    assert "You are in the middle of a room" in one.reset(task_id=task, prompt=[], other=1)
    other.reset(task_id=task)
    assert "Nothing happens." in one.go_to(receptacle="nowhere 1")  # type: ignore[attr-defined]
    assert one.look()  # type: ignore[attr-defined]
    assert one.get_reward() == pytest.approx(0.1)
    assert [turn.rewards["reward"].value for turn in one._trajectory().turns] == pytest.approx([0.0, 0.1])
    assert one.look() == "The episode is over."  # type: ignore[attr-defined]
    assert other.get_reward() is None  # nothing was played: there is no reward, not one of 0
    assert one._trajectory().id != other._trajectory().id
    with pytest.raises(ConfigError, match=r"a row needs a 'task_id', got the columns \['prompt'\]"):
        one.reset(prompt=[])


def test_only_tools_are_public() -> None:
    environment = make_environment(**{**OPTIONS, "tasks": "train:1"})
    tools = {tool["function"]["name"] for tool in make_world().make().unwrapped.tools}  # type: ignore[attr-defined]
    public = {name for name, _ in inspect.getmembers(environment, inspect.isfunction) if not name.startswith("_")}
    assert public == tools | {"reset", "get_reward"}


def test_a_tools_method_is_typed_and_described() -> None:
    schema = {
        "name": "reset",
        "description": "Start\n again.",
        "parameters": {
            "properties": {
                "times": {"type": "integer", "description": "How often."},
                "where": {"type": "string"},
            },
            "required": ["where"],
        },
    }
    method = tool_method(schema)
    assert method.__name__ == "do_reset"  # TRL's own name is not for tools
    assert str(inspect.signature(method)) == "(self, where: str, times: int | None = None) -> str"
    assert method.__doc__ == (
        "Start again.\n\nArgs:\n    times: How often.\n    where: where\n\nReturns:\n    What the world answers."
    )


# -- the trainer's model ------------------------------------------------------------------------------


def test_the_model_itself_plays_also_under_an_adapter() -> None:
    base = object()
    accelerator = SimpleNamespace(unwrap_model=lambda model: model, state=SimpleNamespace(deepspeed_plugin=None))
    adapted = SimpleNamespace(get_base_model=lambda: base)
    assert own_model(SimpleNamespace(accelerator=accelerator, model=adapted)) is base
    assert own_model(SimpleNamespace(accelerator=accelerator, model=base)) is base


def test_a_sharded_model_cannot_play() -> None:
    sharded = SimpleNamespace(zero_stage=3)
    for accelerator, fsdp in ((None, True), (sharded, False)):
        state = SimpleNamespace(deepspeed_plugin=accelerator)
        trainer = SimpleNamespace(is_fsdp_enabled=fsdp, accelerator=SimpleNamespace(state=state), model=None)
        with pytest.raises(ConfigError, match=r"give Rollouts a PolicyPool, pool="):
            own_model(trainer)
