"""The text space."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from turnwise.spaces import UnicodeText


@given(st.text(st.characters(), max_size=30), st.integers(1, 30))
def test_texts_up_to_the_bound_are_inside(text: str, bound: int) -> None:
    assert (text in UnicodeText(bound)) == (len(text) <= bound)


@pytest.mark.parametrize("alien", [b"look", 3, None, ["look"], {"text": "look"}])
def test_other_things_are_outside(alien: Any) -> None:
    assert alien not in UnicodeText(100)


def test_samples_are_inside_and_seeded() -> None:
    space = UnicodeText(10, seed=3)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert len(set(samples)) > 100
    assert max(map(len, samples)) == 10
    again = UnicodeText(10, seed=3)
    assert [again.sample() for _ in range(200)] == samples


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="no mask"):
        UnicodeText(10).sample(mask=(3, None))


@pytest.mark.parametrize("bound", [0, -1])
def test_the_bound_is_positive(bound: int) -> None:
    with pytest.raises(ValueError, match=f"got {bound}"):
        UnicodeText(bound)


def test_json_round_trip() -> None:
    space = UnicodeText(100)
    texts = ["", "look", "日本🙂"]
    assert space.from_jsonable(space.to_jsonable(texts)) == texts


def test_equality_follows_the_bound() -> None:
    assert UnicodeText(5) == UnicodeText(5)
    assert UnicodeText(5) != UnicodeText(6)
    assert hash(UnicodeText(5)) == hash(UnicodeText(5))
    assert UnicodeText(5) != spaces.Discrete(5)
    assert repr(UnicodeText(5)) == "UnicodeText(5)"


def test_it_composes_with_gymnasium_spaces() -> None:
    space = spaces.Dict({"text": UnicodeText(20), "page": spaces.Discrete(3)}, seed=0)
    assert space.sample() in space
    assert not UnicodeText(20).is_np_flattenable
