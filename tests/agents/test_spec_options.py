"""``TARGET?option=value``."""

from __future__ import annotations

import pytest

from turnwise.agents.spec_options import read_target, write_target
from turnwise.errors import ConfigError


def make(
    target: str, *, temperature: float = 1.0, top_k: int = 0, tools: bool = True, device: str | None = None
) -> None: ...


def test_each_option_is_read_as_the_type_of_its_default() -> None:
    target, options = read_target("x", "./m?temperature=0.7&top_k=5&tools=off&device=cuda%3A1", make)
    assert target == "./m"
    assert options == {"temperature": 0.7, "top_k": 5, "tools": False, "device": "cuda:1"}
    again = write_target("x", target, options)
    assert again == "x:./m?device=cuda:1&temperature=0.7&tools=false&top_k=5"
    assert read_target("x", again.partition(":")[2], make) == (target, options)


def test_no_options_are_fine() -> None:
    assert read_target("x", "name/of-model", make) == ("name/of-model", {})
    assert write_target("x", "name/of-model", {}) == "x:name/of-model"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "write x:TARGET"),
        ("m?temprature=1", "Did you mean 'temperature'"),
        ("m?temperature=hot", "finite number, got 'hot'"),
        ("m?temperature=nan", "finite number"),
        ("m?top_k=1.5", "whole number, got '1.5'"),
        ("m?tools=maybe", "true or false"),
        ("m?top_k=1&top_k=2", "given twice"),
        ("m?top_k", "written [?]option=value"),
    ],
)
def test_what_is_wrong_is_said(rest: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_target("x", rest, make)
