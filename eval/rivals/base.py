"""What a codec to compare with is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image


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
    """Name in the report's tables."""
    settings: str
    """Options in words, for the report's list of settings."""
    qualities: tuple[float, ...]
    """The ladder that its rate-distortion curve is measured on, in the codec's own scale, in the order of rising
    rate."""
    family: str = field(default="", kw_only=True)
    """Codecs of one family differ in nothing but effort: plots over time join them by a line, named so. Empty for a
    codec that stands alone."""
    effort: str = field(default="", kw_only=True)
    """Name of the codec's point on its family's line: "6", "slow"."""
    variant_of: str = field(default="", kw_only=True)
    """Name in `dcae.eval.rivals.RIVALS` of the codec that other settings make this one; what they gain is reported."""

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
    """Number of threads that a codec may use: OMP_NUM_THREADS, or one for each core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else os.cpu_count() or 1
