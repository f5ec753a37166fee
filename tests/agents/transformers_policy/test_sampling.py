"""Sampling by inverse CDF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from turnwise.agents.transformers_policy.sampling import sample, uniforms  # noqa: E402

LOGITS = [2.0, 0.0, 1.0, -1.0, -40.0]


def one(draw: float, logits: Any = LOGITS, **options: Any) -> tuple[int, float]:
    ids, logprobs = sample(torch.tensor([logits]), [draw], **{"temperature": 1.0, "top_p": 1.0, "top_k": 0, **options})
    return ids[0], logprobs[0]


def probabilities(temperature: float = 1.0) -> Any:
    weights = np.exp(np.array(LOGITS) / temperature)
    return weights / weights.sum()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_are_the_probabilities(temperature: float) -> None:
    draws = [(i + 0.5) / 10_000 for i in range(10_000)]
    ids, logprobs = sample(torch.tensor([LOGITS] * 10_000), draws, temperature=temperature, top_p=1.0, top_k=0)
    expected = probabilities(temperature)
    assert np.allclose(np.bincount(ids, minlength=5) / 10_000, expected, atol=2e-4)
    assert np.allclose(logprobs, np.log(expected[ids]), atol=1e-5)


def test_cuts_change_what_is_taken_and_not_its_log_probability() -> None:
    draws = np.linspace(0, 1, 200, endpoint=False)
    full = np.log(probabilities())
    for options, kept in (({"top_k": 2}, {0, 2}), ({"top_p": 0.7}, {0, 2}), ({"top_p": 0.5}, {0}), ({"top_k": 1}, {0})):
        taken = [one(draw, **options) for draw in draws]
        assert {token for token, _ in taken} == kept
        assert all(logprob == pytest.approx(full[token], abs=1e-5) for token, logprob in taken)


def test_greedy_takes_the_best_with_its_log_probability_at_temperature_1() -> None:
    assert one(0.999, temperature=0.0) == (0, pytest.approx(np.log(probabilities())[0], abs=1e-6))


@pytest.mark.parametrize("draw", [0.0, float(np.nextafter(1.0, 0.0))])
def test_the_ends_of_the_unit_interval_take_possible_tokens(draw: float) -> None:
    logits = [float("-inf"), 0.0, 0.0, float("-inf")]
    assert one(draw, logits)[0] == (1 if draw == 0.0 else 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_told_and_leaves_the_others(bad: float) -> None:
    rows = torch.tensor([[1.0, bad, 0.0], [1.0, 3.0, 0.0], [float("-inf")] * 3])
    for temperature in (0.0, 1.0):
        ids, logprobs = sample(rows, [0.5] * 3, temperature=temperature, top_p=0.9, top_k=2)
        assert np.isnan(logprobs[0])
        assert np.isnan(logprobs[2])
        assert ids[1] == 1
        assert np.isfinite(logprobs[1])


def test_streams_differ_by_seed_and_turn_only() -> None:
    def first(seed: int, turn: int) -> float:
        return float(uniforms(seed, turn).random())

    assert first(3, 1) == first(3, 1)
    assert len({first(seed, turn) for seed in (0, 1, -1, 2**63) for turn in (0, 1)}) == 8
    state = np.random.get_state()[1].tolist()
    first(1, 1)
    assert np.random.get_state()[1].tolist() == state
