"""``turnwise tiny-model``: a small random model that plays, where no hub can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnwise.errors import ConfigError
from turnwise.rollout.cli.console import notice, output

if TYPE_CHECKING:
    from turnwise.env import TurnEnv

WORLDS = ("turnwise/Household-v0", "turnwise/SearchQA-v0")
EPISODES = 24  # of each world; enough text for the vocabulary
VOCABULARY = 4096  # a few characters per token, as real models have


def tiny_model(
    folder: Annotated[Path, typer.Argument(help="Where to write the model; must not exist.", show_default=False)],
    family: Annotated[str, typer.Option(help="qwen2 or llama.")] = "qwen2",
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Write a tiny model with random weights and a tokenizer trained on the worlds' own text.

    It talks nonsense, and is all that is needed to try a rollout, a trainer or a pipeline without
    downloading anything: turnwise rollout --agent transformers:FOLDER.
    """
    from turnwise.agents.transformers_policy.tiny import make_tiny_model

    if folder.exists():
        raise ConfigError(f"{folder} exists already: name a folder that does not")
    texts = list(world_texts())
    make_tiny_model(folder, texts, family=family, vocab_size=VOCABULARY, seed=seed)
    notice(f"a tokenizer trained on {len(texts)} texts, and a model with random weights")
    output().print(str(folder), markup=False, soft_wrap=True)


def world_texts(worlds: tuple[str, ...] = WORLDS, *, episodes: int = EPISODES) -> Iterator[str]:
    """Yield what is said in episodes of the worlds' experts: prompts, observations and actions."""
    import gymnasium

    for world in worlds:
        env = gymnasium.make(world, disable_env_checker=True)
        inner: Any = env.unwrapped
        yield inner.system_prompt
        for number in range(episodes):
            yield from _episode(inner, number)
        env.close()


def _episode(env: TurnEnv[Any], seed: int) -> Iterator[str]:
    observation, info = env.reset(seed=seed)
    expert = env.expert()
    ended = False
    while not ended:
        yield str(observation)
        action = expert.act(observation, info)
        yield action
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    yield str(observation)
