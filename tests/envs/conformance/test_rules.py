"""A good toy world keeps every rule; each broken variant of it is caught by exactly its rule."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from turnwise.actions import ActionGrammar, ActionProblem, ActionSpec
from turnwise.env import MAX_OBSERVATION_CHARS, ReplayState, StepResult, TurnEnv
from turnwise.envs.conformance import RULES, Report, check
from turnwise.envs.conformance.skill import _lower_bound
from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import TaskSet
from turnwise.records import Action, Task
from turnwise.spaces import UnicodeText
from turnwise.tasks import ListTaskSet, canonical_split

LEVELS = ("shut", "started", "open")


class LockExpert:
    """Presses the code that the environment holds."""

    def __init__(self, env: LockEnv) -> None:
        self.env = env

    def act(self, observation: Any, info: Any) -> str:
        return f"press {self.env.wanted}"


class LockEnv(TurnEnv[str]):
    """A lock with a code: right digits move on, a wrong one starts over."""

    grammar = ActionGrammar(
        (
            ActionSpec(
                name="press", template="press {digit}", description="Press a digit.", parameters={"digit": "0 to 9"}
            ),
            ActionSpec(name="look", template="look", description="Look at the lock."),
        )
    )
    outcome_levels = LEVELS
    experts = ("expert", "peeker")
    default_max_turns = 20

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        if data is not None:
            raise ConfigError(f"no locks at {data!r}: expected a folder of lock files")
        split = canonical_split(split)
        tasks = [
            Task(id=f"lock-{n}", split=split, instruction="Open the lock.", data={"length": 3 + n % 3})
            for n in range(6)
        ]
        return ListTaskSet(tasks, split=split)

    @property
    def wanted(self) -> int:
        """The digit to press next."""
        return self.code[self.position % len(self.code)]

    def _begin(self, task: Task) -> StepResult[str]:
        self.code = [int(digit) for digit in self.np_random.integers(10, size=task.data["length"])]
        self.position = self.best = 0
        return self._result_of(f"A lock. A note says: {' '.join(map(str, self.code))}.")

    def _apply(self, action: Action) -> StepResult[str]:
        if action.name == "look":
            return self._result_of(f"A fly sits on digit {int(self.np_random.integers(10))}.")
        return self._press(action.arguments["digit"])

    def _press(self, digit: str) -> StepResult[str]:
        if digit not in list("0123456789"):
            return self._result_of("There is no such digit.", error=f"no digit {digit[:20]!r}")
        self.position = self.position + 1 if int(digit) == self.wanted else 0
        self.best = max(self.best, self.position)
        return self._result_of("Click." if self.position else f"It buzzes {int(self.np_random.integers(10**9))}.")

    def _result_of(self, text: str, *, error: str | None = None) -> StepResult[str]:
        done = self.best >= len(self.code)
        return StepResult(
            observation=text,
            reward=1.0 if done else 0.0,
            terminated=done,
            valid=error is None,
            error=error,
            progress=min(1.0, self.best / len(self.code)),
            success=done,
            level=LEVELS[2 if done else min(self.best, 1)],
            admissible=["look", *(f"press {digit}" for digit in range(10))],
            extra={"presses": {"right": self.position}},
        )

    def expert(self, kind: str | None = None) -> LockExpert:
        if kind not in (None, *self.experts):
            raise unknown_name("expert", kind, self.experts)
        return LockExpert(self)


class RenderRaises(LockEnv):
    def render(self) -> Any:
        raise RuntimeError("no picture")


class IdTwice(LockEnv):
    class Tasks(ListTaskSet):
        def ids(self) -> Any:
            return (*super().ids(), "lock-0")

        def __len__(self) -> int:
            return len(self.ids())

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        good = LockEnv.make_task_set(data=data, split=split)
        return cls.Tasks([good.get(task_id) for task_id in good.ids()], split=good.split)


class TooLongClick(LockEnv):
    def _make_observation_space(self) -> Any:
        return UnicodeText(5_000)

    def _press(self, digit: str) -> StepResult[str]:
        result = super()._press(digit)
        return replace(result, observation="Click." * 1_000) if result.valid else result


class ExtraIsNoJson(LockEnv):
    def _result_of(self, text: str, **keywords: Any) -> StepResult[str]:
        return replace(super()._result_of(text, **keywords), extra={"digits": {1, 2}})


class PenaltyOutOfRange(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        result = super()._press(digit)
        return result if self.position else replace(result, reward=-0.5)


class ProgressFalls(LockEnv):
    def _result_of(self, text: str, **keywords: Any) -> StepResult[str]:
        return replace(super()._result_of(text, **keywords), progress=self.position / len(self.code))


class LevelFalls(LockEnv):
    def _result_of(self, text: str, **keywords: Any) -> StepResult[str]:
        result = super()._result_of(text, **keywords)
        return result if self.position else replace(result, level="shut")


class NamelessTruncation(LockEnv):
    def step(self, action: str) -> Any:
        *result, info = super().step(action)
        return (*result, {**info, "truncation": None})


class OpenSchema(LockEnv):
    @property
    def tools(self) -> Any:
        tools = super().tools
        tools[0]["function"]["parameters"].pop("additionalProperties")
        return tools


class SilentPrompt(LockEnv):
    @property
    def system_prompt(self) -> str:
        return "Play well."


class LazyExpert(LockEnv):
    def expert(self, kind: str | None = None) -> LockExpert:
        expert = super().expert(kind)
        if self.task.id == "lock-5":
            expert.act = lambda observation, info: "look"  # type: ignore[method-assign]
        return expert


class PaysForNonsense(LockEnv):
    def _reject(self, problem: ActionProblem) -> StepResult[str]:
        return replace(super()._reject(problem), reward=0.1)


class AnyDigitOpens(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        return super()._press(str(self.wanted) if digit.isdigit() else digit)


class OwnDice(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        result = super()._press(digit)
        noise = int(np.random.default_rng().integers(10**12))
        return result if self.position or not result.valid else replace(result, observation=f"It buzzes {noise}.")


class SeedIgnored(LockEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed, options={"task_id": "lock-0", **(options or {})})

    def _begin(self, task: Task) -> StepResult[str]:
        super()._begin(task)
        self.code = [7] * task.data["length"]
        return self._result_of("A lock. A note says: all sevens.")


class GlobalDice(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        random.random()
        return super()._press(digit)


class GlobalNumpyDice(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        np.random.random()
        return super()._press(digit)


class Forgetful(LockEnv):
    def state(self) -> Any:
        return replace(super().state(), actions=())


class KeepsItsDice(LockEnv):
    """Restores the position but not the generator, so a buzz after it differs."""

    def _press(self, digit: str) -> StepResult[str]:
        result = super()._press(digit)
        return replace(result, observation=f"Click {int(self.np_random.integers(10**9))}.") if self.position else result

    def restore(self, state: Any) -> Any:
        now = np.random.default_rng([7, *self.code, self._turn]).bit_generator.state
        restored = super().restore(state)
        self.np_random.bit_generator.state = now
        return restored


class AfraidOfControlCharacters(LockEnv):
    def _reject(self, problem: ActionProblem) -> StepResult[str]:
        if "control" in problem.message:
            raise ValueError("bad bytes")
        return super()._reject(problem)


class NonsenseMoves(LockEnv):
    def _reject(self, problem: ActionProblem) -> StepResult[str]:
        self.best = max(self.best, self.position, 1)
        return replace(super()._reject(problem), progress=1 / len(self.code))


class TrustsItsArguments(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        int(digit)
        return super()._press(digit)


class EchoesItsArguments(LockEnv):
    def _press(self, digit: str) -> StepResult[str]:
        result = super()._press(digit)
        return result if result.valid else replace(result, observation=f"There is no digit {digit * 2}.")


class SharedList(LockEnv):
    COMMANDS: ClassVar[list[str]] = ["look", *(f"press {digit}" for digit in range(10))]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = list(self.COMMANDS)

    def _finish(self, *args: Any, **keywords: Any) -> Any:
        observation, info = super()._finish(*args, **keywords)
        return observation, {**info, "admissible_actions": self.commands}


class TypoAccepted(LockEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        known = {key: value for key, value in (options or {}).items() if key == "task_id"}
        return super().reset(seed=seed, options=known)


class LeaksThread(LockEnv):
    release: ClassVar[threading.Event]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        threading.Thread(target=self.release.wait, daemon=True).start()


class LeaksProcess(LockEnv):
    started: ClassVar[list[subprocess.Popen[bytes]]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.started.append(
            subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )


class LeaksFile(LockEnv):
    opened: ClassVar[list[Any]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.opened.append(open(__file__))  # noqa: SIM115


BROKEN: list[tuple[str, type[LockEnv]]] = [
    ("gymnasium-checker", RenderRaises),
    ("tasks", IdTwice),
    ("spaces", TooLongClick),
    ("info-keys", ExtraIsNoJson),
    ("reward-range", PenaltyOutOfRange),
    ("progress", ProgressFalls),
    ("levels", LevelFalls),
    ("endings", NamelessTruncation),
    ("tools", OpenSchema),
    ("system-prompt", SilentPrompt),
    ("expert-solves", LazyExpert),
    ("null-floor", PaysForNonsense),
    ("random-floor", AnyDigitOpens),
    ("same-seed", OwnDice),
    ("different-seed", SeedIgnored),
    ("global-rng", GlobalDice),
    ("global-rng", GlobalNumpyDice),
    ("state-restore", Forgetful),
    ("state-restore", KeepsItsDice),
    ("malformed-actions", AfraidOfControlCharacters),
    ("hostile-arguments", TrustsItsArguments),
    ("hostile-arguments", EchoesItsArguments),
    ("fresh-results", SharedList),
    ("config-errors", TypoAccepted),
]


def broken_rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.failures()]


def test_a_good_world_keeps_every_rule() -> None:
    report = check(LockEnv, episodes=6)
    assert report.ok, report.failures()
    assert [finding.rule for finding in report] == [rule.id for rule in RULES]
    assert all(finding.detail for finding in report)


@pytest.mark.parametrize(("rule", "env"), BROKEN, ids=[env.__name__ for _, env in BROKEN])
def test_a_broken_world_is_caught_by_exactly_its_rule(rule: str, env: type[LockEnv]) -> None:
    assert broken_rules(check(env, episodes=6)) == [rule]


def test_every_rule_has_a_broken_world() -> None:
    assert {rule for rule, _ in BROKEN} | {"close"} == {rule.id for rule in RULES}


def test_a_malformed_message_that_moves_the_world_is_caught() -> None:
    assert "malformed-actions" in broken_rules(check(NonsenseMoves, episodes=6))


@pytest.fixture
def leaks() -> Iterator[None]:
    """Give the leaking classes their lists, and free what they leaked."""
    LeaksThread.release, LeaksProcess.started, LeaksFile.opened = threading.Event(), [], []
    yield
    LeaksThread.release.set()
    for file in LeaksFile.opened:
        file.close()
    for process in LeaksProcess.started:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("leaks")
@pytest.mark.parametrize(
    ("env", "what"), [(LeaksThread, "threads"), (LeaksProcess, "child processes"), (LeaksFile, "open files")]
)
def test_close_catches_leaks(env: type[LockEnv], what: str) -> None:
    (finding,) = check(env, episodes=1, rules=["close"])
    assert not finding.ok
    assert what in finding.detail


@pytest.mark.usefixtures("leaks")
def test_a_leak_is_caught_by_exactly_its_rule() -> None:
    assert broken_rules(check(LeaksThread, episodes=2)) == ["close"]


def test_close_must_be_allowed_twice() -> None:
    class ClosesOnce(LockEnv):
        closed = False

        def close(self) -> None:
            if self.closed:
                raise RuntimeError("closed already")
            self.closed = True

    (finding,) = check(ClosesOnce, episodes=1, rules=["close"])
    assert not finding.ok
    assert "closed already" in finding.detail


def result_with(**changes: Any) -> Any:
    """Override of ``_result_of``: the good result with some fields changed."""
    return {"_result_of": lambda env, text, **kw: replace(LockEnv._result_of(env, text, **kw), **changes)}


def pressed_with(**changes: Any) -> Any:
    """Override of ``_press``: the good result with some fields changed."""
    return {"_press": lambda env, digit: replace(LockEnv._press(env, digit), **changes)}


def tool_with(**changes: Any) -> Any:
    """Override of ``tools``: the schema of ``press`` with some fields changed."""

    def tools(env: LockEnv) -> Any:
        press, look = LockEnv.tools.fget(env)  # type: ignore[attr-defined]
        parameters = press["function"]["parameters"]
        press["function"] |= {key: value for key, value in changes.items() if key in press["function"]}
        parameters |= {key: value for key, value in changes.items() if key in parameters}
        return [press, look]

    return {"tools": property(tools)}


def tasks_with(*tasks: Task, split: str = "train") -> Any:
    """Override of ``make_task_set``: these tasks."""
    return {"make_task_set": classmethod(lambda cls, **options: ListTaskSet(tasks, split=split))}


def task(**changes: Any) -> Task:
    fields = {"id": "lock-0", "split": "train", "instruction": "Open the lock.", "data": {"length": 3}}
    return Task(**{**fields, **changes})


def info_with(**changes: Any) -> Any:
    """Override of ``_finish``: the good info with some keys changed, or left out where ``...``."""

    def finish(env: LockEnv, *args: Any, **kw: Any) -> Any:
        observation, info = LockEnv._finish(env, *args, **kw)
        return observation, {key: value for key, value in {**info, **changes}.items() if value is not ...}

    return {"_finish": finish}


class WrongTask(ListTaskSet):
    def get(self, task_id: str) -> Task:
        return super().get("lock-1")


class ForgivingTaskSet(ListTaskSet):
    def get(self, task_id: str) -> Task:
        return super().get(task_id if task_id in self.ids() else "lock-0")


class LongTaskSet(ListTaskSet):
    def __len__(self) -> int:
        return 99


def made_by(kind: type[ListTaskSet]) -> Any:
    good = LockEnv.make_task_set()
    return {"make_task_set": classmethod(lambda cls, **options: kind([good.get(i) for i in good.ids()], split="train"))}


class FixedMessage:
    def act(self, observation: Any, info: Any) -> str:
        return "abracadabra"


def stepping(change: Any) -> Any:
    """Override of ``step``: the good five-tuple, changed."""
    return {"step": lambda env, action: change(*LockEnv.step(env, action))}


def rejecting(**changes: Any) -> Any:
    """Override of ``_reject``: the good answer with some fields changed."""
    return {"_reject": lambda env, problem: replace(LockEnv._reject(env, problem), **changes)}


def expert_when(asked: Any, expert: Any) -> Any:
    """Override of ``expert``: another one for some kinds."""
    return {"expert": lambda env, kind=None: expert if asked(kind) else LockEnv.expert(env, kind)}


def restore_anything(env: LockEnv, state: Any) -> Any:
    return LockEnv.restore(env, state if isinstance(state, ReplayState) else env.state())


def count_buzzes(env: Any, action: Action) -> StepResult[str]:
    result = LockEnv._apply(env, action)
    env.buzzes += env.position == 0
    return replace(result, observation=f"Open after {env.buzzes} buzzes.") if result.terminated else result


def dislike(env: LockEnv, problem: ActionProblem) -> StepResult[str]:
    raise ValueError("bad bytes")


def scramble(env: LockEnv, problem: ActionProblem) -> StepResult[str]:
    env.code = [-1] * len(env.code)
    return LockEnv._reject(env, problem)


def jam(env: Any, digit: str) -> StepResult[str]:
    env.jammed |= not digit.isdigit()
    return env._result_of("Jammed.") if env.jammed else LockEnv._press(env, digit)


def echo_bytes(env: LockEnv, digit: str) -> StepResult[Any]:
    result = LockEnv._press(env, digit)
    return result if result.valid else replace(result, observation=digit.encode())


def splits_unknown() -> Any:
    def make_task_set(cls: Any, *, data: str | None = None, split: str = "train") -> TaskSet:
        if split == "tran":
            raise ConfigError("no")
        return LockEnv.make_task_set(data=data, split=split)

    return {"make_task_set": classmethod(make_task_set)}


# Rule, part of the finding, and what the variant changes: one row per demand that a rule makes.
DEMANDS: list[tuple[str, str, dict[str, Any]]] = [
    ("tasks", "len(tasks) is 99", made_by(LongTaskSet)),
    ("tasks", "returned the task 'lock-1'", made_by(WrongTask)),
    ("tasks", "says split 'val', not 'train'", tasks_with(task(split="val"))),
    ("tasks", "has no instruction", tasks_with(task(instruction=" "))),
    ("tasks", "cannot be written as JSON", tasks_with(task(data={"length": 3, "odd": 1j}))),
    ("tasks", "began 'lock-9'", info_with(task_id="lock-9")),
    ("spaces", "has no text", pressed_with(observation=" ")),
    ("spaces", "the action 'press", {"action_space": property(lambda env: UnicodeText(1), lambda env, space: None)}),
    ("info-keys", "info of reset lacks 'level'", info_with(level=...)),
    ("info-keys", "'success' is 1", info_with(success=1)),
    ("info-keys", "'progress' is 0", info_with(progress=0)),
    ("info-keys", "there was no action yet", info_with(action=Action(name="look", arguments={}, command="look"))),
    ("info-keys", "action is None but action_valid is True", info_with(action=None)),
    ("info-keys", "action_valid is False but action_error is None", pressed_with(valid=False)),
    ("info-keys", "action_valid is True but action_error is 'hm'", pressed_with(error="hm")),
    ("info-keys", "not a list of str", info_with(admissible_actions=[1])),
    ("info-keys", "not a list of str", info_with(admissible_actions=("look",))),
    ("info-keys", "on some turns only", pressed_with(admissible=None)),
    ("info-keys", "extra does not survive JSON", result_with(extra={"odd": 1j})),
    ("info-keys", "extra does not survive JSON", result_with(extra={"odd": float("nan")})),
    ("reward-range", "the reward nan is outside", pressed_with(reward=float("nan"))),
    ("reward-range", "the reward inf is outside", pressed_with(reward=float("inf"))),
    ("reward-range", "'1', not a number", pressed_with(reward="1")),
    ("reward-range", "True, not a number", pressed_with(reward=True)),
    ("reward-range", "reward_range is (1.0, 0.0)", {"reward_range": (1.0, 0.0)}),
    ("reward-range", "reward_range is (0.0, inf)", {"reward_range": (0.0, float("inf"))}),
    ("progress", "progress is 1.5, outside 0..1", pressed_with(progress=1.5)),
    ("progress", "success, but progress is 0.9", pressed_with(progress=0.9, success=True)),
    ("levels", "level 'ajar' is not one of outcome_levels", pressed_with(level="ajar")),
    ("levels", "level 'shut' is not one of outcome_levels ()", {"outcome_levels": ()} | result_with(level="shut")),
    ("levels", "level None is not one of outcome_levels", result_with(level=None)),
    ("levels", "has duplicates", {"outcome_levels": ("shut", "started", "started", "open")}),
    ("levels", "level 'open' with success=False", pressed_with(level="open", success=False)),
    ("levels", "level 'started' with success=True", pressed_with(level="started", success=True)),
    ("endings", "not bool", stepping(lambda o, r, terminated, truncated, i: (o, r, int(terminated), truncated, i))),
    ("endings", "success does not end the episode", pressed_with(success=True, terminated=False)),
    (
        "endings",
        "is not one of",
        stepping(lambda o, r, t, cut, i: (o, r, t, cut, {**i, "truncation": "boredom" if cut else None})),
    ),
    ("endings", "terminated and truncated at once", stepping(lambda o, r, t, cut, i: (o, r, t, t or cut, i))),
    ("tools", "there are no tools", {"tools": property(lambda env: [])}),
    ("tools", "no function schema", {"tools": property(lambda env: ["press"])}),
    ("tools", "has no 'function'", {"tools": property(lambda env: [{"type": "function"}])}),
    ("tools", "got 'press it'", tool_with(name="press it")),
    ("tools", "got 'pr\u00e9ss'", tool_with(name="pr\u00e9ss")),
    ("tools", "got ''", tool_with(name="")),
    ("tools", "share a name", tool_with(name="look")),
    ("tools", "is not read back", tool_with(name="pull")),
    ("tools", "has no description", tool_with(description=" ")),
    ("tools", "has no parameters schema", tool_with(parameters=None)),
    ("tools", "must have the type 'object'", tool_with(type="array")),
    ("tools", "properties must be an object", tool_with(properties=["digit"])),
    ("tools", "required must be a list", tool_with(required="digit")),
    ("tools", "requires ['number'] but has ['digit']", tool_with(required=["number"])),
    ("tools", "needs a scalar type", tool_with(properties={"digit": {"type": "object"}})),
    ("system-prompt", "the system prompt is ''", {"system_prompt": ""}),
    ("expert-solves", "names no expert", {"experts": ()}),
    ("expert-solves", "expert 'peeker' does nothing valid", expert_when(lambda kind: kind == "peeker", FixedMessage())),
    ("expert-solves", "must raise a ConfigError", {"expert": lambda env, kind=None: LockExpert(env)}),
    ("expert-solves", "is not terminated", {"default_max_turns": 9} | pressed_with(terminated=False, success=True)),
    ("expert-solves", "got at most 0.5", pressed_with(reward=0.5)),
    ("expert-solves", "has not solved it ('abracadabra' is none", expert_when(lambda kind: True, FixedMessage())),
    ("null-floor", "counts as success", rejecting(success=True)),
    ("state-restore", "must raise a ConfigError", {"restore": restore_anything}),
    ("state-restore", "restored after random turns", {"buzzes": 0, "_apply": count_buzzes}),
    ("malformed-actions", "action_error does not say", info_with(action_error="")),
    ("malformed-actions", "not False", info_with(action_valid=True)),
    ("malformed-actions", "step() raised ValueError: 'bad bytes'", {"_reject": dislike}),
    ("malformed-actions", "no longer lead to its outcome", {"_reject": scramble}),
    ("malformed-actions", "it ended the episode", rejecting(terminated=True)),
    ("malformed-actions", "has 50000 characters", rejecting(observation="x" * 50_000)),
    ("hostile-arguments", "the expert no longer solves", {"jammed": False, "_press": jam}),
    ("hostile-arguments", "outside its space", {"_press": echo_bytes}),
    ("config-errors", "an unknown task id was accepted", made_by(ForgivingTaskSet)),
    (
        "config-errors",
        "raised TypeError, not ConfigError",
        {"step": lambda env, action: LockEnv.step(env, action + "")},
    ),
    ("config-errors", "does not name 'train'", splits_unknown()),
]


@pytest.mark.parametrize(("rule", "problem", "changes"), DEMANDS)
def test_each_demand_of_a_rule_is_made(rule: str, problem: str, changes: dict[str, Any]) -> None:
    variant = type("Variant", (LockEnv,), dict(changes))
    (finding,) = check(variant, episodes=3, rules=[rule])
    assert not finding.ok
    assert problem in finding.detail


def test_a_world_may_have_no_levels() -> None:
    variant = type("Flat", (LockEnv,), {"outcome_levels": ()} | result_with(level=None))
    assert broken_rules(check(variant, episodes=3)) == []


@pytest.mark.parametrize(("wins", "trials", "low"), [(10, 20, 0.2993), (0, 20, 0.0), (20, 20, 0.8389), (1, 2, 0.0945)])
def test_the_confidence_bound_is_wilsons(wins: int, trials: int, low: float) -> None:
    # Worked separately with z = 1.959964.
    assert _lower_bound(wins, trials) == pytest.approx(low, abs=5e-5)


def test_a_world_that_does_not_cut_is_caught() -> None:
    class Endless(LockEnv):
        def step(self, action: str) -> Any:
            self._turn = 0
            return super().step(action)

    (finding,) = check(Endless, episodes=1, rules=["endings"])
    assert not finding.ok


def test_a_step_after_the_end_that_is_accepted_is_caught() -> None:
    class Ghost(LockEnv):
        def step(self, action: str) -> Any:
            self._over = False
            return super().step(action)

    (finding,) = check(Ghost, episodes=1, rules=["endings"])
    assert not finding.ok


def test_a_wrong_info_key_names_the_turn() -> None:
    class NoReason(LockEnv):
        def _result_of(self, text: str, **keywords: Any) -> StepResult[str]:
            return replace(super()._result_of(text), valid="error" not in keywords, error=None)

        def _press(self, digit: str) -> StepResult[str]:
            return replace(super()._press(digit), valid=False)

    (finding,) = check(NoReason, episodes=1, rules=["info-keys"])
    assert "turn 0" in finding.detail
    assert "action_error" in finding.detail


def test_a_hidden_default_seed_is_caught() -> None:
    class Global(LockEnv):
        def _begin(self, task: Task) -> StepResult[str]:
            random.seed(0)
            return super()._begin(task)

    (finding,) = check(Global, episodes=1, rules=["global-rng"])
    assert "random" in finding.detail


def test_the_fallback_state_brings_the_generator_back_without_a_seed() -> None:
    env = LockEnv()
    env.reset()
    env.step("look")
    state = env.state()
    assert isinstance(state, ReplayState)
    later = [env.step("look")[0] for _ in range(5)]
    env.restore(state)
    assert [env.step("look")[0] for _ in range(5)] == later


def test_a_world_with_one_task_needs_no_second_episode() -> None:
    class One(SeedIgnored):
        @classmethod
        def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
            return ListTaskSet([LockEnv.make_task_set().get("lock-0")], split="train")

    (finding,) = check(One, episodes=3, rules=["different-seed"])
    assert finding.ok
    assert "one task" in finding.detail


def test_observations_may_be_as_long_as_a_text_world_allows() -> None:
    assert LockEnv().observation_space.contains("x" * MAX_OBSERVATION_CHARS)
