"""Each trainer's way to ask: what it sends, what it gets, what it gets when the judge fails, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from oraclesupport import Served, episode

from turnwise.rewards.citation_rubric import CitationRubric

CARR = {
    "version": 1,
    "rewards": [{"name": "citation_rubric", "options": {"judge": "rule", "ratio": 0.5}}],
}


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers(inner)]
    return [value] if isinstance(value, float) else []


# -- OpenRLHF ----------------------------------------------------------------------------------------


def openrlhf(*labels: Any) -> dict[str, Any]:
    return {
        "query": [f"where? gold<|im_end|>{'' if n % 2 else '</s>'}" for n in range(len(labels))],
        "prompts": ["where? "] * len(labels),
        "labels": list(labels),
    }


def test_openrlhf_gets_lists_of_numbers(moody: Served) -> None:
    reply = moody.post("/get_reward", openrlhf("gold", "silver")).json()
    assert reply["rewards"] == [1.125, 0.125]
    assert reply["scores"] == [1.0, 0.0]
    assert reply["extra_logs"]["component/outcome"] == [1.0, 0.0]
    assert reply["extra_logs"]["fallback"] == [0.0, 0.0]
    assert all(len(values) == 2 for values in reply["extra_logs"].values())


def test_openrlhf_gets_the_fallback_with_the_same_keys_when_the_judge_fails(serve: Callable[..., Served]) -> None:
    served = serve(settings={"fallbacks": {"openrlhf": -0.5}})
    bad = {"answer": "gold", "mood": "judge"}
    reply = served.post("/get_reward", openrlhf("gold", bad, json.dumps(bad)))
    assert reply.status_code == 200
    assert reply.json()["rewards"] == [1.125, -0.5, -0.5]
    assert reply.json()["extra_logs"]["fallback"] == [0.0, 1.0, 1.0]
    one = served.post("/get_reward", openrlhf("gold")).json()
    assert one["extra_logs"].keys() == reply.json()["extra_logs"].keys()
    assert served.metric('turnwise_oracle_fallbacks_total{dialect="openrlhf"}') == 2


# -- slime -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["where?", [{"role": "user", "content": "where?"}]])
def test_slime_gets_a_dict_with_reward(moody: Served, prompt: Any) -> None:
    reply = moody.post("/remote_rm", {"prompt": prompt, "response": "gold", "label": "gold"}).json()
    assert reply["reward"] == 1.125
    assert (reply["status"], reply["fallback"]) == ("ok", False)
    assert reply["components"] == {"outcome": 1.0, "moody": 0.125}
    assert reply["turn_rewards"] == [1.125]


def test_slime_sees_the_fallback(serve: Callable[..., Served]) -> None:
    served = serve(settings={"fallbacks": {"slime": 0.25}, "deadline_s": 0.5, "stall_s": 0.2})
    good = served.post("/remote_rm", {"prompt": "q", "response": "gold", "label": "gold"}).json()
    for mood, status in (("judge", "judge_failed"), ("sleep", "timeout")):
        label = {"answer": "gold", "mood": mood}
        reply = served.post("/remote_rm", {"prompt": "q", "response": "gold", "label": label})
        assert reply.status_code == 200
        assert (reply.json()["reward"], reply.json()["fallback"], reply.json()["status"]) == (0.25, True, status)
        assert reply.json().keys() == good.keys()
        assert reply.json()["components"].keys() == good["components"].keys()


# -- CaRR --------------------------------------------------------------------------------------------


def carr(ratio: float = 0.5, **changes: Any) -> dict[str, Any]:
    page = "https://w.example/a"
    call = {"tool_call_id": "1", "name": "browser.search", "arguments": json.dumps({"query": "who"})}
    hit = f"[1] Title: A\n[1] URL Source: {page}\n[1] Description: The tower was built by Ann.\n"
    report = f"The tower was built by Ann [[1]({page})].\n## Exact Answer\nAnn\n## References\n"
    body = {
        "history": [
            {"role": "user", "content": "Who built the tower?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": [{"tool_call_id": "1", "output": hit}]},
            {"role": "assistant", "content": report},
        ],
        "label": "Ann",
        "task_unfinished": False,
        "remote_env_info": {
            "search_forbidden_strs": ["Who built the tower?"],
            "rubrics": ["<E0> built <E1>.", "<E0> built <E2>."],
            "rubric_reward_ratio": ratio,
            "rubric_entities": {"E0": ["Ann"], "E1": ["the tower"], "E2": ["the bridge"]},
            "rubric_support": [[[page, "The tower was built by Ann."]], [[page, "no such sentence"]]],
        },
    }
    return body | changes


@pytest.fixture(scope="module")
def rubrics() -> Any:
    from oraclesupport import run_server

    with run_server(CARR, settings={"workers": 1, "fallbacks": {"carr": -1.0}}) as served:
        yield served


@pytest.mark.parametrize(("ratio", "reward"), [(0.5, 0.75), (0.0, 1.0), (1.0, 0.5), (0.2, 0.9)])
def test_carr_gets_outcome_and_rubrics_apart_at_its_own_ratio(rubrics: Served, ratio: float, reward: float) -> None:
    reply = rubrics.post("/evaluate", carr(ratio)).json()
    assert reply["reward"] == pytest.approx(reward)
    assert (reply["status"], reply["fallback"]) == ("ok", False)
    assert reply["outcome_reward"] == (1.0 if ratio < 1.0 else 0.0)
    assert reply["rubric_reward"] == (0.5 if ratio > 0.0 else 0.0)
    if ratio > 0.0:
        first, second = reply["rubric_scores"]["0"], reply["rubric_scores"]["1"]
        assert (first["score"], first["is_supported"], first["connected_to_answer"]) == (1.0, True, True)
        assert (second["score"], second["all_entity_identified"]) == (0.0, False)


def test_carr_gives_nothing_to_what_is_unfinished_or_has_no_report(rubrics: Served) -> None:
    unfinished = carr(task_unfinished=True)
    without = carr(history=carr()["history"][:3])
    for body in (unfinished, without):
        reply = rubrics.post("/evaluate", body).json()
        assert (reply["reward"], reply["outcome_reward"], reply["rubric_reward"]) == (0.0, 0.0, 0.0)
        assert (reply["status"], reply["rubric_scores"]) == ("ok", {})


def test_carr_without_rubrics_judges_the_outcome_only(rubrics: Served) -> None:
    body = carr(0.3)
    del body["remote_env_info"]["rubrics"]
    reply = rubrics.post("/evaluate", body).json()
    assert reply["reward"] == pytest.approx(0.7)
    assert (reply["outcome_reward"], reply["rubric_reward"]) == (1.0, 0.0)


def test_carr_is_told_when_the_judge_fails(rubrics: Served) -> None:
    body = carr()
    del body["remote_env_info"]["rubric_entities"]
    reply = rubrics.post("/evaluate", body)
    assert reply.status_code == 200
    assert (reply.json()["reward"], reply.json()["status"], reply.json()["fallback"]) == (-1.0, "judge_failed", True)
    assert rubrics.metric('turnwise_oracle_fallbacks_total{dialect="carr"}') == 1


def test_carrs_published_example_is_scored_as_in_process(rubrics: Served, shared_data: Path) -> None:
    (record,) = json.loads((shared_data / "carr" / "example.json").read_text())
    body = carr(history=record["history"][0], label=record["label"][0])
    body["remote_env_info"] |= {"rubric_reward_ratio": 0.0, "rubrics": []}
    reply = rubrics.post("/evaluate", body).json()
    assert reply["reward"] == 1.0
    assert CitationRubric(ratio=0.0).ratio == 0.0


# -- NeMo-Gym ----------------------------------------------------------------------------------------


def row(text: str = "gold", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    output = [
        {"id": "r", "type": "reasoning", "summary": []},
        {"id": "f", "type": "function_call", "name": "search", "arguments": '{"query": "x"}', "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": "found"},
        {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content},
    ]
    return {
        "responses_create_params": {"input": [{"role": "user", "content": "where?"}]},
        "response": {"id": f"r-{text}", "output": output, "object": "response"},
        "label": "gold",
        **more,
    }


def test_verify_echoes_the_request_and_its_components_sum_to_the_reward(moody: Served) -> None:
    body = row(extra={"kept": [1, 2]})
    reply = moody.post("/verify", body).json()
    for key, value in body.items():
        assert reply[key] == value
    assert reply["reward"] == pytest.approx(1.25)
    assert sum(reply["reward_components"].values()) == pytest.approx(reply["reward"], rel=1e-9)
    assert reply["turn_rewards"] == [0.125, 1.125]
    assert "_ng_failure_class" not in reply


def test_verify_marks_a_judge_failure_as_one_that_may_be_retried(serve: Callable[..., Served]) -> None:
    served = serve(settings={"fallbacks": {"nemo_gym": -0.5}})
    reply = served.post("/verify", row(mood="judge"))
    assert reply.status_code == 200
    body = reply.json()
    assert (body["_ng_failure_class"], body["reward"], body["fallback"]) == ("judge_failed", -0.5, 1.0)
    assert math.fsum(body["reward_components"].values()) == -0.5


def household() -> tuple[str, list[str]]:
    """A task and its expert's actions."""
    import gymnasium

    import turnwise

    assert turnwise.__version__
    env = gymnasium.make("turnwise/Household-v0").unwrapped
    task_id = env.tasks.ids()[0]
    observation, info = env.reset(seed=3, options={"task_id": task_id})
    expert, said, over = env.expert(), [], False
    while not over:
        said.append(expert.act(observation, info))
        observation, _, terminated, truncated, info = env.step(said[-1])
        over = terminated or truncated
    return task_id, said


