"""Rules on seeds and branching."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from turnwise.env import TurnEnv
from turnwise.envs.conformance.policies import MALFORMED, NullPolicy, RandomPolicy
from turnwise.envs.conformance.rule import Broken, demand, rule, short
from turnwise.envs.conformance.subject import (
    Played,
    Subject,
    difference,
    play,
    play_expert,
    proceed,
    steps_difference,
)
from turnwise.errors import ConfigError

_SEEDS = 16


def _mixed(env: TurnEnv[Any], subject: Subject, seed: int) -> list[str]:
    """Return messages that reach many states: the expert's, with random and malformed ones between."""
    expert = list(play_expert(env, seed=seed).messages)
    some = list(play(env, RandomPolicy(env, subject.generator(4, seed)), seed=seed, turns=5).messages)
    return [*some, MALFORMED["torn JSON"], *expert]


@rule(
    "same-seed",
    "The same seed gives the same episode",
    why="Replays, resumed runs and bug reports depend on it.",
)
def same_seed(subject: Subject) -> str:
    """Play each seed twice in one environment and once in a fresh one."""
    seeds = range(min(subject.episodes, 5))
    with subject.make() as env, subject.make() as fresh:
        for seed in seeds:
            messages = _mixed(env, subject, seed)
            first = play(env, messages, seed=seed)
            play(env, NullPolicy(), seed=seed + 1, turns=2)
            for other, where in ((env, "in the same environment"), (fresh, "in a fresh one")):
                found = difference(first, play(other, messages, seed=seed))
                demand(found is None, f"seed {seed} played again {where}: {found}")
    return f"{len(seeds)} seeds, three times each"


@rule(
    "different-seed",
    "Different seeds give different episodes",
    why="A seed that is ignored trains on one episode for ever.",
)
def different_seed(subject: Subject) -> str:
    """Begin an episode under many seeds."""
    with subject.make() as env:
        if len(env.tasks) == 1:
            return "one task only: nothing to tell apart"
        begun = [play(env, [], seed=seed) for seed in range(_SEEDS)]
        tasks = {str(played.info.get("task_id")) for played in begun}
        differ = len(tasks) > 1 or any(difference(begun[0], played) for played in begun[1:])
        demand(differ, f"{_SEEDS} seeds all begin the same episode of task {tasks} out of {len(env.tasks)} tasks")
    return f"{_SEEDS} seeds begin {len(tasks)} different tasks"


@rule(
    "global-rng",
    "No global random state is touched",
    why="It couples episodes that share a process, and the trainer's own sampling to both.",
)
def global_rng(subject: Subject) -> str:
    """Compare the states of ``random`` and ``numpy.random`` around a life of the environment."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    with subject.make() as env:
        play(env, _mixed(env, subject, 0), seed=0)
    drawn = [
        name
        for name, same in (
            ("random", random.getstate() == python),
            ("numpy.random", data_equivalence(np.random.get_state(legacy=False), numpy, exact=True)),
        )
        if not same
    ]
    demand(not drawn, f"the environment changed the global state of {' and '.join(drawn)}: use self.np_random")
    return "random and numpy.random are as before"


@rule(
    "state-restore",
    "A state in mid-episode can be restored, and goes on the same way",
    why="Branching and tree search compare continuations of one state.",
)
def state_restore(subject: Subject) -> str:
    """Restore a state after the episode went on to its end, and again after random turns."""
    with subject.make() as env:
        ids = subject.task_ids(env)[:5]
        for number, task_id in enumerate(ids):
            messages = play_expert(env, seed=number, task_id=task_id).messages
            middle = len(messages) // 2
            half = play(env, messages[:middle], seed=number, task_id=task_id)
            state = env.state()
            rest = proceed(env, messages[middle:])
            _come_back(env, state, half)
            found = steps_difference(rest, proceed(env, messages[middle:]))
            demand(found is None, f"task {task_id!r} restored at turn {middle} goes on differently: {found}")
            observation, info = _come_back(env, state, half)
            proceed(env, RandomPolicy(env, subject.generator(5, number)), observation, info, turns=5)
            _come_back(env, state, half)
            found = steps_difference(rest, proceed(env, messages[middle:]))
            demand(found is None, f"task {task_id!r} restored after random turns goes on differently: {found}")
        try:
            env.restore(object())
        except ConfigError:
            return f"{len(ids)} tasks, restored three times each"
    raise Broken("restore(object()) must raise a ConfigError")


def _come_back(env: TurnEnv[Any], state: Any, half: Played) -> tuple[Any, dict[str, Any]]:
    observation, info = env.restore(state)
    for what, mine, then in zip(("observation", "info"), (observation, info), half.seen[-1], strict=True):
        same = data_equivalence(mine, then, exact=True)
        demand(same, f"restore() at turn {len(half.steps)}: {what} {short(mine)} against {short(then)}")
    return observation, info
