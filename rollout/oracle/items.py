"""From an item to a trajectory, whichever way it describes the episode."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from turnwise.errors import ConfigError
from turnwise.records import Ending, Json, Outcome, Task, TokenSequence, Trajectory, Turn, replace
from turnwise.rollout.oracle.answers import Match, golds, is_right
from turnwise.rollout.oracle.conversation import Conversation, read_conversation, with_facts, with_spans
from turnwise.rollout.oracle.schema import GivenOutcome, Item, Message, Tokens
from turnwise.rollout.oracle.world import World

ENV_ID = "oracle/messages"
MAX_DEPTH = 64
_MISSING = "must hold messages, tokens or trajectory, and holds none of them"


class Tokenizer(Protocol):
    """What is needed of a tokenizer: Hugging Face's have it."""

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """Return the text of token ids."""
        ...


class ItemReader:
    """Makes trajectories of items."""

    def __init__(
        self,
        *,
        world: World | None = None,
        tokenizer: Tokenizer | None = None,
        match: Match = "exact",
        max_depth: int = MAX_DEPTH,
    ) -> None:
        """Say what is known beside the items.

        Args:
            world: Reads actions by its grammar, and plays items with a ``task_id`` again.
            tokenizer: Decodes items that have tokens and no messages.
            match: How a final answer is compared with the label.
            max_depth: Deepest nesting of what an item may hold beside text.
        """
        self.world = world
        self.tokenizer = tokenizer
        self.match: Match = match
        self.max_depth = max_depth

    def trajectory(self, item: Item) -> Trajectory:
        """Return the episode that an item describes.

        Raises:
            ConfigError: The item is malformed; the text begins with the place inside it.
            EnvError: The episode was played again, and the world failed.
        """
        check_depth(item, self.max_depth)
        if item.trajectory is not None:
            given = [name for name in ("messages", "tokens", "turns", "outcome", "ending") if getattr(item, name)]
            if given:
                raise ConfigError(f"{given[0]}: must be left out beside a trajectory, which says it all")
            return item.trajectory
        messages = self._messages(item)
        conversation = read_conversation(messages, None if self.world is None else self.world.grammar)
        if self.world is not None and item.task_id:
            return self._replayed(item, conversation, self.world)
        return self._as_told(item, conversation)

    def _messages(self, item: Item) -> Sequence[Message]:
        if item.messages is not None:
            return item.messages
        if item.tokens is None:
            raise ConfigError(_MISSING)
        if self.tokenizer is None:
            raise ConfigError(
                "tokens: come without messages, and this oracle has no tokenizer: start it with --tokenizer PATH, "
                "or send the messages too"
            )
        return _decoded(item.tokens, self.tokenizer)

    def _replayed(self, item: Item, conversation: Conversation, world: World) -> Trajectory:
        played = world.play(item.task_id, conversation.texts, seed=item.seed, trajectory_id=item.id or "item")
        turns: tuple[Turn, ...] = played.turns
        if item.tokens is None:
            return played
        if len(turns) < len(conversation.turns):
            raise ConfigError(
                f"tokens.spans: the episode ends after {len(turns)} of {len(conversation.turns)} messages, so the "
                "tokens are not those of this episode"
            )
        turns = with_spans(turns, item.tokens.spans)
        done: Trajectory = replace(played, turns=turns, tokens=_sequence(item.tokens))
        return done

    def _as_told(self, item: Item, conversation: Conversation) -> Trajectory:
        turns = with_facts(conversation.turns, item.turns)
        if item.tokens is not None:
            turns = with_spans(turns, item.tokens.spans)
        answers = golds(item.label)
        question = item.task or conversation.question
        data: dict[str, Json] = dict(item.metadata)
        if item.label is not None:
            data.setdefault("answer", answers[0] if answers else item.label)
            data.setdefault("aliases", list(answers[1:]))
        ending = item.ending
        if ending is None:
            ending = Ending(kind="terminated") if item.done else Ending(kind="truncated", cause="turns")
        return Trajectory(
            id=item.id or "item",
            env_id=ENV_ID if self.world is None else self.world.env_id,
            task=Task(id=item.group or item.task_id or _digest(question), split="", instruction=question, data=data),
            seed=item.seed,
            agent="oracle",
            turns=turns,
            final_observation=conversation.final_observation,
            ending=ending,
            outcome=None if ending.kind == "failed" else self._outcome(item, conversation, answers),
            tokens=None if item.tokens is None else _sequence(item.tokens),
        )

    def _outcome(self, item: Item, conversation: Conversation, answers: Sequence[str]) -> Outcome | None:
        if item.outcome is not None:
            return _given(item.outcome)
        last = item.turns[-1] if item.turns else None
        env_return = sum(turn.env_reward for turn in item.turns or ())
        levels = () if self.world is None else self.world.levels
        if last is not None and (last.success or not answers):
            return Outcome(
                success=last.success, env_return=env_return, progress=last.progress, level=last.level, levels=levels
            )
        if not answers or self.match == "none":
            return None
        right = item.done and bool(conversation.turns) and is_right(conversation.last_message, answers, self.match)
        return Outcome(success=right, env_return=env_return, progress=float(right))


