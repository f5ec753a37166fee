"""What the engine demands of a world's answers."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from turnwise.errors import EnvError
from turnwise.records import Action
from turnwise.rollout.engine import contract

STEP = ("seen", 0.5, False, False, {})


def step(**changes: Any) -> Any:
    names = ("observation", "reward", "terminated", "truncated", "info")
    return tuple(changes.get(name, value) for name, value in zip(names, STEP, strict=True))


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        (None, "a NoneType; step"),
        (("seen", 0.0, False, {}), "a tuple of 4; step"),
        (step(info=None), "info is a dict"),
        (step(terminated=1), "terminated is a bool"),
        (step(truncated=None), "truncated is a bool"),
        (step(reward=float("nan")), "finite"),
        (step(reward=np.float32("inf")), "finite"),
        (step(reward="1"), "finite number"),
        (step(reward=True), "finite number"),
        (step(reward=None), "finite number"),
        (step(observation=7), "an observation is a str"),
        (step(observation={"image": None}), "an observation is a str"),
        (step(observation={"text": "x", "image": np.zeros((4, 4), np.uint8)}), "height x width x 3"),
        (step(observation={"text": "x", "image": np.zeros((4, 4, 3))}), "float64 of shape"),
    ],
)
def test_breaches_name_the_rule(result: Any, rule: str) -> None:
    with pytest.raises(EnvError, match=rule) as caught:
        contract.read_step(result, "acme/World-v0 step at turn 3")
    assert "acme/World-v0 step at turn 3" in str(caught.value)


@pytest.mark.parametrize("result", [None, "seen", ("seen",), ("seen", None), (3, {})])
def test_reset_has_rules_too(result: Any) -> None:
    with pytest.raises(EnvError):
        contract.read_reset(result, "reset")


def test_numpy_numbers_are_numbers() -> None:
    read = contract.read_step(step(reward=np.float32(0.5), terminated=np.True_), "step")
    assert (read.reward, type(read.reward)) == (0.5, float)
    assert read.terminated is True


def test_missing_info_is_neutral() -> None:
    facts = contract.read_info({}, "step")
    assert facts == contract.Facts(
        action=None, valid=True, error=None, progress=0.0, success=False, level=None, extra={}
    )
    assert contract.truncation_cause({}) == "turns"
    assert contract.truncation_cause({"truncation": "context"}) == "context"
    assert contract.truncation_cause({"truncation": "boredom"}) == "turns"


def test_info_is_read() -> None:
    action = Action(name="go", arguments={}, command="go")
    extra = {"n": np.int64(3), "a": np.arange(2), "deep": {"t": (1, 2)}, 4: "x"}
    info = {"action": action, "action_valid": False, "action_error": "no", "progress": np.float64(0.5), "extra": extra}
    facts = contract.read_info({**info, "success": np.True_, "level": "won"}, "step")
    assert facts.action is action
    assert (facts.valid, facts.error, facts.progress, facts.success, facts.level) == (False, "no", 0.5, True, "won")
    assert facts.extra["n"] == 3
    assert type(facts.extra["n"]) is int
    assert facts.extra["a"] == [0, 1]
    assert facts.extra["4"] == "x"


@pytest.mark.parametrize(
    "info",
    [{"progress": 1.5}, {"progress": float("nan")}, {"progress": "half"}, {"extra": 3}, {"extra": {"x": object()}}],
)
def test_bad_info_is_a_breach(info: dict[str, Any]) -> None:
    with pytest.raises(EnvError):
        contract.read_info(info, "step")


def read_png(data: bytes) -> np.ndarray[Any, Any]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_images_are_pngs_named_by_their_hash() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    seen = contract.read_observation({"text": "x", "image": image}, "reset")
    assert seen.png is not None
    assert seen.image == hashlib.sha256(seen.png).hexdigest()
    assert np.array_equal(read_png(seen.png), image)
    assert contract.read_observation({"text": "x"}, "reset") == contract.Seen("x")
