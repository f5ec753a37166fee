"""Images by content: the same picture is stored once, under its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from turnwise.errors import ConfigError
from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.layout import write_atomically

_PNG = b"\x89PNG\r\n\x1a\n"


class ImageFolder:
    """``images/<sha256>.png`` of one run."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is created with the first image."""
        self._folder = folder

    def put(self, png: bytes) -> str:
        """Store an encoded PNG and return its SHA-256 in hexadecimal.

        Raises:
            ConfigError: It is not a PNG.
        """
        if not png.startswith(_PNG):
            raise ConfigError(f"images are stored as encoded PNG bytes, got {bytes(png[:8])!r}...")
        name = hashlib.sha256(png).hexdigest()
        target = self._folder / f"{name}.png"
        if not target.exists():
            self._folder.mkdir(exist_ok=True)
            write_atomically(target, png)
        return name

    def get(self, name: str) -> bytes:
        """Return the PNG stored under a hash.

        Raises:
            ConfigError: ``name`` is no SHA-256, or there is no such image.
            StoreError: The file's content no longer has this hash.
        """
        if len(name) != 64 or not all(c in "0123456789abcdef" for c in name):
            raise ConfigError(f"an image is named by its SHA-256 (64 hexadecimal digits), got {name!r}")
        target = self._folder / f"{name}.png"
        try:
            png = target.read_bytes()
        except FileNotFoundError:
            raise ConfigError(f"{self._folder} has no image {name}") from None
        if hashlib.sha256(png).hexdigest() != name:
            raise StoreError(f"{target} is damaged: its content has another hash")
        return png
