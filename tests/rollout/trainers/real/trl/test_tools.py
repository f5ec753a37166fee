"""TRL's own loops on our worlds: its tool loop plays, its sampled completions are scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import doors
import pytest
import train_trl
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import get_json_schema
from trl import GRPOTrainer

from turnwise.rollout.trainers.trl import make_async_reward, make_environment, make_reward

REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "valid_action", "weight": 0.25}]}
Settings = Callable[..., Any]


@pytest.fixture(scope="module")
def chat_tokenizer() -> Any:
    """A tokenizer with Qwen's template, whose tool calls TRL knows how to read."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(["open the red door", "<tool_call> {} </tool_call>"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>", padding_side="left"
    )
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    return tokenizer


def model_for(tokenizer: Any) -> Any:
    made = train_trl.make_model(tokenizer)
    made.config.max_position_embeddings = 4096
    return made


def saying(lines: Iterator[str]) -> Any:
    """A trainer whose model says given lines, whatever it is asked."""

    class Saying(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **options: Any) -> Any:
            ids = self._tokenizer.encode(f"{next(lines)}<|im_end|>")
            return [list(ids) for _ in prompt_ids], None

    return Saying


def call(colour: str) -> str:
    body = json.dumps({"name": "open", "arguments": {"colour": colour}})
    return f"<tool_call>\n{body}\n</tool_call>"


def test_trls_tool_loop_plays_a_world(settings: Settings, chat_tokenizer: Any) -> None:
    environment = make_environment(doors.ENV_ID, tasks=["red-blue-blue"], rewards=REWARDS)
    seen: dict[str, Any] = {}

    def look(environments: Any, completions: Any, **columns: Any) -> list[float]:
        seen["trajectories"] = [one._trajectory() for one in environments]
        seen["roles"] = [message["role"] for message in completions[0]]
        return [0.0] * len(completions)

    arguments = settings(
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=700,
        max_tool_calling_iterations=4,
        reward_weights=[0.0],
    )
    trainer = saying(iter([call("red"), call("green"), call("blue"), "I am done."]))(
        model=model_for(chat_tokenizer),
        args=arguments,
        train_dataset=environment._dataset(),
        processing_class=chat_tokenizer,
        reward_funcs=[look],
        environment_factory=environment,
    )
    trainer.train()
    first = seen["trajectories"][0]
    assert [turn.action.command for turn in first.turns] == ["open red", "open green", "open blue"]
    assert [turn.rewards["reward"].value for turn in first.turns] == pytest.approx([1 / 3 + 0.25, 0.25, 1 / 3 + 0.25])
    assert seen["roles"] == ["assistant", "tool"] * 3 + ["assistant"]
    log = trainer.state.log_history[0]
    assert log["rewards/Doors_v0/mean"] == pytest.approx(2 / 3 + 0.75)
    assert log["tools/call_frequency"] == 3.0
    assert log["tools/failure_frequency"] == 0.0
    assert len({one.id for one in seen["trajectories"]}) == 2


@pytest.mark.parametrize("world", ["turnwise/Household-v0", "turnwise/SearchQA-v0", doors.ENV_ID])
def test_every_action_becomes_a_tool_that_trl_can_describe(world: str) -> None:
    environment = make_environment(world, tasks="train:1")
    made = environment()
    made.reset(task_id=environment._world.tasks[0])
    tools = {tool["function"]["name"]: tool["function"] for tool in made._episode.tools}
    for name, function in tools.items():
        schema = get_json_schema(getattr(made, name))["function"]
        assert schema["name"] == name
        assert schema["description"] == " ".join(function["description"].split())
        parameters, wanted = schema["parameters"], function["parameters"]
        assert set(parameters["properties"]) == set(wanted["properties"])
        assert set(parameters.get("required", ())) == set(wanted["required"])
        for key, described in wanted["properties"].items():
            assert parameters["properties"][key]["type"] == described["type"]
            assert parameters["properties"][key]["description"] == described["description"]


def test_reward_functions_score_what_trl_sampled(settings: Settings, chat_tokenizer: Any) -> None:
    train = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": "Open."}], "task_id": "red-blue-blue"} for _ in range(4)]
    )
    options: dict[str, Any] = {"rewards": REWARDS}
    functions = [make_reward(doors.ENV_ID, **options), make_async_reward(doors.ENV_ID, reward="progress", **options)]
    trainer = saying(iter(["open red"]))(
        model=model_for(chat_tokenizer),
        args=settings(),
        train_dataset=train,
        processing_class=chat_tokenizer,
        reward_funcs=functions,
    )
    assert trainer._has_async_funcs
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["rewards/reward/mean"] == pytest.approx(1 / 3 + 0.25)
    assert log["rewards/progress/mean"] == pytest.approx(1 / 3)


def test_an_unknown_reward_leaves_a_completion_out(settings: Settings, chat_tokenizer: Any) -> None:
    train = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": "Open."}], "task_id": "red-blue-blue"} for _ in range(4)]
    )
    broken = {"version": 1, "rewards": [{"name": "broken", "use": "brokenreward:Broken"}]}
    trainer = saying(iter(["open red"]))(
        model=model_for(chat_tokenizer),
        args=settings(),
        train_dataset=train,
        processing_class=chat_tokenizer,
        reward_funcs=[make_reward(doors.ENV_ID, rewards=broken)],
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["rewards/reward/mean"] is None  # nothing was scored, and nothing counts as 0
    assert log["grad_norm"] == 0.0
