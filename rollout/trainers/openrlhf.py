"""OpenRLHF 0.11: a reward file and a step executor with our worlds.

What survives of turn rewards: their sum. OpenRLHF adds up what the steps of an episode return and puts one
number on the last token; its estimators spread that from there. What each reward of the tree contributed
is logged (``extra_logs``), with the same keys for every sample of a run, as its concatenation demands.

A step executor is a file for ``--train.agent_func_path``::

    from turnwise.rollout.trainers.openrlhf import agent_executor

    AgentExecutor = agent_executor({"env": "turnwise/Household-v0", "rewards": "gated"}, tokenizer="PATH")

and a reward file, for one-message episodes, one for ``--reward.remote_url``::

    from turnwise.rollout.trainers.openrlhf import reward_function

    reward_func = reward_function({"env": "turnwise/SearchQA-v0"})

In both the dataset's label is the task's id. OpenRLHF writes observations as text and tokenises that, so
an observation that holds the text of a special token is read as that token; trainers that take ids
(verl, slime, TRL) do not have this weakness.

Install: ``pip install openrlhf==0.11.2`` (with CUDA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from turnwise.errors import ConfigError
from turnwise.records import Json
from turnwise.rollout.trainers.dialogue import OwnThread, TokenizerChat
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.scores import scores, world_of
from turnwise.rollout.trainers.spoken import SpokenEpisode
from turnwise.rollout.trainers.stepping import World, replay

REQUIREMENT = "openrlhf==0.11.2"


class Markup(Protocol):
    """Writes a chat as text.

    Attributes:
        ends: Texts that end a message.
    """

    ends: tuple[str, ...]

    def opening(self, system: str, tools: Sequence[Mapping[str, Json]], observation: str) -> str:
        """Return the text from the beginning to the header of the first message."""
        ...

    def continuation(self, observation: str, message: str) -> str:
        """Return the text between the end of a message, which was sampled, and the next message."""
        ...


class TemplateMarkup:
    """Writes by a tokenizer's chat template (keeps the Markup protocol)."""

    def __init__(self, tokenizer: Any) -> None:
        """Write with a Hugging Face tokenizer, or the path of one."""
        if isinstance(tokenizer, str):
            transformers = trainer_module("transformers", "turnwise[torch]")
            tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer)
        self._tokenizer = tokenizer
        self._chat = TokenizerChat(tokenizer)
        self.ends: tuple[str, ...] = tuple(self._chat.text([end]) for end in self._chat.ends)

    def opening(self, system: str, tools: Sequence[Mapping[str, Json]], observation: str) -> str:
        """Return the text from the beginning to the header of the first message."""
        return self._chat.text(self._chat.opening(system, tools, observation))

    def continuation(self, observation: str, message: str) -> str:
        """Return the text between the end of a message, which was sampled, and the next message."""
        said = self._tokenizer(message, add_special_tokens=False)["input_ids"]
        return self._chat.text(self._chat.continuation(observation, (*said, *self._chat.ends[:1])))