@pytest.fixture(scope="module")
def world() -> Any:
    from oraclesupport import run_server

    with run_server(None, env="turnwise/Household-v0", settings={"workers": 1}) as served:
        yield served


def says(text: str, number: int) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    response = {"id": f"resp-{number}", "output": [{"type": "message", "role": "assistant", "content": content}]}
    return {"responses_create_params": {"input": []}, "response": response}


def test_steps_play_an_episode_and_sum_to_what_verify_says(world: Served) -> None:
    task_id, actions = household()
    with httpx.Client(base_url=world.url, timeout=60) as client:
        begun = client.post("/reset", json={"verifier_metadata": {"task_id": task_id, "seed": 3}}).json()
        assert "task" in begun["observation"]
        assert "gold" not in json.dumps(begun["info"])
        steps = [client.post("/step", json=says(text, n)).json() for n, text in enumerate(actions)]
        assert [step["terminated"] for step in steps] == [False] * (len(actions) - 1) + [True]
        assert client.post("/step", json=says("look", 999)).status_code == 409
        whole = client.post("/verify", json=says("done", 1000)).json()
    assert whole["outcome"] == 1.0
    assert math.fsum(step["reward"] for step in steps) == pytest.approx(whole["reward"])
    assert steps[-1]["reward"] > 0


