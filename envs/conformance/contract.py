"""Rules on what an environment declares and returns."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from numbers import Real
from typing import Any, get_args

import msgspec
from gymnasium.utils.env_checker import check_env

from turnwise.env import TurnEnv
from turnwise.envs.conformance.policies import MALFORMED, NullPolicy, RandomPolicy
from turnwise.envs.conformance.rule import demand, rule, short
from turnwise.envs.conformance.subject import Played, Subject, play, play_expert, text_of
from turnwise.errors import EpisodeOverError
from turnwise.records import Action, TruncationCause, to_json

_COLOUR = re.compile(r"\x1b\[\d*m")  # Gymnasium colours its warnings
INFO_TYPES: dict[str, type | tuple[type, ...]] = {
    "task_id": str,
    "action": (Action, type(None)),
    "action_valid": bool,
    "action_error": (str, type(None)),
    "progress": float,
    "success": bool,
    "level": (str, type(None)),
    "truncation": (str, type(None)),
    "extra": dict,
}


def sampled(subject: Subject, env: TurnEnv[Any]) -> Iterator[Played]:
    """Play the sampled tasks three ways: by the expert, at random, and with malformed messages."""
    broken = [MALFORMED["empty"], MALFORMED["torn JSON"], MALFORMED["two calls"]]
    for number, task_id in enumerate(subject.task_ids(env)):
        yield play_expert(env, seed=number, task_id=task_id)
        yield play(env, RandomPolicy(env, subject.generator(2, number)), seed=number, task_id=task_id)
        yield play(env, broken, seed=number, task_id=task_id)


@rule(
    "gymnasium-checker",
    "Gymnasium's own check_env passes",
    why="Every tool made for Gymnasium relies on it.",
)
def gymnasium_checker(subject: Subject) -> str:
    """Run ``check_env``; its warnings are reported but do not count."""
    with subject.make() as env, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(env)
        except AssertionError as error:
            demand(False, f"check_env: {error}")
    notes = sorted({short(_COLOUR.sub("", str(warning.message)), 160) for warning in caught})
    return "passed" + (f", with warnings: {'; '.join(notes)}" if notes else "")


@rule(
    "tasks",
    "Task ids are unique and every sampled task loads",
    why="A group is all samples of one task id, and a resumed run finds its tasks by id.",
)
def tasks(subject: Subject) -> str:
    """Look at the task set and begin each sampled task."""
    with subject.make() as env:
        ids = list(env.tasks.ids())
        demand(bool(ids), "the task set is empty")
        demand(len(set(ids)) == len(ids), f"{len(ids) - len(set(ids))} task ids occur twice")
        demand(len(env.tasks) == len(ids), f"len(tasks) is {len(env.tasks)} but ids() has {len(ids)}")
        for task_id in subject.task_ids(env):
            task = env.tasks.get(task_id)
            demand(task.id == task_id, f"tasks.get({task_id!r}) returned the task {task.id!r}")
            demand(
                task.split == env.tasks.split, f"task {task_id!r} says split {task.split!r}, not {env.tasks.split!r}"
            )
            demand(bool(task.instruction.strip()), f"task {task_id!r} has no instruction")
            to_json(task)  # raises where task.data is not JSON-compatible
            _, info = env.reset(seed=0, options={"task_id": task_id})
            demand(info["task_id"] == env.task.id == task_id, f"asked for {task_id!r}, began {info['task_id']!r}")
        return f"{len(ids)} tasks in split {env.tasks.split!r}, {len(subject.task_ids(env))} loaded"


@rule(
    "spaces",
    "Observations and actions are inside their spaces, and not empty",
    why="Buffers and trainers size themselves by the spaces.",
)
def spaces(subject: Subject) -> str:
    """Look at every observation and message of the sampled episodes."""
    count = 0
    with subject.make() as env:
        for played in sampled(subject, env):
            for turn, (observation, _) in enumerate(played.seen):
                inside = env.observation_space.contains(observation)
                demand(inside, f"observation {turn} is outside its space: {short(observation)}")
                demand(bool(text_of(observation).strip()), f"observation {turn} has no text")
                count += 1
            for message in played.messages:
                demand(env.action_space.contains(message), f"the action {short(message)} is outside its space")
    return f"{count} observations"


@rule(
    "info-keys",
    "info holds the contract's keys with their types",
    why="Rewards and the store read them, the same in every world.",
)
def info_keys(subject: Subject) -> str:
    """Look at the info of every reset and step."""
    count = 0
    with subject.make() as env:
        for played in sampled(subject, env):
            listed = {"admissible_actions" in info for _, info in played.seen}
            demand(len(listed) == 1, "info['admissible_actions'] is there on some turns only")
            for turn, (_, info) in enumerate(played.seen):
                _check_info(info, f"info of {'reset' if turn == 0 else f'turn {turn - 1}'}", begun=turn == 0)
                count += 1
    return f"{count} infos"


def _check_info(info: dict[str, Any], where: str, *, begun: bool) -> None:
    for key, types in INFO_TYPES.items():
        demand(key in info, f"{where} lacks {key!r}")
        demand(isinstance(info[key], types), f"{where}: {key!r} is {short(info[key])}")
    valid, error, action = info["action_valid"], info["action_error"], info["action"]
    demand(valid == (error is None), f"{where}: action_valid is {valid} but action_error is {short(error)}")
    demand(not begun or (valid and action is None), f"{where}: there was no action yet, got {short(action)}")
    demand(begun or action is not None or not valid, f"{where}: action is None but action_valid is True")
    admissible = info.get("admissible_actions", [])
    demand(
        isinstance(admissible, list) and all(isinstance(command, str) for command in admissible),
        f"{where}: admissible_actions is {short(admissible)}, not a list of str",
    )
    try:
        decoded = msgspec.json.decode(msgspec.json.encode(info["extra"]))
    except (msgspec.MsgspecError, TypeError, ValueError) as problem:
        decoded = problem
    demand(decoded == info["extra"], f"{where}: extra does not survive JSON: {short(info['extra'])}, {short(decoded)}")


@rule(
    "reward-range",
    "Rewards are finite numbers inside the declared range",
    why="One NaN or outlier destroys the advantages of its whole group.",
)
def reward_range(subject: Subject) -> str:
    """Look at every reward of the sampled episodes."""
    with subject.make() as env:
        low, high = env.reward_range
        demand(math.isfinite(low) and math.isfinite(high) and low < high, f"reward_range is ({low}, {high})")
        seen: set[float] = set()
        for played in sampled(subject, env):
            for turn, step in enumerate(played.steps):
                number = isinstance(step.reward, Real) and not isinstance(step.reward, bool)
                demand(number, f"turn {turn}: the reward is {short(step.reward)}, not a number")
                inside = math.isfinite(step.reward) and low <= step.reward <= high
                demand(inside, f"turn {turn}: the reward {step.reward} is outside [{low}, {high}]")
                seen.add(float(step.reward))
    return f"within [{min(seen)}, {max(seen)}], declared [{low}, {high}]" if seen else "no turn was played"


@rule(
    "progress",
    "Progress stays in 0..1, never falls, and is 1 at success",
    why="Dense rewards pay its increments: a fall could be farmed.",
)
def progress(subject: Subject) -> str:
    """Look at the progress of the sampled episodes."""
    with subject.make() as env:
        for played in sampled(subject, env):
            before = 0.0
            for turn, (_, info) in enumerate(played.seen):
                now = info["progress"]
                demand(0.0 <= now <= 1.0, f"observation {turn}: progress is {now}, outside 0..1")
                demand(now >= before, f"observation {turn}: progress fell from {before} to {now}")
                demand(not info["success"] or now == 1.0, f"observation {turn}: success, but progress is {now}")
                before = now
    return "in 0..1 and never falls"


@rule(
    "levels",
    "Outcome levels are among the declared ones, never fall, and end in success",
    why="Gated rewards compare them by their order.",
)
def levels(subject: Subject) -> str:
    """Look at the outcome levels of the sampled episodes."""
    with subject.make() as env:
        names = env.outcome_levels
        demand(len(set(names)) == len(names), f"outcome_levels has duplicates: {names}")
        for played in sampled(subject, env):
            before = 0
            for turn, (_, info) in enumerate(played.seen):
                level, where = info["level"], f"observation {turn}"
                known = level in names if names else level is None
                demand(known, f"{where}: level {level!r} is not one of outcome_levels {names}")
                if names:
                    rank = names.index(level)
                    demand(rank >= before, f"{where}: the level fell from {names[before]!r} to {level!r}")
                    top = rank == len(names) - 1
                    demand(top == info["success"], f"{where}: level {level!r} with success={info['success']}")
                    before = rank
    return " < ".join(names) or "no levels declared"


@rule(
    "endings",
    "Episodes end by termination or by a named limit, and only then",
    why="A truncated episode bootstraps, a terminated one does not.",
)
def endings(subject: Subject) -> str:
    """Look at how episodes end, at the turn cap and beyond the end."""
    with subject.make() as env:
        _refuses_step(env, "before reset()")
        for played in sampled(subject, env):
            for turn, step in enumerate(played.steps):
                _check_ending(turn, step.terminated, step.truncated, step.info)
        played = play_expert(env, seed=0, task_id=subject.task_ids(env)[0])
        demand(bool(played.steps), "the expert's episode has no turns")
        if played.steps[-1].terminated or played.steps[-1].truncated:
            _refuses_step(env, "after the end of an episode")
    with subject.make(max_turns=3) as env:
        played = play(env, NullPolicy(), seed=0, task_id=subject.task_ids(env)[0])
        ends = [(step.terminated, step.truncated, step.info["truncation"]) for step in played.steps]
        expected = [(False, False, None), (False, False, None), (False, True, "turns")]
        demand(ends == expected, f"with max_turns=3, idle turns ended as {ends}, not {expected}")
        _refuses_step(env, "after truncation")
    return "caps truncate by 'turns', step() after the end is refused"


def _check_ending(turn: int, terminated: Any, truncated: Any, info: dict[str, Any]) -> None:
    flags = isinstance(terminated, bool) and isinstance(truncated, bool)
    demand(flags, f"turn {turn}: terminated and truncated are {terminated!r} and {truncated!r}, not bool")
    demand(not (terminated and truncated), f"turn {turn}: terminated and truncated at once")
    cause = info["truncation"]
    demand((cause is not None) == truncated, f"turn {turn}: truncated is {truncated} but the cause is {cause!r}")
    causes = get_args(TruncationCause)
    demand(cause is None or cause in causes, f"turn {turn}: the cause {cause!r} is not one of {causes}")
    demand(not info["success"] or terminated or truncated, f"turn {turn}: success does not end the episode")


def _refuses_step(env: TurnEnv[Any], when: str) -> None:
    try:
        env.step("nothing")
    except EpisodeOverError:
        return
    demand(False, f"step() {when} must raise EpisodeOverError")


@rule(
    "tools",
    "Tools are valid function schemas that the parser reads back",
    why="Chat templates and servers reject a bad schema, for all tasks at once.",
)
def tools(subject: Subject) -> str:
    """Look at the tool schemas, and call each tool with a plain argument."""
    with subject.make() as env:
        schemas = env.tools
        demand(bool(schemas), "there are no tools")
        names = [_check_tool(schema) for schema in schemas]
        demand(len(set(names)) == len(names), f"two tools share a name: {sorted(names)}")
        for schema in schemas:
            function = schema["function"]
            call = {"name": function["name"], "arguments": dict.fromkeys(function["parameters"]["properties"], "a")}
            action = env.grammar.parse(msgspec.json.encode(call).decode())
            read = isinstance(action, Action) and action.name == function["name"]
            demand(read, f"a call of {function['name']!r} is not read back: {short(action)}")
    return f"{len(names)} tools: {', '.join(names)}"


def _check_tool(schema: Any) -> str:
    """Look at one schema in the OpenAI function format; returns its name."""
    demand(isinstance(schema, dict) and schema.get("type") == "function", f"no function schema: {short(schema)}")
    function = schema.get("function")
    demand(isinstance(function, dict), f"the schema has no 'function': {short(schema)}")
    name, parameters = function.get("name"), function.get("parameters")
    fits = isinstance(name, str) and 1 <= len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum()
    demand(fits and name.isascii(), f"a tool name has 1 to 64 of a-z, A-Z, 0-9, '_' and '-': got {name!r}")
    demand(bool(str(function.get("description") or "").strip()), f"tool {name!r} has no description")
    demand(isinstance(parameters, dict), f"tool {name!r} has no parameters schema")
    demand(parameters.get("type") == "object", f"tool {name!r}: parameters must have the type 'object'")
    properties, required = parameters.get("properties"), parameters.get("required")
    demand(isinstance(properties, dict), f"tool {name!r}: properties must be an object")
    demand(isinstance(required, list), f"tool {name!r}: required must be a list")
    demand(set(required) <= set(properties), f"tool {name!r} requires {required} but has {sorted(properties)}")
    closed = parameters.get("additionalProperties") is False
    demand(closed, f"tool {name!r}: additionalProperties must be false")
    for key, value in properties.items():
        scalar = isinstance(value, dict) and value.get("type") in ("string", "integer", "number", "boolean")
        demand(scalar, f"tool {name!r}: parameter {key!r} needs a scalar type, got {short(value)}")
    msgspec.json.encode(schema)
    return str(name)


@rule(
    "system-prompt",
    "The system prompt names every action",
    why="A model that is not told the grammar is graded on guessing it.",
)
def system_prompt(subject: Subject) -> str:
    """Look for each action's tool name or first word in the prompt."""
    with subject.make() as env:
        prompt = env.system_prompt
        demand(isinstance(prompt, str) and bool(prompt.strip()), f"the system prompt is {short(prompt)}")
        for spec in env.grammar.specs:
            told = spec.name in prompt or spec.template.partition("{")[0].strip() in prompt
            demand(told, f"the system prompt does not mention the action {spec.template!r}")
        return f"{len(prompt)} characters"