def _given(outcome: GivenOutcome) -> Outcome:
    return Outcome(
        success=outcome.success,
        env_return=outcome.env_return,
        progress=outcome.progress,
        level=outcome.level,
        levels=tuple(outcome.levels),
    )


def _digest(text: str) -> str:
    return "q-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _decoded(tokens: Tokens, tokenizer: Tokenizer) -> list[Message]:
    messages: list[Message] = []
    before = 0
    for number, (start, end) in enumerate(tokens.spans):
        if not before <= start <= end <= len(tokens.ids):
            raise ConfigError(
                f"tokens.spans[{number}]: [{start}, {end}] must follow {before} and end by {len(tokens.ids)}"
            )
        if start > before:
            messages.append(Message(role="user", content=_text(tokens, before, start, tokenizer)))
        messages.append(Message(role="assistant", content=_text(tokens, start, end, tokenizer)))
        before = end
    if before < len(tokens.ids):
        messages.append(Message(role="user", content=_text(tokens, before, len(tokens.ids), tokenizer)))
    return messages


def _text(tokens: Tokens, start: int, end: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(tokens.ids[start:end], skip_special_tokens=True)


def _sequence(tokens: Tokens) -> TokenSequence:
    mask = [0] * len(tokens.ids)
    for number, (start, end) in enumerate(tokens.spans):
        if end > len(mask):
            raise ConfigError(f"tokens.spans[{number}]: ends at {end}, past the {len(mask)} ids")
        mask[start:end] = [1] * (end - start)
    try:
        return TokenSequence(ids=tuple(tokens.ids), loss_mask=tuple(mask), logprobs=tuple(tokens.logprobs))
    except ConfigError as error:
        raise ConfigError(f"tokens: {error}") from error


def check_depth(item: Item, limit: int) -> None:
    """Check that nothing in an item is nested deeper than code that walks it by recursion can take.

    Raises:
        ConfigError: Something is.
    """
    parts: list[tuple[str, Json]] = [("label", item.label), ("metadata", item.metadata)]
    for place, message in enumerate(item.messages or ()):
        if message.tool_calls:
            parts.append((f"messages[{place}].tool_calls", message.tool_calls))
        if isinstance(message.content, list):
            parts.append((f"messages[{place}].content", message.content))
    parts += [("turns", turn.info) for turn in item.turns or ()]
    if item.trajectory is not None:
        parts.append(("trajectory.task.data", item.trajectory.task.data))
        parts += [("trajectory.turns", turn.info) for turn in item.trajectory.turns]
    for where, value in parts:
        if too_deep(value, limit):
            raise ConfigError(f"{where}: is nested deeper than {limit} levels")


def too_deep(value: Json, limit: int) -> bool:
    """Return whether lists and objects are nested more than ``limit`` deep."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
