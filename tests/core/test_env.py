"""The base environment: options, the turn cap, info, and the replay fallback of state/restore."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.env import StepResult, TurnEnv
from turnwise.errors import ConfigError, EpisodeOverError, UnknownNameError
from turnwise.protocols import TaskSet
from turnwise.records import Action, Task
from turnwise.tasks import ListTaskSet, canonical_split


class CounterEnv(TurnEnv[str]):
    """Counts up to the task's number; each turn shows a die."""

    grammar = ActionGrammar(
        (
            ActionSpec(name="add", template="add {number}", description="Add.", parameters={"number": "1 or 2"}),
            ActionSpec(name="look", template="look", description="Look."),
        )
    )
    outcome_levels = ("nothing", "some", "all")
    default_max_turns = 5

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        split = canonical_split(split)
        return ListTaskSet(
            [Task(id=f"to-{n}", split=split, instruction="Count.", data={"goal": n}) for n in range(3, 20)], split=split
        )

    def _begin(self, task: Task) -> StepResult[str]:
        self.count, self.goal = 0, task.data["goal"]
        return self._now()

    def _apply(self, action: Action) -> StepResult[str]:
        if action.name == "add":
            self.count += int(action.arguments["number"])
        return self._now()

    def _now(self) -> StepResult[str]:
        done = self.count >= self.goal
        return StepResult(
            observation=f"{self.count} of {self.goal}, die {int(self.np_random.integers(1, 10**6))}",
            reward=float(done),
            terminated=done,
            progress=min(1.0, self.count / self.goal),
            success=done,
            level=self.outcome_levels[2 if done else bool(self.count)],
            admissible=["look", "add 1"],
            extra={"counts": {"now": self.count}},
        )


def test_reset_and_step_fill_info() -> None:
    env = CounterEnv()
    _, info = env.reset(seed=0, options={"task_id": "to-3"})
    assert info == {
        "task_id": "to-3",
        "action": None,
        "action_valid": True,
        "action_error": None,
        "progress": 0.0,
        "success": False,
        "level": "nothing",
        "truncation": None,
        "admissible_actions": ["look", "add 1"],
        "extra": {"counts": {"now": 0}},
    }
    observation, reward, terminated, truncated, info = env.step("Thought: one. Action: ADD 3")
    assert observation.startswith("3 of 3")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["action"].command == "add 3"
    assert info["action"].thought == "one."
    assert (info["level"], info["success"], info["progress"]) == ("all", True, 1.0)


def test_a_result_says_the_plain_case_unless_told_otherwise() -> None:
    result = StepResult(observation="A pan.")
    assert (result.reward, result.terminated, result.valid, result.error) == (0.0, False, True, None)
    assert (result.progress, result.success, result.level, result.admissible) == (0.0, False, None, None)
    with pytest.raises(FrozenInstanceError):
        result.reward = 1.0  # type: ignore[misc]


def test_worlds_without_an_admissible_list_have_no_such_key() -> None:
    class Quiet(CounterEnv):
        def _now(self) -> StepResult[str]:
            return StepResult(observation="?")

    assert "admissible_actions" not in Quiet().reset(seed=0)[1]


def test_a_malformed_message_is_explained_and_changes_nothing() -> None:
    env = CounterEnv()
    env.reset(seed=0, options={"task_id": "to-5"})
    _, _, _, _, before = env.step("add 2")
    observation, reward, terminated, truncated, info = env.step("abracadabra")
    assert observation.startswith("Invalid action: 'abracadabra' is none of the actions")
    assert env.grammar.explain() in observation
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert (info["action"], info["action_valid"]) == (None, False)
    assert "abracadabra" in info["action_error"]
    kept = ("progress", "success", "level", "admissible_actions", "extra", "task_id")
    assert {key: info[key] for key in kept} == {key: before[key] for key in kept}
    assert env.step("add 1")[0].startswith("3 of 5")


def test_malformed_messages_count_as_turns() -> None:
    env = CounterEnv(max_turns=2)
    env.reset(seed=0)
    assert env.step("")[3] is False
    assert env.step("")[3] is True


def test_the_turn_cap_truncates() -> None:
    env = CounterEnv(max_turns=3)
    env.reset(seed=0)
    ends = [(*env.step("look")[2:4], env._turn) for _ in range(2)]
    assert ends == [(False, False, 1), (False, False, 2)]
    _, _, terminated, truncated, info = env.step("look")
    assert (terminated, truncated, info["truncation"]) == (False, True, "turns")


def test_an_episode_that_ends_on_its_last_turn_is_terminated() -> None:
    env = CounterEnv(max_turns=1)
    env.reset(seed=0, options={"task_id": "to-3"})
    _, _, terminated, truncated, info = env.step("add 3")
    assert (terminated, truncated, info["truncation"]) == (True, False, None)


def test_the_default_cap_is_the_worlds_own() -> None:
    assert CounterEnv().max_turns == 5
    assert CounterEnv(max_turns=7).max_turns == 7


def test_step_outside_an_episode_is_refused() -> None:
    env = CounterEnv(max_turns=1)
    with pytest.raises(EpisodeOverError, match=r"reset\(\)"):
        env.step("look")
    with pytest.raises(EpisodeOverError):
        _ = env.task
    env.reset(seed=0)
    env.step("look")
    with pytest.raises(EpisodeOverError):
        env.step("look")
    env.reset(seed=0)
    env.step("look")


