"""Trajectories as chat messages, as supervised and preference trainers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from turnwise.errors import ConfigError, attribute_to
from turnwise.records import Json, Trajectory

Message = dict[str, str]


class SystemPrompts:
    """The system prompts of worlds, which trajectories do not record: asked of each world once."""

    def __init__(self, text: str | None = None) -> None:
        """Ask the worlds.

        Args:
            text: Stands in place of every world's; ``""`` leaves system messages out.
        """
        self._text = text
        self._known: dict[bytes, str] = {}

    def of(self, trajectory: Trajectory) -> str:
        """Return the system prompt of a trajectory's world.

        Raises:
            ConfigError: The world cannot be made here.
        """
        if self._text is not None:
            return self._text
        key = trajectory.env_id.encode() + b"\0" + repr(sorted(trajectory.env_options.items())).encode()
        if key not in self._known:
            self._known[key] = _ask(trajectory.env_id, trajectory.env_options)
        return self._known[key]


def _ask(env_id: str, options: Mapping[str, Json]) -> str:
    try:
        with attribute_to("env", f"making {env_id}"):
            env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, disable_env_checker=True, **options)
    except Exception as error:
        raise ConfigError(
            f'the system prompt of {env_id} cannot be found here ({error}): give one, or "" for none'
        ) from error
    try:
        return str(getattr(env.unwrapped, "system_prompt", ""))
    finally:
        env.close()


def opening(trajectory: Trajectory, prompts: SystemPrompts) -> list[Message]:
    """Return the messages before the agent's first one."""
    system = prompts.of(trajectory)
    messages = [_message("system", system)] if system else []
    return [*messages, _message("user", trajectory.turns[0].observation)] if trajectory.turns else messages


def spoken(trajectory: Trajectory, *, start: int = 0, stop: int | None = None) -> list[Message]:
    """Return the messages from the agent's in turn ``start`` to its last one before turn ``stop``."""
    messages: list[Message] = []
    for turn in trajectory.turns[start:stop]:
        if messages:
            messages.append(_message("user", turn.observation))
        messages.append(_message("assistant", turn.action_text))
    return messages


def before(trajectory: Trajectory, turn: int, prompts: SystemPrompts) -> list[Message]:
    """Return all that the agent had read when it spoke in a turn, its own messages included."""
    messages = opening(trajectory, prompts)
    if turn == 0:
        return messages
    return [*messages, *spoken(trajectory, stop=turn), _message("user", trajectory.turns[turn].observation)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def conversation(trajectory: Trajectory, prompts: SystemPrompts) -> list[Message]:
    """Return the whole episode up to the agent's last message."""
    return [*opening(trajectory, prompts), *spoken(trajectory)]


def same_until(one: Trajectory, other: Trajectory) -> int | None:
    """Return the first turn whose messages differ while all that was read before is the same, or None.

    None where the worlds answered differently before the agents did, or nothing differs.
    """
    for mine, theirs in zip(one.turns, other.turns, strict=False):
        if (mine.observation, mine.image) != (theirs.observation, theirs.image):
            return None
        if mine.action_text != theirs.action_text:
            return mine.index
    return None
