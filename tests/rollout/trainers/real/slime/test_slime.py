"""slime's own source: its samples, its reward hub, its conversion to training data and its loss."""

from __future__ import annotations

import asyncio
import importlib.machinery
import os
import sys
import types
from argparse import Namespace
from typing import Any, ClassVar

import pytest
from scripted import OPTIONS, ByteChat, clumsy, expert_actions, make_world, play_script, run_example, sampled

from turnwise.errors import ConfigError, EnvError
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers import slime as ours
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.stepping import World

SOURCE = os.environ.get("TURNWISE_SLIME_SOURCE", "")
if not SOURCE:
    pytest.skip("TURNWISE_SLIME_SOURCE names no checkout of slime", allow_module_level=True)
sys.path.insert(0, SOURCE)
os.environ["TORCHDYNAMO_DISABLE"] = "1"

NEEDS_CUDA = ("sglang", "megatron", "sglang_router", "transformer_engine", "wandb")


class Absent(types.ModuleType):
    """Stands in for a module that needs CUDA; Megatron's mpu says that there is one process."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "mpu":
            return Namespace(
                is_pipeline_last_stage=lambda *a, **k: True,
                get_context_parallel_world_size=lambda: 1,
                get_context_parallel_rank=lambda: 0,
            )
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

from slime.utils import http_utils  # noqa: E402
from slime.utils.types import Sample  # noqa: E402

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
SCRIPTS = [EXPERT, clumsy(EXPERT), EXPERT[:2]]


def arguments(**changes: Any) -> Namespace:
    settings = {
        "hf_checkpoint": "none",
        "reward_key": None,
        "turnwise_world": OPTIONS,
        "turnwise_credit": {"estimator": "dr_grpo"},
        "sglang_router_ip": "127.0.0.1",
        "sglang_router_port": 1,
        "router_policy": "consistent_hashing",
        "rm_type": None,
        "custom_rm_path": None,
        "advantage_estimator": "grpo",
        "custom_advantage_function_path": "turnwise.rollout.trainers.slime.advantages",
        "use_rollout_logprobs": True,
        "kl_coef": 0.0,
        "use_opd": False,
        "normalize_advantages": False,
    }
    return Namespace(**{**settings, **changes})


def generated(
    script: list[str], monkeypatch: pytest.MonkeyPatch, args: Namespace, *, room: int = 100_000, index: int = 0
) -> tuple[Sample, list[Any]]:
    """A sample that our function filled, and what it asked of slime's router."""
    asked: list[Any] = []

    async def post(url: str, body: dict[str, Any], headers: Any = None) -> dict[str, Any]:
        asked.append((url, body, headers))
        one = sampled(script[len(asked) - 1], len(asked) - 1)
        pairs = [[value, token, None] for value, token in zip(one.logprobs, one.ids, strict=True)]
        meta = {"output_token_logprobs": pairs, "finish_reason": {"type": "stop"}, "weight_version": f"v{len(asked)}"}
        return {"text": script[len(asked) - 1], "meta_info": meta}

    monkeypatch.setattr(http_utils, "post", post)
    monkeypatch.setattr(ours, "_chat", lambda checkpoint: ByteChat())
    sample = Sample(label=TASK, index=index, group_index=7, session_id="s")
    filled = asyncio.run(ours.generate(args, sample, {"max_new_tokens": room, "temperature": 1.0}))
    return filled, asked


def batch(monkeypatch: pytest.MonkeyPatch, args: Namespace) -> list[Sample]:
    made = [generated(script, monkeypatch, args, index=i)[0] for i, script in enumerate(SCRIPTS[:2])]
    cut = make_rows([play_script(WORLD, TASK, SCRIPTS[2])])[0]
    room = len(cut.response_ids)
    return [*made, generated(EXPERT, monkeypatch, args, index=2, room=room)[0]]


def train_data(args: Namespace, samples: list[Sample]) -> dict[str, Any]:
    """What slime makes of samples, up to what a training process gets."""
    from slime.observability.rollout_data_utils import tensorize_rollout_data_for_training
    from slime.ray.rollout import RolloutManager

    owner = getattr(RolloutManager, "__ray_metadata__", Namespace(modified_class=RolloutManager)).modified_class
    manager = Namespace(
        args=args,
        custom_reward_post_process_func=ours.post_process_rewards,
        custom_convert_samples_to_train_data_func=None,
    )
    manager._post_process_rewards = lambda given: owner._post_process_rewards(manager, given)
    data: dict[str, Any] = owner._convert_samples_to_train_data(manager, samples)
    data["total_lengths"] = [len(tokens) for tokens in data["tokens"]]
    tensorize_rollout_data_for_training(data)
    return data


def test_a_sample_holds_the_ids_that_were_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, asked = generated(EXPERT, monkeypatch, arguments())
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    assert tuple(sample.tokens) == row.prompt_ids + row.response_ids
    assert sample.response_length == len(row.response_ids)
    assert tuple(sample.loss_mask) == row.loss_mask
    assert sample.rollout_log_probs == pytest.approx(row.logprobs)
    assert sample.reward == pytest.approx(2.2)
    assert sample.status is Sample.Status.COMPLETED
    assert sample.weight_versions == [f"v{turn + 1}" for turn in range(len(EXPERT))]
    assert sample.metadata["turnwise"]["turn_rewards"] == pytest.approx(row.turn_rewards)
    assert sample.metadata["turnwise"]["turn_spans"] == [list(span) for span in row.turn_spans]
    url, body, headers = asked[0]
    assert (url, headers) == ("http://127.0.0.1:1/generate", {"X-SMG-Routing-Key": "s"})
    assert tuple(body["input_ids"]) == row.prompt_ids
    assert body["sampling_params"]["max_new_tokens"] == 100_000
    assert asked[1][1]["sampling_params"]["max_new_tokens"] == 100_000 - row.turn_spans[1][0]


