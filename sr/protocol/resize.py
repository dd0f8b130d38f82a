"""The protocol's low resolution.

Benchmarks of super-resolution are made with MATLAB's bicubic kernel and antialiasing, which `dcae/resize.py` has.
"""

from __future__ import annotations

from numpy.typing import NDArray

from dcae.errors import OptionError
from dcae.resize import resized, to_float, to_samples


def modcrop(pixels: NDArray, scale: int) -> NDArray:
    """A picture (H, W, C) without the rows below and columns to the right of the last multiples of `scale`.

    Raises:
        OptionError: nothing is left.
    """
    height, width = (n - n % scale for n in pixels.shape[:2])
    if not height or not width:
        raise OptionError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels is too small for scale {scale}")
    return pixels[:height, :width]


def reduced(pixels: NDArray, scale: int, kernel: str = "bicubic") -> NDArray:
    """A picture (H, W, C) of uint8 or uint16 reduced to 1/scale, of the same type: the protocol's low resolution.

    Sides that are no multiples of `scale` are cropped to the last (:func:`modcrop`).

    Raises:
        OptionError: a picture that is too small, or an unknown kernel.
    """
    return to_samples(resized(to_float(modcrop(pixels, scale)), 1 / scale, kernel), pixels.dtype)
