"""Tiny models made here, and episodes with them: nothing is downloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from turnwise.policy import PolicyReply, PolicyRequest

TEXTS = [
    "You arrive at shelf 2. On the shelf 2, you see a mug 1, and a plate 3. You are in the middle of a room.",
    "search[who founded the city of Velmora] The city was founded by Ilsa Tarn in 1204. <search> </search>",
    'Observation: Action: open the fridge 1. The answer is Ilsa Tarn. <answer> </answer> {"name": "search"}',
]
TOOLS = (
    {
        "type": "function",
        "function": {"name": "search", "description": "Search.", "parameters": {"type": "object", "properties": {}}},
    },
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a tiny model's folder, once per set of options."""
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    pytest.importorskip("transformers", reason="needs the extra torch")
    torch.set_num_threads(1)
    from turnwise.agents.transformers_policy.tiny import make_tiny_model

    made: dict[str, Path] = {}

    def make(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("tiny")
            make_tiny_model(made[key], TEXTS, **{"hidden_size": 32, **options})
        return made[key]

    return make


@pytest.fixture(scope="session")
def load(tiny: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    """Load a tiny model anew, with its tokenizer."""

    def make(**options: Any) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = tiny(**options)
        return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    return make


@pytest.fixture(scope="session")
def qwen(load: Callable[..., tuple[Any, Any]]) -> tuple[Any, Any]:
    """A model and tokenizer that no test changes."""
    return load()


@pytest.fixture(scope="session")
def plain_bytes(load: Callable[..., tuple[Any, Any]]) -> tuple[Any, Any]:
    """ChatML with a tokenizer that normalises nothing."""
    return load(family="llama", template="chatml")


@asynccontextmanager
async def opened(policy: Any) -> AsyncIterator[Any]:
    try:
        yield policy
    finally:
        await asyncio.wait_for(policy.close(), 30)


async def play(
    policy: Any, observations: Sequence[str], *, session: str = "a", seed: int = 0, **opening: Any
) -> list[PolicyReply]:
    """Play one episode against the policy."""
    replies: list[PolicyReply] = []
    for turn, observation in enumerate(observations):
        request = PolicyRequest(
            session=session,
            turn=turn,
            observation=observation,
            seed=seed,
            state=replies[-1].state if replies else b"",
            **(opening if turn == 0 else {}),
        )
        replies.append(await policy.act(request))
    return replies


class Kit:
    """What the tests share."""

    tools = TOOLS
    opened = staticmethod(opened)
    play = staticmethod(play)

    @staticmethod
    def request(**fields: Any) -> PolicyRequest:
        return PolicyRequest(**{"session": "a", "turn": 0, **fields})

    @staticmethod
    async def until(condition: Callable[[], Any]) -> None:
        """Wait for something in the model's thread; the run's own limit ends a wait in vain."""
        while not condition():  # noqa: ASYNC110 - the thread knows no asyncio.Event
            await asyncio.sleep(0.001)

    @staticmethod
    def same(one: PolicyReply, other: PolicyReply) -> bool:
        """Whether two replies are the same, up to the rounding of their log-probabilities."""
        assert one.tokens is not None
        assert other.tokens is not None
        assert one.tokens.logprobs == pytest.approx(other.tokens.logprobs, abs=1e-4)
        return (one.text, one.state, one.finish) == (other.text, other.state, other.finish)

    @staticmethod
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(main, 120))

    @staticmethod
    def ids_of(replies: Sequence[PolicyReply]) -> list[int]:
        """All ids of an episode, from what its turns recorded."""
        return [i for r in replies if r.tokens for i in (*r.tokens.prompt_ids, *r.tokens.completion_ids)]

    @staticmethod
    def logprobs_by_hand(model: Any, replies: Sequence[PolicyReply], temperature: float = 1.0) -> list[float]:
        """The log-probabilities of all sampled ids from one plain pass over the whole episode."""
        import torch

        ids = Kit.ids_of(replies)
        with torch.no_grad():
            rows = (model(torch.tensor([ids])).logits[0].float() / temperature).log_softmax(-1)
        found, at = [], 0
        for reply in replies:
            at += len(reply.tokens.prompt_ids)  # type: ignore[union-attr]
            for token in reply.tokens.completion_ids:  # type: ignore[union-attr]
                found.append(float(rows[at - 1, token]))
                at += 1
        return found


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit
