"""One token per row from a batch of logits, by one uniform number each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_SEED_BITS = 64


def uniforms(seed: int, turn: int) -> np.random.Generator:
    """Return the stream of uniform numbers of one message: one is drawn per token.

    It depends on nothing but the episode's seed and the turn, so a message does not depend on what else
    is in the batch.

    Args:
        seed: Seed of the episode, any whole number; taken modulo 2**64.
        turn: 0-based number of the message.
    """
    return np.random.default_rng(np.random.SeedSequence((seed % (1 << _SEED_BITS), turn)))


def sample(
    logits: Tensor, draws: Sequence[float], *, temperature: float, top_p: float, top_k: int
) -> tuple[list[int], list[float]]:
    """Pick a token for every row.

    The log-probability is the one under ``softmax(logits / temperature)`` over the whole vocabulary,
    before top-k and top-p cut it: that is what a trainer recomputes from the ids. At temperature 0 it is
    taken at temperature 1.

    Args:
        logits: Shape (rows, vocabulary).
        draws: A uniform number in [0, 1) per row.
        temperature: At least 0; 0 takes the most probable token.
        top_p: In (0, 1].
        top_k: 0 for all.

    Returns:
        The ids, and their natural-log probabilities; NaN where a row's logits are not finite.
    """
    scaled = logits.float()
    if temperature > 0.0:
        scaled = scaled / temperature
    norm = scaled.logsumexp(dim=-1)
    # NaN, plus infinity and minus infinity everywhere all show here; single tokens may be ruled out.
    broken = ~norm.isfinite()
    ids = _inverse_cdf(_kept(scaled, top_p, top_k), draws) if temperature > 0.0 else scaled.argmax(dim=-1)
    chosen = scaled.gather(-1, ids[:, None])[:, 0] - norm
    chosen = chosen.masked_fill(broken, float("nan"))
    # One transfer for both; a double holds every id exactly.
    host = torch.stack([ids.double(), chosen.double()]).tolist()
    return [int(value) for value in host[0]], [min(value, 0.0) if value == value else value for value in host[1]]


def _kept(scaled: Tensor, top_p: float, top_k: int) -> Tensor:
    """Rule out what top-k and then top-p leave; ties with the last one kept are kept too."""
    if 0 < top_k < scaled.shape[-1]:
        least = scaled.topk(top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    if top_p < 1.0:
        ordered = scaled.sort(dim=-1, descending=True).values
        mass = ordered.softmax(dim=-1)
        # A token stays while those before it have less than top_p: the first one always does.
        stays = (mass.cumsum(dim=-1) - mass) < top_p
        least = ordered.masked_fill(~stays, float("inf")).min(dim=-1, keepdim=True).values
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    return scaled


def _inverse_cdf(scaled: Tensor, draws: Sequence[float]) -> Tensor:
    # Doubles: over a large vocabulary a single-precision sum would misplace its end.
    mass = scaled.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    total = mass[:, -1:]
    wanted = torch.tensor(draws, dtype=torch.float64, device=scaled.device)[:, None] * total
    # Below the total, so that the token found has a probability.
    wanted = wanted.minimum(total.nextafter(torch.zeros_like(total)))
    found = torch.searchsorted(mass, wanted, right=True)[:, 0]
    return found.clamp(max=scaled.shape[-1] - 1)
