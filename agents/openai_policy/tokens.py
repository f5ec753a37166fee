"""Whether a server's token ids go on where those of the turn before ended; no id is ever made up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnwise.records import TurnTokens


@dataclass(frozen=True)
class KnownIds:
    """The ids of an episode so far, as their number and digest: enough to recognise them.

    Attributes:
        count: How many.
        digest: Of the ids in order.
    """

    count: int
    digest: bytes


def known(ids: Sequence[int]) -> KnownIds:
    """Note the ids of an episode."""
    packed = np.asarray(ids, dtype="<i8").tobytes()
    return KnownIds(len(ids), hashlib.blake2b(packed, digest_size=16).digest())


NOTHING = known(())


def continued(
    before: KnownIds, prompt: Sequence[int], completion: Sequence[int], logprobs: Sequence[float] | None
) -> tuple[TurnTokens, KnownIds] | None:
    """Return a turn's ids and the episode's so far, or None where the prompt does not begin with those before.

    Args:
        before: The ids of the episode up to the turn.
        prompt: All ids that the model read.
        completion: The ids that it sampled.
        logprobs: One for each sampled id, or None; others are left out.
    """
    if len(prompt) < before.count or known(prompt[: before.count]) != before:
        return None
    # A server that counts special tokens in one place and not in the other gives numbers of no use.
    paired = tuple(logprobs) if logprobs is not None and len(logprobs) == len(completion) else ()
    added = tuple(prompt[before.count :])
    tokens = TurnTokens(prompt_ids=added, completion_ids=tuple(completion), logprobs=paired)
    return tokens, known([*prompt, *completion])
