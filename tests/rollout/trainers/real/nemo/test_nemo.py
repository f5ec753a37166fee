"""NeMo-Gym's own models on our results; NeMo-RL's own checks and accumulation where its source is given."""

from __future__ import annotations

import ast
import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse
from nemo_gym.openai_utils import NeMoGymResponse, NeMoGymResponseOutputMessageForTraining
from scripted import OPTIONS, clumsy, expert_actions, make_world, play_script, run_example

from turnwise.errors import ConfigError, EnvError
from turnwise.rollout.trainers.nemo import BatchWorld, EnvironmentReturn, components, gym_result, opening_messages
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.stepping import World

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
SOURCE = os.environ.get("TURNWISE_NEMO_RL_SOURCE", "")


def test_nemo_gyms_models_accept_a_result() -> None:
    trajectory = play_script(WORLD, TASK, EXPERT)
    (row,) = make_rows([trajectory])
    result = gym_result(trajectory)
    BaseVerifyRequest.model_validate(result)
    checked = BaseVerifyResponse.model_validate(result)
    assert checked.reward == pytest.approx(2.2)
    assert math.isclose(checked.reward, sum(result["reward_components"].values()), rel_tol=1e-5)
    assert set(result["reward_components"]) == {"progress", "outcome", "valid_action"}
    said = [one for one in checked.response.output if isinstance(one, NeMoGymResponseOutputMessageForTraining)]
    assert len(said) == len(EXPERT)
    # each prompt continues the one before and its message, and the ids are the row's
    for turn, (one, (start, end)) in enumerate(zip(said, row.turn_spans, strict=True)):
        whole = row.prompt_ids + row.response_ids
        assert tuple(one.prompt_token_ids) == whole[: len(row.prompt_ids) + start]
        assert tuple(one.generation_token_ids) == row.response_ids[start:end]
        assert one.generation_log_probs == pytest.approx(row.logprobs[start:end])
        assert one.content[0].text == EXPERT[turn]
    seen = [one for one in NeMoGymResponse.model_validate(result["response"]).output if one.role == "user"]
    assert [one.content for one in seen] == [turn.observation for turn in trajectory.turns[1:]]


def test_keys_are_the_same_for_every_result_and_a_failure_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [gym_result(play_script(WORLD, TASK, actions)) for actions in (EXPERT, ["nonsense"] * 12)]
    assert results[0]["reward_components"].keys() == results[1]["reward_components"].keys()
    assert results[1]["reward"] == pytest.approx(0.0)

    def explode(self: World) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(World, "make", explode)
    with pytest.raises(EnvError, match="the kitchen burnt down"):
        gym_result(play_script(WORLD, TASK, EXPERT))


def played(*scripts: list[str], **options: Any) -> tuple[list[list[EnvironmentReturn]], BatchWorld]:
    """Step scripts side by side as NeMo-RL does: those that are over leave the batch."""
    env = BatchWorld(OPTIONS, **options)
    logs: list[list[dict[str, Any]]] = [opening_messages(WORLD, TASK) for _ in scripts]
    metadata: list[Any] = [{"task_id": TASK, "sample": 0} for _ in scripts]
    active, steps = list(range(len(scripts))), []
    for turn in range(max(map(len, scripts))):
        active = [i for i in active if turn < len(scripts[i])]
        if not active:
            break
        for i in active:
            logs[i].append({"role": "assistant", "content": scripts[i][turn]})
        found = env.step([logs[i] for i in active], [metadata[i] for i in active])
        assert found.terminateds.dtype == torch.bool
        for place, i in enumerate(active):
            logs[i].append(found.observations[place])
            metadata[i] = found.metadata[place]
        steps.append((list(active), found))
        active = [i for place, i in enumerate(active) if not found.terminateds[place]]
    return steps, env  # type: ignore[return-value]


def test_rewards_of_the_steps_add_up_to_the_episodes() -> None:
    scripts = [EXPERT, clumsy(EXPERT), EXPERT[:2]]
    steps, env = played(*scripts)
    totals = torch.zeros(3)
    for active, found in steps:  # type: ignore[misc]
        totals[active] += found.rewards  # type: ignore[attr-defined]
    expected = [make_rows([play_script(WORLD, TASK, script)])[0].reward for script in scripts]
    assert totals.tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[2] != expected[0]
    batch, metrics = env.global_post_process_and_metrics({"idx": [0, 1, 2]})
    assert metrics == {"turnwise/over": 2.0, "turnwise/invalid": 0.0, "turnwise/cut": 1.0}
    assert env.global_post_process_and_metrics(batch)[1]["turnwise/cut"] == 0.0


