"""Side-by-side crops of what codecs make of a picture at equal bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.rates import nearest_size
from dcae.eval.metrics import psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rd.rows import Row
from dcae.eval.rivals import PictureCodec

SIDE = 256
"""Side of a crop, in pixels; the whole side of a smaller picture."""
_STRIDE = 16


@dataclass(frozen=True)
class Crop:
    """A region of the picture as one codec keeps it."""

    label: str
    quality: float | None
    """None for the original."""
    size: int
    """Bytes of the file."""
    psnr: float
    """dB of the whole picture."""
    webp: bytes
    """The region, losslessly."""

    @property
    def data_uri(self) -> str:
        """The region as an address that holds the picture, for a page without other files."""
        return "data:image/webp;base64," + base64.b64encode(self.webp).decode()


@dataclass(frozen=True)
class Strip:
    """One region of one picture: the original, then every codec at nearly the bytes of the first."""

    picture: str
    why: str
    """Why this picture is shown."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels."""
    crops: tuple[Crop, ...]


def strip(
    path: Path,
    why: str,
    codecs: Mapping[str, PictureCodec],
    rows: Sequence[Row],
    quality: float,
) -> Strip:
    """The picture by the first of `codecs` at `quality`, and by the others at the quality that comes closest in bytes.

    The region is the one where the squared errors of the first two codecs differ most.

    Args:
        codecs: by the name that they have in `rows`.
        rows: of all codecs for this picture; where their search for equal bytes begins.
    """
    pixels = load_pixels(path)
    image = Image.fromarray(pixels)
    found: list[tuple[str, float, int, NDArray[np.uint8]]] = []
    for name, codec in codecs.items():
        ladder = sorted((r.bytes, r.quality) for r in rows if r.codec == name and r.picture == path.name)
        if not found:
            best, data = quality, codec.encode(image, quality)
        elif ladder:
            best, data = nearest_size(partial(codec.encode, image), *_ends(ladder, found[0][2]), found[0][2])
        else:
            continue
        found.append((name, best, len(data), np.asarray(codec.decode(data).convert("RGB"))))
    box = _disagreement(pixels, *(f[3] for f in (found * 2)[:2]))
    crops = [Crop("original", None, path.stat().st_size, float("inf"), _cut(pixels, box))]
    crops += [Crop(name, q, size, psnr(pixels, decoded), _cut(decoded, box)) for name, q, size, decoded in found]
    return Strip(path.name, why, box, tuple(crops))


def _ends(ladder: Sequence[tuple[int, float]], target: int) -> tuple[float, float]:
    """The two qualities of a ladder of (bytes, quality), by rising bytes, between which `target` bytes lie; its end
    twice where they are beyond."""
    below = [quality for size, quality in ladder if size <= target] or [ladder[0][1]]
    above = [quality for size, quality in ladder if size > target] or [ladder[-1][1]]
    return below[-1], above[0]


def _disagreement(pixels: NDArray[np.uint8], a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    errors = [np.square(p.astype(np.int32) - pixels).sum(2).astype(np.float64) for p in (a, b)]
    total = np.pad((errors[0] - errors[1]).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(SIDE, n) for n in pixels.shape[:2])
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    strided = np.abs(sums[::_STRIDE, ::_STRIDE])
    top, left = (int(k) * _STRIDE for k in np.unravel_index(strided.argmax(), strided.shape))
    return left, top, left + width, top + height


def _cut(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).crop(box).save(buffer, "WEBP", lossless=True, method=4)
    return buffer.getvalue()
