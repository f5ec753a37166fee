from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.searchqa import SearchQAEnv
from turnwise.errors import ConfigError, EpisodeOverError, TurnwiseError


@pytest.fixture(scope="module")
def env():
    return SearchQAEnv(split="val")


def begin(env, kind="bridge-2hop"):
    task_id = next(task_id for task_id in env.tasks.ids() if kind in task_id)
    env.reset(seed=0, options={"task_id": task_id})
    return env.task.data


def call(tool, **arguments):
    return json.dumps({"name": tool, "arguments": arguments})


def step(env, message):
    observation, _reward, _terminated, _truncated, info = env.step(message)
    return observation, info


def test_search_open_find_answer(env):
    data = begin(env)
    fact = data["decomposition"][0]
    observation, info = step(env, call("search", query=fact["query"], k=4))
    assert observation.startswith("[1] ")
    assert "[4] " in observation
    assert "[5] " not in observation
    assert fact["document"] in info["extra"]["documents_shown"]
    assert info["extra"]["documents_read"] == []
    assert info["progress"] == 0.0
    observation, info = step(env, call("open", doc=fact["document"], page=1))
    assert "Page 1 of 1" in observation
    assert fact["answer"] in observation
    assert info["extra"]["documents_read"] == [fact["document"]]
    assert info["extra"]["supporting_facts_found"] == [[fact["document"], fact["sentence"]]]
    assert info["progress"] == pytest.approx(1 / 3)
    (piece,) = info["extra"]["shown"]
    assert piece["kind"] == "open"
    assert fact["sentence"] in piece["sentences"]
    observation, info = step(env, call("find", pattern=fact["answer"].upper()))
    assert fact["answer"] in observation
    assert info["extra"]["shown"][0]["sentences"] == [fact["sentence"]]
    observation, info = step(env, call("find", pattern="no such thing"))
    assert "does not occur" in observation
    assert info["progress"] == pytest.approx(1 / 3)


def test_open_takes_id_address_and_number_of_the_result(env):
    data = begin(env)
    _, info = step(env, f"search[{data['decomposition'][0]['query']}]")
    first = info["extra"]["shown"][0]
    for key in (first["id"], first["url"], "1"):
        observation, info = step(env, f"open[{key}]")
        assert info["action_valid"]
        assert f"Id: {first['id']}\n" in observation


def test_tags_are_answered_with_information(env):
    data = begin(env)
    fact = data["decomposition"][0]
    message = f"<think>who is it?</think>\n<search>{fact['query']}</search> <information>made up</information>"
    observation, info = step(env, message)
    assert observation.startswith('<information>Doc 1(Title: "')
    assert observation.endswith("</information>")
    assert info["action"].thought == "who is it?"
    assert info["extra"]["supporting_facts_found"] == [[fact["document"], fact["sentence"]]]
    assert len(info["extra"]["shown"]) == 3
    observation, reward, terminated, _, info = env.step("<answer> wrong </answer>")
    assert terminated
    assert reward == 0.0
    assert info["level"] == "answered"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("open[d00001]", "Nothing has been searched yet"),
        ("find[x]", "No document is open"),
        ("<answer></answer>", "the answer is empty"),
        ("<search> </search>", "the query is empty"),
        ("answer[]", "answer"),
        ("answer[[[d00001](https://almanac.example/X)]]", "empty"),
        (call("answer", text="## Explanation with Citations\nx\n## Exact Answer\n\n## References\n"), "empty"),
        ("answer[It is X [[d00001](https://almanac.example/X)]]", "Bad citation"),
        (call("search", query="x", k="many"), "k must be a whole number"),
        (call("search", query="x", k=0), "k must be a whole number"),
        (call("search", query="x", k=21), "k must be a whole number"),
        (call("search", querry="x"), "querry"),
        ("", "empty"),
    ],
)
def test_mistakes_are_observations(env, message, error):
    begin(env)
    observation, reward, terminated, truncated, info = env.step(message)
    assert not terminated
    assert not truncated
    assert reward == 0.0
    assert info["action_valid"] is False
    assert error in info["action_error"]
    assert error in observation
    assert info["progress"] == 0.0
    assert info["level"] == "no_answer"


