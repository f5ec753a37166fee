"""Atropos 0.4: groups of episodes, with an advantage on every token, posted to its trajectory server.

What survives of turn rewards: everything, if a credit rule is given. Atropos hands ``advantages`` (one number
per token) on to the trainer as they are; each token then has the advantage of its turn. Without a credit
rule only ``scores``, one number per episode, is sent, and the trainer works out advantages from those.
The turn rewards themselves go along under ``overrides`` for whoever reads them.

turnwise plays the episodes itself, with a model served where Atropos's trainer serves it::

    sender = AtroposSender("http://localhost:8000", name="household", group_size=8, max_tokens=8192)
    rollout = Rollout("turnwise/Household-v0", tasks="train", group=8, agent="openai:http://localhost:9001/v1?...")
    for group in complete_groups(rollout, size=8):
        sender.send(make_rows(group, credit=GroupCredit(estimator="rloo", level="turn")))

Install: ``pip install atroposlib==0.4.0`` for its server and trainers; nothing of it is imported here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from turnwise.errors import ConfigError, MissingExtraError, TransportError
from turnwise.records import Json, Trajectory
from turnwise.rollout.trainers.rows import TrainingRow

MASKED = -100  # what Atropos's masks hold for tokens without loss
NOT_SAMPLED = 1.0  # what its inference_logprobs hold for tokens that nobody sampled: no log-probability is 1
POLL_S = 1.0
ATTEMPTS = 3


class Reply(Protocol):
    """What a client returns; ``httpx.Response`` is one."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """Return the decoded body."""
        ...


class Client(Protocol):
    """Posts JSON; ``httpx.Client`` and FastAPI's ``TestClient`` are such clients."""

    def post(self, url: str, *, json: Json) -> Reply:
        """Post a body."""
        ...


def scored_data(rows: Sequence[TrainingRow], *, env_id: int | None = None) -> dict[str, Json]:
    """Return rows of one group as Atropos's ``ScoredData``.

    Args:
        rows: The group. Rows that may not be trained on (failed, or without a reward) are left out.
        env_id: The number that Atropos gave the environment.

    Raises:
        ConfigError: The rows are of several groups, or some have advantages and some none.
    """
    groups = sorted({row.group for row in rows})
    if len(groups) > 1:
        raise ConfigError(f"Atropos takes one group at a time, got rows of {len(groups)}: {groups[0]!r}, {groups[1]!r}")
    used = [row for row in rows if row.valid and row.response_ids]
    credited = [bool(row.advantages) for row in used]
    if any(credited) and not all(credited):
        raise ConfigError("some rows of the group have advantages and some none: make them with one credit rule")
    data: dict[str, Json] = {
        "tokens": [[*row.prompt_ids, *row.response_ids] for row in used],
        "masks": [_masks(row) for row in used],
        "scores": [row.reward for row in used],
        "advantages": [[0.0] * len(row.prompt_ids) + list(row.advantages) for row in used] if any(credited) else None,
        "overrides": [_overrides(row) for row in used],
        "group_overrides": {"group_size": len(used)},
        "env_id": env_id,
    }
    if used and all(row.logprobs for row in used):
        data["inference_logprobs"] = [_logprobs(row) for row in used]
    return data


def _masks(row: TrainingRow) -> list[int]:
    pairs = zip(row.response_ids, row.loss_mask, strict=True)
    return [MASKED] * len(row.prompt_ids) + [token if mask else MASKED for token, mask in pairs]


def _logprobs(row: TrainingRow) -> list[float]:
    pairs = zip(row.logprobs, row.response_mask, strict=True)
    return [NOT_SAMPLED] * len(row.prompt_ids) + [value if sampled else NOT_SAMPLED for value, sampled in pairs]


def _overrides(row: TrainingRow) -> dict[str, Json]:
    shift = len(row.prompt_ids)
    return {
        "id": row.id,
        "turn_rewards": list(row.turn_rewards),
        "turn_spans": [[start + shift, end + shift] for start, end in row.turn_spans],
    }


def complete_groups(trajectories: Iterable[Trajectory], *, size: int) -> Iterator[list[Trajectory]]:
    """Yield the episodes of a task together as soon as there are ``size`` of them, in the order of their samples.

    Args:
        trajectories: As a rollout yields them, in any order.
        size: Episodes per task.
    """
    waiting: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        group = waiting.setdefault(trajectory.group, [])
        group.append(trajectory)
        if len(group) == size:
            yield sorted(waiting.pop(trajectory.group), key=lambda one: one.sample)


class AtroposSender:
    """Registers as an environment with Atropos's server and sends it groups.

    Attributes:
        env_id: The number that the server gave, or None before :meth:`register`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        group_size: int,
        max_tokens: int,
        weight: float = 1.0,
        client: Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Address of the server.
            name: The environment's name in Atropos's logs.
            group_size: Episodes per task; groups that lost some are buffered by the server until they
                make up a full one.
            max_tokens: Most tokens of an episode; longer ones are left out.
            weight: Share of this environment in a batch.
            client: Posts the requests; None makes an ``httpx.Client``.
            sleep: How to wait between attempts.

        Raises:
            MissingExtraError: There is no client, and httpx is not installed.
        """
        self.env_id: int | None = None
        self._url = url.rstrip("/")
        self._max_tokens = max_tokens
        self._about = {
            "max_token_length": max_tokens,
            "desired_name": name,
            "weight": weight,
            "group_size": group_size,
        }
        self._troubles: tuple[type[Exception], ...] = (OSError,)
        self._client = self._httpx_client() if client is None else client
        self._sleep = sleep

    def register(self, *, wait_s: float = 600.0) -> int:
        """Register, and return the number that the server gives; does nothing the second time.

        Args:
            wait_s: How long to wait for the trainer: the server takes no environment before the trainer
                has asked for its first batch.

        Raises:
            TransportError: There is no trainer in time, or the server fails.
        """
        waited = 0.0
        while self.env_id is None:
            reply = self._post("/register-env", self._about)
            if reply.get("status") == "success":
                self.env_id = int(reply["env_id"])
            elif waited >= wait_s:
                raise TransportError(
                    f"Atropos at {self._url} takes no environment after {wait_s:g} s ({reply.get('status')!r}): "
                    "is its trainer running? It must have asked for a batch once"
                )
            else:
                self._sleep(POLL_S)
                waited += POLL_S
        return self.env_id

    def send(self, rows: Sequence[TrainingRow]) -> int:
        """Send a group; returns how many of its rows could be used. Nothing is sent where none can.

        Raises:
            ConfigError: The rows are no group.
            TransportError: The server refuses them or cannot be reached.
        """
        env_id = self.register()
        fitting = [row for row in rows if len(row.prompt_ids) + len(row.response_ids) <= self._max_tokens]
        data = scored_data(fitting, env_id=env_id)
        if data["tokens"]:
            self._post("/scored_data", data)
        return len(data["tokens"])

    def _post(self, path: str, body: Json) -> dict[str, Any]:
        """Post; a server in trouble is asked again, as Atropos's own environments do, a refusal is final."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(POLL_S)
            try:
                reply = self._client.post(self._url + path, json=body)
            except self._troubles as error:
                problem = str(error)
                continue
            if reply.status_code < 300:
                answer: dict[str, Any] = reply.json()
                return answer
            problem = f"{reply.status_code}: {reply.text[:500]}"
            if reply.status_code < 500:
                break
        raise TransportError(f"Atropos at {self._url}{path}: {problem}")

    def _httpx_client(self) -> Client:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("httpx", "llm") from error
        self._troubles = (OSError, httpx.TransportError)
        return httpx.Client(timeout=60.0)
