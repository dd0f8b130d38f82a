"""JPEG XL through imagecodecs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dcae.eval.rivals.base import Rival, threads
from dcae.extras import missing


class JxlRival(Rival):
    """JPEG XL by libjxl; the quality is its distance, smaller for more bytes."""

    @property
    def missing(self) -> str:
        return missing("JPEG XL needs", "rivals", "imagecodecs")

    def encode(self, image: Image.Image, quality: float) -> bytes:
        import imagecodecs

        pixels = np.asarray(image)
        return bytes(imagecodecs.jpegxl_encode(pixels, distance=quality, effort=7, numthreads=threads()))

    def decode(self, data: bytes) -> Image.Image:
        import imagecodecs

        return Image.fromarray(imagecodecs.jpegxl_decode(data, numthreads=threads()))


def make_jxl() -> JxlRival:
    """JPEG XL at libjxl's default effort."""
    distances = (25.0, 19.9, 14.0, 10.0, 7.0, 4.5, 3.0, 2.0, 1.5, 1.0)
    return JxlRival("JPEG XL", "imagecodecs (libjxl), effort 7", distances)