def test_unknown_documents_and_pages_are_observations(env):
    data = begin(env)
    fact = data["decomposition"][0]
    step(env, f"search[{fact['query']}]")
    for message, error in (
        ("open[d99999]", "No search has listed"),
        ("open[https://elsewhere.example/]", "No search has listed"),
        (f"open[{fact['document'][:-1]}]", "Did you mean"),
        (f"open[{fact['document']}] page 7", "there is no page 7"),
        (f"open[{fact['document']}] page zero", "whole number"),
    ):
        observation, info = step(env, message)
        assert not info["action_valid"]
        assert error in observation
    hidden = next(d for d in data["last_documents"] if d not in info["extra"]["documents_shown"])
    _, info = step(env, f"open[{hidden}]")
    assert not info["action_valid"], "a document that no search has listed must not open"


def test_citations_are_checked_and_graded(env):
    data = begin(env)
    document = data["decomposition"][0]["document"]
    _, info = step(env, call("search", query=data["decomposition"][0]["query"]))
    urls = {piece["id"]: piece["url"] for piece in info["extra"]["shown"]}
    other = next(name for name in urls if name != document)
    observation, info = step(env, f"answer[X [[{other}]({urls[document]})]]")
    assert "is the address of" in observation
    assert not info["action_valid"]
    report = f"answer[wrong [[{document}]({urls[document]})], [[{other}]({urls[other]})]]"
    _, _reward, terminated, _, info = env.step(report)
    assert terminated
    assert info["level"] == "cited"
    grade = info["extra"]["grade"]
    assert grade["cited"] == [document, other]
    assert (grade["citation_precision"], grade["citation_recall"]) == (0.5, 0.5)
    assert grade["exact"] == "wrong"


def test_a_bare_final_report_is_an_answer(env):
    begin(env)
    _, _, terminated, _, info = env.step(
        "So the answer is clear.\n\n## Explanation with Citations\nNone.\n\n## Exact Answer\n**Foo**\n\n## References\n"
    )
    assert terminated
    assert info["extra"]["grade"]["exact"] == "Foo"


def test_a_right_answer_counts_only_with_evidence(env):
    data = begin(env)
    first, last = data["decomposition"][0], data["decomposition"][-1]
    step(env, f"search[{first['query']}]")
    step(env, f"open[{first['document']}]")
    state = env.state()
    _, reward, _, _, info = env.step(f"answer[{data['answer']}]")
    assert (reward, info["success"], info["extra"]["grade"]["exact_match"]) == (0.0, False, True)
    assert info["progress"] < 1.0
    env.restore(state)
    step(env, f"search[{last['query']}]")
    step(env, f"open[{last['document']}]")
    _, reward, _, _, info = env.step(f"answer[{data['aliases'][-1]}.]")
    assert (reward, info["success"], info["progress"], info["level"]) == (1.0, True, 1.0, "correct")


def test_f1_reward():
    env = SearchQAEnv(split="val", reward="f1")
    task_id = next(t for t in env.tasks.ids() if " " in env.tasks.get(t).data["answer"] and "2hop" in t)
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    act = env.expert().act
    while (message := act(observation, info)) and '"answer"' not in message[:20]:
        observation, _, _, _, info = env.step(message)
    _, reward, terminated, _, info = env.step(f"answer[{env.task.data['answer'].split()[-1]}]")
    assert terminated
    assert 0.0 < reward < 1.0
    assert not info["success"]


def test_observations_are_capped():
    env = SearchQAEnv(split="val", observation_chars=500, top_k=20, tag_k=20)
    data = begin(env)
    query = data["decomposition"][0]["query"]
    for message in (f"search[{query}]", f"<search>{query}</search>", f"open[{data['decomposition'][0]['document']}]"):
        observation, info = step(env, message)
        assert len(observation) <= 500
        for piece in info["extra"]["shown"]:
            document = env.engine.lookup(piece["id"])
            for number in piece["sentences"]:
                assert document.sentences[number] in observation


def test_pages_hold_every_sentence_once():
    env = SearchQAEnv(split="val", page_chars=150)
    data = begin(env)
    document = env.engine.lookup(data["decomposition"][0]["document"])
    step(env, f"search[{document.title}]")
    numbers, page = [], 1
    while True:
        _, info = step(env, f"open[{document.id}] page {page}")
        if not info["action_valid"]:
            break
        numbers += info["extra"]["shown"][0]["sentences"]
        page += 1
    assert page > 3
    assert numbers == list(range(len(document.sentences)))


