"""The plan of a run: the caller's options checked, and turned into a specification and requests."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import msgspec

from turnwise import registry
from turnwise.agents.registry import agents as agent_registry
from turnwise.agents.registry import has_policy, make_policy
from turnwise.env import TurnEnv
from turnwise.errors import ConfigError, did_you_mean, unknown_name
from turnwise.protocols import TaskSet
from turnwise.records import Json
from turnwise.rewards import load_rewards
from turnwise.rollout.agents import make_agent
from turnwise.rollout.engine.paths import own_path
from turnwise.rollout.engine.tasks import NamedTasks, NumberedTasks, check_ids, parse_tasks, take
from turnwise.rollout.engine.wire import Deadlines, EpisodeRequest, WorkerSpec, episode_seed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be played, and how.

    Attributes:
        spec: What the workers need.
        tasks: The task set.
        task_ids: The tasks to play, in order.
        group: Samples per task.
        seed: Seed of the run.
        config: What the results depend on, JSON-compatible; equal configurations give equal
            trajectories, whatever the number of workers.
    """

    spec: WorkerSpec
    tasks: TaskSet
    task_ids: tuple[str, ...]
    group: int
    seed: int
    config: dict[str, Json]

    @property
    def total(self) -> int:
        """Number of episodes."""
        return len(self.task_ids) * self.group

    def requests(self, done: Collection[str] = ()) -> Iterator[EpisodeRequest]:
        """Yield the episodes that are not ``done``, the samples of a task one after another."""
        for task_id in self.task_ids:
            missing = [n for n in range(self.group) if f"{task_id}#{n}" not in done]
            if missing:
                task = self.tasks.get(task_id)
            for sample in missing:
                seed = episode_seed(self.seed, task_id, sample)
                yield EpisodeRequest(id=f"{task_id}#{sample}", task=task, sample=sample, seed=seed)


def make_plan(
    *,
    env: str,
    tasks: str | Sequence[str] | None,
    data: str | os.PathLike[str] | None,
    env_options: Mapping[str, Json],
    max_turns: int | None,
    group: int,
    agent: str,
    rewards: str | Path | Mapping[str, Json] | None,
    seed: int,
    workers: int,
    slots: int,
    deadlines: Deadlines,
    memory_limit: int | None,
) -> Plan:
    """Check a rollout's options and resolve them; see :class:`~turnwise.rollout.Rollout`.

    Raises:
        ConfigError: An option is wrong; the message says what was got and what was expected.
    """
    _at_least("group", group, 1)
    _at_least("seed", seed, 0)
    if max_turns is not None:
        _at_least("max_turns", max_turns, 1)
    if memory_limit is not None:
        _at_least("memory_limit", memory_limit, 1)
    world, entry_point, kwargs, cap = find_world(env)
    options = {**kwargs, **env_options}
    task_set, task_ids = _choose_tasks(world, tasks, data, options)
    own = issubclass(world, TurnEnv)
    if max_turns is not None and own:
        _set_option(options, "max_turns", max_turns)
    _check_options(env, world, options)
    tree = load_rewards(rewards)
    levels = tuple(getattr(world, "outcome_levels", ()))
    tree.check_levels(levels)
    spec = WorkerSpec(
        env_id=env,
        env_options=_json("env_options", options),
        tasks_by_id=own,
        envs=_entries(registry.envs) | {env: entry_point},
        rewards=_entries(registry.rewards),
        agents=_entries(agent_registry),
        agent=_agent_spec(agent, workers),
        reward_config=tree.describe(),
        outcome_levels=levels,
        max_turns=None if own else min((n for n in (max_turns, cap) if n is not None), default=None),
        slots=slots,
        deadlines=deadlines,
        memory_limit=memory_limit,
        pythonpath=own_path(),
    )
    if workers > 0:
        _check_importable(spec)
    config = {
        "env": env,
        "env_options": spec.env_options,
        "max_turns": max_turns,
        "tasks": tasks if isinstance(tasks, str) or tasks is None else list(tasks),
        "tasks_sha256": hashlib.sha256("\n".join(task_ids).encode("utf-8", "surrogatepass")).hexdigest(),
        "group": group,
        "agent": spec.agent,
        "rewards": spec.reward_config,
        "seed": seed,
    }
    return Plan(spec=spec, tasks=task_set, task_ids=tuple(task_ids), group=group, seed=seed, config=config)


def _at_least(name: str, value: Any, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} is a whole number of at least {low}, got {value!r}")


