"""verl's compute_score and TRL's reward functions, in process and against a server."""

from __future__ import annotations

import asyncio
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from oraclesupport import MOODY, Served

from turnwise.errors import ConfigError, TransportError
from turnwise.rollout.oracle import Oracle, OracleClient
from turnwise.rollout.oracle.dialects import trl, verl


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "rewards.yaml"
    path.write_text(yaml.safe_dump(MOODY))
    return str(path)


def compute(how: str, config: str, url: str, *arguments: Any, **options: Any) -> dict[str, float]:
    where = {"url": url} if "http" in how else {"rewards": config}
    if "async" in how:
        return asyncio.run(verl.compute_score_async(*arguments, **where, **options))
    return verl.compute_score(*arguments, **where, **options)


@pytest.mark.parametrize("how", ["process", "process async", "http", "http async"])
def test_verl_gets_the_same_finite_numbers_for_every_sample(how: str, config: str, moody: Served) -> None:
    extra = {"num_turns": np.int64(2), "metadata": {"n": np.arange(2)}, "rollout_reward_scores": {}}
    common = {"reward_router_address": None, "reward_model_tokenizer": None}
    good = compute(how, config, moody.url, "gsm8k", "gold", "gold", extra, **common)
    bad = compute(how, config, moody.url, "gsm8k", "gold", {"answer": "gold", "mood": "judge"}, None, fallback=-1.0)
    assert good["score"] == 1.125
    assert (good["outcome"], good["valid"], good["component/moody"]) == (1.0, 1.0, 0.125)
    assert (bad["score"], bad["valid"], bad["judge_failed"]) == (-1.0, 0.0, 1.0)
    assert good.keys() == bad.keys()
    assert all(isinstance(n, float) and math.isfinite(n) for row in (good, bad) for n in row.values())


def test_verl_scores_the_whole_conversation_of_an_agent_loop(config: str) -> None:
    messages = np.array(
        [
            {"role": "assistant", "content": "look"},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": "gold"},
        ]
    )
    row = verl.compute_score("d", "look x gold", np.array(["gold", "Au"]), {"messages": messages}, rewards=config)
    assert (row["turns"], row["score"]) == (2.0, 1.25)


def test_verl_recognises_which_one_is_async() -> None:
    assert inspect.iscoroutinefunction(verl.compute_score_async)
    assert not inspect.iscoroutinefunction(verl.compute_score)


def test_verl_does_not_train_on_when_the_server_was_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.rollout.oracle.calls._BACKOFF_S", (0.001,))
    with pytest.raises(TransportError):
        verl.compute_score("d", "x", "y", url="http://127.0.0.1:9")


def test_trl_gets_none_where_there_is_no_reward(moody: Served) -> None:
    columns = {
        "prompts": [[{"role": "user", "content": "where?"}]] * 3,
        "completions": [
            [
                {"role": "assistant", "content": "look"},
                {"role": "tool", "content": "x"},
                {"role": "assistant", "content": "gold"},
            ],
            [{"role": "assistant", "content": "silver"}],
            [{"role": "assistant", "content": "gold"}],
        ],
        "completion_ids": [[1], [2], [3]],
        "answer": ["gold", "gold", "gold"],
        "metadata": [None, {}, {"mood": "judge"}],
        "trainer_state": object(),
    }
    logged: dict[str, Any] = {}
    for scorer in (Oracle(MOODY), OracleClient(moody.url), moody.url, MOODY):
        function = trl.reward_function(scorer, name="mine")
        assert function.__name__ == "mine"
        rewards = function(**columns, log_extra=logged.__setitem__, log_metric=logged.__setitem__)
        assert rewards == [1.25, 0.125, None]
        assert logged["outcome"] == [1.0, 0.0, None]
        assert logged["turnwise/not_scored"] == pytest.approx(1 / 3)

    async def both() -> list[float | None]:
        return await trl.async_reward_function(moody.url)(**columns)

    assert asyncio.run(both()) == [1.25, 0.125, None]
    assert inspect.iscoroutinefunction(trl.async_reward_function(moody.url))


def test_trl_takes_plain_texts(moody: Served) -> None:
    function = trl.reward_function(moody.url)
    assert function(prompts=["q", "q"], completions=["gold", "silver"], ground_truth=["gold", "gold"]) == [1.125, 0.125]


def test_trl_goes_on_with_none_when_the_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.rollout.oracle.calls._BACKOFF_S", (0.001,))
    function = trl.reward_function("http://127.0.0.1:9")
    assert function(prompts=["q"], completions=["x"], label=["x"]) == [None]


def test_malformed_columns_name_the_row() -> None:
    with pytest.raises(ConfigError, match="row 1"):
        trl.reward_function(MOODY)(prompts=["q", "q"], completions=["a", [{"content": "no role"}]], label=["x", "y"])
