from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.envs.searchqa.metrics import best_f1, exact_match, f1, hotpot_scores, normalise, support


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Beatles!", "beatles"),
        ("an A.B.C. of a thing", "abc of thing"),
        ("  ", ""),
        ("a-the", "athe"),  # punctuation goes first, so the article is no word of its own any more
        ("Gesellschaft mit beschränkter Haftung", "gesellschaft mit beschränkter haftung"),
        ("“The”", "“ ”"),  # only ASCII punctuation is removed
        ("U.S. the", "us"),
    ],
)
def test_normalise(answer, expected):
    assert normalise(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("the red car", "red car", (1.0, 1.0, 1.0)),
        ("red car", "blue car", (0.5, 0.5, 0.5)),
        ("a big red car", "car", (0.5, 1 / 3, 1.0)),
        ("yes", "yes", (1.0, 1.0, 1.0)),
        ("yes it is", "yes", (0.0, 0.0, 0.0)),
        ("yes", "yes it is", (0.0, 0.0, 0.0)),
        ("no", "yes", (0.0, 0.0, 0.0)),
        ("noanswer", "no answer", (0.0, 0.0, 0.0)),
        ("", "", (0.0, 0.0, 0.0)),
        ("x x y", "x y y", (2 / 3, 2 / 3, 2 / 3)),
    ],
)
def test_f1(prediction, gold, expected):
    assert f1(prediction, gold) == pytest.approx(expected)


def test_support_is_a_comparison_of_sets():
    exact, overlap = support([("A", 0), ("B", 1), ("B", 1)], [("A", 0), ("C", 2)])
    assert not exact
    assert overlap == pytest.approx((0.5, 0.5, 0.5))
    assert support([("A", 0)], [("A", 0)]) == (True, (1.0, 1.0, 1.0))
    assert support([], [("A", 0)]) == (False, (0.0, 0.0, 0.0))


def test_hotpot_scores_of_a_prediction_file():
    gold = [
        {"_id": "1", "answer": "red car", "supporting_facts": [["A", 0], ["B", 1]]},
        {"_id": "2", "answer": "yes", "supporting_facts": [["C", 0]]},
    ]
    predictions = {"answer": {"1": "the blue car", "2": "yes"}, "sp": {"1": [["A", 0]]}}
    scores = hotpot_scores(predictions, gold)
    assert scores == pytest.approx(
        {
            "em": 0.5,
            "f1": 0.75,
            "prec": 0.75,
            "recall": 0.75,
            "sp_em": 0.0,
            "sp_f1": 1 / 3,
            "sp_prec": 0.5,
            "sp_recall": 0.25,
            "joint_em": 0.0,
            "joint_prec": 0.25,
            "joint_recall": 0.125,
            "joint_f1": 1 / 6,
        }
    )


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_and_1_for_equal_answers(one, other):
    assert f1(one, other).f1 == pytest.approx(f1(other, one).f1)
    assert 0.0 <= f1(one, other).f1 <= 1.0
    if exact_match(one, other) and normalise(one):
        assert f1(one, other).f1 == 1.0
    assert best_f1(one, [other, one]) >= f1(one, other).f1
