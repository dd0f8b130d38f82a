"""The field's protocol on any folder: pictures are reduced, enlarged by several upscalers, and scored."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcae.codec.batch import PICTURES, work_list
from dcae.codec.pictures.preparation import Preparation
from dcae.codec.pictures.preparing import prepare
from dcae.errors import DCAEError, OptionError, PictureError
from dcae.files import write_bytes
from dcae.resize import to_float, to_samples
from dcae.sr.protocol.resize import modcrop, reduced
from dcae.sr.protocol.scores import scores
from dcae.sr.upscalers import Upscaler

MIN_SIDE = 16
"""Shortest side in pixels of a picture that is measured."""


@dataclass(frozen=True)
class Row:
    """Result of one upscaler on one picture."""

    picture: str
    """Name of its file."""
    width: int
    height: int
    model: str
    """Name of the upscaler."""
    scale: int
    kernel: str
    """Kernel that reduced the picture."""
    psnr_y: float
    """PSNR of Y in dB."""
    ssim_y: float | None
    """SSIM of Y."""
    psnr_rgb: float
    """PSNR of red, green and blue in dB."""
    seconds: float
    """Wall-clock time of enlarging."""
    parameters: int
    """Learned numbers of the upscaler."""
    kmacs: float
    """Thousand multiplications with addition per pixel of the enlarged picture."""


def load_rgb(path: str) -> NDArray[np.uint8]:
    """Upright sRGB pixels (H, W, 3) of 8 bits.

    Raises:
        PictureError: unreadable, too small, or with transparent pixels.
    """
    picture = prepare(Path(path), Preparation(strip=True)).at_depth(8)
    if picture.alpha is not None:
        raise PictureError(f"{path}: transparent pixels are not measured; flatten it first")
    if min(picture.width, picture.height) < MIN_SIDE:
        raise PictureError(f"{path}: a side of less than {MIN_SIDE} pixels")
    pixels = picture.pixels
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8))


def measured(
    paths: tuple[str, ...], upscalers: list[Upscaler], kernel: str, limit: int | None, say: Callable[[str], None]
) -> Iterator[tuple[str, Row]]:
    """Paths of pictures, and the rows of all upscalers for them.

    Args:
        paths: files, folders, patterns and lists, as of :func:`dcae.codec.batch.work_list`.
        upscalers: of one scale.
        kernel: reduces the pictures; the protocol's is "bicubic".
        limit: stop after so many pictures; None for all.
        say: told of pictures that cannot be measured, which are left out.

    Raises:
        OptionError: a path that does not exist.
        DCAEError: nothing there can be measured.
    """
    names: set[str] = set()
    for source in work_list(paths, PICTURES, False).sources:
        if limit is not None and len(names) >= limit:
            break
        try:
            pixels = load_rgb(source.path)
        except PictureError as error:
            say(f"left out: {error}")
            continue
        name = source.path if source.name in names else source.name  # files of two folders may have one name
        names.add(name)
        for upscaler in upscalers:
            yield source.path, measure(name, pixels, upscaler, kernel)
    if not names:
        raise DCAEError(f"{' '.join(paths)}: no readable picture, nothing to measure")


def measure(name: str, pixels: NDArray[np.uint8], upscaler: Upscaler, kernel: str) -> Row:
    """Result of an upscaler on a picture (H, W, 3)."""
    reference, enlarged, seconds = restored(pixels, upscaler, kernel)
    found, cost = scores(reference, enlarged, upscaler.scale), upscaler.cost()
    height, width = reference.shape[:2]
    return Row(
        name, width, height, upscaler.name, upscaler.scale, kernel, **found._asdict(), seconds=seconds,
        parameters=cost.parameters, kmacs=cost.macs / 1000,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Means over the pictures for each upscaler, as text in columns; PSNR is the mean of the pictures' dB."""
    lines = [("model", "PSNR Y", "SSIM Y", "PSNR RGB", "s/megapixel", "parameters", "kMAC/px")]
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        similar = [row.ssim_y for row in own if row.ssim_y is not None]
        megapixels = sum(row.width * row.height for row in own) / 1e6
        lines.append((
            model, f"{np.mean([row.psnr_y for row in own]):.3f}", f"{np.mean(similar):.4f}" if similar else "-",
            f"{np.mean([row.psnr_rgb for row in own]):.3f}", f"{sum(row.seconds for row in own) / megapixels:.3g}",
            f"{own[0].parameters}", f"{own[0].kmacs:.3g}",
        ))  # fmt: skip
    return in_columns(lines)


def restored(
    pixels: NDArray[np.uint8], upscaler: Upscaler, kernel: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """A picture (H, W, 3) cropped to multiples of the scale; what an upscaler makes of its reduction; and the seconds
    that it takes."""
    reference = modcrop(pixels, upscaler.scale)
    small = to_float(reduced(reference, upscaler.scale, kernel))
    started = time.perf_counter()
    enlarged = to_samples(upscaler(small))
    return reference, enlarged, time.perf_counter() - started


def compared(a: Path, b: Path, scale: int, border: int | None) -> Iterator[str]:
    """Lines with the scores of a picture and its enlarged reduction, both cropped to multiples of the scale.

    Args:
        border: pixels at each side that do not count; None: as many as the scale.

    Raises:
        PictureError: unreadable, too small, or with transparent pixels.
        OptionError: pictures of different sizes, or with nothing inside the border.
    """
    first, second = (modcrop(load_rgb(str(path)), scale) for path in (a, b))
    if first.shape != second.shape:
        sizes = [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (first, second)]
        raise OptionError(f"{a} has {sizes[0]} pixels and {b} {sizes[1]}, at multiples of {scale}; they must be equal")
    found = scores(first, second, scale if border is None else border)
    yield f"PSNR Y   {found.psnr_y:.4f} dB"
    yield f"SSIM Y   {'-' if found.ssim_y is None else f'{found.ssim_y:.6f}'}"
    yield f"PSNR RGB {found.psnr_rgb:.4f} dB"


def in_columns(lines: Sequence[Sequence[str]]) -> str:
    """Cells as text in columns, the first of them to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def write_rows(path: Path, rows: list[Row], force: bool) -> None:
    """Write rows as CSV or JSON, by the suffix of the file.

    Raises:
        OptionError: another suffix, or the file exists and `force` is not set.
        DCAEError: it cannot be written.
    """
    records = [asdict(row) for row in rows]
    if path.suffix == ".json":
        text = json.dumps(records, indent=1) + "\n"
    else:
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        text = lines.getvalue()
    write_bytes(str(path), text.encode(), force)
