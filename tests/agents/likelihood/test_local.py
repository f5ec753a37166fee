"""The one-pass computation against the per-turn one, on tiny random models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.agents.likelihood import TransformersLogProbs
from turnwise.agents.likelihood.encode import answer_span
from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import AnswerLogProbs, AnswerQuery, ForcedAnswer, LogProbSource

ANSWER = ForcedAnswer(answer="Ilsa Tarn", prefix="<answer>\n", suffix="\n</answer>")
SEGMENTS = tuple(
    f"Observation: turn {i}, you see a mug {i} and the city of Velmora. Action: open {i}\n" for i in range(6)
)


def flat(result: Any) -> np.ndarray[Any, Any]:
    assert isinstance(result, AnswerLogProbs), result
    return np.array([value for row in result.tokens for tokens in row for value in tokens])


def by_hand(model: Any, tokenizer: Any, query: AnswerQuery) -> list[list[list[float]]]:
    """The same from first principles: one plain forward pass per context and answer, all logits."""
    import torch

    rows, context = [], []
    for segment in query.segments:
        context += tokenizer(segment, add_special_tokens=False).input_ids if isinstance(segment, str) else segment
        row = []
        for forced in query.answers:
            text = forced.prefix + forced.answer + forced.suffix
            encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            begin, end = len(forced.prefix), len(forced.prefix) + len(forced.answer)
            with torch.no_grad():
                logits = model(torch.tensor([[*context, *encoding.input_ids]])).logits[0].log_softmax(-1)
            row.append(
                [
                    float(logits[len(context) + i - 1, encoding.input_ids[i]])
                    for i, (low, high) in enumerate(encoding.offset_mapping)
                    if high > begin and low < end
                ]
            )
        rows.append(row)
    return rows


def test_it_is_a_source_and_loads_nothing_early() -> None:
    source = TransformersLogProbs("/nowhere/at/all")
    assert isinstance(source, LogProbSource)
    assert source.describe()["model"] == "/nowhere/at/all"


@pytest.mark.parametrize("method", ["one_pass", "incremental", "sequential"])
@pytest.mark.parametrize("answers", [(ANSWER,), (ANSWER, ForcedAnswer(answer="Tarn"), ForcedAnswer(answer="M"))])
def test_every_method_gives_what_plain_forward_passes_give(
    model: Any, tokenizer: Any, method: Any, answers: tuple[ForcedAnswer, ...]
) -> None:
    query = AnswerQuery(segments=SEGMENTS, answers=answers)
    source = TransformersLogProbs(model, tokenizer=tokenizer, method=method)
    (got,) = source.answer_logprobs([query])
    assert isinstance(got, AnswerLogProbs)
    assert source.method_used == method
    for row, expected in zip(got.tokens, by_hand(model, tokenizer, query), strict=True):
        for tokens, wanted in zip(row, expected, strict=True):
            np.testing.assert_allclose(tokens, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("max_tokens", [16, 4096])
def test_one_pass_equals_sequential_in_batches_and_chunks(
    make_model: Callable[..., Any], tokenizer: Any, kind: str, attention: str, max_tokens: int
) -> None:
    model = make_model(kind, attention=attention)
    queries = [AnswerQuery(segments=SEGMENTS[:n], answers=(ANSWER,) * (1 + n % 2)) for n in (1, 4, 6, 2, 3)]
    reference = TransformersLogProbs(model, tokenizer=tokenizer, method="sequential").answer_logprobs(queries)
    source = TransformersLogProbs(model, tokenizer=tokenizer, max_tokens=max_tokens, batch_size=3)
    for got, expected in zip(source.answer_logprobs(queries), reference, strict=True):
        np.testing.assert_allclose(flat(got), flat(expected), atol=1e-4)
    assert (source.method_used, source.why) == ("one_pass", None)


@settings(max_examples=15, deadline=None)
@given(
    pieces=st.lists(st.lists(st.integers(0, 300), max_size=9), min_size=1, max_size=5),
    first=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    prefix=st.sampled_from(["", "<answer>\n", "The answer is "]),
    max_tokens=st.integers(4, 64),
)
def test_any_shape_of_trajectory(
    model: Any, tokenizer: Any, pieces: list[list[int]], first: list[int], prefix: str, max_tokens: int
) -> None:
    segments = (tuple(first), *(tuple(piece) for piece in pieces))
    query = AnswerQuery(segments=segments, answers=(ForcedAnswer(answer="Ilsa Tarn", prefix=prefix, suffix="."),))
    got = [
        TransformersLogProbs(model, tokenizer=tokenizer, method=method, max_tokens=max_tokens).answer_logprobs([query])
        for method in ("one_pass", "incremental", "sequential")
    ]
    np.testing.assert_allclose(flat(got[0][0]), flat(got[2][0]), atol=1e-4)
    np.testing.assert_allclose(flat(got[1][0]), flat(got[2][0]), atol=1e-4)


def test_a_copy_sees_neither_later_turns_nor_other_copies(model: Any, tokenizer: Any) -> None:
    source = TransformersLogProbs(model, tokenizer=tokenizer, method="one_pass")
    whole = AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))
    other = AnswerQuery(segments=(*SEGMENTS[:3], "something else entirely"), answers=(ForcedAnswer(answer="x"), ANSWER))
    (a, b) = source.answer_logprobs([whole, other])
    assert isinstance(a, AnswerLogProbs)
    assert isinstance(b, AnswerLogProbs)
    for context in range(3):
        np.testing.assert_allclose(a.tokens[context][0], b.tokens[context][1], atol=1e-4)


def test_the_trajectory_is_computed_once(model: Any, tokenizer: Any) -> None:
    query = AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))
    used = {}
    for method in ("one_pass", "incremental", "sequential"):
        source = TransformersLogProbs(model, tokenizer=tokenizer, method=method)
        source.answer_logprobs([query])
        used[method] = source.tokens_computed
    length = sum(len(tokenizer(s).input_ids) for s in SEGMENTS)
    copies = used["one_pass"] - length
    assert used["incremental"] == used["one_pass"]
    assert 0 < copies < length
    assert used["sequential"] > 3 * length


def test_an_answer_at_a_seam_keeps_the_merged_token(tokenizer: Any) -> None:
    assert answer_span([(0, 4), (4, 9), (9, 12)], 4, 9) == (1, 2)
    assert answer_span([(0, 5), (5, 12)], 4, 9) == (0, 2)  # both tokens are partly the answer's
    assert answer_span([(0, 4)], 4, 9) == (0, 0)


def test_a_sliding_window_falls_back_to_the_reference_and_says_why(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model("mistral", sliding_window=16)
    query = AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))
    source = TransformersLogProbs(model, tokenizer=tokenizer)
    (got,) = source.answer_logprobs([query])
    assert source.method_used == "sequential"
    assert "sliding" in str(source.why)
    expected = [v for row in by_hand(model, tokenizer, query) for tokens in row for v in tokens]
    np.testing.assert_allclose(flat(got), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="sliding"):
        TransformersLogProbs(model, tokenizer=tokenizer, method="one_pass").answer_logprobs([query])


def test_a_kernel_without_masks_falls_back_to_the_cache_and_says_why(
    make_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    query = AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))
    expected = flat(TransformersLogProbs(model, tokenizer=tokenizer, method="sequential").answer_logprobs([query])[0])
    # This machine has no flash kernel: one that takes any mask stands in for it.
    from turnwise.agents.likelihood import local

    monkeypatch.setattr(local, "_MASKED_KERNELS", ("eager",))
    source = TransformersLogProbs(model, tokenizer=tokenizer)
    np.testing.assert_allclose(flat(source.answer_logprobs([query])[0]), expected, atol=1e-4)
    assert source.method_used == "incremental"
    assert "takes no mask" in str(source.why)
    with pytest.raises(ConfigError, match="takes no mask"):
        TransformersLogProbs(model, tokenizer=tokenizer, method="one_pass").answer_logprobs([query])


def test_a_model_that_ignores_positions_is_found_out(
    make_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    forward = type(model).forward

    def counting(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", counting)
    source = TransformersLogProbs(model, tokenizer=tokenizer)
    source.answer_logprobs([AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))])
    assert source.method_used == "incremental"
    assert "off by" in str(source.why)


def test_what_cannot_be_scored_costs_only_itself(model: Any, tokenizer: Any, make_model: Callable[..., Any]) -> None:
    good = AnswerQuery(segments=SEGMENTS, answers=(ANSWER,))
    empty = AnswerQuery(segments=("", "later"), answers=(ANSWER,))
    blank = AnswerQuery(segments=SEGMENTS, answers=(ForcedAnswer(answer="", prefix="x"),))
    long = AnswerQuery(segments=(tuple([5] * 3000),), answers=(ANSWER,))
    results = TransformersLogProbs(model, tokenizer=tokenizer).answer_logprobs([empty, good, blank, long])
    assert [isinstance(r, JudgeError) for r in results] == [True, False, True, True]
    assert "no tokens of its own" in str(results[2])
    assert "2048" in str(results[3])


def test_bad_options(model: Any) -> None:
    with pytest.raises(ConfigError, match="one_pass"):
        TransformersLogProbs("m", method="onepass")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_tokens"):
        TransformersLogProbs("m", max_tokens=0)
    with pytest.raises(ConfigError, match="tokenizer"):
        TransformersLogProbs(model)
