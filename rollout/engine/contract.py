"""What the engine demands of what a world returns, and how it reads it.

Every breach is an :class:`~turnwise.errors.EnvError` that names the world, the call and the rule.
Worlds that keep only Gymnasium's own contract (text in, text out) are fine: missing ``info`` keys get
their neutral values.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from turnwise.errors import EnvError
from turnwise.records import Action, Json, TruncationCause

_CAUSES: tuple[TruncationCause, ...] = ("turns", "tokens", "context", "time")


class Seen(NamedTuple):
    """An observation as the record holds it: text, and for pixel worlds the image as PNG bytes."""

    text: str
    image: str | None = None
    png: bytes | None = None


class Stepped(NamedTuple):
    """What one ``env.step`` returned, checked."""

    raw: Any
    seen: Seen
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


class Facts(NamedTuple):
    """The ``info`` keys that a turn records, checked."""

    action: Action | None
    valid: bool
    error: str | None
    progress: float
    success: bool
    level: str | None
    extra: dict[str, Json]


def _breach(where: str, got: str, rule: str) -> EnvError:
    return EnvError(f"{where} returned {got}; {rule}")


def read_reset(result: Any, where: str) -> tuple[Any, Seen, Mapping[str, Any]]:
    """Check what ``env.reset`` returned and take it apart."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise _breach(where, _shape(result), "reset() returns (observation, info)")
    observation, info = result
    if not isinstance(info, Mapping):
        raise _breach(where, f"an info of type {type(info).__name__}", "info is a dict")
    return observation, read_observation(observation, where), info


def read_step(result: Any, where: str) -> Stepped:
    """Check what ``env.step`` returned and take it apart."""
    if not (isinstance(result, tuple) and len(result) == 5):
        raise _breach(where, _shape(result), "step() returns (observation, reward, terminated, truncated, info)")
    observation, reward, terminated, truncated, info = result
    if not isinstance(info, Mapping):
        raise _breach(where, f"an info of type {type(info).__name__}", "info is a dict")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            raise _breach(where, f"{name}={flag!r}", f"{name} is a bool")
    if isinstance(reward, (bool, str)) or not isinstance(reward, (int, float, np.integer, np.floating)):
        raise _breach(where, f"a reward of type {type(reward).__name__}", "a reward is a finite number")
    value = float(reward)
    if not math.isfinite(value):
        raise _breach(where, f"the reward {value}", "a reward is a finite number")
    seen = read_observation(observation, where)
    return Stepped(observation, seen, value, bool(terminated), bool(truncated), info)


def _shape(result: Any) -> str:
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"


def read_observation(observation: Any, where: str) -> Seen:
    """Read a text observation, or a dict with ``text`` and ``image`` (uint8, height x width x 3)."""
    if isinstance(observation, str):
        return Seen(observation)
    if not (isinstance(observation, Mapping) and isinstance(observation.get("text"), str)):
        rule = "an observation is a str, or a dict with 'text' (str) and 'image' (uint8, height x width x 3)"
        raise _breach(where, f"an observation of type {type(observation).__name__}", rule)
    image = observation.get("image")
    if image is None:
        return Seen(observation["text"])
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        shape = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise _breach(where, f"an image of type {shape}", "an image is a uint8 array of height x width x 3")
    png = encode_png(image)
    return Seen(observation["text"], hashlib.sha256(png).hexdigest(), png)


def read_info(info: Mapping[str, Any], where: str) -> Facts:
    """Read the ``info`` keys that a turn records; missing ones get their neutral values."""
    progress = info.get("progress", 0.0)
    if isinstance(progress, bool) or not isinstance(progress, (int, float, np.integer, np.floating)):
        raise _breach(where, f"info['progress']={progress!r}", "progress is a number in [0, 1]")
    if not 0.0 <= float(progress) <= 1.0:
        raise _breach(where, f"info['progress']={float(progress)}", "progress is a number in [0, 1]")
    action = info.get("action")
    error = info.get("action_error")
    level = info.get("level")
    return Facts(
        action=action if isinstance(action, Action) else None,
        valid=bool(info.get("action_valid", True)),
        error=None if error is None else str(error),
        progress=float(progress),
        success=bool(info.get("success", False)),
        level=None if level is None else str(level),
        extra=_plain(info.get("extra", {}), where),
    )


def truncation_cause(info: Mapping[str, Any]) -> TruncationCause:
    """Return which limit the world names; a world that names none ran out of turns."""
    named = info.get("truncation")
    return next((cause for cause in _CAUSES if cause == named), "turns")


def _plain(extra: Any, where: str) -> dict[str, Json]:
    if not isinstance(extra, Mapping):
        raise _breach(where, f"info['extra'] of type {type(extra).__name__}", "info['extra'] is a dict of JSON values")
    if not extra:
        return {}
    try:
        plain: dict[str, Json] = msgspec.to_builtins(dict(extra), str_keys=True, enc_hook=_numpy_to_builtins)
    except (TypeError, ValueError, RecursionError) as error:
        raise _breach(
            where, f"info['extra'] with something that is not JSON ({error})", "it holds JSON values"
        ) from error
    return plain


def _numpy_to_builtins(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Encode an image (uint8, height x width x 3) as PNG, the same bytes for the same pixels.

    The container is RFC 2083: signature, IHDR, one zlib-compressed IDAT with filter 0, IEND.
    """
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # a leading 0 is the row's filter type
    rows[:, 1:] = image.reshape(height, 3 * width)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
