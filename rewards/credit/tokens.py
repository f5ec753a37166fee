"""From turns to tokens, with turn boundaries taken from the record and never from the values.

Finding turns by ``reward != 0`` loses every turn whose reward happens to be 0 (as IGPO's second code
version does); here a turn is its ``token_span``, and a boundary is the last token sampled in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnwise.errors import ConfigError
from turnwise.protocols import TurnAdvantages
from turnwise.records import RewardValue, TokenSequence, Trajectory

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Turns = NDArray[np.int32]


def turn_of_token(trajectory: Trajectory) -> Turns:
    """Return for each token the turn that sampled it, -1 for prompt and observation.

    Args:
        trajectory: A trajectory with tokens; every turn has a ``token_span``.

    Returns:
        int32 of shape (n_tokens,).

    Raises:
        ConfigError: There are no tokens, a turn has no span, spans overlap or are out of order, or a
            sampled token is in no turn.
    """
    tokens = _tokens(trajectory)
    sampled = np.asarray(tokens.loss_mask, dtype=np.bool_)
    turns = np.full(len(tokens.ids), -1, dtype=np.int32)
    end_before = 0
    for turn in trajectory.turns:
        if turn.token_span is None:
            raise ConfigError(f"turn {turn.index} of {trajectory.id!r} has no token_span: record it with the tokens")
        start, end = turn.token_span
        if start < end_before:
            raise ConfigError(
                f"turn {turn.index} of {trajectory.id!r} spans {turn.token_span}, "
                f"but the turn before it ends at {end_before}"
            )
        turns[start:end][sampled[start:end]] = turn.index
        end_before = end
    lost = np.flatnonzero(sampled & (turns < 0))
    if len(lost):
        raise ConfigError(
            f"{len(lost)} sampled tokens of {trajectory.id!r} are in no turn's token_span, the first at {int(lost[0])}"
        )
    return turns


def turn_boundaries(trajectory: Trajectory) -> Bools:
    """Return True at the last token sampled in each turn.

    Returns:
        bool of shape (n_tokens,); one True per turn that sampled any token.

    Raises:
        ConfigError: As :func:`turn_of_token`.
    """
    length, last = _last_tokens(trajectory)
    boundaries = np.zeros(length, dtype=np.bool_)
    boundaries[[token for token in last if token is not None]] = True
    return boundaries


def _last_tokens(trajectory: Trajectory) -> tuple[int, list[int | None]]:
    """Return the number of tokens, and for each turn its last sampled one, None if it sampled none."""
    turns = turn_of_token(trajectory)
    last: list[int | None] = [None] * len(trajectory.turns)
    for token in np.flatnonzero(turns >= 0).tolist():
        last[int(turns[token])] = token
    return len(turns), last


def expand_to_tokens(turn_advantages: TurnAdvantages, trajectory: Trajectory) -> tuple[Floats32, Bools]:
    """Give every token sampled in a turn that turn's advantage.

    Args:
        turn_advantages: What a credit rule assigned to this trajectory.
        trajectory: The trajectory, with tokens and a ``token_span`` on every turn.

    Returns:
        ``advantages`` float32 and ``mask`` bool, both of shape (n_tokens,). The mask is True on
        sampled tokens of turns that may be used; advantages are 0.0 elsewhere.

    Raises:
        ConfigError: The advantages are of another trajectory, or the tokens are incomplete.
    """
    if turn_advantages.trajectory_id != trajectory.id:
        raise ConfigError(
            f"advantages of {turn_advantages.trajectory_id!r} do not belong to trajectory {trajectory.id!r}"
        )
    turns = turn_of_token(trajectory)
    values, usable = turn_advantages.advantages, turn_advantages.mask
    if not len(values) == len(usable) == len(trajectory.turns):
        raise ConfigError(
            f"{trajectory.id!r} has {len(trajectory.turns)} turns, got {len(values)} advantages and {len(usable)} masks"
        )
    # The entry after the last turn is what index -1, a token of no turn, reads.
    per_turn = np.asarray([*(a if use else 0.0 for a, use in zip(values, usable, strict=True)), 0.0], dtype=np.float32)
    may_use = np.asarray([*usable, False], dtype=np.bool_)
    return per_turn[turns], may_use[turns]


def place_on_boundaries(values: Sequence[RewardValue], trajectory: Trajectory) -> tuple[Floats32, Bools, Bools]:
    """Put each turn's reward on the last token sampled in it, for trainers that take token rewards.

    Args:
        values: One reward per turn.
        trajectory: The trajectory, with tokens and a ``token_span`` on every turn.

    Returns:
        ``rewards`` float32, ``boundaries`` bool and ``valid`` bool, each of shape (n_tokens,).
        ``boundaries`` is True on every turn's last token whatever its reward; ``valid`` is True where
        that turn's reward is valid. ``rewards`` is 0.0 elsewhere.

    Raises:
        ConfigError: The number of values differs from that of the turns, the tokens are incomplete,
            or a turn without sampled tokens has a reward other than 0 (or an invalid one).
    """
    if len(values) != len(trajectory.turns):
        raise ConfigError(f"{trajectory.id!r} has {len(trajectory.turns)} turns, got {len(values)} rewards")
    length, last = _last_tokens(trajectory)
    rewards = np.zeros(length, dtype=np.float32)
    boundaries = np.zeros(length, dtype=np.bool_)
    valid = np.zeros(length, dtype=np.bool_)
    for position, (value, token) in enumerate(zip(values, last, strict=True)):
        if token is None:
            if value.value != 0.0:
                raise ConfigError(f"turn {position} of {trajectory.id!r} sampled no token that could hold its reward")
            continue
        boundaries[token] = True
        if value.value is not None:
            rewards[token], valid[token] = value.value, True
    return rewards, boundaries, valid


def _tokens(trajectory: Trajectory) -> TokenSequence:
    if trajectory.tokens is None:
        raise ConfigError(f"trajectory {trajectory.id!r} has no tokens: its agent {trajectory.agent!r} records none")
    return trajectory.tokens
