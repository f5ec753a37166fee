"""Exact beliefs in the embedded search world, on episodes that were really played."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import turnwise  # noqa: F401 - registers the worlds
from turnwise.errors import JudgeError
from turnwise.protocols import BeliefRequest, BeliefScorer
from turnwise.records import Action, Ending, Outcome, Task, Trajectory, Turn, from_json, replace, to_json
from turnwise.rewards.gain.searchqa import SearchBeliefs
from turnwise.rewards.information_gain import InformationGain

KINDS = ("bridge", "comparison", "intersection", "count", "temporal", "unanswerable")

pytestmark = pytest.mark.usefixtures("search_cache")


class Player:
    """Plays episodes of the embedded world."""

    def __init__(self) -> None:
        self.env: Any = gymnasium.make("turnwise/SearchQA-v0", split="train").unwrapped

    def tasks(self, count: int) -> list[Task]:
        """The first tasks, and a few more of each kind."""
        ids = list(self.env.tasks.ids())
        tasks = [self.env.tasks.get(name) for name in ids]
        chosen = {task.id: task for task in tasks[:count]}
        for kind in KINDS:
            chosen |= {task.id: task for task in [task for task in tasks if task.type == kind][:10]}
        return list(chosen.values())

    def expert(self, task: Task) -> Trajectory:
        return self.play(task, None)

    def play(self, task: Task, calls: Sequence[dict[str, Any]] | None) -> Trajectory:
        """Play the expert, or the tool calls."""
        observation, info = self.env.reset(seed=0, options={"task_id": task.id})
        expert = self.env.expert()
        turns: list[Turn] = []
        over = False
        script: Iterator[str] | None = None if calls is None else iter([json.dumps(call) for call in calls])
        while not over:
            text = expert.act(observation, info) if script is None else next(script, None)
            if text is None:
                break
            before = observation
            observation, _, terminated, truncated, info = self.env.step(text)
            over = terminated or truncated
            call = json.loads(text)
            arguments = {key: str(value) for key, value in call["arguments"].items()}
            action = Action(name=call["name"], arguments=arguments, command=text, form="json")
            turns.append(
                Turn(
                    index=len(turns),
                    observation=before,
                    action_text=text,
                    action=action,
                    action_valid=info["action_valid"],
                    info=info["extra"],
                )
            )
        return Trajectory(
            id=f"{task.id}#0",
            env_id="turnwise/SearchQA-v0",
            task=self.env.task,
            seed=0,
            agent="test",
            ending=Ending(kind="terminated") if over else Ending(kind="truncated", cause="turns"),
            outcome=Outcome(success=over, env_return=float(over)),
            turns=tuple(turns),
            final_observation=observation,
        )


@cache
def player() -> Player:
    return Player()


def chances(trajectory: Trajectory) -> list[float]:
    request = BeliefRequest(trajectory=trajectory, turns=len(trajectory.turns))
    return [belief.probability for belief in SearchBeliefs().beliefs(request)]


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments}


def one(kind: str, hops: int) -> Task:
    return next(task for task in player().tasks(2_000) if task.type == kind and task.data["hops"] == hops)


def ceiling(task: Task) -> float:
    """What is left to doubt: for a count, that a book that was not read is by the same author and early enough."""
    if task.type != "count":
        return 1.0
    told = task.data["beliefs"]
    share = 1.0 / told["objects"]["author"]
    if task.data["form"][1][0] == "before":
        first, last = told["years"]["work_year"]
        share *= (task.data["form"][1][3] - first) / (last - first + 1)
    return float((1.0 - share) ** (told["subjects"]["author"] - len(task.data["last_documents"])))


def test_the_expert_ends_at_the_ceiling_with_gains_where_the_facts_are_first_shown() -> None:
    kinds: dict[str, int] = {}
    for task in player().tasks(150):
        kinds[task.type] = kinds.get(task.type, 0) + 1
        episode = player().expert(task)
        values = InformationGain().score(episode)
        assert all(value.valid for value in values)
        assert [value.evidence["role"] for value in values] == ["gain"] * (len(values) - 1) + ["outcome"]
        assert values[-1].value == 1.0
        seen: set[tuple[str, int]] = set()
        for turn, value in zip(episode.turns[:-1], values, strict=False):
            texts = {(fact["document"], fact["sentence"]): fact["text"] for fact in task.data["beliefs"]["facts"]}
            shown = {
                key
                for key, text in texts.items()
                for piece in turn.info["shown"]
                if piece["id"] == key[0] and (key[1] in piece["sentences"] or text in piece["text"])
            }
            assert bool(value.value) <= bool(shown - seen), (task.id, turn.index)  # a gain only where a fact is new
            assert bool(value.evidence.get("new_facts")) == bool(
                (shown - seen) & {(document, number) for document, number in task.data["supporting_facts"]}
            )
            seen |= shown
        assert values[-2].evidence["facts_read"] == values[-2].evidence["facts"]
        assert values[-2].evidence["after"] == pytest.approx(ceiling(task)), task.id
    assert set(kinds) == set(KINDS)
    assert sum(kinds.values()) >= 150


def test_before_anything_is_read_all_candidates_are_alike() -> None:
    for task in player().tasks(200):
        if task.type != "bridge" or task.data["hops"] != 1:
            continue
        told = task.data["beliefs"]
        (relation,) = {fact["relation"] for fact in told["facts"]}
        first, last = told["years"].get(relation, (1, told["objects"].get(relation)))
        candidates = last - first + 1 + (relation in told["unrecorded"])
        before, *_, after = chances(player().expert(task))
        assert before == pytest.approx(1 / candidates)
        assert after == 1.0


def test_chains_and_plain_counts_never_fall_however_the_documents_are_read() -> None:
    for task in player().tasks(0):
        documents = list(dict.fromkeys(fact["document"] for fact in task.data["beliefs"]["facts"]))
        for order in itertools.islice(itertools.permutations(documents), 6):
            shown = [
                [[document, fact[1]] for fact in task.data["supporting_facts"] if fact[0] == document]
                for document in order
            ]
            found = chances(reading(task, *shown))
            assert all(0.0 < p <= 1.0 for p in found)
            assert found[-1] == pytest.approx(ceiling(task))
            if task.type == "bridge" or (task.type == "count" and not task.data["beliefs"]["years"]):
                assert found == sorted(found)
            assert found[-1] > found[0]


def reading(task: Task, *shown: Sequence[Sequence[Any]]) -> Trajectory:
    """An episode in which each turn shows some sentences."""
    turns = tuple(
        Turn(
            index=index,
            observation="",
            action_text="x",
            info={"shown": [{"id": document, "sentences": [number], "text": ""} for document, number in facts]},
        )
        for index, facts in enumerate(shown)
    )
    ending, outcome = Ending(kind="truncated", cause="turns"), Outcome(success=False, env_return=0.0)
    return Trajectory(
        id="t#0",
        env_id="turnwise/SearchQA-v0",
        task=task,
        seed=0,
        agent="test",
        ending=ending,
        outcome=outcome,
        turns=turns,
    )


def test_a_fact_of_somebody_not_named_yet_counts_once_somebody_is() -> None:
    task = one("bridge", 2)
    first, last = task.data["supporting_facts"]
    prior, waiting, closed = chances(reading(task, [last], [first]))
    assert waiting == prior
    assert closed == 1.0
    values = InformationGain().score(reading(task, [last], [first]))
    assert values[0].value == 0.0
    assert values[0].evidence["new_facts"]  # it was read, and says nothing yet
    assert values[1].value == pytest.approx(1.0 - prior)


def test_a_document_about_something_else_says_nothing() -> None:
    task, other = one("bridge", 2), one("intersection", 3)
    title = other.data["decomposition"][0]["query"]
    episode = player().play(
        task,
        [
            call("search", query=title, k=3),
            call("open", doc=other.data["first_documents"][0]),
            call("find", pattern="the"),
        ],
    )
    assert all(turn.action_valid for turn in episode.turns)
    before, *rest = chances(episode)
    assert rest == [before] * 3


def test_a_sentence_in_a_list_of_results_was_read_and_half_a_sentence_was_not() -> None:
    task = one("bridge", 1)
    fact = task.data["beliefs"]["facts"][0]
    listed = {"id": fact["document"], "kind": "search", "sentences": []}
    for text, gain in ((f"Title. {fact['text']} More", True), (fact["text"][:-5], False)):
        episode = reading(task, [])
        turn = replace(episode.turns[0], info={"shown": [{**listed, "text": text}]})
        before, after = chances(replace(episode, turns=(turn,)))
        assert (after > before) is gain
    elsewhere = {**listed, "id": "d99999", "text": fact["text"]}
    before, after = chances(replace(episode, turns=(replace(turn, info={"shown": [elsewhere]}),)))
    assert after == before


def test_a_refused_action_shows_nothing_again() -> None:
    task = one("bridge", 1)
    episode = player().play(
        task, [call("search", query=task.data["decomposition"][0]["query"]), call("search", query="x", k=99)]
    )
    assert not episode.turns[1].action_valid
    found = chances(episode)
    assert found[2] == found[1]


def test_beliefs_need_nothing_but_the_trajectory_and_are_the_same_each_time() -> None:
    for kind, hops in (("count", 2), ("intersection", 2), ("temporal", 2)):
        episode = player().expert(one(kind, hops))
        stored = from_json(to_json(episode))
        assert InformationGain().score(stored) == InformationGain().score(episode) == InformationGain().score(stored)


def test_logarithms_belong_to_the_probabilities() -> None:
    assert isinstance(SearchBeliefs(), BeliefScorer)
    episode = player().expert(one("count", 3))
    request = BeliefRequest(trajectory=episode, turns=len(episode.turns))
    for belief in SearchBeliefs().beliefs(request):
        assert belief.logprob == pytest.approx(math.log(belief.probability))
        assert belief.answer == episode.task.data["answer"]
    gains = InformationGain(kind="log_prob_diff").score(episode)[:-1]
    found = chances(episode)
    assert math.fsum(gain.value or 0.0 for gain in gains) == pytest.approx(math.log(found[-2] / found[0]))


def test_external_questions_have_no_exact_beliefs(shared_data: Path) -> None:
    env: Any = gymnasium.make(
        "turnwise/SearchQA-v0", data=str(shared_data / "hotpotqa" / "distractor_100.json.gz"), split="train"
    ).unwrapped
    task = env.tasks.get(env.tasks.ids()[0])
    values = InformationGain().score(reading(task, []))
    assert values[0].value is None
    assert "only the questions of the embedded world" in str(values[0].invalid)
    assert "turnwise.rewards.gain.model:ModelBeliefs" in str(values[0].invalid)


def test_what_cannot_be_known_is_invalid_with_the_reason() -> None:
    task = one("bridge", 1)
    episode = reading(task, [])
    with pytest.raises(JudgeError, match="turn 0 does not tell what it showed"):
        chances(replace(episode, turns=(replace(episode.turns[0], info={}),)))
    told = task.data["beliefs"]
    broken = replace(task, data={**task.data, "beliefs": {**told, "facts": [{"document": "d1"}]}})
    with pytest.raises(JudgeError, match="not as the embedded world writes them"):
        chances(reading(broken, []))
    wrong = replace(task, data={**task.data, "beliefs": {**told, "answer": "d00000"}})
    with pytest.raises(JudgeError, match="they contradict the task"):
        chances(reading(wrong, task.data["supporting_facts"]))
