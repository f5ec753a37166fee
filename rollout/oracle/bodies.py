"""Request bodies: decoded strictly, and refused with what is wrong, where, and how to fix it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from turnwise.errors import ConfigError, TurnwiseError
from turnwise.records import Json
from turnwise.rollout.oracle.items import MAX_DEPTH, too_deep
from turnwise.rollout.oracle.schema import ErrorBody, ErrorReply

BodyT = TypeVar("BodyT")
_AT = re.compile(r" - at `(?:key in )?\$?\.?([^`]*)`\Z")
_PLACE = re.compile(r"\A([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): ")


class RejectedError(TurnwiseError):
    """A request that is answered with a 4xx: it is the caller's fault, and the same request would fail again.

    Attributes:
        status: The HTTP status.
        code: A short machine-readable word.
        place: Where in the body.
    """

    boundary = "config"

    def __init__(self, status: int, code: str, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.place = place

    def encode(self) -> bytes:
        """Return the body of the reply."""
        return msgspec.json.encode(ErrorReply(error=ErrorBody(code=self.code, message=str(self), place=self.place)))


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(kind: type[BodyT], body: bytes) -> BodyT:
    """Decode a body.

    NaN, Infinity and numbers out of range are no JSON, and are refused.

    Raises:
        RejectedError: 400 for what is no JSON, 422 for JSON of another form.
    """
    try:
        decoded: BodyT = _decoder(cast("Any", kind)).decode(body)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error))
        place = found[1].removeprefix(".") if found else ""
        message = str(error)[: found.start()] if found else str(error)
        raise RejectedError(422, "invalid", message, place=place) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "" if body.strip() else ": it is empty"
        raise RejectedError(400, "bad_json", f"the body must be JSON with finite numbers{hint}: {error}") from error
    except RecursionError as error:
        raise RejectedError(400, "too_deep", "the body is nested too deeply") from error
    return decoded


def decode_object(body: bytes) -> dict[str, Json]:
    """Decode a body that is an object of any content, at most :data:`MAX_DEPTH` deep.

    Raises:
        RejectedError: It is no such object.
    """
    decoded = decode(dict, body)
    if too_deep(decoded, MAX_DEPTH):
        raise RejectedError(400, "too_deep", f"the body is nested deeper than {MAX_DEPTH} levels")
    return decoded


def rejected(error: ConfigError, *, inside: str = "") -> RejectedError:
    """Return the 422 for an item that cannot be read.

    Args:
        error: What is wrong; the text may begin with the place inside the item.
        inside: Where the item is.
    """
    found = _PLACE.match(str(error))
    place = found[1] if found else ""
    message = str(error)[found.end() :] if found else str(error)
    return RejectedError(422, "invalid", message, place=".".join(part for part in (inside, place) if part))


def within(error: RejectedError, inside: str) -> RejectedError:
    """Return the same error with the place of the item put in front."""
    place = ".".join(part for part in (inside, error.place) if part)
    return RejectedError(error.status, error.code, str(error), place=place)
