"""``environment_factory`` for TRL: a world's actions as tools of an environment that TRL's own loop plays."""

from __future__ import annotations

import inspect
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TOTAL
from turnwise.rollout.trainers.stepping import OVER, DrivenEpisode, World
from turnwise.rollout.trainers.trl.rewards import value_of

_TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_TAKEN = ("reset", "get_reward")


class Environment:
    """An environment as TRL takes it: ``reset``, a method per tool, ``get_reward``.

    Made by :func:`make_environment`, whose classes need no arguments. Everything that is no tool begins
    with an underscore, since TRL hands every other method to the model.
    """

    _world: World
    _reward: str
    _numbers: itertools.count[int]

    def __init__(self) -> None:
        self._episode = DrivenEpisode(self._world)

    def reset(self, *, task_id: str = "", **row: Any) -> str:
        """Begin an episode of a row of the data set, and return the first observation.

        Raises:
            ConfigError: The row has no ``task_id``.
        """
        if not task_id:
            raise ConfigError(
                f"a row needs a 'task_id', got the columns {sorted(row)}: train on the class's _dataset()"
            )
        return self._episode.begin(task_id, sample=next(self._numbers))

    def get_reward(self) -> float | None:
        """Return the episode's reward; None where it is invalid or the episode failed."""
        return value_of(self._trajectory(), self._reward)

    def _trajectory(self) -> Trajectory:
        """Return the episode with its turn rewards, for reward functions that look into ``environments``."""
        return self._episode.trajectory()

    def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self._episode.over:
            return OVER
        given = {key: value for key, value in arguments.items() if value is not None}
        return self._episode.step(json.dumps({"name": name, "arguments": given}, ensure_ascii=False)).observation

    @classmethod
    def _dataset(cls) -> Any:
        """Return the data set to train on: one row per task, with the world's system prompt.

        Raises:
            MissingTrainerError: ``datasets`` is not installed; it comes with TRL.
        """
        datasets = trainer_module("datasets", "datasets>=3")
        tasks = list(cls._world.tasks)
        episode = DrivenEpisode(cls._world)
        episode.begin(tasks[0])
        system = episode.system_prompt
        episode.close()
        # The observation that reset() returns is appended to the last user message.
        prompt = [{"role": "system", "content": system}] if system else []
        prompt.append({"role": "user", "content": ""})
        return datasets.Dataset.from_dict({"prompt": [prompt] * len(tasks), "task_id": tasks})


def make_environment(
    env: str = "turnwise/Household-v0",
    *,
    tasks: str | Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    env_options: Mapping[str, Json] | None = None,
    max_turns: int | None = None,
    rewards: str | Path | Mapping[str, Json] | None = None,
    reward: str = TOTAL,
    seed: int = 0,
) -> type[Environment]:
    """Return a class for ``GRPOTrainer(environment_factory=...)``; its ``_dataset()`` is the data set.

    Each of the world's actions is a method with typed arguments and a docstring, from which TRL makes the
    tool. The world reads a call as any other message. ``get_reward`` is the reward tree's total, so turn
    rewards reach the gradient as their sum; ``env._trajectory().turns[i].rewards`` has them one by one.

    Args:
        env: Id of a registered environment.
        tasks: ``"SPLIT"``, ``"SPLIT:N"``, ``"SPLIT:A-B"``, a list of task ids, or None for all.
        data: A public data set in its own format; None is the embedded task set.
        env_options: Further keyword arguments of the environment.
        max_turns: Turns after which an episode is truncated; None is the world's default.
        rewards: Reward configuration; None is the built-in set.
        reward: Which reward of the tree ``get_reward`` returns.
        seed: Seed of all episodes.

    Raises:
        ConfigError: An option is wrong, or the world has no tools.
    """
    world = World(
        env,
        agent="trl",
        tasks=tasks,
        data=data,
        env_options=env_options,
        max_turns=max_turns,
        rewards=rewards,
        seed=seed,
    )
    probe = DrivenEpisode(world)
    probe.begin(world.tasks[0])
    tools = probe.tools
    probe.close()
    if not tools:
        raise ConfigError(f"{env} has no tools: a world names them with its grammar, or the property 'tools'")
    members: dict[str, Any] = {"_world": world, "_reward": reward, "_numbers": itertools.count()}
    for tool in tools:
        method = tool_method(tool["function"])
        members[method.__name__] = method
    name = env.rpartition("/")[2].replace("-", "_").replace(".", "_")
    return type(name, (Environment,), members)


def tool_method(function: Mapping[str, Any]) -> Callable[..., str]:
    """Return the method for a tool in the OpenAI function format.

    Its signature, annotations and Google-style docstring say what TRL reads. A tool that is named as one
    of TRL's own methods, or with a leading underscore, is called ``do_...``.
    """
    name = str(function["name"])
    parameters = function.get("parameters", {})
    properties: Mapping[str, Mapping[str, Any]] = parameters.get("properties", {})
    required = set(parameters.get("required", properties))

    def method(self: Environment, **arguments: Any) -> str:
        return self._call(name, arguments)

    method.__name__ = f"do_{name.lstrip('_')}" if name in _TAKEN or name.startswith("_") else name
    method.__qualname__ = f"Environment.{method.__name__}"
    method.__doc__ = _docstring(function, properties)
    types = {key: _annotation(schema, key in required) for key, schema in properties.items()}
    method.__annotations__ = {**types, "return": str}
    # Those with a default come last, as Python wants them.
    ordered = sorted(types, key=lambda key: key not in required)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = [inspect.Parameter("self", kind)]
    for key in ordered:
        default = inspect.Parameter.empty if key in required else None
        signature.append(inspect.Parameter(key, kind, annotation=types[key], default=default))
    method.__signature__ = inspect.Signature(signature, return_annotation=str)  # type: ignore[attr-defined]
    return method


def _annotation(schema: Mapping[str, Any], required: bool) -> Any:
    found = _TYPES.get(str(schema.get("type", "string")), str)
    return found if required else found | None


def _docstring(function: Mapping[str, Any], properties: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [_one_line(function.get("description") or function["name"])]
    if properties:
        lines += ["", "Args:"]
        lines += [f"    {key}: {_one_line(schema.get('description') or key)}" for key, schema in properties.items()]
    lines += ["", "Returns:", "    What the world answers."]
    return "\n".join(lines)


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())
