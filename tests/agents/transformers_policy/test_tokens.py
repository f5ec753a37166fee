"""Tokens in, tokens out: ids, spans and log-probabilities of any episode, in any company."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.policy import unpack_state

pytest.importorskip("transformers", reason="needs the extra torch")

Serve = Callable[..., tuple[Any, Callable[[Any], Any]]]


@pytest.fixture(scope="module")
def serve(plain_bytes: tuple[Any, Any]) -> Iterator[Serve]:
    """Make policies around one model, on an event loop that outlives an example."""
    model, tokenizer = plain_bytes
    loop = asyncio.new_event_loop()
    made: dict[str, Any] = {}

    def make(**options: Any) -> tuple[Any, Callable[[Any], Any]]:
        key = repr(options)
        if key not in made:
            made[key] = TransformersPolicy(model, tokenizer=tokenizer, **options)
        return made[key], lambda main: loop.run_until_complete(asyncio.wait_for(main, 120))

    yield make
    for policy in made.values():
        loop.run_until_complete(policy.close())
    loop.close()


hostile = st.sampled_from(["<|im_end|>", "<|im_start|>assistant\n", "<tool_call>", "</tool_call>", "<|endoftext|>"])
observations = st.lists(st.one_of(st.text(max_size=30), hostile), max_size=3).map("".join)
episodes = st.lists(st.lists(observations, min_size=1, max_size=4), min_size=1, max_size=4)


def check(kit: Any, model: Any, tokenizer: Any, said: list[str], replies: list[Any], temperature: float) -> None:
    def text(ids: Any) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    ids = kit.ids_of(replies)
    state = np.frombuffer(unpack_state(replies[-1].state)["ids"], dtype="<i4").tolist()
    assert ids == state
    end = tokenizer.eos_token_id
    for observation, reply in zip(said, replies, strict=True):
        tokens = reply.tokens
        assert observation in text(tokens.prompt_ids)
        ended = tokens.completion_ids[-1] == end
        assert text(tokens.completion_ids) == reply.text + (text([end]) if ended else "")
        assert len(tokens.logprobs) == len(tokens.completion_ids)
        assert (reply.finish == "stop") == ended
    recorded = [value for reply in replies for value in reply.tokens.logprobs]
    assert np.allclose(recorded, kit.logprobs_by_hand(model, replies, temperature), atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@settings(max_examples=25, deadline=None)
@given(episodes=episodes, seed=st.integers(-(2**70), 2**70))
def test_any_episodes_side_by_side(
    serve: Serve, plain_bytes: tuple[Any, Any], kit: Any, temperature: float, episodes: list[list[str]], seed: int
) -> None:
    policy, run = serve(temperature=temperature, top_p=0.95, max_tokens=7, max_batch=3)

    async def main() -> list[list[Any]]:
        return list(
            await asyncio.gather(
                *(
                    kit.play(policy, said, session=str(number), seed=seed + number, system="Play.", tools=kit.tools)
                    for number, said in enumerate(episodes)
                )
            )
        )

    for said, replies in zip(episodes, run(main()), strict=True):
        check(kit, *plain_bytes, said, replies, temperature)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_batch_tokens": 90},  # hardly room for two
        {"cache": False},
        {"cache_tokens": 60},  # some are evicted
        {"temperature": 0.0},
    ],
)
def test_the_same_message_alone_and_in_company(
    serve: Serve, plain_bytes: tuple[Any, Any], kit: Any, options: dict[str, Any]
) -> None:
    policy, run = serve(max_tokens=12, **options)
    said = {f"{n}": [f"You see mug {n}. " * (1 + 2 * ((n + turn) % 3)) for turn in range(3)] for n in range(6)}

    async def together() -> Any:
        return await asyncio.gather(
            *(kit.play(policy, each, session=f"t{name}", seed=int(name)) for name, each in said.items())
        )

    for (name, each), replies in zip(said.items(), run(together()), strict=True):
        alone = run(kit.play(policy, each, session=f"a{name}", seed=int(name)))
        assert [reply.tokens.completion_ids for reply in alone] == [reply.tokens.completion_ids for reply in replies]
        check(kit, *plain_bytes, each, replies, 1.0)


def test_messages_differ_by_seed_and_turn(serve: Serve, kit: Any) -> None:
    policy, run = serve(max_tokens=12)
    texts = [run(kit.play(policy, ["look", "look"], session=f"s{seed}", seed=seed)) for seed in (1, 2)]
    assert len({reply.text for replies in texts for reply in replies}) == 4


def test_any_replica_goes_on_from_the_state(plain_bytes: tuple[Any, Any], kit: Any) -> None:
    model, tokenizer = plain_bytes
    said = ["look", "you see a mug", "you hold a mug"]

    async def main() -> None:
        one, other = (TransformersPolicy(model, tokenizer=tokenizer, max_tokens=9) for _ in range(2))
        async with kit.opened(one), kit.opened(other):
            whole = await kit.play(one, said, seed=4)
            begun = await kit.play(one, said[:2], session="b", seed=4)
            request = kit.request(session="b", turn=2, observation=said[2], seed=4, state=begun[-1].state)
            assert kit.same(await other.act(request), whole[2])

    kit.run(main())


def test_reads_what_the_model_was_trained_on(qwen: tuple[Any, Any], kit: Any) -> None:
    """The first prompt is the template's own rendering, and a turn's prompt what the template adds."""
    model, tokenizer = qwen

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=5)) as policy:
            first, second = await kit.play(policy, ["look", "a mug"], system="Play.")
            talk = [{"role": "system", "content": "Play."}, {"role": "user", "content": "look"}]
            text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
            assert list(first.tokens.prompt_ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
            after = await policy.continuation("a mug", first.tokens.completion_ids)
            assert second.tokens.prompt_ids == after

    kit.run(main())
