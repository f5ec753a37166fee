"""OpenRLHF: its own executors and its own experience maker, with a scripted engine in place of vLLM."""

from __future__ import annotations

import asyncio
import importlib.machinery
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from scripted import OPTIONS, ByteTokenizer, expert_actions, make_world, play_script, run_example

from turnwise.errors import ConfigError, EnvError
from turnwise.rollout.trainers.openrlhf import agent_executor, reward_function
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.scores import world_of
from turnwise.rollout.trainers.stepping import World

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
NEEDS_CUDA = ("vllm", "deepspeed", "flash_attn", "peft", "optree", "ring_flash_attn", "liger_kernel", "torchdata")


class Absent(types.ModuleType):
    """Stands in for a module that needs CUDA and of which nothing is used here."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in NEEDS_CUDA:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> Absent:
        return Absent(spec.name)

    def exec_module(self, module: Any) -> None:
        pass


sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]


class TextMarkup:
    """Observations as the byte chat of the other tests writes them."""

    ends = ("<end>",)

    def opening(self, system: str, tools: Sequence[Mapping[str, Any]], observation: str) -> str:
        return f"[user]{observation}[agent]"

    def continuation(self, observation: str, message: str) -> str:
        return f"[user]{observation}[agent]"


class Engine:
    """Scripted; the text of a message may hold its end, as with ``include_stop_str_in_output``."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    async def generate(self, ids: list[int], params: Any, **options: Any) -> Any:
        text = self.texts.pop(0)
        logprobs = [{one: SimpleNamespace(logprob=-0.5)} for one in text.encode()]
        output = SimpleNamespace(token_ids=list(text.encode()), text=text, finish_reason="stop", logprobs=logprobs)
        return SimpleNamespace(outputs=[output])


def sampling() -> Any:
    return SimpleNamespace(max_tokens=64, logprobs=1)


def experience(response: dict[str, Any]) -> Any:
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

    return SamplesGenerator._process_response_into_experience(SimpleNamespace(), response, max_len=100_000)


def played(actions: Sequence[str], *, max_length: int = 100_000, **options: Any) -> dict[str, Any]:
    executor = agent_executor(OPTIONS, markup=TextMarkup(), **options)()
    run = executor.execute("", TASK, sampling(), max_length, ByteTokenizer(), Engine(*actions))
    found: dict[str, Any] = asyncio.run(run)
    return found


def test_an_episodes_ids_are_those_that_were_sampled_and_its_reward_is_the_sum() -> None:
    response = played([f"{action}<end>" for action in EXPERT])
    spoken = [bytes(response["observation_tokens"][a:b]).decode() for a, b in response["action_ranges"]]
    assert spoken == [f"{action}<end>" for action in EXPERT]
    assert response["reward"] == pytest.approx(2.2)
    assert response["extra_logs"]["component/outcome"] == 1.0
    made = experience(response)
    assert made.action_mask.sum() == sum(len(text) for text in spoken)
    assert made.rewards.tolist() == pytest.approx([2.2])
    assert made.scores.tolist() == [1.0]


def test_what_reaches_the_loss_is_one_number_on_the_last_token() -> None:
    from openrlhf.models.utils import compute_reward
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

    made = experience(played(EXPERT))
    mask = made.action_mask
    rewards = compute_reward(made.rewards, 0.0, torch.zeros(mask.shape), action_mask=mask)
    assert rewards.count_nonzero() == 1
    last = int(mask[0].nonzero()[-1])
    assert rewards[0, last].item() == pytest.approx(2.2)
    returns = RemoteExperienceMaker.get_cumulative_returns(SimpleNamespace(), rewards, mask, 1.0)
    assert returns[mask.bool()].tolist() == pytest.approx([2.2] * int(mask.sum()))


def test_shapes_and_keys_are_the_same_for_every_sample() -> None:
    samples = [experience(played(EXPERT)), experience(played(["nonsense"] * 12))]
    assert {one.rewards.shape for one in samples} == {one.scores.shape for one in samples} == {(1,)}
    assert samples[0].info.keys() == samples[1].info.keys()
    assert {tuple(value.shape) for one in samples for value in one.info.values()} == {(1,)}
    rewards = torch.cat([one.rewards for one in samples])
    assert rewards.tolist() == pytest.approx([2.2, 0.0])


def test_an_episode_that_is_cut_for_length_keeps_what_it_earned() -> None:
    whole = played(EXPERT)
    cut = played(EXPERT, max_length=whole["action_ranges"][2][1])
    assert len(cut["action_ranges"]) == 3
    earned = make_rows([play_script(WORLD, TASK, EXPERT)])[0].turn_rewards[:3]
    assert cut["reward"] == pytest.approx(sum(value or 0.0 for value in earned))
    lazy = played(EXPERT, max_length=whole["action_ranges"][2][1], score_every_turn=False)
    assert lazy["reward"] == 0.0
    assert played(EXPERT, score_every_turn=False)["reward"] == pytest.approx(2.2)


def test_a_failure_raises_or_is_the_fallback_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    env = type(world_of(OPTIONS, agent="openrlhf").make().unwrapped)

    def explode(self: Any, action: Any) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(env, "_apply", explode)
    with pytest.raises(EnvError, match="the kitchen burnt down"):
        played(EXPERT)
    response = played(EXPERT, fallback=-1.0)
    assert (response["reward"], response["extra_logs"]["valid"]) == (-1.0, 0.0)

    def nothing(self: World) -> Any:
        raise EnvError("no kitchen")

    monkeypatch.setattr(World, "make", nothing)
    with pytest.raises(EnvError, match="no kitchen"):
        played(EXPERT, fallback=-1.0)


def test_a_reward_file_scores_one_message(tmp_path: Path) -> None:
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    file = tmp_path / "reward.py"
    file.write_text(
        "from turnwise.rollout.trainers.openrlhf import reward_function\n"
        f"reward_func = reward_function({OPTIONS!r}, ends=['<end>'])\n"
    )
    responses = []
    for said in ("look<end>", "nonsense"):
        executor = SingleTurnAgentExecutor(str(file))
        run = executor.execute("What now? ", TASK, sampling(), 256, ByteTokenizer(), Engine(said))
        responses.append(asyncio.run(run) | {"images": None, "mm_train_inputs": None})
    valid, invalid = (experience(one) for one in responses)
    assert valid.rewards.shape == invalid.rewards.shape
    assert valid.rewards.flatten().tolist() == pytest.approx([0.1])
    assert invalid.rewards.flatten().tolist() == [0.0]
    assert valid.info.keys() == invalid.info.keys()
    both = reward_function(OPTIONS)(["look", "look"], ["", ""], [TASK, TASK])
    assert both["rewards"].tolist() == pytest.approx([0.1, 0.1])


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="either tokenizer"):
        agent_executor(OPTIONS)
    executor = agent_executor(OPTIONS, markup=TextMarkup())()
    with pytest.raises(ConfigError, match="label is the id of a task, got None"):
        asyncio.run(executor.execute("", None, sampling(), 100, ByteTokenizer(), Engine()))


def test_the_example_runs() -> None:
    assert run_example("openrlhf_executor.py").count("component/outcome") == 2
