"""The quality gates of the embedded world."""

from __future__ import annotations

from collections import Counter

import pytest

from turnwise.envs.searchqa import SearchQAEnv
from turnwise.envs.searchqa.embedded import embedded_engine, embedded_tasks
from turnwise.envs.searchqa.metrics import best, exact_match

SPLITS = ("train", "val", "test")


def tasks_of(*splits):
    return [embedded_tasks(split).get(task_id) for split in splits for task_id in embedded_tasks(split).ids()]


def play(env, task_id, policy):
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    act, tools = policy(env), Counter()
    while True:
        observation, reward, terminated, truncated, info = env.step(act(observation, info))
        tools[info["action"].name] += 1
        assert info["action_valid"], info["action_error"]
        if terminated or truncated:
            return reward, info, tools


@pytest.mark.parametrize("split", SPLITS)
def test_expert_answers_everything_with_correct_citations(split):
    env = SearchQAEnv(split=split)
    for task_id in env.tasks.ids():
        reward, info, tools = play(env, task_id, lambda env: env.expert().act)
        grade = info["extra"]["grade"]
        assert info["success"], task_id
        assert reward == 1.0
        assert grade["citation_precision"] == grade["citation_recall"] == 1.0, task_id
        assert tools["search"] >= 1
        assert tools["open"] == len({fact[0] for fact in env.task.data["supporting_facts"]})


def test_expert_in_tags_answers_everything():
    env = SearchQAEnv(split="val")
    for task_id in env.tasks.ids():
        _, info, tools = play(env, task_id, lambda env: env.expert("tags").act)
        assert info["success"], task_id
        assert set(tools) == {"search", "answer"}


def test_closed_book_is_worth_nothing():
    train = Counter((task.type, task.data["hops"], task.data["answer"]) for task in tasks_of("train"))
    common: dict[tuple[str, int], str] = {}
    for (kind, hops, answer), _ in reversed(train.most_common()):
        common[kind, hops] = answer
    env = SearchQAEnv(split="test")
    guesses = (
        lambda task: common[task.type, task.data["hops"]],  # the training set's most frequent answer to such a question
        lambda task: task.data["answer"],  # even the right one, for lack of evidence
        lambda task: "unanswerable",
    )
    for guess in guesses:
        for task_id in env.tasks.ids():
            env.reset(seed=0, options={"task_id": task_id})
            _, reward, terminated, _, info = env.step(f"answer[{guess(env.task)}]")
            assert terminated
            assert (reward, info["success"], info["level"]) == (0.0, False, "answered")


def test_answerable_questions_can_hardly_be_guessed():
    train, test = tasks_of("train"), [task for task in tasks_of("test") if task.data["answerable"]]
    frequent = {
        kind: Counter(task.data["answer"] for task in train if task.type == kind).most_common(1)[0][0]
        for kind in {task.type for task in test}
    }
    right = sum(best(exact_match, frequent[task.type], task.data["aliases"]) for task in test)
    assert right / len(test) <= 0.03
    named = [task for task in test if best(exact_match, task.data["answer"], [task.instruction])]
    assert not named
    assert not [task for task in test if len(task.data["answer"]) > 5 and task.data["answer"] in task.instruction]


@pytest.mark.parametrize("split", SPLITS)
def test_one_search_finds_the_first_hop_but_not_the_last(split):
    engine = embedded_engine()
    first = total = last = multi = 0
    for task in tasks_of(split):
        found = [scored.document.id for scored in engine.search([task.instruction], 10)[0]]
        wanted = task.data["first_documents"]
        first += sum(document in found[:3] for document in wanted) / len(wanted)
        total += 1
        if task.data["hops"] > 1:
            last += any(document in found for document in task.data["last_documents"])
            multi += 1
    assert first / total >= 0.95
    assert last / multi <= 0.20
