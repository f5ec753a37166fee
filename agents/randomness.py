"""Random choices of agents, from a generator that belongs to one episode."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from turnwise.protocols import Episode, Info
from turnwise.spaces import UnicodeText
from turnwise.templates import Template

# The environment draws from SeedSequence(seed) itself; children of this key never meet it.
_AGENT_STREAM = 0x616765
_WORD = re.compile(r"\w+")


def episode_generator(episode: Episode) -> np.random.Generator:
    """Return the agent's own generator for an episode, apart from the environment's."""
    key = (_AGENT_STREAM, episode.sample)
    return np.random.default_rng(np.random.SeedSequence(episode.seed, spawn_key=key))


def random_action(env: Any, observation: Any, info: Info, generator: np.random.Generator) -> str:
    """Draw an action.

    Uniformly from the admissible ones where the world lists them. Otherwise one of the grammar's
    forms with words of the observation in its slots; in a world without a grammar, a random text.

    Args:
        env: The environment, unwrapped.
        observation: What the agent sees: a text, or a dict with ``"text"``.
        info: The environment's info, with ``admissible_actions`` where there is such a list.
        generator: Where the randomness comes from.
    """
    admissible = info.get("admissible_actions")
    if admissible:
        return str(admissible[int(generator.integers(len(admissible)))])
    grammar = getattr(env, "grammar", None)
    if grammar is None:
        return UnicodeText(64, seed=generator).sample()
    spec = grammar.specs[int(generator.integers(len(grammar.specs)))]
    text = observation.get("text", "") if isinstance(observation, dict) else str(observation)
    words = _WORD.findall(text) or ["1"]
    template = Template(spec.template)
    return template.fill({slot: words[int(generator.integers(len(words)))] for slot in template.slots})
