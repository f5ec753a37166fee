"""Rules on messages that models really send, and on callers' mistakes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from turnwise.env import TurnEnv
from turnwise.envs.conformance.policies import MALFORMED, injected
from turnwise.envs.conformance.rule import demand, rule, short
from turnwise.envs.conformance.subject import Subject, difference, play, play_expert, text_of
from turnwise.errors import ConfigError

# What an explanation may cost the agent's context; the grammar itself is far shorter.
_EXPLANATION_CHARS = 20_000
_UNMOVED = ("progress", "success", "level", "admissible_actions", "task_id")


def _patience(subject: Subject, env: TurnEnv[Any]) -> int:
    """Return how many turns an expert gets where the cap is lifted to make room for the messages."""
    return int(subject.options.get("max_turns") or env.default_max_turns)


def _sturdy(env: TurnEnv[Any], message: str, what: str) -> tuple[dict[str, Any], bool]:
    """Send a message that must neither raise nor leave the contract; returns info and whether it ended."""
    try:
        observation, reward, terminated, truncated, info = env.step(message)
    except Exception as error:  # noqa: BLE001 - any exception is what this rule is about
        demand(False, f"{what}: step() raised {type(error).__name__}: {short(str(error))}")
    demand(env.observation_space.contains(observation), f"{what}: the observation is outside its space")
    demand(math.isfinite(reward), f"{what}: the reward is {reward}")
    size = len(text_of(observation))
    # An echo costs the agent's context; a world may show as much of a page as it likes.
    demand(info["action_valid"] or size <= _EXPLANATION_CHARS, f"{what}: the answer has {size} characters")
    demand(isinstance(info["action_valid"], bool), f"{what}: action_valid is {short(info['action_valid'])}")
    return info, terminated or truncated


@rule(
    "malformed-actions",
    "Malformed messages are answered and change nothing",
    why="Models send them all the time; an exception would cost the episode.",
)
def malformed_actions(subject: Subject) -> str:
    """Send every malformed message, then let the expert finish."""
    with subject.make(max_turns=100_000) as env:
        task_id = subject.task_ids(env)[0]
        expert = play_expert(env, seed=0, task_id=task_id, turns=_patience(subject, env))
        _, before = env.reset(seed=0, options={"task_id": task_id})
        for what, message in MALFORMED.items():
            info, over = _sturdy(env, message, what)
            demand(not over, f"{what}: it ended the episode")
            demand(info["action_valid"] is False, f"{what}: action_valid is {info['action_valid']}, not False")
            demand(bool(info["action_error"]), f"{what}: action_error does not say what is wrong")
            for key in _UNMOVED:
                demand(info.get(key) == before.get(key), f"{what}: it changed {key!r} to {short(info.get(key))}")
        steps = [env.step(message) for message in expert.messages]
        same = bool(steps) and steps[-1][4]["success"] == expert.steps[-1].info["success"]
        demand(same, "after malformed messages the expert's actions no longer lead to its outcome")
    return f"{len(MALFORMED)} messages, from empty to 1 MB"


@rule(
    "hostile-arguments",
    "Hostile arguments of well-formed calls leave the episode playable",
    why="Arguments come from a model that has read the open web.",
)
def hostile_arguments(subject: Subject) -> str:
    """Call every tool with templates, paths, scripts and long texts for arguments."""
    with subject.make(max_turns=100_000) as env:
        task_id = subject.task_ids(env)[0]
        calls = injected(env)
        env.reset(seed=0, options={"task_id": task_id})
        for call in calls:
            _, over = _sturdy(env, call, f"the call {short(call)}")
            if over:  # a wrong answer may end the episode
                env.reset(seed=0, options={"task_id": task_id})
        played = play_expert(env, seed=0, task_id=task_id, turns=_patience(subject, env))
        demand(played.seen[-1][1]["success"], "after hostile arguments the expert no longer solves its task")
    return f"{len(calls)} calls"


def _spoil(tree: Any) -> None:
    """Empty the containers that an environment gave out."""
    if isinstance(tree, dict):
        for value in tree.values():
            _spoil(value)
        tree.clear()
    elif isinstance(tree, list):
        for value in tree:
            _spoil(value)
        tree.clear()


@rule(
    "fresh-results",
    "What is returned belongs to the caller",
    why="Buffers keep infos and wrappers edit them; neither may reach back into the world.",
)
def fresh_results(subject: Subject) -> str:
    """Play the same messages with every returned info emptied after use."""
    with subject.make() as env:
        task_id = subject.task_ids(env)[0]
        messages: list[str] = []
        for message in play_expert(env, seed=0, task_id=task_id).messages:
            messages += [MALFORMED["torn JSON"], message]
        kept = play(env, messages, seed=0, task_id=task_id)
        spoiled = iter(messages)
        infos: list[Any] = []

        def policy(observation: Any, info: Any) -> str:
            for given in infos:
                _spoil(given)
            infos[:] = [info, observation]
            return next(spoiled, "")

        found = difference(kept, play(env, policy, seed=0, task_id=task_id, turns=len(kept.steps)))
        demand(found is None, f"emptying a returned info changed a later turn: {found}")
    return f"{len(kept.steps)} turns"


@rule(
    "config-errors",
    "A caller's mistakes raise ConfigError, with near misses",
    why="A typo in a configuration must not start a run.",
)
def config_errors(subject: Subject) -> str:
    """Make the usual mistakes."""
    with subject.make() as env:
        task_id = subject.task_ids(env)[0]

        def made(**options: Any) -> Callable[[], object]:
            return lambda: _make(subject, **options)

        mistakes: list[tuple[str, Callable[[], object], str]] = [
            ("an unknown reset option", lambda: env.reset(options={"task_idd": task_id}), "task_id"),
            ("an unknown task id", lambda: env.reset(options={"task_id": task_id + "x"}), task_id),
            ("an action that is no str", lambda: _reset(env).step(7), "str"),  # type: ignore[arg-type]
            ("an unknown split", made(split="tran"), "train"),
            ("max_turns=0", made(max_turns=0), "max_turns"),
            ("an unknown render mode", made(render_mode="hologram"), "ansi"),
            ("a data path that is not there", made(data="/no/such/place"), "/no/such/place"),
        ]
        for what, mistake, hint in mistakes:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # gymnasium.make warns of the render mode first
                    mistake()
            except ConfigError as error:
                demand(hint in str(error), f"{what}: the message does not name {hint!r}: {short(str(error), 200)}")
            except Exception as error:  # noqa: BLE001 - the rule is about its type
                demand(False, f"{what} raised {type(error).__name__}, not ConfigError: {short(str(error))}")
            else:
                demand(False, f"{what} was accepted")
    return f"{len(mistakes)} mistakes refused"


def _make(subject: Subject, **options: Any) -> None:
    with subject.make(**options):
        pass


def _reset(env: TurnEnv[Any]) -> TurnEnv[Any]:
    env.reset(seed=0)
    return env
