"""The oracle in process: trajectories or items in, results out, in order."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLongError
from functools import partial
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError, TurnwiseError, attribute_to
from turnwise.records import Json, Trajectory
from turnwise.rewards import RewardTree, load_rewards
from turnwise.rewards.compose import walk
from turnwise.rollout.oracle.answers import check_match
from turnwise.rollout.oracle.credit import assign, make_credit
from turnwise.rollout.oracle.items import MAX_DEPTH, ItemReader, Tokenizer
from turnwise.rollout.oracle.results import ResultShape, make_result
from turnwise.rollout.oracle.schema import CreditSpec, EvidenceLevel, Item, ItemResult
from turnwise.rollout.oracle.world import World

REMOTE_THREADS = 32


class Oracle:
    """A reward tree that scores whatever it is given, and never raises for an episode that cannot be scored."""

    def __init__(
        self,
        rewards: RewardTree | str | Path | Mapping[str, Json] | None = None,
        *,
        env: str | None = None,
        env_options: Mapping[str, Json] | None = None,
        tokenizer: str | Tokenizer | None = None,
        match: str = "exact",
        max_depth: int = MAX_DEPTH,
        threads: int | None = None,
    ) -> None:
        """Build the tree.

        Args:
            rewards: A tree, or its configuration as :func:`turnwise.rewards.load_rewards` takes it.
            env: Id of the world whose grammar reads the actions, and in which items with a task id are played again.
            env_options: Keyword arguments of the world.
            tokenizer: Path of a Hugging Face tokenizer, or an object with ``decode``; for items without messages.
            match: How a final answer is compared with the label: ``"exact"``, ``"contains"`` or ``"none"``.
            max_depth: Deepest nesting of what an item may hold beside text.
            threads: Items scored at once; by default 1 for rewards that compute, 32 where a judge is waited for.

        Raises:
            ConfigError: An option is wrong, or the rewards do not fit the world.
        """
        self.tree = rewards if isinstance(rewards, RewardTree) else load_rewards(rewards)
        if env is None and env_options:
            raise ConfigError("env_options are given without an env: name the world they are for")
        self.world = None if env is None else World(env, env_options)
        if self.world is not None:
            self.tree.check_levels(self.world.levels)
        self.shape = ResultShape(self.tree)
        self.reader = ItemReader(
            world=self.world,
            tokenizer=load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer,
            match=check_match(match),
            max_depth=max_depth,
        )
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ConfigError(f"threads must be a whole number of at least 1 or None, got {threads!r}")
        self.threads = threads or (REMOTE_THREADS if waits_for_judges(self.tree) else 1)

    def score(
        self,
        trajectories: Sequence[Trajectory],
        *,
        credit: CreditSpec | None = None,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
    ) -> list[ItemResult]:
        """Score trajectories.

        Args:
            trajectories: What to score.
            credit: Also return advantages; groups are the tasks.
            evidence: How much of the rewards' evidence to return.
            deadline_s: Seconds after which what is not scored has the status ``"timeout"``; None waits.

        Returns:
            One result per trajectory, in order; ids are the trajectories'.

        Raises:
            ConfigError: The credit rule is wrong.
        """
        jobs = [partial(self.score_trajectory, t.id, t, evidence=evidence) for t in trajectories]
        results = self._run(jobs, [t.id for t in trajectories], deadline_s)
        if credit is None:
            return results
        lengths = [0 if t.tokens is None else len(t.tokens.ids) for t in trajectories]
        groups = [f"{t.env_id} {t.group}" for t in trajectories]
        return assign(results, groups, lengths, make_credit(credit), self.shape)

    def score_items(
        self,
        items: Sequence[Item],
        *,
        credit: CreditSpec | None = None,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
    ) -> list[ItemResult]:
        """Score items.

        Args:
            items: What to score.
            credit: Also return advantages; groups are the items' ``group``.
            evidence: How much of the rewards' evidence to return.
            deadline_s: As in :meth:`score`.

        Returns:
            One result per item, in order. An item that cannot be read has the status ``"invalid"``.

        Raises:
            ConfigError: The credit rule is wrong, or an item has no group to be compared with.
        """
        if credit is not None:
            check_groups([item.group for item in items])
        jobs = [partial(self.score_item, item, evidence=evidence) for item in items]
        results = self._run(jobs, [item.id for item in items], deadline_s)
        if credit is None:
            return results
        lengths = [token_count(item) for item in items]
        return assign(results, [item.group for item in items], lengths, make_credit(credit), self.shape)

    def score_item(self, item: Item, *, evidence: EvidenceLevel = "total") -> ItemResult:
        """Score one item; one that cannot be read has the status ``"invalid"``."""
        try:
            trajectory = self.reader.trajectory(item)
        except TurnwiseError as error:
            return self.shape.without_reward(item.id, "invalid", f"{error.boundary}: {error}")
        return self.score_trajectory(item.id, trajectory, evidence=evidence)

    def score_trajectory(
        self, item_id: str, trajectory: Trajectory, *, evidence: EvidenceLevel = "total"
    ) -> ItemResult:
        """Score one trajectory under a name."""
        try:
            with attribute_to("judge"):
                return make_result(item_id, trajectory, self.tree, self.shape, evidence=evidence)
        except TurnwiseError as error:
            return self.shape.without_reward(item_id, "judge_failed", f"{error.boundary}: {error}")

    def _run(
        self, jobs: Sequence[Callable[[], ItemResult]], ids: Sequence[str], deadline_s: float | None
    ) -> list[ItemResult]:
        if deadline_s is not None and not (math.isfinite(deadline_s) and deadline_s > 0):
            raise ConfigError(f"deadline_s must be a positive number of seconds or None, got {deadline_s!r}")
        if deadline_s is None:
            if self.threads == 1 or len(jobs) < 2:
                return [job() for job in jobs]
            with ThreadPoolExecutor(min(self.threads, len(jobs)), thread_name_prefix="oracle") as pool:
                return list(pool.map(lambda job: job(), jobs))
        until = time.monotonic() + deadline_s
        futures = _in_daemons(jobs, self.threads)
        results = []
        for future, item_id in zip(futures, ids, strict=True):
            try:
                results.append(future.result(timeout=max(0.0, until - time.monotonic())))
            except WaitedTooLongError:
                reason = f"judge: it took longer than {deadline_s:g} s"
                results.append(self.shape.without_reward(item_id, "timeout", reason))
            except Exception as error:  # noqa: BLE001 - whatever a reward raised is this item's, not the caller's
                results.append(self.shape.without_reward(item_id, "judge_failed", f"judge: {error!r}"))
        for future in futures:
            future.cancel()
        return results


def _in_daemons(jobs: Sequence[Callable[[], ItemResult]], threads: int) -> list[Future[ItemResult]]:
    """Run jobs in threads that do not keep the interpreter alive when one of them hangs."""
    futures: list[Future[ItemResult]] = [Future() for _ in jobs]
    left = iter(list(zip(jobs, futures, strict=True)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                job, future = next(left, (None, None))
            if job is None or future is None:
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                    future.set_exception(error)

    for _ in range(min(threads, len(jobs))):
        threading.Thread(target=work, daemon=True, name="oracle").start()
    return futures


def check_groups(groups: Sequence[str]) -> None:
    """Check that every item says what it is compared with.

    Raises:
        ConfigError: One does not.
    """
    for place, group in enumerate(groups):
        if not group:
            raise ConfigError(f"items[{place}].group: is missing, and credit compares the items of one group")


def token_count(item: Item) -> int:
    """Return how many token ids an item has."""
    if item.tokens is not None:
        return len(item.tokens.ids)
    tokens = None if item.trajectory is None else item.trajectory.tokens
    return 0 if tokens is None else len(tokens.ids)


def waits_for_judges(tree: RewardTree) -> bool:
    """Return whether a reward of the tree has a judge that answers over the network."""
    return any(bool(getattr(getattr(part.reward, "judge", None), "remote", False)) for part in walk(tree.rewards))


def load_tokenizer(path: str) -> Tokenizer:
    """Load a tokenizer from a folder, without asking any hub.

    Raises:
        MissingExtraError: transformers is not installed.
        ConfigError: There is no tokenizer.
    """
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError("transformers", "torch") from error
    try:
        loaded: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer at {path!r}: {error}") from error
    made: Tokenizer = loaded
    return made
