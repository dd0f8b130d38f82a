"""Upscalers for those below them: what enlarges pictures lies in `dcae.sr`, which imports the codec, so that the codec
asks for it here, where it is imported by name once a picture is to be enlarged.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UPSCALER = "tables"
"""Name of the model that enlarges where nobody names another: the newest one of the scale. Files name theirs by its id,
so that this may change."""


class Upscaler(Protocol):
    """What enlarges pictures by one scale."""

    name: str
    """Name in messages and tables."""
    scale: int
    """Factor on both sides."""
    short_id: bytes
    """First 8 bytes of the model's id; empty for a kernel, which has none."""

    def __call__(self, x: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Enlarged samples (scale · H, scale · W, C) of (H, W, C) in [0, 1], not clipped; C is 3, or 1 for gray."""


def find_upscaler(name: str, scale: int, device: str = "cpu") -> Upscaler:
    """The upscaler of a name; see :func:`dcae.sr.find.find_upscaler`. The device is the codec's: what is no network
    runs on the processor beside it."""
    if device != "cpu" and not resolve_name("dcae.sr.find:look_up")(name, scale).is_network:
        device = "cpu"
    found: Upscaler = resolve_name("dcae.sr.find:find_upscaler")(name, scale, device)
    return found


def check_upscaler(name: str, scale: int) -> None:
    """Refuse what :func:`find_upscaler` would not find; nothing is loaded for it."""
    resolve_name("dcae.sr.find:look_up")(name, scale)


def find_upscaler_by_id(short_id: bytes, device: str = "cpu") -> Upscaler:
    """The installed upscaler that a file names; see :func:`dcae.sr.find.find_upscaler_by_id`."""
    found: Upscaler = resolve_name("dcae.sr.find:find_upscaler_by_id")(short_id, device)
    return found
