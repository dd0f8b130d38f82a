"""Side-by-side crops of pictures, where two versions of one differ most."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256
"""Side of a crop, in pixels; the whole side of a smaller picture."""
_STRIDE = 16

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Crop:
    """A region of a picture."""

    label: str
    webp: bytes
    """The region, losslessly."""
    psnr: float
    """dB of the whole picture; infinite for the original."""

    @property
    def data_uri(self) -> str:
        """The region as an address that holds the picture, for a page without other files."""
        return "data:image/webp;base64," + base64.b64encode(self.webp).decode()


def disagreement(pixels: NDArray[np.uint8], a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Box:
    """The region where the squared errors of `a` and `b` against `pixels`, all (H, W, 3), differ most."""
    errors = [np.square(p.astype(np.int32) - pixels).sum(2).astype(np.float64) for p in (a, b)]
    total = np.pad((errors[0] - errors[1]).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(SIDE, n) for n in pixels.shape[:2])
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    strided = np.abs(sums[::_STRIDE, ::_STRIDE])
    top, left = (int(k) * _STRIDE for k in np.unravel_index(strided.argmax(), strided.shape))
    return left, top, left + width, top + height


def cut(pixels: NDArray[np.uint8], box: Box) -> bytes:
    """A region of (H, W, 3) as a lossless WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).crop(box).save(buffer, "WEBP", lossless=True, method=4)
    return buffer.getvalue()