def test_a_retried_step_is_not_played_twice(world: Served) -> None:
    task_id, actions = household()
    with httpx.Client(base_url=world.url, timeout=60) as client:
        client.post("/seed_session", json={"task_id": task_id, "seed": 3})
        first = client.post("/step", json=says(actions[0], 1)).json()
        again = client.post("/step", json=says(actions[0], 1)).json()
        assert again == first
        assert client.post("/step", json=says(actions[1], 2)).json()["info"]["turn"] == 2


def test_verify_plays_a_response_of_a_task_again(world: Served) -> None:
    task_id, actions = household()
    output = [{"type": "message", "role": "assistant", "content": text} for text in actions]
    body = {"responses_create_params": {"input": []}, "response": {"output": output}, "task_id": task_id, "seed": 3}
    assert world.post("/verify", body).json()["outcome"] == 1.0
    body["response"]["output"] = output[:-1]
    assert world.post("/verify", body).json()["outcome"] == 0.0


# -- what is refused ---------------------------------------------------------------------------------

_BROKEN: list[Any] = [b"", b"{", b"[1]", b"null", b'"text"', b'{"a": NaN}', b"\xff\xfe", b"[" * 9000, b'{"a": 1e999}']


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != key}


WRONG: dict[str, list[Any]] = {
    "/get_reward": [
        *_BROKEN,
        {},
        {"query": [], "prompts": [], "labels": []},
        {"query": "x", "prompts": "x", "labels": "x"},
        {"query": ["x"], "prompts": [], "labels": ["y"]},
        {"query": ["x"], "prompts": ["x"]},
        {"query": [1], "prompts": ["x"], "labels": ["y"]},
        {"query": ["x"], "prompts": ["x"], "labels": [{"answer": "x", "seed": -5}]},
    ],
    "/remote_rm": [
        *_BROKEN,
        {},
        {"prompt": "x"},
        {"prompt": 1, "response": "x"},
        {"prompt": "x", "response": None},
        {"prompt": [{"content": "x"}], "response": "x"},
        {"prompt": "x", "response": "x", "label": {"task_id": 7}},
        {"prompt": "x", "response": ["x"]},
    ],
    "/evaluate": [
        *_BROKEN,
        *(without(carr(), key) for key in carr()),
        carr(history=[]),
        carr(history="x"),
        carr(history=[{"content": "x"}]),
        carr(history=[{"role": "assistant", "tool_calls": [{"x": 1}]}]),
        carr(task_unfinished="no"),
        carr(label=None),
        carr(remote_env_info={"search_forbidden_strs": []}),
        carr(remote_env_info={"search_forbidden_strs": ["q"], "rubric_reward_ratio": 2}),
        carr(remote_env_info={"search_forbidden_strs": ["q"], "rubrics": ["no placeholder"]}),
    ],
    "/seed_session": [*_BROKEN[1:], {"task_id": 5}, {"seed": -1}, {"seed": "x"}],
    "/reset": [*_BROKEN[1:], {"task_id": ["x"]}, {"seed": 2**40}],
    "/step": [*_BROKEN, {}, {"response": {}}, {"response": {"output": "x"}}, {"response": {"output": [1]}}],
    "/verify": [
        *_BROKEN,
        {},
        without(row(), "response"),
        without(row(), "responses_create_params"),
        row(response={"output": None}),
        row(response={"output": [{"type": "message", "role": 1}]}),
        row(response={"output": [{"type": "function_call", "arguments": "{}"}]}),
        row(response={"output": [{"type": "message", "content": [1]}]}),
        row(responses_create_params={"input": 7}),
        row(seed=-1),
    ],
}


