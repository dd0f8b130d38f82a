"""Pictures of other sizes: reduced before they are coded, and enlarged after they were decoded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcae.codec.container import Container
from dcae.codec.fields import Enlargement
from dcae.codec.pictures.picture import Picture, Samples
from dcae.errors import FileFormatError, OptionError
from dcae.resize import resized, to_float, to_samples
from dcae.upscalers import Upscaler, find_upscaler, find_upscaler_by_id


def reduced(samples: Samples, divisor: int) -> Samples:
    """Samples (H, W, C) whose sides are divided and rounded up, by the bicubic kernel widened against aliasing."""
    return to_samples(resized(to_float(samples), 1 / divisor), samples.dtype)


def reduced_plane(plane: Samples, divisor: int) -> Samples:
    """The same of one plane (H, W), of alpha or of weights."""
    return reduced(plane[..., None], divisor)[..., 0]


def enlarger_of(divisor: int, name: str) -> Upscaler | None:
    """The upscaler of a name that undoes a division of the sides; None where nothing is divided.

    Raises:
        OptionError: no whole number from 1 on, or no such upscaler.
        ModelNotFoundError, MissingDependencyError: its model or library is not installed.
    """
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise OptionError(f"a divisor is a whole number from 1 on, got {divisor!r:.40}")
    return None if divisor == 1 else find_upscaler(name, divisor)


def enlargement_of(picture: Picture, upscaler: Upscaler) -> Enlargement:
    """What a file says of how a picture that was reduced by the upscaler's scale is enlarged again.

    Raises:
        OptionError: an upscaler that files cannot name.
    """
    if not upscaler.short_id:
        raise OptionError(f"{upscaler.name} is a kernel; files name a model that enlarges, such as tables")
    return Enlargement(upscaler.scale, picture.width, picture.height, upscaler.short_id)


def upscaler_of(enlargement: Enlargement) -> Upscaler:
    """The installed upscaler that a file names.

    Raises:
        ModelNotFoundError: it is not installed.
        FileFormatError: it has another scale than the file says.
    """
    found = find_upscaler_by_id(enlargement.model)
    if found.scale != enlargement.scale:
        raise FileFormatError(
            f"the file enlarges by {enlargement.scale}, its model {found.name} by {found.scale}; the file is damaged"
        )
    return found


def shown(pixels: Samples, enlargement: Enlargement, upscaler: Upscaler) -> Samples:
    """Pixels (H, W, C) of the picture that is shown, of the coded ones."""
    large = to_samples(upscaler(to_float(pixels)), pixels.dtype)
    return np.ascontiguousarray(large[: enlargement.height, : enlargement.width])


def enlarged(picture: Picture, upscaler: Upscaler) -> Picture:
    """A picture enlarged. Alpha is so by bicubic interpolation, whatever enlarges the pixels."""
    pixels = to_samples(upscaler(to_float(picture.pixels)), picture.pixels.dtype)
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    if picture.alpha is not None:
        alpha = to_samples(resized(to_float(picture.alpha[..., None]), upscaler.scale), picture.alpha.dtype)[..., 0]
    return replace(picture, pixels=pixels, alpha=alpha)


def as_coded(picture: Picture, container: Container) -> Picture:
    """A picture whose pixels are the small ones that are coded, its alpha reduced to their size if it is that of the
    picture that is shown."""
    if picture.alpha is None or container.enlargement is None:
        return picture
    return replace(picture, alpha=reduced_plane(picture.alpha, container.enlargement.scale))