def test_state_and_restore_go_across_environments(env):
    begin(env)
    step(env, f"search[{env.task.data['decomposition'][0]['query']}]")
    state, seen = env.state(), env.step("open[1]")
    other = SearchQAEnv(split="val")
    other.restore(state)
    assert other.step("open[1]") == seen
    with pytest.raises(ConfigError):
        other.restore("elsewhere")


def test_environments_share_documents_and_index():
    one, two = SearchQAEnv(split="train"), SearchQAEnv(split="test")
    one.reset(seed=0)
    two.reset(seed=0)
    assert one.engine is two.engine


def test_options_are_checked():
    for options in ({"top_k": 0}, {"tag_k": 21}, {"observation_chars": 10}, {"reward": "bleu"}, {"page_chars": True}):
        with pytest.raises(ConfigError):
            SearchQAEnv(**options)
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        SearchQAEnv(split="trian")
    with pytest.raises(ConfigError, match="no corpus file"):
        SearchQAEnv(corpus="/nowhere/corpus.jsonl")
    with pytest.raises(ConfigError, match="no paragraphs"):
        SearchQAEnv(corpus="own")
    with pytest.raises(EpisodeOverError):
        SearchQAEnv().step("search[x]")


def test_tool_forms_are_the_same_action(env):
    forms = (
        "search[a b] top 3",
        call("search", query="a b", k=3),
        call("browser.search", query="a b", num=3),
        "Thought: hm.\nAction: search[a b] top 3",
        f"<tool_call>\n{call('search', query='a b', k='3')}\n</tool_call>",
    )
    actions = [env.grammar.parse(form) for form in forms]
    assert {(action.name, action.command, tuple(action.arguments.items())) for action in actions} == {
        ("search", "search[a b] top 3", (("query", "a b"), ("k", "3")))
    }
    assert env.grammar.parse(call("search", query="a", k=None)).command == "search[a]"
    assert env.grammar.parse(call("browser.open", id=5)).arguments == {"doc": "5"}
    for form in (*forms, "search[a]", "open[x]", "<search>q</search>", "<answer>q</answer>"):
        action = env.grammar.parse(form)
        for written in ("native", "json", "react"):
            again = env.grammar.parse(env.grammar.format(action, written))
            assert (again.name, again.arguments) == (action.name, action.arguments)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.builds(lambda t, a: call(t, query=a), st.just("search"), st.text(max_size=30)),
            st.builds(lambda a: f"open[{a}]", st.text(max_size=10) | st.sampled_from(["1", "2", "d00001"])),
            st.builds(lambda a: f"<answer>{a}[[1](x)]</answer>", st.text(max_size=10)),
            st.builds(lambda a: f"find[{a}]", st.text(max_size=5)),
            st.builds(lambda a: f"<search>{a}</search>", st.text(max_size=30)),
        ),
        max_size=8,
    )
)
def test_no_message_crashes_and_progress_never_falls(messages):
    env = SearchQAEnv(split="val")
    observation, info = env.reset(seed=1)
    before = 0.0
    for message in messages:
        observation, _reward, terminated, truncated, info = env.step(message)
        assert observation
        assert len(observation) <= env.observation_chars
        assert info["progress"] >= before
        before = info["progress"]
        assert info["action_valid"] is (info["action_error"] is None)
        if terminated or truncated:
            break


def test_import_is_light_and_starts_no_threads():
    code = (
        "import sys, threading, turnwise.envs.searchqa as s; s.SearchQAEnv(split='val').reset(seed=0);"
        "bad = {'networkx', 'bm25s', 'tantivy', 'fastapi', 'httpx', 'torch', 'ray', 'pyarrow'} & set(sys.modules);"
        "assert not bad, bad; assert threading.active_count() == 1"
    )
    SearchQAEnv(split="val")  # makes the data, which takes networkx
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_conformance(monkeypatch):
    from turnwise.envs.conformance.check import check

    report = check(SearchQAEnv, env_options={"split": "test"}, episodes=5)
    assert [finding.detail for finding in report.findings if not finding.ok] == []


def test_errors_are_turnwise_errors():
    with pytest.raises(TurnwiseError):
        SearchQAEnv(data="/nowhere")