@pytest.mark.parametrize(("path", "body"), [(path, body) for path, bodies in WRONG.items() for body in bodies])
def test_malformed_bodies_get_a_clear_4xx(moody: Served, path: str, body: Any) -> None:
    reply = moody.post(path, body)
    assert 400 <= reply.status_code < 500, reply.text
    error = reply.json()["error"]
    assert error["code"]
    assert len(error["message"]) > 8


def test_there_are_ten_malformed_bodies_per_dialect() -> None:
    assert all(len(bodies) >= 10 for bodies in WRONG.values())


def test_steps_without_a_world_or_session_say_what_to_do(moody: Served, world: Served) -> None:
    assert "--env" in moody.post("/step", says("x", 1)).json()["error"]["message"]
    lost = httpx.post(f"{world.url}/step", json=says("x", 1))
    assert lost.status_code == 409
    assert "/reset" in lost.json()["error"]["message"]
    unknown = world.post("/reset", {"task_id": "nope"})
    assert unknown.status_code == 422


def test_every_number_in_every_reply_is_finite(moody: Served) -> None:
    replies = [
        moody.post("/v1/score", {"items": [episode(), episode(mood="nan"), episode(label=None)]}),
        moody.post("/get_reward", openrlhf("gold", None)),
        moody.post("/remote_rm", {"prompt": "q", "response": "x"}),
        moody.post("/verify", row(mood="nan")),
    ]
    for reply in replies:
        assert reply.status_code == 200
        assert all(map(math.isfinite, numbers(reply.json())))
