"""TRL's reward functions: ``reward_funcs=[reward_function("rewards.yaml")]``, sync or async.

An item without a reward gives None, which GRPOTrainer leaves out of the group. TRL adds up one number per completion;
turn rewards reach its tokens through the 2-D advantages of ``turnwise.rollout.trainers``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from turnwise.errors import ConfigError, TransportError
from turnwise.rollout.oracle.client import AsyncOracleClient, OracleClient
from turnwise.rollout.oracle.dialects.base import text_item
from turnwise.rollout.oracle.dialects.verl import plain
from turnwise.rollout.oracle.schema import Item, ItemResult, Message
from turnwise.rollout.oracle.scorer import Oracle

Rewards: TypeAlias = list[float | None]
_LABELS = ("label", "answer", "ground_truth", "solution")
_FIELDS = ("task", "task_id", "seed", "group")


def reward_function(
    oracle: Oracle | OracleClient | str | Path | Mapping[str, Any] | None = None,
    *,
    name: str = "turnwise",
    deadline_s: float | None = 60.0,
    **options: Any,
) -> Callable[..., Rewards]:
    """Return a reward function for ``GRPOTrainer(reward_funcs=..)``.

    Args:
        oracle: An oracle, a client, the address of a server (``"http://.."``), or a configuration of rewards.
        name: Under which TRL logs it.
        deadline_s: Seconds after which an item counts as not scored; None waits.
        **options: Of :class:`Oracle` or :class:`OracleClient`, where one is made.

    Raises:
        ConfigError: The configuration is wrong.
    """
    scorer: Oracle | OracleClient
    if isinstance(oracle, (Oracle, OracleClient)):
        scorer = oracle
    elif isinstance(oracle, str) and oracle.startswith(("http://", "https://")):
        scorer = OracleClient(oracle, **options)
    else:
        scorer = Oracle(oracle, **options)

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> Rewards:
        items = make_items(prompts, completions, columns)
        try:
            if isinstance(scorer, Oracle):
                results = scorer.score_items(items, evidence="none", deadline_s=deadline_s)
            else:
                results = scorer.score(items, evidence="none", deadline_s=deadline_s)
        except TransportError:
            return _report([None] * len(items), columns)
        return _report(results, columns)

    score.__name__ = name
    return score


def async_reward_function(
    oracle: AsyncOracleClient | str, *, name: str = "turnwise", deadline_s: float | None = 60.0, **options: Any
) -> Callable[..., Awaitable[Rewards]]:
    """Return the same as a coroutine function, which TRL runs beside other ones.

    Args:
        oracle: A client, or the address of a server.
        name: Under which TRL logs it.
        deadline_s: As in :func:`reward_function`.
        **options: Of :class:`AsyncOracleClient`, where one is made.
    """
    client = oracle if isinstance(oracle, AsyncOracleClient) else AsyncOracleClient(oracle, **options)

    async def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> Rewards:
        items = make_items(prompts, completions, columns)
        try:
            results = await client.score(items, evidence="none", deadline_s=deadline_s)
        except TransportError:
            return _report([None] * len(items), columns)
        return _report(results, columns)

    score.__name__ = name
    return score


def make_items(prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Item]:
    """Return one item per completion; of the data set's columns, the item's own fields and the label count.

    A column ``messages``, if there is one, is the whole conversation; ``metadata`` is the task's data.

    Raises:
        ConfigError: A column is malformed.
    """
    rows = {key: column for key, column in columns.items() if _is_column(column, len(completions))}
    return [_item(prompts[place], completions[place], rows, place) for place in range(len(completions))]


def _is_column(column: Any, length: int) -> bool:
    return isinstance(column, (list, tuple)) and len(column) == length


def _item(prompt: Any, completion: Any, rows: Mapping[str, Sequence[Any]], place: int) -> Item:
    try:
        asked = prompt if isinstance(prompt, str) else [msgspec.convert(plain(one), Message) for one in prompt]
        label = next((rows[key][place] for key in _LABELS if key in rows and rows[key][place] is not None), None)
        said = completion if isinstance(completion, str) else ""
        item = text_item(asked, said, plain(label))
        fields: dict[str, Any] = {
            key: rows[key][place] for key in _FIELDS if key in rows and rows[key][place] is not None
        }
        if not isinstance(completion, str):
            before = [Message(role="user", content=asked)] if isinstance(asked, str) else asked
            fields["messages"] = [*before, *(msgspec.convert(plain(one), Message) for one in completion)]
        if "messages" in rows and rows["messages"][place]:
            fields["messages"] = [msgspec.convert(plain(one), Message) for one in rows["messages"][place]]
        if "metadata" in rows:
            fields["metadata"] = {**item.metadata, **plain(rows["metadata"][place] or {})}
        changed: Item = msgspec.structs.replace(item, **fields)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ConfigError(f"row {place}: {error}") from error
    return changed


def _report(results: Sequence[ItemResult | None], columns: Mapping[str, Any]) -> Rewards:
    """Log components and failures where TRL offers to, and return the rewards."""
    log_extra, log_metric = columns.get("log_extra"), columns.get("log_metric")
    failed = sum(result is None or result.status != "ok" for result in results)
    if callable(log_metric) and results:
        log_metric("turnwise/not_scored", failed / len(results))
    names = next((result.components for result in results if result is not None), {})
    if callable(log_extra):
        for key in names:
            log_extra(key, [None if result is None else result.components.get(key) for result in results])
    return [None if result is None else result.reward for result in results]
