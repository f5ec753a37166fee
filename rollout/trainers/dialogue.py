"""Episodes in token ids, for trainers that sample themselves: ids in, the world's answer as ids out.

What was sampled is never written again: an episode's ids are the opening, then each message as it was
sampled and the world's answer behind it. So log-probabilities, masks and spans belong to the very ids
that the trainer computes its loss on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from turnwise.errors import ConfigError, EpisodeOverError
from turnwise.records import Json, Trajectory, TruncationCause, TurnTokens
from turnwise.registry import load_entry_point
from turnwise.rollout.trainers.rows import TrainingRow, make_rows
from turnwise.rollout.trainers.scores import problem_of
from turnwise.rollout.trainers.stepping import DrivenEpisode, World

T = TypeVar("T")
CHAT_FORMAT = "turnwise.agents.transformers_policy.chat:ChatFormat"


class Chat(Protocol):
    """Writes what stands between sampled messages.

    Attributes:
        ends: Ids at which a sampler is to stop: they end a message.
    """

    ends: tuple[int, ...]

    def opening(self, system: str, tools: Sequence[Mapping[str, Json]], observation: str) -> Sequence[int]:
        """Return the ids from the beginning to the header of the first message."""
        ...

    def continuation(self, observation: str, sampled: Sequence[int]) -> Sequence[int]:
        """Return the ids between a sampled message and the next one."""
        ...

    def message(self, sampled: Sequence[int]) -> str:
        """Return a sampled message as the world is to read it: without the ids that end it."""
        ...


class TokenizerChat:
    """Writes by a tokenizer's chat template (keeps the Chat protocol)."""

    def __init__(self, tokenizer: Any, *, tools: bool = True) -> None:
        """Write with a Hugging Face tokenizer.

        Args:
            tokenizer: The tokenizer.
            tools: Whether the world's tools are given to the template, if it takes any.

        Raises:
            ConfigError: Its chat template cannot be written message by message.
        """
        self._format = load_entry_point(CHAT_FORMAT)(tokenizer, tools=tools)
        ends = (self._format.end_id, getattr(tokenizer, "eos_token_id", None))
        self.ends: tuple[int, ...] = tuple(dict.fromkeys(int(end) for end in ends if end is not None))

    def opening(self, system: str, tools: Sequence[Mapping[str, Json]], observation: str) -> Sequence[int]:
        """Return the ids from the beginning to the header of the first message."""
        return tuple(self._format.opening(system, tools, observation))

    def continuation(self, observation: str, sampled: Sequence[int]) -> Sequence[int]:
        """Return the ids between a sampled message and the next one."""
        return tuple(self._format.continuation(observation, sampled))

    def message(self, sampled: Sequence[int]) -> str:
        """Return the text of a message without its end."""
        ids = list(sampled)
        while ids and ids[-1] in self.ends:
            ids.pop()
        return self.text(ids)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        return str(self._format.decode(ids))


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A message as a trainer sampled it.

    Attributes:
        ids: Its token ids, with the one that ends it if it was sampled.
        logprobs: Natural-log probability of each id, or empty.
        policy_version: Version of the weights, or None.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    policy_version: str | None = None


