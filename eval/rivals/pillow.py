"""Formats that Pillow writes and reads itself: JPEG, WebP, AVIF."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, features

from dcae.eval.rivals.base import Rival, threads


@dataclass(frozen=True)
class PillowRival(Rival):
    """A format of Pillow with fixed options."""

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


def jpeg(label: str, subsampling: str, variant_of: str = "") -> PillowRival:
    """JPEG by libjpeg-turbo; `subsampling` is "4:2:0" or "4:4:4"."""
    return PillowRival(
        label,
        f"Pillow, {subsampling}, progressive, optimised Huffman tables",
        (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95),
        "JPEG",
        {"subsampling": subsampling, "optimize": True, "progressive": True},
        variant_of=variant_of,
    )


def webp() -> PillowRival:
    """Lossy WebP at its slowest method."""
    qualities = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
    return PillowRival("WebP", "Pillow, lossy, method 6", qualities, "WEBP", {"method": 6})


def avif(speed: int, subsampling: str, psnr: bool, variant_of: str = "") -> PillowRival:
    """AVIF by libaom.

    Args:
        speed: 0 (best) to 10; at 4 and below, where a file takes seconds, the ladder has five qualities instead of
            eleven: on Kodak that moves a BD-rate by 0.2 %.
        subsampling: "4:2:0" or "4:4:4".
        psnr: whether it is tuned for PSNR; libaom's default for still pictures favours structure over it.
    """
    tune = "tune=psnr" if psnr else ""
    family = " ".join(filter(None, ("AVIF", "4:2:0" if subsampling == "4:2:0" else "", tune)))
    return PillowRival(
        family.replace("AVIF", f"AVIF speed {speed}", 1),
        f"Pillow (libaom), speed {speed}, {subsampling}, {tune or 'the default tune'}",
        (1, 5, 12, 20, 30, 40, 50, 60, 70, 80, 90) if speed > 4 else (5, 20, 40, 60, 80),
        "AVIF",
        {"speed": speed, "subsampling": subsampling} | ({"advanced": {"tune": "psnr"}} if psnr else {}),
        family=family,
        effort=str(speed),
        variant_of=variant_of,
    )
