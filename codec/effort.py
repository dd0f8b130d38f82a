"""Effort: how long the encoder searches for latents that give a lower λ·D + R; see `dcae/runtime/torch_search.py`.

=======  =========  ==========================================================================================
effort   gradients  what is done
=======  =========  ==========================================================================================
0        0          the analysis transform alone
1        1          one step from its result
2        2          two steps
3        9          two steps, then three trials that change symbols by 1 and keep what was worth it
4        15         two steps, then six trials
=======  =========  ==========================================================================================

A file of any effort is an ordinary file. Large pictures are searched in parts
that overlap, so that memory is bounded.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.preparing import PictureSource, prepare
from dcae.codec.source import Source
from dcae.codec.tuning import TUNES
from dcae.errors import OptionError, PictureError, naming
from dcae.networks.config import DCAEConfig
from dcae.networks.ms_ssim import sensitivity
from dcae.networks.registry import preset_of
from dcae.runtime.protocol import Array, Engine, Step, Trial
from dcae.runtime.search import gradients

PART = 768
"""Side of a part of the picture in pixels, a multiple of 64; its neighbourhood comes to it."""
AROUND = 64
"""Pixels around a part that are searched with it and thrown away, a multiple of 64."""
NARROWEST = 256
"""Least side in pixels of a part with what is around it, where the padded picture has as many, a multiple of 64: it has
all scales of MS-SSIM then."""


_SOFT = Step(0.2, 0.2), Step(0.07, 0.12)
STEPS: tuple[tuple[Step | Trial, ...], ...] = (
    (),
    (Step(0.12, 0.15),),
    _SOFT,
    (*_SOFT, *[Trial(0.5)] * 3),
    (*_SOFT, *[Trial(0.5)] * 6),
)
"""What each effort does."""
EFFORTS = range(len(STEPS))


def effort_or_default(effort: int | None, config: DCAEConfig) -> int:
    """The effort, or where there is none that of the model's preset."""
    return preset_of(config).effort if effort is None else effort


def check_effort(effort: int) -> None:
    """Refuse an effort that there is not.

    Raises:
        OptionError: it is.
    """
    if isinstance(effort, bool) or not isinstance(effort, Integral) or effort not in EFFORTS:
        raise OptionError(f"effort must be a whole number from {EFFORTS[0]} to {EFFORTS[-1]}, got {effort!r:.60}")


def check_roi(roi: NDArray[np.uint8] | None, effort: int, picture: Picture, tune: str = TUNES[0]) -> None:
    """Refuse weights of another shape than the picture's, or without a search that heeds them.

    Raises:
        OptionError: they are.
    """
    if roi is None:
        return
    check_steered(effort, tune)
    if not isinstance(roi, np.ndarray):
        raise OptionError(f"a mask (roi) is an array (H, W) of uint8, got {type(roi).__name__}")
    if roi.dtype != np.uint8 or roi.shape != (picture.height, picture.width):
        shape = "x".join(map(str, roi.shape[::-1]))
        raise OptionError(f"the mask (roi) is {shape} of {roi.dtype}, the picture {picture.width}x{picture.height}")


def check_steered(effort: int, tune: str = TUNES[0]) -> None:
    """Refuse a mask where nothing heeds it.

    Raises:
        OptionError: there is no search, or one for a tune that weighs other errors.
    """
    if tune != TUNES[0]:
        raise OptionError(f"a mask (roi) weighs squared errors, which tune={tune} does not count; give one of the two")
    if not effort:
        raise OptionError("a mask (roi) steers the search and needs an effort of at least 1")


def roi_of(mask: PictureSource, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """The weights (H, W) of a gray picture: white counts as without it, black not at all.

    Args:
        max_pixels: as :func:`dcae.codec.pictures.preparing.prepare` has it.

    Raises:
        PictureError: as there; it says that it is of the mask.
    """
    try:
        return np.array(prepare(mask, max_pixels=max_pixels).at_depth(8).image().convert("L"))
    except PictureError as error:
        raise PictureError(naming("the mask (roi)", error.what), error.advice) from error


def search(
    engine: Engine, source: Source, y: Array, z: Array, quality: float, effort: int, tune: str = TUNES[0]
) -> None:
    """Move the latents of a picture to where λ·D + R is lower, squared errors weighed by :func:`_weights`.

    Args:
        source: the picture; errors are counted against its pixels, whatever else it corrects.
        y: (1, M, H/16, W/16) of the searched slices, changed in place.
        z: (1, N, H/64, W/64).
        tune: what D is, one of `TUNES`; of MS-SSIM each part has its own.
    """
    plain, z_hat = source.corrected(None), np.rint(z - engine.z_median) + engine.z_median
    for top in range(0, source.height, PART):
        for left in range(0, source.width, PART):
            rows, columns = _grown(top, source.height), _grown(left, source.width)
            pixels = plain(rows, columns)
            found = engine.search_latents(
                pixels,
                np.ascontiguousarray(y[..., _of(rows, 16), _of(columns, 16)]),
                np.ascontiguousarray(z_hat[..., _of(rows, 64), _of(columns, 64)], np.float32),
                quality,
                _weights(source, rows, columns, None if tune == "ms-ssim" else pixels),
                STEPS[effort],
                tune == "ms-ssim",
            )
            inner = slice(top, min(top + PART, source.height)), slice(left, min(left + PART, source.width))
            taken = [
                _of(slice(part.start - outer.start, part.stop - outer.start), 16)
                for part, outer in zip(inner, (rows, columns), strict=True)
            ]
            y[..., _of(inner[0], 16), _of(inner[1], 16)] = found[..., taken[0], taken[1]]


def searched_pixels(source: Source, effort: int) -> int:
    """Pixels that the gradients of an effort go over, for `dcae.runtime.progress`: those of all parts with their
    neighbourhoods."""
    parts = ([_grown(start, side) for start in range(0, side, PART)] for side in (source.height, source.width))
    height, width = (sum(part.stop - part.start for part in along) for along in parts)
    return gradients(STEPS[effort]) * height * width


def _grown(start: int, side: int) -> slice:
    return slice(max(0, min(start - AROUND, side - NARROWEST)), min(side, start + PART + AROUND))


def _of(part: slice, stride: int) -> slice:
    return slice(part.start // stride, part.stop // stride)


def _weights(source: Source, rows: slice, columns: slice, pixels: Array | None) -> Array:
    """(1, 1, rows, columns): how much each pixel's squared error counts, 0 in the padding.

    That is what the mask says, half of it everywhere alike, and the other half by the root of what MS-SSIM loses by it,
    in proportion to the mean of the part. docs/effort.md has what that gains and costs.

    Args:
        pixels: (1, 3, rows, columns) in [0, 1] of the part; None for errors that count by the mask alone.
    """
    height, width = source.pixels.shape[:2]
    found = np.zeros((1, 1, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    inside = found[..., : max(0, height - rows.start), : max(0, width - columns.start)]
    inside[...] = 1 if source.weights is None else source.weights[rows, columns] / np.float32(255)
    if pixels is not None and found.any():
        seen = np.sqrt(sensitivity(pixels[0]))
        found *= 0.5 + 0.5 * seen / seen[found[0, 0] > 0].mean()
    return found
