"""Trajectories as a chat model reads them: by its template, or as the ids that were sampled."""

from __future__ import annotations

import itertools
from typing import Any

from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import Segment
from turnwise.records import Json, Trajectory

_FIRST = "."  # stands for the first message where only what follows it is wanted


def _after(trajectory: Trajectory, turn: int) -> str:
    following = turn + 1
    return (
        trajectory.turns[following].observation if following < len(trajectory.turns) else trajectory.final_observation
    )


class ChatContexts:
    """Observations as the user's messages, the agent's as the assistant's (keeps the ContextRenderer protocol).

    Each context ends with the template's header for the assistant's next message. Templates that write
    earlier messages differently once later ones follow (dropping thoughts, say) would make contexts that
    do not continue one another; then every turn is written as an earlier message from the start.
    """

    def __init__(self, tokenizer: Any, *, system: str = "") -> None:
        """Write by a tokenizer's chat template.

        Args:
            tokenizer: A Hugging Face tokenizer with a chat template, or the path of one.
            system: System prompt; empty leaves it to the template.

        Raises:
            ConfigError: The tokenizer has no chat template.
        """
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError("the tokenizer has no chat template: write trajectories as plain text instead")
        self.system = system
        self._tokenizer = tokenizer

    def render(self, trajectory: Trajectory, turns: int) -> tuple[Segment, ...]:
        """Return ``turns + 1`` texts.

        Raises:
            JudgeError: The template cannot be written message by message.
        """
        messages = self._head(trajectory)
        texts = [self._text(messages)]
        for turn in trajectory.turns[:turns]:
            messages += self._exchange(turn.action_text, _after(trajectory, turn.index))
            texts.append(self._text(messages))
        if all(late.startswith(early) for early, late in itertools.pairwise(texts)):
            return (texts[0], *(late[len(early) :] for early, late in itertools.pairwise(texts)))
        added = (self.added(turn.action_text, _after(trajectory, turn.index)) for turn in trajectory.turns[:turns])
        return (texts[0], *added)

    def added(self, action: str, observation: str) -> str:
        """Return what an exchange adds behind the assistant's header, up to and with the next header.

        Raises:
            JudgeError: The template writes what comes before differently then.
        """
        head = self._head(None)
        before, header = self._text(head, header=False), self._text(head)
        after = self._text([*head, *self._exchange(action, observation)])
        if not header.startswith(before) or not after.startswith(header):
            raise JudgeError(
                "the chat template cannot be written message by message: "
                "use the recorded token ids (contexts='recorded') or plain text"
            )
        return after[len(header) :]

    def _head(self, trajectory: Trajectory | None) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": _FIRST if trajectory is None else _opening(trajectory)}]

    def _exchange(self, action: str, observation: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": action}, {"role": "user", "content": observation}]

    def _text(self, messages: list[dict[str, str]], *, header: bool = True) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=header))

    def describe(self) -> dict[str, Json]:
        """Return the options; the tokenizer by its name."""
        return {"tokenizer": getattr(self._tokenizer, "name_or_path", "") or "", "system": self.system}


def _opening(trajectory: Trajectory) -> str:
    first = trajectory.turns[0].observation if trajectory.turns else trajectory.final_observation
    instruction = trajectory.task.instruction
    return first if not instruction or instruction in first else f"{instruction}\n\n{first}"


class RecordedContexts(ChatContexts):
    """The token ids that the policy read and sampled, nothing tokenised again.

    Only what follows the last sampled id, the last observation, was never read by the policy; where it is
    needed it is written by the chat template.
    """

    def render(self, trajectory: Trajectory, turns: int) -> tuple[Segment, ...]:
        """Return ``turns + 1`` runs of ids; the last may be a text.

        Raises:
            JudgeError: The trajectory has no ids, or a turn has no span.
        """
        tokens = trajectory.tokens
        if tokens is None:
            raise JudgeError(f"{trajectory.id!r} has no token ids: its agent {trajectory.agent!r} records none")
        spans = [turn.token_span for turn in trajectory.turns]
        if not spans or any(span is None for span in spans):
            raise JudgeError(f"{trajectory.id!r} has turns without a token span")
        starts = [span[0] for span in spans if span is not None]
        edges = [0, *starts[: turns + 1]]
        segments: list[Segment] = [tuple(tokens.ids[low:high]) for low, high in itertools.pairwise(edges)]
        if turns == len(spans) and spans[-1] is not None:
            segments += self._tail(trajectory, tokens.ids[starts[-1] : spans[-1][1]])
        return tuple(segments)

    def _tail(self, trajectory: Trajectory, sampled: tuple[int, ...]) -> list[Segment]:
        """Return the last message with what the template puts behind it: one segment, as its ids and text."""
        text = self.added(_FIRST, trajectory.final_observation)[len(_FIRST) :]
        end = getattr(self._tokenizer, "eos_token", None)
        if end and sampled and sampled[-1] == self._tokenizer.eos_token_id:
            text = text.removeprefix(end)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [(*sampled, *ids)]
