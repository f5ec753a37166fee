"""Pictures of a page as arrays."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

from turnwise.errors import MissingExtraError

Pixels = npt.NDArray[np.uint8]


def read_png(data: str) -> Pixels:
    """Decode a PNG in base64; returns uint8 of height x width x 3.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("PIL", "browser") from error
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)
