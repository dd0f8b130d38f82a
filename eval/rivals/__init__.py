"""The codecs to compare with, by name, each through its real implementation (installed as `dcae.eval.rivals`)."""

from __future__ import annotations

from dcae.errors import MissingDependencyError, OptionError
from dcae.eval.rivals.base import PictureCodec, Rival
from dcae.eval.rivals.heif import make_heic
from dcae.eval.rivals.jxl import make_jxl
from dcae.eval.rivals.mozjpeg import make_mozjpeg
from dcae.eval.rivals.pillow import make_avif, make_jpeg, make_webp
from dcae.eval.rivals.vvc import make_vvc

__all__ = ["RIVALS", "PictureCodec", "Rival", "rival"]

RIVALS: dict[str, Rival] = {
    "jpeg": make_jpeg("JPEG", "4:2:0"),
    "jpeg-444": make_jpeg("JPEG 4:4:4", "4:4:4", "jpeg"),
    "mozjpeg": make_mozjpeg("jpeg"),
    "webp": make_webp(),
    "avif-psnr": make_avif(6, "4:4:4", psnr=True),
    "avif-s4-psnr": make_avif(4, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif-s2-psnr": make_avif(2, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif-s0-psnr": make_avif(0, "4:4:4", psnr=True, variant_of="avif-psnr"),
    "avif": make_avif(6, "4:4:4", psnr=False, variant_of="avif-psnr"),
    "avif-s4": make_avif(4, "4:4:4", psnr=False, variant_of="avif"),
    "avif-420-psnr": make_avif(6, "4:2:0", psnr=True, variant_of="avif-psnr"),
    "avif-420": make_avif(6, "4:2:0", psnr=False, variant_of="avif"),
    "jxl": make_jxl(),
    "heic": make_heic("4:2:0", psnr=False),
    "heic-psnr": make_heic("4:2:0", psnr=True, variant_of="heic"),
    "heic-444": make_heic("4:4:4", psnr=False, variant_of="heic"),
    "heic-444-psnr": make_heic("4:4:4", psnr=True, variant_of="heic"),
    "vvc": make_vvc("medium"),
    "vvc-faster": make_vvc("faster", variant_of="vvc"),
    "vvc-fast": make_vvc("fast", variant_of="vvc"),
    "vvc-slow": make_vvc("slow", variant_of="vvc"),
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
