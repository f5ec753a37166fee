"""verl's custom reward function: ``compute_score`` and ``compute_score_async``.

::

    reward.custom_reward_function.path=pkg://turnwise.rollout.oracle.dialects.verl   # or this file's path
    reward.custom_reward_function.name=compute_score_async
    +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:8000           # or rewards=rewards.yaml

verl collects the values of the first sample's keys as arrays, so every sample has the same keys and finite numbers.
It puts the score on the last token; turn rewards on their tokens need our AgentLoop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from turnwise.errors import ConfigError, TurnwiseError
from turnwise.records import Json
from turnwise.rollout.oracle.client import AsyncOracleClient, OracleClient
from turnwise.rollout.oracle.dialects.base import text_item
from turnwise.rollout.oracle.schema import Item, ItemResult, Message
from turnwise.rollout.oracle.scorer import Oracle

TOKEN_ENV = "TURNWISE_TOKEN"  # noqa: S105 - the variable's name
_ITEM_FIELDS = ("task", "task_id", "seed", "group")
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncOracleClient]] = WeakKeyDictionary()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Json,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str | None = None,
    rewards: str | None = None,
    env: str | None = None,
    match: str = "exact",
    fallback: float = 0.0,
    deadline_s: float = 60.0,
    **_: Any,
) -> dict[str, float]:
    """Score one sample.

    Args:
        data_source: verl's name of the data; becomes part of the task's data.
        solution_str: The response as text.
        ground_truth: The right answer; an object is the task's data.
        extra_info: The row's further facts. ``messages`` in it is the whole conversation (an agent loop's extra
            field); ``task_id``, ``seed``, ``task`` and ``metadata`` are the item's.
        url: Address of a served oracle; its token is read from ``TURNWISE_TOKEN``.
        rewards: Configuration of the rewards, where they run in this process.
        env: World of the in-process oracle.
        match: How the in-process oracle compares answers.
        fallback: Score where there is no reward; ``valid`` is then 0.0.
        deadline_s: Seconds to answer in.

    Returns:
        ``score``, ``outcome``, ``process``, ``turns``, ``valid``, and every component, all finite.

    Raises:
        ConfigError: The server refuses the request, or the configuration is wrong.
    """
    item = make_item(data_source, solution_str, ground_truth, extra_info or {})
    names: tuple[str, ...] | None = None
    try:
        if url is None:
            (result,) = _oracle(rewards, env, match).score_items([item], evidence="none", deadline_s=deadline_s)
        else:
            names = _components(url)
            (result,) = _client(url).score([item], evidence="none", deadline_s=deadline_s)
    except ConfigError:
        raise
    except TurnwiseError as error:
        if names is None:
            raise  # the server was never there: no run should begin so
        result = _nothing(error, names)
    return as_numbers(result, fallback)


async def compute_score_async(
    data_source: str,
    solution_str: str,
    ground_truth: Json,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str | None = None,
    rewards: str | None = None,
    env: str | None = None,
    match: str = "exact",
    fallback: float = 0.0,
    deadline_s: float = 60.0,
    **_: Any,
) -> dict[str, float]:
    """Score one sample without blocking the event loop; see :func:`compute_score`."""
    item = make_item(data_source, solution_str, ground_truth, extra_info or {})
    names: tuple[str, ...] | None = None
    try:
        if url is None:
            oracle = _oracle(rewards, env, match)
            results = await asyncio.to_thread(oracle.score_items, [item], evidence="none", deadline_s=deadline_s)
        else:
            names = await asyncio.to_thread(_components, url)
            results = await _async_client(url).score([item], evidence="none", deadline_s=deadline_s)
        result = results[0]
    except ConfigError:
        raise
    except TurnwiseError as error:
        if names is None:
            raise  # the server was never there: no run should begin so
        result = _nothing(error, names)
    return as_numbers(result, fallback)


def make_item(data_source: str, solution: str, ground_truth: Json, extra: Mapping[str, Any]) -> Item:
    """Return the item of a sample.

    Raises:
        ConfigError: ``messages`` in the extra facts are no messages.
    """
    try:
        item = text_item(str(extra.get("task", "")), solution, plain(ground_truth))
        fields: dict[str, Any] = {name: extra[name] for name in _ITEM_FIELDS if extra.get(name) is not None}
        if extra.get("messages") is not None:
            fields["messages"] = [msgspec.convert(plain(one), Message) for one in extra["messages"]]
        given = plain(extra.get("metadata") or {})
        fields["metadata"] = {"data_source": data_source, **item.metadata, **given}
        changed: Item = msgspec.structs.replace(item, **fields)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ConfigError(f"extra_info: {error}") from error
    return changed


def plain(value: Any) -> Json:
    """Return a value of a Parquet row (numpy arrays and scalars) as JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(inner) for inner in value]
    return value


def as_numbers(result: ItemResult, fallback: float) -> dict[str, float]:
    """Return a result as verl wants it: the same keys for every sample, and only finite numbers."""
    numbers = {
        "score": fallback if result.reward is None else result.reward,
        "outcome": result.outcome or 0.0,
        "process": result.process or 0.0,
        "turns": float(len(result.turn_rewards)),
        "valid": float(result.reward is not None),
        "judge_failed": float(result.status in ("judge_failed", "timeout")),
    }
    return numbers | {f"component/{name}": share or 0.0 for name, share in result.components.items()}


def _nothing(error: TurnwiseError, names: Sequence[str]) -> ItemResult:
    """Return the result of a sample that the server did not score."""
    return ItemResult(id="", status="judge_failed", reason=str(error), components=dict.fromkeys(names))


@lru_cache(maxsize=8)
def _oracle(rewards: str | None, env: str | None, match: str) -> Oracle:
    return Oracle(rewards, env=env, match=match)


@lru_cache(maxsize=8)
def _client(url: str) -> OracleClient:
    return OracleClient(url, token=os.environ.get(TOKEN_ENV) or None)


@lru_cache(maxsize=8)
def _components(url: str) -> tuple[str, ...]:
    """Return the names of a server's components, so that a sample it does not score has the same keys."""
    return tuple(map(str, _client(url).health()["components"]))


def _async_client(url: str) -> AsyncOracleClient:
    loop = asyncio.get_running_loop()
    known = _clients.setdefault(loop, {})
    if url not in known:
        known[url] = AsyncOracleClient(url, token=os.environ.get(TOKEN_ENV) or None)
    return known[url]
