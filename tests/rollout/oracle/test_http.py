"""The served oracle: the native endpoint, limits, tokens, idempotency."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oraclesupport import MOODY, Served, episode

from turnwise.errors import ConfigError
from turnwise.rollout.oracle import Item, ItemResult, Oracle
from turnwise.rollout.oracle.app import Guard
from turnwise.rollout.oracle.bodies import RejectedError
from turnwise.rollout.oracle.serving import ServeOptions, is_loopback
from turnwise.rollout.oracle.settings import ServeSettings, make_settings


def score(served: Served, *items: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    reply = served.post("/v1/score", {"items": list(items), **more})
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


def test_the_same_results_as_in_process(moody: Served) -> None:
    items = [episode(), episode("silver"), episode(mood="judge")]
    over_http = score(moody, *items)
    here = Oracle(MOODY).score_items(msgspec.convert(items, list[Item]))
    assert msgspec.convert(over_http, list[ItemResult]) == msgspec.convert(msgspec.to_builtins(here), list[ItemResult])


def test_order_and_length_are_kept(moody: Served) -> None:
    items = [{**episode(mood="sleep", seconds=0.05 * (n % 3)), "id": str(n)} for n in range(10)]
    assert [result["id"] for result in score(moody, *items)] == [str(n) for n in range(10)]


def test_keys_and_shapes_are_the_same_whatever_happens(moody: Served) -> None:
    results = score(moody, episode(), episode(mood="judge"), episode(mood="crash"), episode(label=None))
    assert [result["status"] for result in results] == ["ok", "judge_failed", "judge_failed", "invalid"]
    for result in results:
        assert result.keys() == results[0].keys()
        for name in ("components", "metrics", "turn_components"):
            assert result[name].keys() == results[0][name].keys()


def test_evidence_comes_as_asked(moody: Served) -> None:
    none, total, full = (score(moody, episode(), evidence=level)[0] for level in ("none", "total", "full"))
    assert (none["evidence"], none["turn_evidence"]) == ({}, [])
    assert total["evidence"]["outcome"]["success"] is True
    assert total["turn_evidence"] == []
    assert full["turn_evidence"][1]["moody"] == {"said": "gold"}


def test_credit_per_group(moody: Served) -> None:
    tokens = {"ids": [9, 1, 9, 2], "spans": [[1, 2], [3, 4]]}
    group = [{**episode(answer), "group": "g", "tokens": tokens} for answer in ("gold", "silver")]
    results = score(moody, *group, credit={"options": {"estimator": "rloo"}})
    assert [result["turn_advantages"] for result in results] == [[1.0, 1.0], [-1.0, -1.0]]
    assert results[0]["token_advantages"] == [0.0, 1.0, 0.0, 1.0]


def test_the_stream_gives_every_item_once_and_the_quick_ones_first(moody: Served) -> None:
    items = [episode(mood="sleep", seconds=1.0, salt="stream"), episode(), {"messages": [{"role": 3}]}]
    with moody.http.stream("POST", "/v1/score/stream", json={"items": items}) as reply:
        assert reply.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in reply.iter_lines()]
    assert sorted(line["index"] for line in lines) == [0, 1, 2]
    assert lines[-1]["index"] == 0
    assert {line["index"]: line["result"]["status"] for line in lines} == {0: "ok", 1: "ok", 2: "invalid"}


MALFORMED: list[tuple[Any, int, str]] = [
    (b"", 400, ""),
    (b"{", 400, ""),
    (b'{"items": [{"label": NaN}]}', 400, ""),
    (b'{"items": [{"messages": [], "label": Infinity}]}', 400, ""),
    (b'{"items": [{"messages": [{"role": "assistant"}], "label": 1e999}]}', 422, "items[0]"),
    (b'{"items": [' + b"[" * 5000 + b"]" * 5000 + b"]}", 400, ""),
    (b"[]", 422, ""),
    ({}, 422, ""),
    ({"items": []}, 422, "items"),
    ({"items": [{}]}, 422, "items[0]"),
    ({"items": [{"mesages": []}]}, 422, "items[0]"),
    ({"items": [{"messages": [{"content": "x"}]}]}, 422, "items[0].messages[0]"),
    ({"items": [{"messages": "x"}]}, 422, "items[0].messages"),
    ({"items": [episode(), {**episode(), "seed": -1}]}, 422, "items[1].seed"),
    ({"items": [{**episode(), "tokens": {"ids": [1], "spans": [[0, 9], [9, 9]]}}]}, 422, "items[0].tokens.spans[0]"),
    ({"items": [episode()], "evidence": "some"}, 422, "evidence"),
    ({"items": [episode()], "deadline_s": 0}, 422, "deadline_s"),
    ({"items": [episode()], "credit": {"use": "ppo"}}, 422, "credit.use"),
    ({"items": [episode()], "credit": {}}, 422, "items[0].group"),
    ({"items": [{**episode(), "group": "g"}], "credit": {"options": {"x": 1}}}, 422, "credit.options.x"),
    ({"items": [episode()] * 65}, 413, ""),
    (b"{" + b" " * 300_000 + b"}", 413, ""),
    ({"items": [{**episode(), "label": [[[[[[[["x"]]]]]]]], "trajectory": {}}]}, 422, "items[0].trajectory"),
]


@pytest.mark.parametrize(("body", "status", "place"), MALFORMED)
def test_malformed_bodies_get_a_clear_4xx(moody: Served, body: Any, status: int, place: str) -> None:
    reply = moody.post("/v1/score", body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"]
    assert error["message"]
    assert error["place"].startswith(place)


def test_too_deep_metadata_is_refused(moody: Served) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = {"in": deep}
    reply = moody.post("/v1/score", {"items": [episode(deep=deep)]})
    assert reply.status_code == 422
    assert "nested" in reply.json()["error"]["message"]


def test_wrong_methods_and_media_types(moody: Served) -> None:
    assert moody.http.get("/v1/score").status_code == 405
    assert moody.http.get("/v1/score").headers["allow"] == "POST"
    for headers in ({"content-type": "text/plain"}, {"content-encoding": "gzip", "content-type": "application/json"}):
        assert moody.http.post("/v1/score", content=b"{}", headers=headers).status_code == 415
    assert moody.http.get("/nothing").status_code == 404


def test_a_chunked_body_is_limited_too(moody: Served) -> None:
    def parts() -> Any:
        for _ in range(30):
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    assert moody.http.post("/v1/score", content=parts(), headers=headers).status_code == 413


def test_the_same_request_is_computed_once(moody: Served, tmp_path: Path) -> None:
    count = tmp_path / "count"
    same = episode(mood="sleep", seconds=0.5, count=str(count))
    threads = [threading.Thread(target=score, args=(moody, same)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    score(moody, same)
    assert count.read_text() == "x"
    score(moody, {**same, "label": "silver"})
    assert count.read_text() == "xx"


def test_what_failed_is_asked_again(moody: Served, tmp_path: Path) -> None:
    count = tmp_path / "count"
    for _ in range(2):
        assert score(moody, episode(mood="judge", count=str(count)))[0]["status"] == "judge_failed"
    assert count.read_text() == "xx"


def test_an_idempotency_key_belongs_to_one_body(moody: Served) -> None:
    headers = {"idempotency-key": "abc"}
    for _ in range(2):
        assert moody.post("/v1/score", {"items": [episode()]}, headers=headers).status_code == 200
    other = moody.post("/v1/score", {"items": [episode("other")]}, headers=headers)
    assert other.status_code == 409


def test_too_many_pending_items_get_429_with_retry_after(serve: Callable[..., Served]) -> None:
    served = serve(settings={"max_pending": 2, "deadline_s": 20.0, "retry_after_s": 7})
    slow = threading.Thread(
        target=score, args=(served, episode(mood="sleep", seconds=2), episode(mood="sleep", seconds=2, n=1))
    )
    slow.start()
    for _ in range(100):
        if served.service.pending == 2:
            break
        threading.Event().wait(0.02)
    refused = served.post("/v1/score", {"items": [episode()]})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "7"
    slow.join()
    assert served.post("/v1/score", {"items": [episode()]}).status_code == 200


def test_a_token_is_asked_for_everywhere_but_for_health(serve: Callable[..., Served]) -> None:
    served = serve(token="s3cret")
    assert served.http.get("/health").json()["status"] == "ok"
    for path in ("/metrics", "/docs", "/openapi.json", "/v1/schema"):
        assert served.http.get(path).status_code == 401
        assert served.http.get(path, headers={"authorization": "Bearer s3cret"}).status_code == 200
    body = {"items": [episode()]}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}, {"x-api-key": "s3cre"}):
        refused = served.http.post("/v1/score", json=body, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    for headers in ({"authorization": "bearer s3cret"}, {"x-api-key": "s3cret"}):
        assert served.http.post("/v1/score", json=body, headers=headers).status_code == 200
    assert served.http.post("/v1/score?token=s3cret", json=body).status_code == 200


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    with pytest.raises(RejectedError):
        Guard("s3cret").check({}, {"x-api-key": "s3"})
    assert compared == [(b"s3", b"s3cret")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, token="x").token == "x"
    assert not is_loopback(host)


def test_loopback_is_the_default() -> None:
    assert ServeOptions().host == "127.0.0.1"
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    with pytest.raises(ConfigError, match="empty"):
        ServeOptions(token="")


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline_s": 0},
        {"workers": 0},
        {"max_items": True},
        {"fallbacks": {"slim": 0.0}},
        {"dedline_s": 1},
        {"fallbacks": {"slime": float("nan")}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_settings(wrong)


def test_the_deadline_is_well_below_the_clients() -> None:
    assert ServeSettings().deadline_s < 0.75 * 120


def test_metrics_count_requests_items_and_workers(moody: Served) -> None:
    before = moody.metric('turnwise_oracle_items_total{dialect="native",status="ok"}')
    score(moody, episode("metrics"))
    assert moody.metric('turnwise_oracle_items_total{dialect="native",status="ok"}') == before + 1
    assert moody.metric("turnwise_oracle_workers ") >= 1
    assert "# TYPE turnwise_oracle_request_seconds histogram" in moody.http.get("/metrics").text


def test_the_pages_that_say_what_there_is(moody: Served) -> None:
    health = moody.http.get("/health").json()
    assert health["components"] == ["outcome", "moody"]
    document = moody.http.get("/openapi.json").json()
    paths = {
        "/v1/score",
        "/v1/score/stream",
        "/get_reward",
        "/remote_rm",
        "/evaluate",
        "/seed_session",
        "/verify",
        "/step",
    }
    assert paths <= document["paths"].keys()
    assert "swagger" in moody.http.get("/docs").text
    assert moody.http.get("/v1/schema").json()["$defs"]["Item"]


def test_a_configuration_that_workers_cannot_make_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ServeOptions(rewards=str(tmp_path / "no.yaml")).service()