@pytest.mark.parametrize("action", [None, 3, b"look", ["look"]])
def test_an_action_that_is_no_text_is_refused(action: Any) -> None:
    env = CounterEnv()
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=type(action).__name__):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_turns": 0}, "max_turns .* got 0"),
        ({"max_turns": -3}, "max_turns .* got -3"),
        ({"max_turns": 2.5}, "max_turns .* got 2.5"),
        ({"max_turns": True}, "max_turns .* got True"),
        ({"max_turns": "9"}, "max_turns .* got '9'"),
        ({"render_mode": "human"}, "render_mode .* got 'human'"),
        ({"split": "tran"}, "Did you mean 'train'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        CounterEnv(**options)


def test_bad_reset_options_list_near_misses() -> None:
    env = CounterEnv()
    with pytest.raises(UnknownNameError, match=r"unknown reset option 'task'. Did you mean 'task_id'"):
        env.reset(seed=0, options={"task": "to-3"})
    with pytest.raises(UnknownNameError, match=r"unknown task 'to3'. Did you mean 'to-3'"):
        env.reset(seed=0, options={"task_id": "to3"})


def test_a_reset_that_fails_leaves_no_episode() -> None:
    env = CounterEnv()
    env.reset(seed=0)
    with pytest.raises(UnknownNameError):
        env.reset(seed=0, options={"task_id": "no"})
    with pytest.raises(EpisodeOverError):
        env.step("look")


def test_a_world_without_experts_says_so() -> None:
    with pytest.raises(UnknownNameError, match="unknown expert 'oracle'"):
        CounterEnv().expert("oracle")


def test_seeds_choose_the_task_and_the_dice() -> None:
    env = CounterEnv()
    begun = {seed: env.reset(seed=seed) for seed in range(10)}
    assert len({info["task_id"] for _, info in begun.values()}) > 1
    for seed, (observation, info) in begun.items():
        assert env.reset(seed=seed) == (observation, info)
        assert CounterEnv().reset(seed=seed) == (observation, info)


def test_naming_the_task_that_a_seed_draws_gives_the_same_episode() -> None:
    env = CounterEnv()
    drawn, info = env.reset(seed=3)
    assert env.reset(seed=3, options={"task_id": info["task_id"]})[0] == drawn


def test_prompt_and_tools_come_from_the_grammar() -> None:
    env = CounterEnv()
    assert env.system_prompt == env.grammar.explain()
    assert [tool["function"]["name"] for tool in env.tools] == ["add", "look"]


def test_render_shows_the_last_observation() -> None:
    env = CounterEnv(render_mode="ansi")
    assert env.render() is None
    observation, _ = env.reset(seed=0)
    assert env.render() == observation
    observation, *_ = env.step("look")
    assert env.render() == observation
    silent = CounterEnv()
    silent.reset(seed=0)
    assert silent.render() is None


def test_callers_own_what_they_get() -> None:
    env = CounterEnv()
    _, info = env.reset(seed=0, options={"task_id": "to-5"})
    expected = (list(info["admissible_actions"]), {"counts": {"now": 0}})
    for message in ("nonsense", "nonsense", "look"):
        info["admissible_actions"].clear()
        info["extra"]["counts"].clear()
        info.clear()
        info = env.step(message)[4]
        assert (info["admissible_actions"], info["extra"]) == expected


# -- the replay fallback ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("task_id", [None, "to-9"])
def test_a_state_goes_on_as_before(seed: int | None, task_id: str | None) -> None:
    env = CounterEnv(max_turns=50)
    env.reset(seed=1)
    env.reset(seed=seed, options=None if task_id is None else {"task_id": task_id})
    env.step("add 1")
    here = env.step("nonsense")
    state = env.state()
    branch = [env.step(message) for message in ("look", "add 1", "look")]
    for _ in range(2):
        assert env.restore(state) == (here[0], here[4])
        assert [env.step(message) for message in ("look", "add 1", "look")] == branch


def test_a_state_can_be_restored_in_another_environment_and_after_the_end() -> None:
    env, other = CounterEnv(), CounterEnv()
    env.reset(seed=5, options={"task_id": "to-3"})
    state = env.state()
    last = env.step("add 3")
    assert last[2]
    for where in (env, other):
        where.restore(state)
        assert where.step("add 3") == last


def test_the_turns_of_a_state_still_count() -> None:
    env = CounterEnv(max_turns=3)
    env.reset(seed=0)
    env.step("look")
    env.step("look")
    state = env.state()
    for _ in range(2):
        env.restore(state)
        assert env.step("look")[3] is True


def test_states_are_small_values() -> None:
    import pickle

    env = CounterEnv()
    env.reset(seed=0)
    env.step("look")
    state = pickle.loads(pickle.dumps(env.state()))
    assert state == env.state()
    env.restore(state)


@pytest.mark.parametrize("state", [None, "to-3", {}, 3])
def test_only_states_can_be_restored(state: Any) -> None:
    env = CounterEnv()
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=re.escape(f"got {type(state).__name__}")):
        env.restore(state)


def test_a_state_needs_an_episode() -> None:
    with pytest.raises(EpisodeOverError, match=r"reset\(\)"):
        CounterEnv().state()
