"""From an answer query to token ids, with the answer's own tokens found by the tokenizer's offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import AnswerQuery, ForcedAnswer, Segment


@dataclass(frozen=True)
class Target:
    """A forced answer as ids, cut after the answer's last token: what follows cannot change its probability.

    Attributes:
        ids: Prefix and answer.
        start: First token of the answer; the answer is ``ids[start:]``.
    """

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Encoded:
    """An answer query as ids.

    Attributes:
        ids: The last context; all earlier ones are its beginnings.
        ends: Length of each context, in tokens, at least 1 and never decreasing.
        targets: The answers.
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    targets: tuple[Target, ...]


def answer_span(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Return the half-open range of tokens that touch the characters from ``start`` to ``end``.

    A token that a merge across the seam made part of both sides counts as the answer's.

    Args:
        offsets: Half-open character range of each token.
        start: First character of the answer.
        end: One past its last character.
    """
    inside = [i for i, (low, high) in enumerate(offsets) if high > start and low < end]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


class Encoder:
    """Turns answer queries into ids with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Encode with a tokenizer.

        Args:
            tokenizer: A fast Hugging Face tokenizer, which knows the characters of each token.

        Raises:
            ConfigError: It is a slow one.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigError(
                f"{type(tokenizer).__name__} does not say which characters a token stands for: "
                "use the model's fast tokenizer (PreTrainedTokenizerFast)"
            )
        self._tokenizer = tokenizer
        bos = getattr(tokenizer, "bos_token_id", None)
        self._bos = [bos] if bos is not None and list(tokenizer("x")["input_ids"])[:1] == [bos] else []

    def encode(self, query: AnswerQuery) -> Encoded:
        """Encode a query. Each segment is tokenised by itself, so that contexts are beginnings of one another.

        Raises:
            JudgeError: There is no context, or an answer has no tokens.
        """
        ids: list[int] = []
        ends: list[int] = []
        for position, segment in enumerate(query.segments):
            piece = self._ids(segment)
            if position == 0 and isinstance(segment, str) and piece[:1] != self._bos:
                piece = [*self._bos, *piece]
            ids += piece
            ends.append(len(ids))
        if not ends or ends[0] == 0:
            raise JudgeError("the first context is empty, so nothing predicts the answer's first token")
        return Encoded(tuple(ids), tuple(ends), tuple(self._target(answer) for answer in query.answers))

    def _ids(self, segment: Segment) -> list[int]:
        if isinstance(segment, str):
            return list(self._tokenizer(segment, add_special_tokens=False)["input_ids"])
        return list(segment)

    def _target(self, forced: ForcedAnswer) -> Target:
        text = forced.prefix + forced.answer + forced.suffix
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        begin = len(forced.prefix)
        start, end = answer_span(list(encoding["offset_mapping"]), begin, begin + len(forced.answer))
        if start == end:
            raise JudgeError(f"the answer {forced.answer[:80]!r} has no tokens of its own")
        return Target(tuple(encoding["input_ids"][:end]), start)
