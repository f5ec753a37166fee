"""Information gain: where values go, what they are, and that nothing unknown becomes a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import (
    AnswerLogProbs,
    BatchBeliefScorer,
    Belief,
    BeliefRequest,
    BeliefScorer,
    LogProbSource,
    Reward,
)
from turnwise.records import Task, replace
from turnwise.rewards import load_rewards
from turnwise.rewards.credit import InformationGainCredit, place_on_boundaries
from turnwise.rewards.gain.answers import best_f1, given_answer, reference_answers, set_f1
from turnwise.rewards.gain.model import ModelBeliefs
from turnwise.rewards.information_gain import InformationGain

Make = Any


class Scripted:
    """A source whose log-probabilities are written down: ``script[context][answer]`` token by token."""

    def __init__(self, script: Sequence[Sequence[Sequence[float]]] = (), error: Exception | None = None) -> None:
        self.script, self.error, self.queries = script, error, []  # type: ignore[var-annotated]

    def answer_logprobs(self, queries: Any) -> list[Any]:
        if isinstance(self.error, JudgeError):
            return [self.error for _ in queries]
        if self.error is not None:
            raise self.error
        self.queries += list(queries)
        return [
            AnswerLogProbs(tokens=tuple(tuple(map(tuple, row)) for row in self.script[: len(q.segments)]))  # type: ignore[arg-type]
            for q in queries
        ]

    def describe(self) -> dict[str, Any]:
        return {}


class Fixed:
    """Beliefs from a list of probabilities, for every trajectory."""

    def __init__(self, *probabilities: float) -> None:
        self.probabilities = probabilities

    def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
        return tuple(Belief(probability=p, logprob=math.log(p)) for p in self.probabilities[: request.turns + 1])

    def describe(self) -> dict[str, Any]:
        return {}


def question(episode: Make, *actions: str, data: dict[str, Any] | None = None, **fields: Any) -> Any:
    """An episode of searches; an action ``answer:...`` answers."""
    from turnwise.records import Action

    turns = []
    for text in actions:
        name, _, rest = text.partition(":")
        made = Action(name=name, arguments={"text": rest}, command=text)
        turns.append({"action": made, "action_text": text})
    task = Task(id="task-1", split="train", instruction="Who?", data={"answer": "Ilsa Tarn"} if data is None else data)
    return replace(episode(turns, **fields), task=task)


def values(reward: InformationGain, trajectory: Any) -> list[float | None]:
    return [v.value for v in reward.score(trajectory)]


# IGPO's worked example (shared/rewards.md, P1.b): two answer tokens, three contexts.
R1 = [[[-2.0, -1.0]], [[-1.5, -0.5]], [[-0.5, -0.1]]]
R2 = [[[-2.0, -1.0]], [[-2.2, -1.2]]]


def test_the_protocols() -> None:
    assert isinstance(InformationGain(), Reward)
    assert isinstance(ModelBeliefs(Scripted()), BatchBeliefScorer)
    assert isinstance(Fixed(), BeliefScorer)
    assert not isinstance(Fixed(), BatchBeliefScorer)
    assert isinstance(Scripted(), LogProbSource)


@pytest.mark.parametrize(
    ("kind", "script", "expected"),
    [
        ("prob_diff", R1, [0.1447, 0.3729]),
        ("log_prob_diff", R1, [0.5, 0.7]),
        ("prob_diff", R2, [-0.0404]),
        ("log_prob_diff", R2, [-0.2]),
    ],
)
def test_the_worked_gains(episode: Make, kind: Any, script: Any, expected: list[float]) -> None:
    searches = [f"search:{i}" for i in range(len(expected))]
    reward = InformationGain(kind=kind, scorer=ModelBeliefs(Scripted(script)))
    scored = reward.score(question(episode, *searches, "answer:Tarn"))
    np.testing.assert_allclose([v.value for v in scored[:-1]], expected, atol=5e-5)
    assert scored[-1].value == pytest.approx(2 / 3)
    assert [v.evidence["role"] for v in scored] == ["gain"] * len(expected) + ["outcome"]


def test_the_worked_example_from_log_probs_to_advantages(episode: Make) -> None:
    first = question(episode, "search:a", "search:b", "answer:Tarn", sample=0)
    second = question(episode, "search:a", "search:b", sample=1)  # never answers: -2, as the released code has it
    group = []
    for trajectory, script in ((first, R1), (second, R2)):
        reward = InformationGain(scorer=ModelBeliefs(Scripted(script)), no_answer=-2.0)
        scored = list(reward.score(trajectory))
        if script is R1:
            scored[-1] = replace(scored[-1], value=0.8)
        turns = tuple(
            replace(t, rewards={"information_gain": v}) for t, v in zip(trajectory.turns, scored, strict=True)
        )
        group.append(replace(trajectory, turns=turns))
    got = [list(a.advantages) for a in InformationGainCredit(normalise="joint").assign(group)]
    np.testing.assert_allclose(got[0], [1.8069, 1.5084, 0.9745], atol=6e-5)
    np.testing.assert_allclose(got[1], [-1.8069, -1.9143], atol=6e-5)


def test_evidence_says_what_and_why(episode: Make) -> None:
    script = [[[-2.0], [-1.0]], [[-0.5], [-1.0]]]
    made = question(episode, "search:a", "answer:the answer", data={"answer": "Ilsa Tarn", "aliases": ["Tarn"]})
    gain, outcome = InformationGain(scorer=ModelBeliefs(Scripted(script))).score(made)
    assert gain.evidence == {
        "role": "gain",
        "before": math.exp(-1.0),
        "after": math.exp(-0.5),
        "answer": "Ilsa Tarn",
        "answer_before": "Tarn",
        "aliases": 2,
    }
    assert outcome.evidence["prediction"] == "the answer"


def test_aliases_by_max_and_by_mean(episode: Make) -> None:
    script = [[[-2.0, -4.0], [-1.0]], [[-0.5, -0.5], [-3.0]]]
    made = question(episode, "search:a", data={"answers": ["Ilsa Tarn", "Tarn"]})
    best = InformationGain(scorer=ModelBeliefs(Scripted(script)))
    assert values(best, made) == [pytest.approx(math.exp(-0.5) - math.exp(-1.0))]
    mean = InformationGain(scorer=ModelBeliefs(Scripted(script), aliases="mean"))
    before, after = (math.exp(-3.0) + math.exp(-1.0)) / 2, (math.exp(-0.5) + math.exp(-3.0)) / 2
    assert values(mean, made) == [pytest.approx(after - before)]
    logs = InformationGain(scorer=ModelBeliefs(Scripted(script), aliases="mean"), kind="log_prob_diff")
    assert values(logs, made) == [pytest.approx(-1.75 + 2.0)]


def test_the_model_reads_up_to_each_turn_and_no_further(episode: Make) -> None:
    source = Scripted([[[-1.0]]] * 9)
    made = question(episode, "search:a", "search:b", "answer:c", final_observation="it was Ilsa Tarn")
    InformationGain(scorer=ModelBeliefs(source, prefix="P", suffix="S")).score(made)
    (query,) = source.queries
    assert [(f.prefix, f.answer, f.suffix) for f in query.answers] == [("P", "Ilsa Tarn", "S")]
    assert len(query.segments) == 3
    texts = ["".join(query.segments[: t + 1]) for t in range(3)]
    assert "You see thing 0." in texts[0]
    assert "search:a" not in texts[0]
    assert "You see thing 1." in texts[1]
    assert "search:b" not in texts[1]
    assert "answer:c" not in texts[2]
    assert "it was" not in texts[2]


def test_gains_telescope_and_zero_gains_are_gains(episode: Make, tokenised: Make) -> None:
    reward = InformationGain(scorer=Fixed(0.25, 0.25, 0.5))
    made = question(episode, "search:a", "search:b", "answer:nothing alike")
    scored = reward.score(made)
    assert [v.value for v in scored] == [0.0, 0.25, 0.0]
    assert [v.evidence["role"] for v in scored] == ["gain", "gain", "outcome"]
    tokens = tokenised([(0, 2), (3, 4), (5, 6)], 6)
    _, boundaries, valid = place_on_boundaries(scored, tokens)
    assert boundaries.tolist() == valid.tolist() == [False, True, False, True, False, True]


@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8), st.sampled_from(["prob_diff", "log_prob_diff"]))
def test_gains_sum_to_the_whole_change(episode: Make, path: list[float], kind: Any) -> None:
    reward = InformationGain(scorer=Fixed(*path), kind=kind)
    scored = reward.score(question(episode, *["search:x"] * (len(path) - 1)))
    whole = path[-1] - path[0] if kind == "prob_diff" else math.log(path[-1]) - math.log(path[0])
    total = sum(v.value for v in scored if v.value is not None)
    assert total == pytest.approx(whole, abs=1e-9)
    assert all(reward.spec.low <= (v.value or 0.0) <= reward.spec.high for v in scored)


# -- what is no number -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"answer": ""}, {"answer": None, "aliases": []}])
def test_no_right_answer_is_invalid(episode: Make, data: dict[str, Any]) -> None:
    source = Scripted([[[-1.0]]] * 3)
    scored = InformationGain(scorer=ModelBeliefs(source)).score(question(episode, "search:a", "answer:b", data=data))
    assert [v.value for v in scored] == [None, None]
    assert all("no right answer" in str(v.invalid) for v in scored)
    assert [v.evidence["role"] for v in scored] == ["gain", "outcome"]
    assert not source.queries


@pytest.mark.parametrize("error", [JudgeError("server down"), RuntimeError("out of memory")])
def test_a_scorer_that_fails_makes_gains_invalid_and_leaves_the_outcome(episode: Make, error: Exception) -> None:
    made = question(episode, "search:a", "answer:Ilsa Tarn")
    scored = InformationGain(scorer=ModelBeliefs(Scripted(error=error))).score(made)
    assert scored[0].value is None
    assert str(error) in str(scored[0].invalid)
    assert "judge" in str(scored[0].invalid)
    assert scored[1].value == 1.0


@pytest.mark.parametrize(
    "script", [[], [[[-1.0]]], [[[]], [[-1.0]]], [[[math.nan]], [[-1.0]]], [[[3.0]], [[-1.0]]], [[], []]]
)
def test_a_source_that_breaks_its_word_gives_no_value(episode: Make, script: Any) -> None:
    (value,) = InformationGain(scorer=ModelBeliefs(Scripted(script))).score(question(episode, "search:a"))
    assert value.value is None
    assert value.invalid


@pytest.mark.parametrize("wrong", [(0.5,), (0.5, 1.5), (0.5, 0.5, 0.5)])
def test_a_scorer_that_breaks_its_word_gives_no_value(episode: Make, wrong: tuple[float, ...]) -> None:
    class Wrong(Fixed):
        def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
            return tuple(Belief(probability=p, logprob=-1.0) for p in wrong)

    (value,) = InformationGain(scorer=Wrong()).score(question(episode, "search:a"))
    assert value.value is None


def test_a_failed_episode_and_an_unknown_world_are_invalid(episode: Make) -> None:
    failed = question(episode, "search:a", "search:b", ending="failed")
    scored = InformationGain(scorer=Fixed(0.1, 0.2, 0.3)).score(failed)
    assert all("the container died" in str(v.invalid) for v in scored)
    unknown = InformationGain().score(question(episode, "search:a"))
    assert "Test-v0" in str(unknown[0].invalid)
    assert "ModelBeliefs" in str(unknown[0].invalid)
    assert InformationGain().score(question(episode)) == ()


# -- answers ---------------------------------------------------------------------------------------


def test_set_f1_is_the_released_codes() -> None:
    assert set_f1("the eiffel tower paris", "eiffel tower") == pytest.approx(0.6667, abs=5e-5)
    assert set_f1("Tower, Eiffel! tower", "eiffel tower") == 1.0  # a set: repeats and order do not count
    assert set_f1("", "x") == set_f1("x", "") == 0.0
    assert best_f1("paris", ["Eiffel Tower", "Paris"]) == (1.0, "Paris")


@pytest.mark.parametrize(
    "text",
    [
        "Ilsa Tarn",
        "I think <answer> Ilsa Tarn </answer> <answer>no</answer>",
        "## Explanation\nshe [[3](http://x/3)].\n## Exact Answer: **Ilsa Tarn** [[3](http://x/3)]\n## References\n[3]",
        "## Explanation x ## Exact Answer Ilsa Tarn ## References [3](http://x)",
    ],
)
def test_the_answer_is_found_in_every_form(episode: Make, text: str) -> None:
    assert given_answer(question(episode, f"answer:{text}").turns[-1]) == "Ilsa Tarn"


def test_reference_answers_are_listed_once_and_checked(episode: Make) -> None:
    keys = ("answer", "aliases", "answers")
    made = question(episode, "search:a", data={"answer": "1204", "aliases": ["1204", "MCCIV", " "], "answers": 1204})
    assert reference_answers(made, keys) == ("1204", "MCCIV")
    with pytest.raises(JudgeError, match="aliases"):
        reference_answers(question(episode, "search:a", data={"aliases": [["x"]]}), keys)
    broken = question(episode, "search:a", data={"answer": True})
    assert InformationGain(scorer=Fixed(0.5, 0.5)).score(broken)[0].value is None


def test_where_the_answer_turn_is(episode: Make) -> None:
    reward = InformationGain(scorer=Fixed(0.1, 0.2, 0.4))
    unanswered = question(episode, "search:a", "search:b", ending="turns")
    assert values(reward, unanswered) == [pytest.approx(0.1), pytest.approx(0.2)]
    late = InformationGain(scorer=Fixed(0.1, 0.2, 0.4), no_answer=-2.0)
    assert values(late, unanswered) == [pytest.approx(0.1), -2.0]
    refused = question(episode, "search:a", "answer:")
    refused = replace(refused, turns=(refused.turns[0], replace(refused.turns[1], action_valid=False)))
    assert [v.evidence["role"] for v in reward.score(refused)] == ["gain", "gain"]
    silent = InformationGain(scorer=Fixed(0.1, 0.2), outcome="none")
    answered = question(episode, "search:a", "answer:Ilsa Tarn")
    assert values(silent, answered) == [pytest.approx(0.1), 0.0]
    assert values(InformationGain(scorer=Fixed(0.1, 0.2), outcome_weight=0.5), answered)[1] == 0.5


# -- batches and configuration ---------------------------------------------------------------------


def test_many_trajectories_are_one_call_and_one_failure_is_alone(episode: Make) -> None:
    class Counting(Scripted):
        calls = 0

        def answer_logprobs(self, queries: Any) -> list[Any]:
            self.calls += 1
            return super().answer_logprobs(queries)

    source = Counting(R1)
    reward = InformationGain(scorer=ModelBeliefs(source))
    good = question(episode, "search:a", "search:b", "answer:Tarn")
    bad = question(episode, "search:a", data={})
    many = reward.score_many([good, bad, episode(2, ending="failed"), good])
    assert source.calls == 1
    assert many[0] == many[3] == reward.score(good)
    assert [len(v) for v in many] == [3, 1, 2, 3]
    assert many[1][0].value is None


def test_it_is_configured_by_name_and_describes_itself() -> None:
    tree = load_rewards({"version": 1, "rewards": [{"name": "information_gain", "options": {"kind": "log_prob_diff"}}]})
    again = load_rewards(tree.describe())
    assert again.describe() == tree.describe()
    made = InformationGain(
        scorer="turnwise.rewards.gain.model:ModelBeliefs",
        scorer_options={
            "source": "turnwise.agents.likelihood:EndpointLogProbs",
            "source_options": {"url": "http://localhost:1/v1", "model": "m"},
            "aliases": "mean",
        },
    )
    described = made.describe()
    assert described["scorer_options"]["source_options"]["model"] == "m"
    assert InformationGain(**described).describe() == described


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "prob"}, "kind"),
        ({"scorer": "ModelBeliefs"}, "module:Class"),
        ({"scorer": "turnwise.rewards.gain.model:Nothing"}, "Nothing"),
        ({"scorer": "turnwise.rewards.gain.model:ModelBeliefs", "scorer_options": {"sorce": 1}}, "sorce"),
        ({"scorer": object()}, "beliefs"),
        ({"scorer_options": {"a": 1}}, "scorer"),
        ({"answer_keys": "answer"}, "answer_keys"),
        ({"no_answer": "x"}, "no_answer"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        InformationGain(**options)
