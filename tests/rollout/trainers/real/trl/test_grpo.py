"""GRPO of the real TRL on turnwise: what is played, what is masked, and what arrives in the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import doors
import pytest
import torch
from scripted_rollouts import RawReturn, ScriptedPlayer, scripted, without_rewards
from trl import GRPOTrainer

from turnwise.errors import ConfigError
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.trl import Rollouts, component_reward, episode_reward, turn_grpo_trainer

REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "outcome", "weight": 0.5}]}
Settings = Callable[..., Any]


def watched(base: Any) -> Any:
    """A trainer that keeps what it trained on."""

    class Watched(base):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self.rows, self.batch = inputs, super()._generate_and_score_completions(inputs)
            return self.batch

    return Watched


def trained(base: Any, settings: Any, model: Any, tokenizer: Any, rollouts: Rollouts, **options: Any) -> Any:
    trainer = watched(base)(
        model=model,
        args=settings,
        reward_funcs=options.pop("reward_funcs", [episode_reward]),
        rollout_func=rollouts,
        train_dataset=rollouts.dataset(),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


def grad_norm(trainer: Any) -> float:
    return float(trainer.state.log_history[0]["grad_norm"])


# -- with the trainer's own model --------------------------------------------------------------------


@pytest.fixture
def played(settings: Settings, model: Any, tokenizer: Any) -> Any:
    rollouts = Rollouts(
        doors.ENV_ID,
        tasks="train:4",
        rewards=REWARDS,
        max_tokens=6,
        policy_options={"stop": ""},
        credit=GroupCredit(level="turn", estimator="dr_grpo"),
    )
    arguments = settings(per_device_train_batch_size=8, temperature=0.7)
    functions = [episode_reward, component_reward("progress")]
    return trained(turn_grpo_trainer(), arguments, model, tokenizer, rollouts, reward_funcs=functions)


def test_episodes_are_played_with_the_trainers_own_model(played: Any) -> None:
    rows, batch = played.rows, played.batch
    assert [row["episode_id"].rpartition("#")[2] for row in rows] == ["0", "1", "2", "3"] * 2
    assert len({row["prompt"] for row in rows}) == 2
    assert all(row["turn_spans"][0][0] == 0 for row in rows)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    # The log-probs that TRL computes of the same ids, before the step, are those that were sampled with.
    mask = batch["completion_mask"] * batch["tool_mask"]
    assert int(mask.sum()) == sum(end - start for row in rows for start, end in row["turn_spans"])
    log = played.state.log_history[0]
    assert log["rewards/episode_reward/mean"] == pytest.approx(
        sum(row["episode_reward"] for row in rows) / len(rows), abs=1e-6
    )
    assert log["rewards/progress/mean"] == pytest.approx(
        sum(row["reward_components"]["progress"] for row in rows) / len(rows), abs=1e-6
    )
    assert log["turnwise/invalid"] == 0.0
    assert played.model.training


def test_trl_recomputes_the_very_log_probs(settings: Settings, model: Any, tokenizer: Any) -> None:
    rollouts = Rollouts(doors.ENV_ID, tasks="train:2", rewards=REWARDS, max_tokens=6, policy_options={"stop": ""})
    trainer = turn_grpo_trainer()(
        model=model,
        args=settings(temperature=0.7, learning_rate=0.0),
        reward_funcs=[episode_reward],
        rollout_func=rollouts,
        train_dataset=rollouts.dataset(),
        processing_class=tokenizer,
    )
    batch = trainer._generate_and_score_completions([{"prompt": rollouts.world.tasks[0]} for _ in range(4)])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        recomputed = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, attention, batch["completion_ids"].shape[1]
        )[0]
    sampled = (batch["completion_mask"] * batch["tool_mask"]).bool()
    assert int(sampled.sum()) > 20
    difference = (recomputed - batch["sampling_per_token_logps"])[sampled].abs().max()
    assert float(difference) < 1e-4


def test_another_rollout_samples_other_episodes_and_a_repeated_run_the_same(settings: Settings, tokenizer: Any) -> None:
    import train_trl
    from transformers import set_seed

    def completions() -> list[list[int]]:
        set_seed(3)
        rollouts = Rollouts(doors.ENV_ID, tasks="train:1", rewards=REWARDS, max_tokens=4, policy_options={"stop": ""})
        trainer = watched(turn_grpo_trainer())(
            model=train_trl.make_model(tokenizer),
            args=settings(),
            reward_funcs=[episode_reward],
            rollout_func=rollouts,
            train_dataset=rollouts.dataset(),
            processing_class=tokenizer,
        )
        return [rollouts(["blue-blue-blue"] * 4, trainer)["completion_ids"] for _ in range(2)]  # type: ignore[return-value]

    first, second = completions(), completions()
    assert first == second
    assert first[0] != first[1]


# -- what arrives in the gradient ---------------------------------------------------------------------


def test_identical_completions_cancel_in_stock_grpo_and_not_with_turn_advantages(
    settings: Settings, model: Any, tokenizer: Any
) -> None:
    same = [["right", "wrong", "right"]] * 4
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stock = trained(GRPOTrainer, settings(), model, tokenizer, scripted(tokenizer, same, credit=RawReturn()))
    model.load_state_dict(start)
    ours = trained(turn_grpo_trainer(), settings(), model, tokenizer, scripted(tokenizer, same, credit=RawReturn()))
    assert grad_norm(stock) < 1e-5
    assert grad_norm(ours) > 0.05


def test_equal_totals_earned_on_other_turns_differ_only_with_turn_advantages(
    settings: Settings, model: Any, tokenizer: Any
) -> None:
    """Each episode gets one door right, so their totals are equal; which turn earned it is what credit is about."""
    scripts = [["right", "wrong"], ["wrong", "right"]] * 2
    credit = GroupCredit(level="turn", estimator="dr_grpo", gamma=0.0)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stock = trained(GRPOTrainer, settings(), model, tokenizer, scripted(tokenizer, scripts))
    model.load_state_dict(start)
    ours = trained(turn_grpo_trainer(), settings(), model, tokenizer, scripted(tokenizer, scripts, credit=credit))
    assert grad_norm(stock) < 1e-5
    assert grad_norm(ours) > 0.05
    # A third of the way for a door: half of that above the mean of the turn, or below.
    first, second = ours.batch["advantages"][0], ours.batch["advantages"][1]
    for row, signs in ((first, (1, -1)), (second, (-1, 1))):
        spans = ours.rows[0 if row is first else 1]["turn_spans"]
        for (low, high), sign in zip(spans, signs, strict=True):
            assert row[low:high].tolist() == pytest.approx([sign / 6] * (high - low))
    observations = ours.batch["tool_mask"] == 0
    assert int(observations.sum()) > 0
    assert float(ours.batch["advantages"][observations].abs().sum()) == 0.0


def test_a_failed_episode_is_masked_and_left_out_of_the_group(settings: Settings, model: Any, tokenizer: Any) -> None:
    scripts = [["right", "right"], ["right", "right"], ["right", "right"], ["wrong", "wrong"]]
    credit = GroupCredit(level="turn", estimator="dr_grpo")
    trainer = trained(
        turn_grpo_trainer(), settings(), model, tokenizer, scripted(tokenizer, scripts, credit=credit, broken=[3])
    )
    assert [row["episode_reward"] for row in trainer.rows] == [pytest.approx(2 / 3)] * 3 + [None]
    assert trainer.rows[3]["episode_problem"] == "env: it hung"
    assert int(trainer.batch["tool_mask"][3, : len(trainer.rows[3]["token_advantages"])].sum()) == 0
    # The other three are equal: without the failed one there is nothing to prefer, counted as 0 there would be.
    assert float(trainer.batch["advantages"].abs().max()) == 0.0
    assert grad_norm(trainer) == 0.0
    log = trainer.state.log_history[0]
    assert log["rewards/episode_reward/mean"] == pytest.approx(2 / 3)
    assert log["turnwise/invalid"] == 0.25


def test_a_turn_of_unknown_reward_is_masked_alone(settings: Settings, model: Any, tokenizer: Any) -> None:
    scripts = [["right", "right"], ["right", "wrong"], ["wrong", "right"], ["wrong", "wrong"]]
    credit = GroupCredit(level="turn", estimator="dr_grpo", gamma=0.0)
    rollouts = scripted(tokenizer, scripts, credit=credit)

    class Unknown(ScriptedPlayer):
        def play(self, requests: Any, *, trainer: Any, seed: int) -> Any:
            played = super().play(requests, trainer=trainer, seed=seed)
            return [without_rewards(played[0], 1), *played[1:]]

    rollouts._player = Unknown(rollouts.world, tokenizer, scripts)
    trainer = trained(turn_grpo_trainer(), settings(), model, tokenizer, rollouts)
    (first, second), advantages = trainer.rows[0]["turn_spans"], trainer.batch["advantages"][0]
    assert advantages[first[0] : first[1]].tolist() == pytest.approx([1 / 6] * (first[1] - first[0]))
    assert float(advantages[second[0] : second[1]].abs().max()) == 0.0
    assert int(trainer.batch["tool_mask"][0, second[0] : second[1]].sum()) == 0
    assert trainer.rows[0]["turn_rewards"] == [pytest.approx(1 / 3), None]


# -- mistakes ----------------------------------------------------------------------------------------


def test_turn_advantages_without_rollouts_say_what_is_missing(settings: Settings, model: Any, tokenizer: Any) -> None:
    from datasets import Dataset

    trainer = turn_grpo_trainer()(
        model=model,
        args=settings(max_completion_length=4),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
        processing_class=tokenizer,
    )
    with pytest.raises(ConfigError, match=r"turn advantages come from rollout_func=Rollouts"):
        trainer.train()


def test_a_group_in_several_batches_is_an_error(settings: Settings, model: Any, tokenizer: Any) -> None:
    rollouts = scripted(tokenizer, [["right"]] * 4)
    trainer = turn_grpo_trainer()(
        model=model,
        args=settings(),
        reward_funcs=[episode_reward],
        rollout_func=rollouts,
        train_dataset=rollouts.dataset(),
        processing_class=tokenizer,
    )
    with pytest.raises(ConfigError, match=r"a group of 4 episodes is not in one process, got 3 prompts"):
        rollouts(["red-blue-blue"] * 3, trainer)
    with pytest.raises(ConfigError, match=r"unknown task 'red'"):
        rollouts(["red"] * 4, trainer)
