"""JSON of any size, read piece by piece: the elements of one big list, or the entries of one big object."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from turnwise.errors import ConfigError

_CHUNK = 4 * 1024 * 1024  # bytes read at once; a record is a few thousand
_MAX_RECORD = 64 * 1024 * 1024  # characters: what is longer is no record but a broken file
_BLANK = " \t\r\n"
_decoder = json.JSONDecoder()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacking it if its name ends in ``.gz``."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


class _Reader:
    """A window over a file's text that moves forward as values are taken from it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._place, self._ended = "", 0, False

    def fail(self, what: str) -> ConfigError:
        near = self._text[self._place : self._place + 40]
        return ConfigError(f"{self._path} cannot be read: {what} near {near!r}")

    def _grow(self) -> bool:
        """Read on; returns False at the end of the file."""
        if self._ended:
            return False
        try:
            chunk = self._file.read(_CHUNK)
            self._ended = not chunk
            more = self._decode(chunk, self._ended)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path} cannot be read: {error}") from error
        self._text, self._place = self._text[self._place :] + more, 0
        return not self._ended

    def peek(self) -> str:
        """Return the next character that is not blank, or "" at the end."""
        while True:
            text, place = self._text, self._place
            while place < len(text) and text[place] in _BLANK:
                place += 1
            self._place = place
            if place < len(text):
                return text[place]
            if not self._grow():
                return ""

    def take(self, wanted: str) -> None:
        """Pass over a character that must come next."""
        if self.peek() != wanted:
            raise self.fail(f"expected {wanted!r}")
        self._place += 1

    def value(self) -> Any:
        """Take the next list, object or text."""
        self.peek()
        while True:
            try:
                found, end = _decoder.raw_decode(self._text, self._place)
            except RecursionError:
                raise self.fail("it is nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._place > _MAX_RECORD or not self._grow():
                    raise self.fail(str(error)) from None
                continue
            # What is no bracket and no quote, such as a number, might go on behind the window's end.
            if end < len(self._text) or not self._grow():
                self._place = end
                return found


def read_list(path: Path) -> Iterator[Any]:
    """Iterate over the elements of a file that holds one JSON list; memory stays bounded by a few megabytes.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    with open_bytes(path) as file:
        reader = _Reader(file, path)
        reader.take("[")
        if reader.peek() == "]":
            return
        while True:
            yield reader.value()
            if reader.peek() == "]":
                return
            reader.take(",")


def read_entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Iterate over the entries of a file that holds one JSON object; memory stays bounded by a few megabytes.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    with open_bytes(path) as file:
        reader = _Reader(file, path)
        reader.take("{")
        if reader.peek() == "}":
            return
        while True:
            key = reader.value()
            if not isinstance(key, str):
                raise reader.fail("expected a key")
            reader.take(":")
            yield key, reader.value()
            if reader.peek() == "}":
                return
            reader.take(",")
