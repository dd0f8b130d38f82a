"""What is made of a picture before it is coded, as settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preparation:
    """What is made of a picture before it is coded."""

    frame: int | None = None
    """Which picture of an animation or of a file with several pages, from 0; None: it must have a single one."""
    background: str | None = None
    """Colour, as CSS names it, to put under transparent pixels; None: alpha is kept."""
    strip: bool = False
    """Drop EXIF, XMP and ICC profile. Without its profile a picture that is not sRGB changes its colours, so that it is
    converted then."""
    to_srgb: bool = False
    """Convert the pixels to sRGB by the ICC profile, instead of keeping both."""


AS_IT_IS = Preparation()
