"""The codecs to compare with, by name, each through its real implementation."""

from __future__ import annotations

from dcae.errors import MissingDependencyError, OptionError
from dcae.eval.rival_codecs import HeicRival, JxlRival, PictureCodec, PillowRival, Rival
from dcae.eval.vvc import VvcRival

__all__ = ["AVIF_DEFAULT", "AVIF_PSNR", "JPEG", "RIVALS", "WEBP", "PictureCodec", "Rival", "rival"]


def _jpeg(label: str, subsampling: str) -> PillowRival:
    return PillowRival(
        label,
        f"Pillow, {subsampling}, progressive, optimised Huffman tables",
        (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95),
        "JPEG",
        {"subsampling": subsampling, "optimize": True, "progressive": True},
    )


def _avif(label: str, speed: int, subsampling: str, psnr: bool) -> PillowRival:
    return PillowRival(
        label,
        f"Pillow (libaom), speed {speed}, {subsampling}, {'tune=psnr' if psnr else 'the default tune'}",
        (1, 5, 12, 20, 30, 40, 50, 60, 70, 80, 90),
        "AVIF",
        {"speed": speed, "subsampling": subsampling} | ({"advanced": {"tune": "psnr"}} if psnr else {}),
    )


def _heic(label: str, subsampling: str, psnr: bool) -> HeicRival:
    return HeicRival(
        label,
        f"pillow-heif (x265), {subsampling}, {'tune=psnr' if psnr else 'the default tune'}",
        (1, 5, 10, 16, 22, 28, 34, 40, 46, 52),
        "HEIF",
        {"chroma": subsampling.replace(":", "")} | ({"enc_params": {"tune": "psnr"}} if psnr else {}),
    )


JPEG = _jpeg("JPEG", "4:2:0")
WEBP = PillowRival(
    "WebP", "Pillow, lossy, method 6", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95), "WEBP", {"method": 6}
)
AVIF_PSNR = _avif("AVIF tune=psnr", 6, "4:4:4", psnr=True)
AVIF_DEFAULT = _avif("AVIF", 6, "4:4:4", psnr=False)

RIVALS: dict[str, Rival] = {
    "jpeg": JPEG,
    "jpeg-444": _jpeg("JPEG 4:4:4", "4:4:4"),
    "webp": WEBP,
    "avif-psnr": AVIF_PSNR,
    "avif": AVIF_DEFAULT,
    "avif-420-psnr": _avif("AVIF 4:2:0 tune=psnr", 6, "4:2:0", psnr=True),
    "avif-420": _avif("AVIF 4:2:0", 6, "4:2:0", psnr=False),
    "avif-s4-psnr": _avif("AVIF speed 4 tune=psnr", 4, "4:4:4", psnr=True),
    "avif-s4": _avif("AVIF speed 4", 4, "4:4:4", psnr=False),
    "jxl": JxlRival(
        "JPEG XL", "imagecodecs (libjxl), effort 7", (25.0, 19.9, 14.0, 10.0, 7.0, 4.5, 3.0, 2.0, 1.5, 1.0)
    ),
    "heic": _heic("HEIC", "4:2:0", psnr=False),
    "heic-psnr": _heic("HEIC tune=psnr", "4:2:0", psnr=True),
    "heic-444": _heic("HEIC 4:4:4", "4:4:4", psnr=False),
    "heic-444-psnr": _heic("HEIC 4:4:4 tune=psnr", "4:4:4", psnr=True),
    "vvc": VvcRival(
        "VVC", "ffmpeg (libvvenc), preset medium, no perceptual QP, 4:2:0, 10 bits", (47, 42, 37, 32, 27, 22)
    ),
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
