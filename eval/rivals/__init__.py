"""The codecs to compare with, by name, each through its real implementation (installed as `dcae.eval.rivals`)."""

from __future__ import annotations

from dcae.errors import MissingDependencyError, OptionError
from dcae.eval.rivals.base import PictureCodec, Rival
from dcae.eval.rivals.heif import heic
from dcae.eval.rivals.jxl import jxl
from dcae.eval.rivals.mozjpeg import mozjpeg
from dcae.eval.rivals.pillow import avif, jpeg, webp
from dcae.eval.rivals.vvc import vvc

__all__ = ["RIVALS", "PictureCodec", "Rival", "rival"]

RIVALS: dict[str, Rival] = {
    "jpeg": jpeg("JPEG", "4:2:0"),
    "jpeg-444": jpeg("JPEG 4:4:4", "4:4:4", "jpeg"),
    "mozjpeg": mozjpeg("jpeg"),
    "webp": webp(),
    "avif-psnr": avif(6, "4:4:4", psnr=True),
    "avif-s4-psnr": avif(4, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif-s2-psnr": avif(2, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif-s0-psnr": avif(0, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif": avif(6, "4:4:4", psnr=False, variant_of="avif-psnr"),
    "avif-s4": avif(4, "4:4:4", psnr=False, variant_of="avif"),
    "avif-420-psnr": avif(6, "4:2:0", psnr=True, variant_of="avif-psnr"),
    "avif-420": avif(6, "4:2:0", psnr=False, variant_of="avif"),
    "jxl": jxl(),
    "heic": heic("4:2:0", psnr=False),
    "heic-psnr": heic("4:2:0", psnr=True, variant_of="heic"),
    "heic-444": heic("4:4:4", psnr=False, variant_of="heic"),
    "heic-444-psnr": heic("4:4:4", psnr=True, variant_of="heic"),
    "vvc": vvc("medium"),
    "vvc-faster": vvc("faster", variant_of="vvc"),
    "vvc-fast": vvc("fast", variant_of="vvc"),
    "vvc-slow": vvc("slow", variant_of="vvc"),
}


def rival(name: str) -> Rival:
    """One of `RIVALS`.

    Raises:
        OptionError: no such name.
        MissingDependencyError: its package is not installed, or this build of Pillow does not have it.
    """
    if name not in RIVALS:
        raise OptionError(f"unknown codec {name!r}; known: {', '.join(RIVALS)}")
    if reason := RIVALS[name].missing:
        raise MissingDependencyError(reason)
    return RIVALS[name]