class StepEpisode:
    """What OpenRLHF's agent instance does: an episode of a world, told by text."""

    def __init__(self, world: World, markup: Markup, *, fallback: float | None, score_every_turn: bool) -> None:
        """Play a world; see :func:`agent_executor`."""
        self._episode = SpokenEpisode(world, fallback=fallback, score_every_turn=score_every_turn)
        self._markup = markup
        self._aside = OwnThread()

    async def reset(self, states: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Begin the episode that the label names; returns the first prompt.

        Raises:
            TurnwiseError: The label is no task of the world, or the world could not begin.
        """
        label = states.get("label")
        if not isinstance(label, str):
            raise ConfigError(f"the dataset's label is the id of a task, got {label!r}")
        seen = await self._aside(self._episode.begin, label)
        return {**states, "observation": self._markup.opening(self._episode.system_prompt, self._episode.tools, seen)}

    async def step(self, states: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Play a message.

        Returns:
            What OpenRLHF reads. The rewards of an episode's steps add up to what the reward tree gives the
            episode so far, so the sum is right wherever OpenRLHF cuts it.

        Raises:
            TurnwiseError: The episode failed or has no reward, and there is no fallback.
        """
        message = _message(str(states["action_text"]), self._markup.ends)
        told = await self._aside(self._episode.say, message)
        if told.over:
            self._aside.close()
        torch = trainer_module("torch", "turnwise[torch]")
        return {
            "rewards": torch.tensor(told.gained["reward"], dtype=torch.float64),
            "scores": told.numbers["outcome"],
            "environment_feedback": "" if told.over else self._markup.continuation(told.observation, message),
            "done": told.over,
            "extra_logs": told.numbers,
        }

    def __del__(self) -> None:
        """Close the world of an episode that OpenRLHF cut: it says nothing then."""
        self._episode.close()


def agent_executor(
    world: Mapping[str, Json],
    *,
    tokenizer: Any = None,
    markup: Markup | None = None,
    fallback: float | None = None,
    score_every_turn: bool = True,
) -> type:
    """Return the class ``AgentExecutor`` of a file for ``--train.agent_func_path``.

    Args:
        world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
        tokenizer: The model's tokenizer or its path, whose chat template writes the observations.
        markup: Writes them instead.
        fallback: Reward of an episode that failed, logged with ``valid`` 0; None raises, which ends
            OpenRLHF's run.
        score_every_turn: Whether the reward tree is asked after every turn. Without, an episode that
            OpenRLHF cuts for length has the reward 0; with a judge, every turn costs its calls.

    Raises:
        ConfigError: Neither or both of ``tokenizer`` and ``markup`` are given.
        MissingTrainerError: OpenRLHF is not installed.
    """
    if (tokenizer is None) == (markup is None):
        raise ConfigError("say who writes the observations: either tokenizer=... or markup=...")
    agent: Any = trainer_module("openrlhf.utils.agent", REQUIREMENT)
    writer = TemplateMarkup(tokenizer) if markup is None else markup

    class AgentInstance(agent.AgentInstanceBase):  # type: ignore[misc]
        """One episode; OpenRLHF makes it without arguments."""

        def __init__(self) -> None:
            self._episode = StepEpisode(
                world_of(world, agent="openrlhf"), writer, fallback=fallback, score_every_turn=score_every_turn
            )

        async def reset(self, states: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return await self._episode.reset(states, **kwargs)

        async def step(self, states: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return await self._episode.step(states, **kwargs)

    class AgentExecutor(agent.MultiTurnAgentExecutor):  # type: ignore[misc]
        """OpenRLHF's executor with our instances."""

        def __init__(self) -> None:
            super().__init__(AgentInstance)

    return AgentExecutor


RewardFunction = Callable[..., dict[str, Any]]


def reward_function(
    world: Mapping[str, Json], *, fallback: float | None = None, ends: Sequence[str] = ()
) -> RewardFunction:
    """Return the function ``reward_func`` of a file for ``--reward.remote_url``.

    Args:
        world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
        fallback: Reward of an episode that failed, logged with ``valid`` 0. None raises; OpenRLHF then logs
            the error and goes on without a reward, which fails later: give one for long runs.
        ends: Texts of special tokens that end a message, such as ``"<|im_end|>"``: OpenRLHF keeps them.

    Returns:
        ``reward_func(queries, prompts, labels)``: plays each response as the one message of its task.
    """

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], **_: Any) -> dict[str, Any]:
        torch = trainer_module("torch", "turnwise[torch]")
        played = world_of(world, agent="openrlhf")
        found = []
        for query, prompt, label in zip(queries, prompts, labels, strict=True):
            said = _message(query[len(prompt) :] if query.startswith(prompt) else query, tuple(ends))
            found.append(scores(replay(played, label, [said]), played.rewards, fallback=fallback))
        columns = {name: torch.tensor([numbers[name] for numbers in found]) for name in found[0]}
        return {"rewards": columns["reward"], "scores": columns["outcome"], "extra_logs": columns}

    return reward_func


def _message(text: str, ends: Sequence[str]) -> str:
    """Return a message without what ends it."""
    for end in ends:
        text = text.partition(end)[0] if end else text
    return text
