"""What a codec to compare with is, and those that are called in this process; optional packages are imported late."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from PIL import Image, features


class PictureCodec(Protocol):
    """What is measured: pictures to file bytes and back. :class:`dcae.Codec` is one."""

    def encode(self, image: Image.Image, quality: float, /) -> bytes:
        """The whole file."""

    def decode(self, data: bytes, /) -> Image.Image:
        """A picture whose pixels are decoded, not merely opened."""


@dataclass(frozen=True)
class Rival(ABC):
    """A codec with fixed options."""

    label: str
    """As in the report's tables."""
    settings: str
    """As in the report's list of settings."""
    qualities: tuple[float, ...]
    """The ladder that its rate-distortion curve is measured on, in the codec's own scale, in the order of rising
    rate."""

    @property
    def missing(self) -> str:
        """What is not installed, and the command that brings it; empty when nothing is missing."""
        return ""

    @property
    def available(self) -> bool:
        """Whether it can be used here."""
        return not self.missing

    @property
    def in_process(self) -> bool:
        """Whether the memory of this process is that of the codec."""
        return True

    @abstractmethod
    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The whole file of an RGB picture; `quality` is in the codec's own scale."""

    @abstractmethod
    def decode(self, data: bytes) -> Image.Image:
        """The decoded RGB picture."""


def threads() -> int:
    """How many threads a codec may use: OMP_NUM_THREADS, or one for each core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else os.cpu_count() or 1


@dataclass(frozen=True)
class PillowRival(Rival):
    """A format that Pillow writes and reads itself."""

    kind: str
    """Pillow's name of the format."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        if self.kind == "AVIF" and not features.check("avif"):
            return "this build of Pillow has no AVIF; pip install 'pillow>=11.3' brings one that has"
        return ""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """`quality` is Pillow's, rounded to an integer."""
        buffer = io.BytesIO()
        # The number of threads decides how AVIF is cut into tiles: fewer than 2 % of the bytes, but not none.
        extra = {"max_threads": threads()} if self.kind == "AVIF" else {}
        image.save(buffer, self.kind, quality=round(quality), **extra, **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        if self.kind == "AVIF":
            from PIL import AvifImagePlugin

            AvifImagePlugin.DEFAULT_MAX_THREADS = threads()
        image = Image.open(io.BytesIO(data), formats=[self.kind])
        image.load()
        return image


class HeicRival(PillowRival):
    """HEIC through pillow-heif, a plugin of Pillow. It stores matrix and range of the colours in the file."""

    @property
    def missing(self) -> str:
        if find_spec("pillow_heif") is None:
            return "HEIC needs pillow-heif; pip install pillow-heif (its wheels contain x265, which is GPL)"
        return ""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        self._register()
        return super().encode(image, quality)

    def decode(self, data: bytes) -> Image.Image:
        self._register()
        return super().decode(data)

    @staticmethod
    def _register() -> None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        pillow_heif.options.DECODE_THREADS = threads()


class JxlRival(Rival):
    """JPEG XL through imagecodecs; the quality is libjxl's distance, smaller for more bytes."""

    @property
    def missing(self) -> str:
        return "" if find_spec("imagecodecs") else "JPEG XL needs imagecodecs; pip install imagecodecs"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        import imagecodecs

        pixels = np.asarray(image)
        return bytes(imagecodecs.jpegxl_encode(pixels, distance=quality, effort=7, numthreads=threads()))

    def decode(self, data: bytes) -> Image.Image:
        import imagecodecs

        return Image.fromarray(imagecodecs.jpegxl_decode(data, numthreads=threads()))
