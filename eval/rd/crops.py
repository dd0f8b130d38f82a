"""Side-by-side crops of what codecs make of a picture at equal bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.rates import nearest_size
from dcae.eval.crops import Box, Crop, cut, disagreement
from dcae.eval.metrics import psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rd.rows import Row
from dcae.eval.rivals import PictureCodec


@dataclass(frozen=True)
class CodecCrop(Crop):
    """A region of the picture as one codec keeps it."""

    quality: float | None
    """None for the original."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True)
class Strip:
    """One region of one picture: the original, then every codec at nearly the bytes of the first."""

    picture: str
    why: str
    """Why this picture is shown."""
    box: Box
    crops: tuple[CodecCrop, ...]


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
    box = disagreement(pixels, *(f[3] for f in (found * 2)[:2]))
    crops = [CodecCrop("original", cut(pixels, box), math.inf, None, path.stat().st_size)]
    crops += [CodecCrop(name, cut(out, box), psnr(pixels, out), q, size) for name, q, size, out in found]
    return Strip(path.name, why, box, tuple(crops))


def _ends(ladder: Sequence[tuple[int, float]], target: int) -> tuple[float, float]:
    """The two qualities of a ladder of (bytes, quality), by rising bytes, between which `target` bytes lie; its end
    twice where they are beyond."""
    below = [quality for size, quality in ladder if size <= target] or [ladder[0][1]]
    above = [quality for size, quality in ladder if size > target] or [ladder[-1][1]]
    return below[-1], above[0]