class TokenEpisode:
    """One episode of a world in token ids."""

    def __init__(self, world: World, chat: Chat) -> None:
        """Play a world; nothing is made before :meth:`begin`."""
        self._driven = DrivenEpisode(world)
        self._chat = chat
        self._ids: list[int] = []
        self._new = 0
        self._opening = 0

    def begin(self, task_id: str, *, sample: int = 0) -> tuple[int, ...]:
        """Begin an episode and return the prompt of the first message.

        Raises:
            ConfigError: There is no such task.
        """
        seen = self._driven.begin(task_id, sample=sample)
        self._ids = [] if self.over else list(self._chat.opening(self._driven.system_prompt, self._driven.tools, seen))
        self._new = self._opening = len(self._ids)
        return self.ids

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids so far: the prompt of the next message."""
        return tuple(self._ids)

    @property
    def response_length(self) -> int:
        """How many ids follow the first prompt."""
        return len(self._ids) - self._opening

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self._driven.over

    def say(self, sampled: Sampled) -> bool:
        """Play a message; returns whether the episode is over.

        Raises:
            EpisodeOverError: The episode has not begun or is over.
            ConfigError: Nothing was sampled.
        """
        if self.over or not self._ids:
            raise EpisodeOverError("the episode is over (or never began): call begin() before say()")
        if not sampled.ids:
            raise ConfigError("a message of no tokens cannot be trained on: the sampler returned none")
        prompt = tuple(self._ids[len(self._ids) - self._new :])
        tokens = TurnTokens(prompt_ids=prompt, completion_ids=sampled.ids, logprobs=sampled.logprobs)
        text = self._chat.message(sampled.ids)
        answer = self._driven.step(text, tokens=tokens, policy_version=sampled.policy_version)
        added = () if answer.over else tuple(self._chat.continuation(answer.observation, sampled.ids))
        self._ids += [*sampled.ids, *added]
        self._new = len(added)
        return answer.over

    def trajectory(self, *, cause: TruncationCause = "tokens") -> Trajectory:
        """Return the episode with its rewards; one that is not over was cut by ``cause``."""
        return self._driven.trajectory(cause=cause)

    def partial(self) -> Trajectory:
        """Return the turns so far without rewards."""
        return self._driven.ungraded()

    def close(self) -> None:
        """Close the environment."""
        self._driven.close()


class OwnThread:
    """A thread for one episode's blocking calls: a world may live in the thread that made it, as browsers do."""

    def __init__(self) -> None:
        """Start no thread before the first call."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="episode")

    async def __call__(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what the call returns; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """End the thread when it is idle."""
        self._pool.shutdown(wait=False)


Ask = Callable[[tuple[int, ...], int | None], Awaitable[Sampled]]


async def play(
    world: World,
    chat: Chat,
    ask: Ask,
    *,
    task_id: str,
    sample: int = 0,
    max_response: int | None = None,
    attempts: int = 1,
) -> Trajectory:
    """Play an episode with a sampler and return it graded.

    Args:
        world: The world.
        chat: How observations become ids.
        ask: Samples a message for a prompt of ids, of at most the given number of ids.
        task_id: The task.
        sample: Number of the episode within its group.
        max_response: Most ids behind the first prompt, observations among them; None sets no limit.
        attempts: How often an episode is played, at most, when the world or a judge fails.

    Raises:
        ConfigError: There is no such task.
        Exception: What ``ask`` raises.
    """
    if attempts < 1:
        raise ConfigError(f"attempts must be at least 1, got {attempts}")
    for _ in range(attempts):
        trajectory = await _play_once(world, chat, ask, task_id, sample, max_response)
        if problem_of(trajectory) is None:
            break
    return trajectory


async def _play_once(
    world: World, chat: Chat, ask: Ask, task_id: str, sample: int, max_response: int | None
) -> Trajectory:
    episode, aside = TokenEpisode(world, chat), OwnThread()
    try:
        await aside(episode.begin, task_id, sample=sample)
        while not episode.over:
            room = None if max_response is None else max_response - episode.response_length
            if room is not None and room <= 0:
                break
            await aside(episode.say, await ask(episode.ids, room))
        return await aside(episode.trajectory)
    finally:
        await aside(episode.close)
        aside.close()


def usable_row(trajectory: Trajectory) -> TrainingRow:
    """Return the row of an episode, for trainers that have no other way to leave one out than an error.

    Raises:
        TurnwiseError: The episode failed, has no reward or no turn; never a reward of 0.
    """
    problem = problem_of(trajectory)
    if problem is not None:
        raise problem
    (row,) = make_rows([trajectory])
    if not row.response_ids:
        raise ConfigError(f"{trajectory.id} has no turn: its first prompt leaves no room for a message")
    return row
