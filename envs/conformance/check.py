"""Run the rules over an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from turnwise.env import TurnEnv
from turnwise.envs.conformance import contract, determinism, resources, robustness, skill
from turnwise.envs.conformance.report import Report
from turnwise.envs.conformance.rule import Rule
from turnwise.envs.conformance.subject import Subject
from turnwise.errors import ConfigError, unknown_name
from turnwise.registry import env_class

RULES: tuple[Rule, ...] = (
    contract.gymnasium_checker,
    contract.tasks,
    contract.spaces,
    contract.info_keys,
    contract.reward_range,
    contract.progress,
    contract.levels,
    contract.endings,
    contract.tools,
    contract.system_prompt,
    skill.expert_solves,
    skill.null_floor,
    skill.random_floor,
    determinism.same_seed,
    determinism.different_seed,
    determinism.global_rng,
    determinism.state_restore,
    robustness.malformed_actions,
    robustness.hostile_arguments,
    robustness.fresh_results,
    robustness.config_errors,
    resources.close,
)


def check(
    env: str | Callable[..., TurnEnv[Any]],
    *,
    data: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    episodes: int = 10,
    seed: int = 0,
    rules: Sequence[str] | None = None,
) -> Report:
    """Check an environment against the contract.

    Args:
        env: Registered environment id, or a class or function that makes a ``TurnEnv`` and takes
            ``max_turns`` and ``render_mode``.
        data: None for the embedded tasks, or a path to a public data set.
        env_options: Further keyword arguments of the environment, such as ``{"split": "train"}``.
        episodes: How many tasks to sample; at least 1.
        seed: Seed of the check: the same seed gives the same findings, times aside.
        rules: Ids of the rules to apply; None applies all.

    Returns:
        One finding per rule. An environment that fails or crashes is a finding, not an error.

    Raises:
        UnknownNameError: No such environment or rule; the message lists near misses.
        ConfigError: ``episodes`` is out of range, or the environment refuses its options or data.
    """
    if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
        raise ConfigError(f"episodes must be a whole number of at least 1, got {episodes!r}")
    by_id = {rule.id: rule for rule in RULES}
    for name in rules or ():
        if name not in by_id:
            raise unknown_name("rule", name, by_id)
    options = {**({} if data is None else {"data": data}), **(env_options or {})}
    subject = Subject(name=_name(env), spec=_spec(env), options=options, episodes=episodes, seed=seed)
    _refuse_bad_options(subject)
    chosen = RULES if rules is None else tuple(by_id[name] for name in rules)
    findings = tuple(rule.apply(subject) for rule in chosen)
    return Report(env=subject.name, episodes=episodes, seed=seed, findings=findings)


def _name(env: str | Callable[..., TurnEnv[Any]]) -> str:
    return env if isinstance(env, str) else str(getattr(env, "__name__", type(env).__name__))


def _spec(env: str | Callable[..., TurnEnv[Any]]) -> EnvSpec:
    if isinstance(env, str):
        if env not in gymnasium.registry:
            env_class(env)  # raises with near misses
        return gymnasium.spec(env)
    if not callable(env):
        raise ConfigError(f"env is an environment id or a factory, got {type(env).__name__}")
    # Gymnasium's own checker makes further environments from the spec, so a factory needs one too.
    return EnvSpec(id="check/Factory-v0", entry_point=env, order_enforce=False, disable_env_checker=True)


def _refuse_bad_options(subject: Subject) -> None:
    """Let the caller's own mistakes out before they show up as a finding of every rule."""
    try:
        with subject.make():
            pass
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001, S110 - the environment's own failure: every rule reports it
        pass
