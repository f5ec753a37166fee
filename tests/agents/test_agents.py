"""Agents: what each of them answers, and how they are made from a specification."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnwise import agents
from turnwise.actions import ActionGrammar, ActionProblem, ActionSpec
from turnwise.agents import (
    ExpertAgent,
    HumanAgent,
    NoisyExpertAgent,
    RandomAgent,
    ReplayAgent,
    list_agents,
    make_agent,
)
from turnwise.agents import registry as agent_registry
from turnwise.env import StepResult, TurnEnv
from turnwise.errors import ConfigError, PolicyError, UnknownNameError, unknown_name
from turnwise.protocols import Agent, AgentMessage, Episode
from turnwise.records import Action, Ending, Task, Trajectory, Turn, to_json
from turnwise.tasks import ListTaskSet

DOORS = ("red", "green", "blue", "white")


class Corridor(TurnEnv[str]):
    """Open the door that the expert knows; the admissible list can be switched off."""

    grammar = ActionGrammar(
        (
            ActionSpec(
                name="open", template="open {door} door", description="Open a door.", parameters={"door": "which"}
            ),
            ActionSpec(name="wait", template="wait", description="Do nothing."),
        )
    )
    experts = ("expert", "explorer")
    lists_actions = True

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> ListTaskSet:
        return ListTaskSet([Task(id=f"c{i}", split=split, instruction="leave") for i in range(3)], split=split)

    def _state(self, text: str, **more: Any) -> StepResult[str]:
        admissible = [f"open {door} door" for door in DOORS] if self.lists_actions else None
        return StepResult(observation=text, admissible=admissible, **more)

    def _begin(self, task: Task) -> StepResult[str]:
        return self._state("a corridor with a red door and a blue door")

    def _apply(self, action: Action) -> StepResult[str]:
        won = action.arguments.get("door") == "white"
        return self._state("you opened it", reward=float(won), terminated=won, success=won)

    def expert(self, kind: str | None = None):
        if kind not in (None, *self.experts):
            raise unknown_name("expert", kind, self.experts)
        command = "open white door" if kind != "explorer" else "open red door"

        class Solver:
            def act(self, observation: Any, info: Any) -> str:
                return command

        return Solver()


def begin(
    agent: Agent, *, seed: int = 7, sample: int = 0, env: TurnEnv[str] | None = None
) -> tuple[str, dict[str, Any]]:
    env = env or Corridor()
    observation, info = env.reset(seed=seed, options={"task_id": "c1"})
    agent.reset(Episode(env=env, task=env.task, seed=seed, sample=sample))
    return observation, info


def messages(agent: Agent, count: int, **options: Any) -> list[str]:
    observation, info = begin(agent, **options)
    return [agent.act(observation, info).text for _ in range(count)]


@pytest.mark.parametrize("spec", ["expert", "explorer", "noisy-expert", "noisy-expert:0.5", "random", "human"])
def test_each_agent_keeps_the_protocol_and_names_itself(spec: str) -> None:
    agent = make_agent(spec)
    assert isinstance(agent, Agent)
    assert agent.spec.startswith(spec)
    assert make_agent(agent.spec).spec == agent.spec
    assert agent.policy_version is None


def test_names_are_listed_and_near_misses_offered() -> None:
    ours = {"expert", "explorer", "human", "noisy-expert", "random", "replay"}
    assert ours <= set(list_agents())
    assert list(list_agents()) == sorted(list_agents())
    with pytest.raises(UnknownNameError, match="Did you mean 'noisy-expert'"):
        make_agent("noisy_expert:0.1")
    with pytest.raises(UnknownNameError, match="unknown agent ''"):
        make_agent("")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("noisy-expert:1.5", r"in \[0, 1\], got 1.5"),
        ("noisy-expert:nan", r"in \[0, 1\]"),
        ("noisy-expert:much", "got 'much'"),
        ("random:3", "takes no options"),
        ("explorer:3", "takes no options"),
        ("human:bob", "takes no options"),
        ("replay", "replay:RUN"),
        ("replay:nowhere.jsonl", "no JSONL file"),
    ],
)
def test_bad_options_are_explained(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_agent(spec)


def test_expert_and_explorer_ask_the_environment() -> None:
    assert messages(make_agent("expert"), 1) == ["open white door"]
    assert messages(make_agent("expert:explorer"), 1) == ["open red door"]
    assert messages(make_agent("explorer"), 1) == ["open red door"]
    with pytest.raises(UnknownNameError, match="Did you mean 'explorer'"):
        messages(ExpertAgent("explorr"), 1)


def test_the_noisy_expert_errs_as_often_as_epsilon_says() -> None:
    played = messages(NoisyExpertAgent(0.4), 2000)
    # A random action is the expert's own one time in four.
    assert 0.25 < sum(text != "open white door" for text in played) / 2000 < 0.35
    assert messages(NoisyExpertAgent(0.0), 50) == ["open white door"] * 50
    assert set(messages(NoisyExpertAgent(1.0), 200)) == {f"open {door} door" for door in DOORS}


@pytest.mark.parametrize("spec", ["noisy-expert:0.5", "random"])
def test_randomness_belongs_to_the_episode(spec: str) -> None:
    one, other = make_agent(spec), make_agent(spec)
    assert messages(one, 30) == messages(other, 30)
    assert messages(one, 30) == messages(one, 30)
    assert messages(one, 30) != messages(one, 30, seed=8)
    assert messages(one, 30) != messages(one, 30, sample=1)


def test_no_global_generator_is_touched() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist())
    messages(RandomAgent(), 20)
    messages(NoisyExpertAgent(0.5), 20)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_the_agents_stream_is_not_the_environments() -> None:
    class Recorder(RandomAgent):
        def reset(self, episode: Episode) -> None:
            super().reset(episode)
            assert self._generator is not None
            self.draw = float(self._generator.random())

    agent = Recorder()
    env = Corridor()
    begin(agent, env=env)
    assert agent.draw != float(env.np_random.random())


def test_without_a_list_random_actions_follow_the_grammar() -> None:
    env = Corridor()
    env.lists_actions = False
    played = messages(RandomAgent(), 60, env=env)
    assert not any(isinstance(env.grammar.parse(text), ActionProblem) for text in played)
    assert {"wait", "open red door", "open blue door"} <= set(played)


def test_without_a_grammar_random_actions_are_texts() -> None:
    class Bare:
        unwrapped: Any

    env = Bare()
    env.unwrapped = env
    agent = RandomAgent()
    agent.reset(Episode(env=env, task=Task(id="t", split="train", instruction=""), seed=1))  # type: ignore[arg-type]
    texts = [agent.act({"text": "x"}, {}).text for _ in range(5)]
    assert len(set(texts)) > 1
    assert all(isinstance(text, str) and len(text) <= 64 for text in texts)


def test_replay_sends_the_recorded_messages_in_order() -> None:
    agent = ReplayAgent(["a", "b"])
    observation, info = begin(agent)
    assert [agent.act(observation, info).text for _ in range(2)] == ["a", "b"]
    with pytest.raises(PolicyError, match="ends after 2 messages"):
        agent.act(observation, info)
    assert messages(agent, 2) == ["a", "b"]
    with pytest.raises(ConfigError, match="list of messages"):
        ReplayAgent("a b")


def test_replay_by_trajectory_id_finds_the_episodes_own_recording() -> None:
    agent = ReplayAgent({"c1#0": ["first"], "c1#1": ["second"]})
    assert messages(agent, 1) == ["first"]
    assert messages(agent, 1, sample=1) == ["second"]
    with pytest.raises(PolicyError, match="c1#2"):
        begin(agent, sample=2)


def recording(tmp_path: Path) -> str:
    path = tmp_path / "run.jsonl"
    lines = []
    for sample in range(2):
        turns = tuple(Turn(index=i, observation="", action_text=f"{sample}-{i}") for i in range(2))
        task = Task(id="c1", split="train", instruction="")
        ending = Ending(kind="terminated")
        trajectory = Trajectory(
            id=f"c1#{sample}", env_id="x", task=task, seed=0, agent="a", ending=ending, turns=turns, sample=sample
        )
        lines.append(to_json(trajectory))
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    return str(path)


def test_replay_reads_a_jsonl_file(tmp_path: Path) -> None:
    path = recording(tmp_path)
    agent = make_agent(f"replay:{path}")
    assert agent.spec == f"replay:{path}"
    assert messages(agent, 2, sample=1) == ["1-0", "1-1"]
    assert messages(make_agent(f"replay:{path}#c1#1"), 2, sample=0) == ["1-0", "1-1"]
    with pytest.raises(UnknownNameError, match="Did you mean 'c1#"):
        make_agent(f"replay:{path}#c1#7")
    Path(path).write_text("{}\n")
    with pytest.raises(ConfigError, match="line 1 of"):
        make_agent(f"replay:{path}")


def test_replay_reads_what_the_given_reader_reads() -> None:
    agent = make_agent("replay:anywhere", read_actions=lambda path: {"c1#0": [path]})
    assert messages(agent, 1) == ["anywhere"]


def test_a_person_sees_the_task_and_answers_line_by_line() -> None:
    screen = io.StringIO()
    agent = HumanAgent(source=io.StringIO("open red door\nwait\n"), screen=screen)
    observation, info = begin(agent)
    assert [agent.act(observation, info).text for _ in range(2)] == ["open red door", "wait"]
    with pytest.raises(PolicyError, match="input ended"):
        agent.act(observation, info)
    assert "Task c1: leave" in screen.getvalue()
    assert "open {door} door" in screen.getvalue()
    assert "a corridor with" in screen.getvalue()


def test_an_agent_that_was_not_reset_says_so() -> None:
    for spec in ("expert", "random", "noisy-expert"):
        with pytest.raises(PolicyError, match="reset"):
            make_agent(spec).act("", {})


class Silent:
    spec = "silent"
    policy_version = None

    @classmethod
    def from_spec(cls, rest: str) -> Silent:
        made = cls()
        made.spec = f"silent:{rest}"
        return made

    def reset(self, episode: Episode) -> None:
        pass

    def act(self, observation: Any, info: Any) -> AgentMessage:
        return AgentMessage(text="")


def test_third_parties_register_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = agent_registry.Registry("agent", agent_registry.BUILTIN_AGENTS, "turnwise.agents")
    monkeypatch.setattr(agent_registry, "agents", registered)
    monkeypatch.setitem(sys.modules, "acme", type(sys)("acme"))
    monkeypatch.setattr("acme.Silent", Silent, raising=False)
    registered.register("silent", "acme:Silent")
    assert make_agent("silent:x").spec == "silent:x"
    monkeypatch.setattr("acme.Loud", object(), raising=False)
    registered.register("loud", "acme:Loud")
    with pytest.raises(ConfigError, match="from_spec"):
        make_agent("loud")


def test_the_package_exports_what_it_lists() -> None:
    assert all(hasattr(agents, name) for name in agents.__all__)
