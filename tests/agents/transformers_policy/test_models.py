"""Models that cannot share a batch, scoring with the same model, and the tiny models themselves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnwise.agents.likelihood import TransformersLogProbs
from turnwise.agents.policy_agent import scoring
from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import AnswerQuery, ForcedAnswer

torch = pytest.importorskip("torch", reason="needs the extra torch")
transformers = pytest.importorskip("transformers", reason="needs the extra torch")

from turnwise.agents.transformers_policy.tiny import make_tiny_model  # noqa: E402

SAID = ["look around", "you see a mug", "you hold a mug"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


def odd_model(kind: str, tokenizer: Any) -> Any:
    """A model whose cache or positions are not the plain ones, or one that is plain but of another make."""
    size = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = {
        "sliding": lambda: transformers.MistralConfig(sliding_window=8, **SIZES, **size),
        "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **size),
        "mamba": lambda: transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **size),
        "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **size),
    }[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "why"),
    [("sliding", "sliding"), ("bloom", "position"), ("mamba", "nor can its cache be used"), ("gpt2", None)],
)
def test_every_model_is_sampled_right(qwen: tuple[Any, Any], kit: Any, kind: str, why: str | None) -> None:
    tokenizer = qwen[1]
    model = odd_model(kind, tokenizer)

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=8)) as policy:
            played = await asyncio.gather(*(kit.play(policy, SAID, session=str(n), seed=n) for n in range(3)))
            assert (policy.why is None) if why is None else (why in policy.why), policy.why
            for replies in played:
                recorded = [value for reply in replies for value in reply.tokens.logprobs]
                assert np.allclose(recorded, kit.logprobs_by_hand(model, replies), atol=1e-4)
            alone = await kit.play(policy, SAID, session="alone", seed=1)
            assert [reply.text for reply in alone] == [reply.text for reply in played[1]]

    kit.run(main())


def test_a_model_that_ignores_positions_is_found_out(load: Callable[..., tuple[Any, Any]], kit: Any) -> None:
    model, tokenizer = load()
    forward = model.forward

    def careless(input_ids: Any = None, position_ids: Any = None, past_key_values: Any = None, **inputs: Any) -> Any:
        return forward(input_ids=input_ids, past_key_values=past_key_values, **inputs)

    model.forward = careless

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=4)) as policy:
            await policy.prepare()
            assert policy.why is not None
            assert "off by" in policy.why

    kit.run(main())


# -- scoring ---------------------------------------------------------------------------------------


def test_answers_are_scored_while_others_are_sampled(qwen: tuple[Any, Any], kit: Any) -> None:
    model, tokenizer = qwen
    answer = ForcedAnswer(answer="Ilsa Tarn", prefix="<answer>", suffix="</answer>")
    queries = [
        AnswerQuery(segments=("look ", (5, 6, 7), "The city"), answers=(answer,)),
        AnswerQuery(segments=("",), answers=(answer,)),
    ]
    expected = TransformersLogProbs(model, tokenizer=tokenizer).answer_logprobs(queries)[0].tokens  # type: ignore[union-attr]

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=40)) as policy:
            scored, *_ = await asyncio.gather(
                scoring(policy).answer_logprobs(queries),
                *(kit.play(policy, SAID, session=str(n), seed=n) for n in range(3)),
            )
            assert np.allclose(np.array(scored[0].tokens), np.array(expected), atol=1e-4)
            assert isinstance(scored[1], JudgeError)

    kit.run(main())


# -- tiny models -----------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_the_same_arguments_give_the_same_files_and_touch_no_global_state(tmp_path: Path) -> None:
    texts = ["a mug on a shelf", "another mug in the fridge"]
    state = torch.random.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_tiny_model(tmp_path / name, texts, hidden_size=32, seed=seed)
        torch.rand(1)
        torch.random.set_rng_state(state)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (digests(tmp_path / name) for name in "abc")
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


@pytest.mark.parametrize(
    "options",
    [
        {"family": "gemma"},
        {"template": "alpaca"},
        {"vocab_size": 100},
        {"heads": 3},
        {"hidden_size": 36},
        {"layers": 0},
        {"texts": []},
    ],
)
def test_what_no_tiny_model_can_be(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_tiny_model(tmp_path / "x", **{"texts": ["a"], **options})
    assert not (tmp_path / "x").exists()
