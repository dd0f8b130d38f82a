"""Rate-distortion curves from real file bytes, and their comparison at equal PSNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcae.eval.metrics import ms_ssim, ms_ssim_db, psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rivals import PictureCodec


class Point(NamedTuple):
    """One codec at one quality, averaged over pictures."""

    quality: float
    bpp: float
    """Bits of the file per pixel."""
    psnr: float
    """dB, the mean of the pictures' own; inf if one of them came back unchanged."""
    ms_ssim: float = math.nan
    """The mean of the pictures' own, 0 to 1; nan if one of them is too small for it."""

    @property
    def ms_ssim_db(self) -> float:
        """-10 log10(1 - MS-SSIM), of the mean."""
        return ms_ssim_db(self.ms_ssim)


Curve = list[Point]


def measure_picture(codec: PictureCodec, path: Path, qualities: Iterable[float]) -> Curve:
    """One picture through encoder and decoder at every quality."""
    pixels = load_pixels(path)
    image = Image.fromarray(pixels)
    curve = []
    for quality in qualities:
        data = codec.encode(image, quality)
        decoded = np.asarray(codec.decode(data).convert("RGB"))
        similarity = ms_ssim(pixels, decoded)
        curve.append(
            Point(
                quality,
                8 * len(data) / (image.width * image.height),
                psnr(pixels, decoded),
                math.nan if similarity is None else similarity,
            )
        )
    return curve


def measure_curves(
    codecs: dict[str, tuple[PictureCodec, Sequence[float]]], paths: Sequence[Path], progress: Callable[[str], None]
) -> dict[str, Curve]:
    """Every codec's curve, averaged over the pictures per quality.

    Args:
        codecs: by name, with the qualities to measure.
    """
    curves: dict[str, list[Curve]] = {name: [] for name in codecs}
    for k, path in enumerate(paths):
        progress(f"rate-distortion: {path.name} ({k + 1}/{len(paths)})")
        for name, (codec, qualities) in codecs.items():
            curves[name].append(measure_picture(codec, path, qualities))
    return {name: average(measured) for name, measured in curves.items()}


def average(curves: Sequence[Curve]) -> Curve:
    """The mean of bpp, PSNR and MS-SSIM per quality, over pictures that were measured at the same qualities."""
    return [
        Point(points[0].quality, *(float(np.mean([p[k] for p in points])) for k in (1, 2, 3)))
        for points in zip(*curves, strict=True)
    ]


def bpp_at(curve: Curve, db: float) -> float | None:
    """Bits per pixel that `curve` needs for a PSNR of `db`; None beyond its ends.

    The logarithm of the rate is interpolated linearly over PSNR between the measured points.
    """
    rising: Curve = []
    for point in sorted((p for p in curve if math.isfinite(p.psnr)), key=lambda p: p.psnr):
        if not rising or point.psnr > rising[-1].psnr:
            rising.append(point)
    if len(rising) < 2 or not rising[0].psnr <= db <= rising[-1].psnr:
        return None
    return math.exp(float(np.interp(db, [p.psnr for p in rising], [math.log(p.bpp) for p in rising])))


def quality_at(curve: Curve, bpp: float) -> int:
    """The integer quality of `curve`, rising in quality, whose rate comes closest to `bpp`."""
    rates = np.log([p.bpp for p in curve])
    return round(float(np.interp(math.log(bpp), rates, [p.quality for p in curve])))
