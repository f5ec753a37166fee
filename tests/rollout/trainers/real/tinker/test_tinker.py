"""Tinker cookbook: what its own rollouts and data processing make of our worlds."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
import torch
from scripted import OPTIONS, ByteChat, TurnCredit, expert_actions, make_world, play_script, run_example, sampled
from tinker_cookbook.completers import TokenCompleter, TokensWithLogprobs
from tinker_cookbook.rl.data_processing import assemble_training_data, compute_advantages
from tinker_cookbook.rl.rollouts import do_group_rollout

from turnwise.errors import ConfigError, EnvError
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.scores import world_of
from turnwise.rollout.trainers.tinker.data import assemble_turn_data, datum_fields, to_datum
from turnwise.rollout.trainers.tinker.envs import WorldGroup

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
CREDIT = GroupCredit(estimator="dr_grpo", level="turn")


class Scripts(TokenCompleter):
    """Gives each episode of a group a script of its own; they differ from the first message on."""

    def __init__(self, scripts: list[list[str]]) -> None:
        self.scripts, self.unused = scripts, iter(scripts)

    async def __call__(self, model_input: Any, stop: Any, *, max_tokens: int | None = None) -> TokensWithLogprobs:
        assert stop == list(ByteChat.ends)
        text = bytes(one if one < 256 else 0 for one in model_input.to_ints()).decode()
        said = [part.partition("\0")[0] for part in text.split("[agent]")[1:-1]]
        begun = [script for script in self.scripts if said and script[: len(said)] == said]
        script = begun[0] if begun else next(self.unused)
        one = sampled(script[len(said)], len(said))
        return TokensWithLogprobs(tokens=list(one.ids), maybe_logprobs=list(one.logprobs))


def group(**options: Any) -> WorldGroup:
    return WorldGroup(**{"task_id": TASK, "world": OPTIONS, "group_size": 1, "chat": ByteChat(), **options})


def rollout(scripts: list[list[str]], **options: Any) -> Any:
    """A group rollout of the cookbook."""
    return asyncio.run(do_group_rollout(group(group_size=len(scripts), **options), Scripts(scripts)))


@pytest.fixture(scope="module")
def rolled() -> Any:
    scripts = [EXPERT, ["look", *EXPERT], ["inventory"] * 12]
    return scripts, rollout(scripts)


def test_each_transition_has_its_turns_reward(rolled: Any) -> None:
    scripts, result = rolled
    for script, trajectory, total in zip(scripts, result.trajectories_G, result.get_total_rewards(), strict=True):
        (row,) = make_rows([play_script(WORLD, TASK, script)])
        assert [one.reward for one in trajectory.transitions] == pytest.approx(row.turn_rewards)
        assert total == pytest.approx(row.reward)
        assert trajectory.transitions[-1].metrics["turns"] == len(row.turn_rewards)


def test_the_datums_have_each_turns_advantage_on_its_tokens(rolled: Any) -> None:
    scripts, result = rolled
    stock, _ = assemble_training_data([result], compute_advantages([result]))
    data, places = assemble_turn_data([result], compute_advantages([result]))
    played = [play_script(WORLD, TASK, script, sample=i) for i, script in enumerate(scripts)]
    rows = make_rows(played, credit=CREDIT)
    assert places == [{"group_idx": 0, "traj_idx": i} for i in range(len(scripts))]
    for row, datum, before in zip(rows, data, stock, strict=True):
        found = {name: tensor.to_torch().tolist() for name, tensor in datum.loss_fn_inputs.items()}
        expected = datum_fields(row)
        assert datum.model_input.to_ints() == expected.pop("input_tokens")
        assert found.pop("target_tokens") == expected.pop("target_tokens")
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, abs=1e-5), name
        flat = before.loss_fn_inputs["advantages"].to_torch()
        assert len(set(flat[flat != 0].tolist())) <= 1, "the cookbook's own gives all tokens one number"
    assert len({round(value, 4) for value in rows[0].advantages}) > 2


def test_the_gradient_is_the_turns_advantage() -> None:
    """Tinker's importance-sampling loss, -sum(exp(new - old) * advantage): its gradient at ratio 1."""
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)], credit=TurnCredit())
    inputs = {name: tensor.to_torch() for name, tensor in to_datum(row).loss_fn_inputs.items()}
    new = inputs["logprobs"].clone().requires_grad_()
    loss = -(torch.exp(new - inputs["logprobs"]) * inputs["advantages"]).sum()
    loss.backward()
    assert new.grad is not None
    for turn, (start, end) in enumerate(row.turn_spans):
        shift = len(row.prompt_ids) - 1
        assert set(new.grad[start + shift : end + shift].tolist()) == {-float(turn + 1)}
    assert new.grad.count_nonzero() == sum(row.loss_mask)


def test_masked_turns_have_no_weight() -> None:
    class Half(TurnCredit):
        def assign(self, group: Any) -> Any:
            from dataclasses import replace

            return tuple(replace(one, mask=(False, *one.mask[1:])) for one in super().assign(group))

    result = rollout([EXPERT], credit=Half())
    (datum,), _ = assemble_turn_data([result], compute_advantages([result]))
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    start, end = (edge + len(row.prompt_ids) - 1 for edge in row.turn_spans[0])
    assert not any(datum.loss_fn_inputs["mask"].to_torch()[start:end])
    assert not any(datum.loss_fn_inputs["advantages"].to_torch()[start:end])
    assert datum.loss_fn_inputs["mask"].to_torch().sum() == sum(row.loss_mask) - (end - start)


def test_a_failed_episode_raises_and_is_never_a_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: Any) -> None:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(type(world_of(OPTIONS, agent="tinker")), "make", explode)
    with pytest.raises(EnvError, match="the kitchen burnt down"):
        rollout([EXPERT])


def test_a_group_travels_to_other_processes() -> None:
    made = pickle.loads(pickle.dumps(group(group_size=2)))
    assert (made.task_id, made.group_size, made.logging_tags()) == (TASK, 2, ["turnwise/Household-v0"])
    result = asyncio.run(do_group_rollout(made, Scripts([EXPERT, ["look", *EXPERT]])))
    assert result.get_total_rewards()[0] == pytest.approx(2.2)
    assert made._envs == []


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="either model_name"):
        group(chat=None)
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    with pytest.raises(ConfigError, match=r"it has no advantages: make rows with credit"):
        datum_fields(row)


def test_the_example_runs() -> None:
    assert run_example("tinker_group.py").count("advantage of each turn's tokens") == 2