def find_world(env: str) -> tuple[type[gymnasium.Env[Any, str]], str, dict[str, Any], int | None]:
    """Return a world's class, its import string, its registered keyword arguments and cap on turns.

    Raises:
        UnknownNameError: Neither we nor Gymnasium know it; the message lists near misses of ours.
        ConfigError: It has no class with an import string.
    """
    if not isinstance(env, str):
        raise ConfigError(f"env is the id of a registered environment, got {type(env).__name__}")
    spec = gymnasium.registry.get(env)
    if env in registry.envs.names():
        entry_point, kwargs, cap = registry.envs.entry_point(env), dict[str, Any](), None
    elif spec is None:
        raise unknown_name("environment", env, registry.envs)
    elif isinstance(spec.entry_point, str):
        entry_point, kwargs, cap = spec.entry_point, dict(spec.kwargs), spec.max_episode_steps
    else:
        raise ConfigError(f"{env!r} is registered with an object: workers need the import string 'module:Class'")
    world = registry.load_entry_point(entry_point)
    if not (inspect.isclass(world) and issubclass(world, gymnasium.Env)):
        raise ConfigError(f"the entry point of {env!r}, {entry_point}, is no subclass of gymnasium.Env")
    return world, entry_point, kwargs, cap


def _choose_tasks(
    world: type[gymnasium.Env[Any, str]],
    tasks: str | Sequence[str] | None,
    data: str | os.PathLike[str] | None,
    options: dict[str, Json],
) -> tuple[TaskSet, list[str]]:
    """Return the task set and the ids to play; writes ``data`` and ``split`` into ``options``."""
    if tasks is not None and not isinstance(tasks, (str, list, tuple)):
        raise ConfigError(f"tasks are a split such as 'train:64', a list of ids or None, got {type(tasks).__name__}")
    if data is not None:
        # Workers may run elsewhere on the same file system.
        _set_option(options, "data", str(Path(data).expanduser().absolute()))
    if not issubclass(world, TurnEnv):
        return _nameless_tasks(world, tasks)
    wanted = parse_tasks(tasks) if isinstance(tasks, str) else None
    if wanted is not None:
        _set_option(options, "split", wanted.split)
    known = {key: options[key] for key in ("data", "split") if options.get(key) is not None}
    task_set = world.make_task_set(**known)
    options["split"] = task_set.split
    if wanted is not None:
        return task_set, take(task_set, wanted)
    return task_set, list(task_set.ids()) if tasks is None else check_ids(tasks, task_set)


def _nameless_tasks(
    world: type[gymnasium.Env[Any, str]], tasks: str | Sequence[str] | None
) -> tuple[TaskSet, list[str]]:
    if tasks is None:
        raise ConfigError(f"{world.__name__} has no task set: say how many episodes, such as tasks='train:64'")
    if not isinstance(tasks, str):
        named = NamedTasks(tasks)
        return named, check_ids(named.ids(), named)
    wanted = parse_tasks(tasks)
    if wanted.stop is None:
        raise ConfigError(f"{world.__name__} has no task set: say how many episodes, such as tasks='{wanted.split}:64'")
    numbered = NumberedTasks(wanted.split, wanted.stop)
    return numbered, take(numbered, wanted)


def _set_option(options: dict[str, Json], name: str, value: Json) -> None:
    if options.get(name) not in (None, value):
        raise ConfigError(f"{name} is given twice: {value!r}, and {options[name]!r} in env_options")
    options[name] = value


def _check_options(env: str, world: type[gymnasium.Env[Any, str]], options: Mapping[str, Json]) -> None:
    """Unknown keyword arguments would fail every single boot: find them here."""
    parameters = inspect.signature(world.__init__).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name != "self"]
    for name in options:
        if name not in known:
            raise ConfigError(f"{env} takes no option {name!r}.{did_you_mean(name, known)}")


def _json(name: str, value: dict[str, Any]) -> dict[str, Json]:
    try:
        plain: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} holds JSON values only: {error}") from error
    return plain


def _entries(names: registry.Registry) -> dict[str, str]:
    return {name: names.entry_point(name) for name in names}


def _agent_spec(agent: str, workers: int) -> str:
    """Return an agent's canonical specification; making it checks it, and loads no model."""
    if agent == "human" and workers > 0:
        raise ConfigError("the agent 'human' needs this terminal: use workers=0")
    return make_policy(agent).spec if has_policy(agent) else make_agent(agent).spec


def _check_importable(spec: WorkerSpec) -> None:
    for kind, entries in (("environment", spec.envs), ("reward", spec.rewards), ("agent", spec.agents)):
        for name, entry_point in entries.items():
            if entry_point.startswith("__main__:") or "<locals>" in entry_point:
                raise ConfigError(
                    f"the {kind} {name!r} is {entry_point}, which worker processes cannot import: "
                    "move it into a module, or use workers=0"
                )
