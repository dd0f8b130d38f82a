"""The codecs to compare with: what Pillow brings."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image, features

from dcae.errors import OptionError


class PictureCodec(Protocol):
    """What is measured: pictures to file bytes and back. :class:`dcae.Codec` is one."""

    def encode(self, image: Image.Image, quality: float, /) -> bytes:
        """The whole file."""

    def decode(self, data: bytes, /) -> Image.Image:
        """A picture whose pixels are decoded, not merely opened."""


@dataclass(frozen=True)
class Rival:
    """A format of Pillow with fixed options."""

    label: str
    """As in the report's tables."""
    settings: str
    """As in the report's list of settings."""
    kind: str
    """Pillow's name of the format."""
    options: Mapping[str, Any]
    qualities: tuple[int, ...]
    """The ladder that its rate-distortion curve is measured on, increasing."""

    @property
    def available(self) -> bool:
        """Whether this build of Pillow writes the format."""
        return self.kind != "AVIF" or bool(features.check("avif"))

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """`quality` is Pillow's, rounded to an integer."""
        buffer = io.BytesIO()
        image.save(buffer, self.kind, quality=round(quality), **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data), formats=[self.kind])
        image.load()
        return image


_AVIF_QUALITIES = (1, 5, 12, 20, 30, 40, 50, 60, 70, 80, 90)
_AVIF = {"speed": 6, "subsampling": "4:4:4"}

JPEG = Rival(
    "JPEG",
    "4:2:0, sequential, optimised Huffman tables",
    "JPEG",
    {"subsampling": "4:2:0", "optimize": True},
    (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95),
)
AVIF_PSNR = Rival(
    "AVIF tune=psnr", "speed 6, 4:4:4, tune=psnr", "AVIF", {**_AVIF, "advanced": {"tune": "psnr"}}, _AVIF_QUALITIES
)
AVIF_DEFAULT = Rival("AVIF", "speed 6, 4:4:4, the default tune", "AVIF", _AVIF, _AVIF_QUALITIES)

WEBP = Rival("WebP", "lossy, method 6", "WEBP", {"method": 6}, (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95))

RIVALS: dict[str, Rival] = {"jpeg": JPEG, "webp": WEBP, "avif-psnr": AVIF_PSNR, "avif": AVIF_DEFAULT}


def rival(name: str) -> Rival:
    """One of `RIVALS`.

    Raises:
        OptionError: no such name, or not in this build of Pillow.
    """
    if name not in RIVALS:
        raise OptionError(f"unknown codec {name!r}; known: {', '.join(RIVALS)}")
    if not RIVALS[name].available:
        raise OptionError(f"this build of Pillow has no {RIVALS[name].kind}; install a wheel of Pillow 11.3 or newer")
    return RIVALS[name]
