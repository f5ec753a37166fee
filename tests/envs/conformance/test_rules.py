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
from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import TaskSet
from turnwise.records import Action, Task
from turnwise.spaces import UnicodeText
from turnwise.tasks import ListTaskSet, canonical_split


class LockExpert:
    """Presses the code that the environment holds."""

    def __init__(self, env: LockEnv) -> None:
        self.env = env

    def act(self, observation: Any, info: Any) -> str:
        return f"press {self.env.code[self.env.position]}"


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
    outcome_levels = ("shut", "started", "open")
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
        self.position = self.position + 1 if int(digit) == self.code[self.position] else 0
        self.best = max(self.best, self.position)
        return self._result_of("Click." if self.position else f"It buzzes {int(self.np_random.integers(10**9))}.")

    def _result_of(self, text: str, *, error: str | None = None) -> StepResult[str]:
        done = self.best == len(self.code)
        return StepResult(
            observation=text,
            reward=1.0 if done else 0.0,
            terminated=done,
            valid=error is None,
            error=error,
            progress=self.best / len(self.code),
            success=done,
            level=self.outcome_levels[2 if done else min(self.best, 1)],
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
        return super()._press(str(self.code[self.position]) if digit.isdigit() else digit)


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


@pytest.mark.parametrize(
    ("reward", "what"), [(float("nan"), "nan"), (float("inf"), "inf"), ("1", "not a number"), (True, "not a number")]
)
def test_a_reward_that_is_no_finite_number_is_caught(reward: Any, what: str) -> None:
    class Odd(LockEnv):
        def _press(self, digit: str) -> StepResult[str]:
            return replace(super()._press(digit), reward=reward)

    (finding,) = check(Odd, episodes=1, rules=["reward-range"])
    assert not finding.ok
    assert what in finding.detail


def test_both_flags_at_once_are_caught() -> None:
    class Both(LockEnv):
        def step(self, action: str) -> Any:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated, terminated or truncated, info

    (finding,) = check(Both, episodes=1, rules=["endings"])
    assert "terminated and truncated at once" in finding.detail


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
