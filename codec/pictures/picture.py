"""A picture as the codec sees it: arrays of pixels and of alpha, and the metadata that goes along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Samples = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Metadata:
    """What a picture file says beside its pixels; empty where it says nothing."""

    exif: bytes = b""
    """EXIF, a TIFF stream without the "Exif" in front of it that JPEG has."""
    xmp: bytes = b""
    """XMP packet, XML."""
    icc: bytes = b""
    """ICC profile of the pixels' colours; without one they are sRGB."""

    def named(self) -> dict[str, bytes]:
        """What is there, by the name that people know it by."""
        named = {"EXIF": self.exif, "XMP": self.xmp, "ICC profile": self.icc}
        return {name: data for name, data in named.items() if data}

    def info(self) -> dict[str, bytes]:
        """What is there, as Pillow has it in the `info` of a picture."""
        info = {"exif": self.exif and b"Exif\0\0" + self.exif, "xmp": self.xmp, "icc_profile": self.icc}
        return {key: data for key, data in info.items() if data}


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture."""

    pixels: Samples
    """(H, W, 3) red, green, blue, or (H, W, 1) gray; uint8 or uint16, of the full range of their type."""
    alpha: Samples | None = None
    """(H, W), of the type of the pixels; 0 is transparent. None: all of it is opaque."""
    metadata: Metadata = field(default=Metadata())

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def depth(self) -> int:
        """Bits of a sample, 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def mode(self) -> str:
        """Pillow's name of the colours: "RGB" or "L"."""
        return "RGB" if self.pixels.shape[2] == 3 else "L"

    def image(self) -> Image.Image:
        """The picture for Pillow, with its metadata in `info`: mode "RGB", "RGBA", "L" or "LA", or "I;16" for gray of
        16 bits without alpha. Pillow has no other picture of 16 bits: those become 8."""
        if self.depth == 16 and self.mode == "L" and self.alpha is None:
            image = Image.fromarray(self.pixels[..., 0])
        else:
            shallow = self.at_depth(8)
            image = Image.fromarray(shallow.pixels[..., 0] if self.mode == "L" else shallow.pixels)
            if shallow.alpha is not None:
                image.putalpha(Image.fromarray(shallow.alpha))
        image.info.update(self.metadata.info())
        return image

    def shrunk(self, side: int) -> Picture:
        """The picture with no side longer than `side`; unchanged if it is that small."""
        if max(self.width, self.height) <= side:
            return self
        if self.depth == 16:
            return self._shrunk_deep(side)
        image = self.image()
        image.thumbnail((side, side))
        samples = np.asarray(image)
        layers = samples if samples.ndim == 3 else samples[..., None]
        colours = 3 if self.mode == "RGB" else 1
        return Picture(layers[..., :colours], None if self.alpha is None else layers[..., -1], self.metadata)

    def _shrunk_deep(self, side: int) -> Picture:
        """The same of 16 bits, plane by plane, since Pillow has no such pictures; colours weighed by their alpha."""

        def small(plane: NDArray[Any]) -> NDArray[Any]:
            image = Image.fromarray(plane.astype(np.float32))
            image.thumbnail((side, side))
            return np.asarray(image)

        planes = np.moveaxis(self.pixels, 2, 0)
        if self.alpha is None:
            return Picture(_whole(np.dstack([small(plane) for plane in planes])), None, self.metadata)
        share = small(self.alpha)
        weighed = [small(plane * self.alpha.astype(np.float32)) / np.maximum(share, 1) for plane in planes]
        return Picture(_whole(np.dstack(weighed)), _whole(share), self.metadata)

    def at_depth(self, depth: int) -> Picture:
        """The picture with samples of 8 or 16 bits, each rounded to the nearest of those."""
        if depth == self.depth:
            return self
        alpha = None if self.alpha is None else _at_depth(self.alpha, depth)
        return Picture(_at_depth(self.pixels, depth), alpha, self.metadata)


def _at_depth(samples: Samples, depth: int) -> Samples:
    return samples.astype(np.uint16) * np.uint16(257) if depth == 16 else shallow(samples)


def _whole(samples: NDArray[Any]) -> NDArray[np.uint16]:
    """Samples of 16 bits."""
    return np.rint(samples).clip(0, 65535).astype(np.uint16)


def gray(samples: Samples) -> Samples:
    """The rounded mean of the channels, (H, W, 3) -> (H, W, 1)."""
    total = (samples.sum(2, dtype=np.uint32, keepdims=True) + 1) // 3
    return total.astype(np.uint8) if samples.dtype == np.uint8 else total.astype(np.uint16)


def shallow(samples: Samples) -> NDArray[np.uint8]:
    """Samples of 8 bits, rounded where they had 16."""
    if samples.dtype == np.uint8:
        return samples  # type: ignore[return-value]
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