def test_a_reward_key_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(reward_key="total")
    sample, _ = generated(EXPERT, monkeypatch, args)
    assert sample.get_reward_value(args) == pytest.approx(2.2)


def test_each_token_gets_its_turns_advantage(monkeypatch: pytest.MonkeyPatch) -> None:
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns
    from slime.utils.ppo_utils import compute_policy_loss

    args = arguments()
    data = train_data(args, batch(monkeypatch, args))
    assert data["raw_reward"][0] == pytest.approx(2.2)
    compute_advantages_and_returns(args, data)
    played = [play_script(WORLD, TASK, script, sample=i) for i, script in enumerate(SCRIPTS)]
    rows = make_rows(played, credit=GroupCredit(estimator="dr_grpo", level="turn"))
    for row, found in zip(rows, data["advantages"], strict=True):
        assert found.tolist() == pytest.approx(row.advantages, abs=1e-5)
    assert len({round(value, 4) for value in rows[0].advantages}) > 2
    # slime's own loss: the gradient at each token is its turn's advantage
    log_prob = data["rollout_log_probs"][0].clone().requires_grad_()
    losses, _ = compute_policy_loss(data["rollout_log_probs"][0] - log_prob, data["advantages"][0], 0.2, 0.2)
    (losses * data["loss_masks"][0]).sum().backward()
    assert log_prob.grad is not None
    assert (-log_prob.grad).tolist() == pytest.approx(rows[0].advantages, abs=1e-5)


def test_slimes_own_rewards_are_one_number_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns

    args = arguments(custom_advantage_function_path=None)
    data = train_data(args, batch(monkeypatch, args))
    data["rewards"] = data["raw_reward"]
    compute_advantages_and_returns(args, data)
    assert all(len(set(found.tolist())) == 1 for found in data["advantages"])
    with pytest.raises(ConfigError, match="has no advantage for each"):
        ours.advantages(args, data)


def test_a_failed_episode_has_no_token_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(turnwise_fallback=-1.0, turnwise_attempts=2)
    good = generated(EXPERT, monkeypatch, args)[0]
    tried: list[int] = []

    def explode(self: World) -> Any:
        tried.append(1)
        raise EnvError("the kitchen burnt down")

    with monkeypatch.context() as broken:
        broken.setattr(World, "make", explode)
        bad, asked = generated(EXPERT, broken, args, index=1)
        with pytest.raises(EnvError, match="the kitchen burnt down"):
            generated(EXPERT, broken, arguments())
    assert (bad.status, bad.reward, bad.remove_sample, asked, len(tried)) == (Sample.Status.FAILED, -1.0, True, [], 3)
    data = train_data(args, [good, bad])
    assert data["loss_masks"][1].sum() == 0
    assert data["rewards"][0].count_nonzero() == 0, "a failed episode is no baseline for the others"


def test_an_aborted_request_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(url: str, body: dict[str, Any], headers: Any = None) -> dict[str, Any]:
        return {"meta_info": {"finish_reason": {"type": "abort"}, "output_token_logprobs": []}}

    monkeypatch.setattr(http_utils, "post", post)
    monkeypatch.setattr(ours, "_chat", lambda checkpoint: ByteChat())
    sample = Sample(label=TASK, index=0)
    asyncio.run(ours.generate(arguments(), sample, {"max_new_tokens": 100}))
    assert (sample.status, sample.tokens, sample.reward) == (Sample.Status.ABORTED, [], None)


def test_slimes_reward_hub_calls_our_function() -> None:
    from slime.rollout.rm_hub import async_rm, batched_async_rm

    args = arguments(custom_rm_path="turnwise.rollout.trainers.slime.reward")
    one = Sample(label=TASK, response="look")
    assert asyncio.run(async_rm(args, one)) == pytest.approx(0.1)
    keyed = arguments(custom_rm_path=args.custom_rm_path, reward_key="total")
    other = Sample(metadata={"task_id": TASK}, response="nonsense")
    both = asyncio.run(batched_async_rm(keyed, [one, other]))
    assert [found["total"] for found in both] == pytest.approx([0.1, 0.0])
    assert both[0].keys() == both[1].keys()
    with pytest.raises(ConfigError, match="names its task, got None"):
        asyncio.run(async_rm(args, Sample(response="look")))
    with pytest.raises(ConfigError, match="no world: --custom-config-path"):
        asyncio.run(async_rm(arguments(custom_rm_path=args.custom_rm_path, turnwise_world=None), one))


def test_rollouts_that_are_not_ours_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples that turnwise played"):
        ours.post_process_rewards(arguments(), [Sample(index=0, response_length=1, reward=1.0)])


def test_the_example_runs() -> None:
    assert run_example("slime_rollout.py", SOURCE).count("advantage of each turn") == 2
