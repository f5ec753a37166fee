"""Rules on who wins: the expert always, the idle never, the random seldom."""

from __future__ import annotations

import math

from turnwise.envs.conformance.policies import NullPolicy, RandomPolicy
from turnwise.envs.conformance.rule import Broken, demand, rule
from turnwise.envs.conformance.subject import Subject, play, play_expert
from turnwise.errors import ConfigError

_Z95 = 1.96  # normal quantile of a two-sided 95 % interval


@rule(
    "expert-solves",
    "The expert reaches success and the top reward on every sampled task",
    why="Where the best solver fails, a bad policy cannot be told from a bad task.",
)
def expert_solves(subject: Subject) -> str:
    """Play the first expert on the sampled tasks, the others on the first of them."""
    with subject.make() as env:
        demand(bool(env.experts), "the environment names no expert")
        ids, turns = subject.task_ids(env), 0
        for number, task_id in enumerate(ids):
            steps = play_expert(env, seed=number, task_id=task_id).steps
            where = f"task {task_id!r}: after {len(steps)} turns the expert"
            solved = bool(steps) and steps[-1].info["success"]
            reason = f" ({steps[-1].info['action_error']})" if steps and steps[-1].info["action_error"] else ""
            demand(solved, f"{where} has not solved it{reason}")
            demand(steps[-1].terminated is True, f"{where} solved it but the episode is not terminated")
            best, high = max(step.reward for step in steps), env.reward_range[1]
            demand(math.isclose(best, high), f"{where} got at most {best} on a turn, the top is {high}")
            turns += len(steps)
        for kind in env.experts[1:]:
            played = play_expert(env, seed=0, task_id=ids[0], kind=kind)
            demand(any(step.info["action_valid"] for step in played.steps), f"expert {kind!r} does nothing valid")
        _refuses_unknown_expert(subject)
    return f"{len(ids)} tasks solved in {turns / len(ids):.1f} turns on average"


def _refuses_unknown_expert(subject: Subject) -> None:
    with subject.make() as env:
        env.reset(seed=0)
        try:
            env.expert("no-such-expert")
        except ConfigError:
            return
    raise Broken("expert('no-such-expert') must raise a ConfigError")


@rule(
    "null-floor",
    "A policy that does nothing never succeeds and earns nothing",
    why="Rewards that come without acting teach a model not to act.",
)
def null_floor(subject: Subject) -> str:
    """Play empty messages and idle talk."""
    with subject.make() as env:
        ids = subject.task_ids(env)
        for number, task_id in enumerate(ids):
            for turn, step in enumerate(play(env, NullPolicy(), seed=number, task_id=task_id).steps):
                where = f"task {task_id!r}, turn {turn}: doing nothing"
                demand(not step.info["success"], f"{where} counts as success")
                demand(step.reward <= 0.0, f"{where} earned {step.reward}")
    return f"{len(ids)} tasks, none solved, nothing earned"


@rule(
    "random-floor",
    "A random policy stays at the declared floor",
    why="Tasks that chance solves give no signal, and show that an answer leaks.",
)
def random_floor(subject: Subject) -> str:
    """Play random actions, and hold the success rate's lower confidence bound against the floor."""
    with subject.make() as env:
        ids = subject.task_ids(env)
        episodes = max(20, len(ids))
        wins = 0
        for number in range(episodes):
            policy = RandomPolicy(env, subject.generator(3, number))
            steps = play(env, policy, seed=number, task_id=ids[number % len(ids)]).steps
            wins += bool(steps) and steps[-1].info["success"]
        low, floor = _lower_bound(wins, episodes), env.random_floor
        demand(
            low <= floor,
            f"random actions solve {wins} of {episodes} episodes: at least {low:.2f} with 95 % confidence, "
            f"the declared random_floor is {floor}",
        )
    return f"{wins} of {episodes} episodes solved, floor {floor}"


def _lower_bound(wins: int, trials: int) -> float:
    """Return the lower end of the Wilson score interval (Wilson 1927) of a success rate."""
    rate, z2 = wins / trials, _Z95 * _Z95
    centre = rate + z2 / (2 * trials)
    spread = _Z95 * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials))
    return max(0.0, (centre - spread) / (1 + z2 / trials))