def test_components_come_by_name_and_add_up() -> None:
    steps, _ = played(EXPERT, clumsy(EXPERT), components=True)
    sums: dict[str, torch.Tensor] = {}
    for active, found in steps:  # type: ignore[misc]
        for name, column in found.rewards.items():  # type: ignore[attr-defined]
            sums.setdefault(name, torch.zeros(2))[active] += column
    rows = make_rows([play_script(WORLD, TASK, script, sample=i) for i, script in enumerate([EXPERT, clumsy(EXPERT)])])
    for i, row in enumerate(rows):
        assert {name: float(column[i]) for name, column in sums.items()} == pytest.approx(
            {f"reward/{name}": share for name, share in components(row).items()}, abs=1e-5
        )


def test_a_failure_raises_or_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    env = type(WORLD.make().unwrapped)

    def explode(self: Any, action: Any) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(env, "_apply", explode)
    with pytest.raises(EnvError, match="the kitchen burnt down"):
        played(EXPERT)
    steps, made = played(EXPERT, fallback=-1.0)
    assert [float(found.rewards) for _, found in steps] == [-1.0]  # type: ignore[misc,attr-defined]
    assert made.global_post_process_and_metrics({})[1]["turnwise/invalid"] == 1.0


def test_mistakes_are_named() -> None:
    env = BatchWorld(OPTIONS)
    with pytest.raises(ConfigError, match="needs the 'task_id'"):
        env.step([[{"role": "assistant", "content": "look"}]], [{}])
    with pytest.raises(ConfigError, match="ends with the policy's message"):
        env.step([[{"role": "user", "content": "look"}]], [{"task_id": TASK}])


def functions(path: str, *names: str) -> dict[str, Any]:
    """Functions of NeMo-RL's source, without importing the module, which needs Python 3.13 and CUDA."""
    tree = ast.parse((Path(SOURCE) / path).read_text())
    found: dict[str, Any] = {"math": math, "torch": torch, "Dict": dict, "List": list, "Any": Any}
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    for body in bodies:
        body.decorator_list, body.returns = [], None
        for argument in [*body.args.args, *body.args.kwonlyargs]:
            argument.annotation = None
    exec(compile(ast.Module(body=bodies, type_ignores=[]), path, "exec"), found)
    return found


@pytest.mark.skipif(not SOURCE, reason="TURNWISE_NEMO_RL_SOURCE names no checkout of NeMo-RL")
def test_nemo_rls_own_checks_accept_our_results() -> None:
    path = "nemo_rl/environments/nemo_gym.py"
    names = ("extract_reward_components", "build_reward_component_columns", "validate_reward_components_match_scalar")
    theirs = functions(path, *names)
    results = [gym_result(play_script(WORLD, TASK, actions)) for actions in (EXPERT, clumsy(EXPERT))]
    theirs["validate_reward_components_match_scalar"](results)
    columns = theirs["build_reward_component_columns"]([theirs["extract_reward_components"](one) for one in results])
    assert columns["reward/outcome"].tolist() == [1.0, 1.0]
    broken = copy.deepcopy(results[0])
    broken["reward"] += 1.0
    with pytest.raises(ValueError, match="reward_components sum"):
        theirs["validate_reward_components_match_scalar"]([broken])


@pytest.mark.skipif(not SOURCE, reason="TURNWISE_NEMO_RL_SOURCE names no checkout of NeMo-RL")
def test_nemo_rl_reads_the_ids_that_were_sampled() -> None:
    from types import SimpleNamespace

    path = "nemo_rl/environments/nemo_gym.py"
    theirs = functions(path, "_postprocess_nemo_gym_to_nemo_rl_result", "_is_trainable_output_item")
    theirs.update(
        extract_input_image_sources_from_responses_messages=lambda messages: [],
        _detect_invalid_tool_call_and_malformed_thinking=lambda *a, **k: (False, False),
    )
    trajectory = play_script(WORLD, TASK, EXPERT)
    (row,) = make_rows([trajectory])
    tokenizer = SimpleNamespace(batch_decode=lambda batch: [""] * len(batch))
    found = theirs["_postprocess_nemo_gym_to_nemo_rl_result"](
        SimpleNamespace(cfg={}), {}, gym_result(trajectory), tokenizer
    )
    log = found["message_log"]
    ids = [int(one) for message in log for one in message["token_ids"]]
    assert tuple(ids) == row.prompt_ids + row.response_ids
    mask = [int(message["role"] == "assistant") for message in log for _ in message["token_ids"]]
    assert tuple(mask[len(row.prompt_ids) :]) == row.loss_mask
    said = [float(one) for message in log if "generation_logprobs" in message for one in message["generation_logprobs"]]
    pairs = zip(row.logprobs, row.response_mask, strict=True)
    assert said == pytest.approx([value for value, sampled in pairs if sampled])


def test_the_example_runs() -> None:
    shown = run_example("nemo_results.py")
    assert "NeMo-Gym's model accepts:" in shown
    assert "over: True" in shown
