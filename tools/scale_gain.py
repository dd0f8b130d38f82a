"""What coding pictures small gains or costs at low rates; the numbers and the plot of docs/scale.md:

    python tools/scale_gain.py kodim01.png kodim05.png ... -o docs/scale/kodak

Every picture is coded whole, at half its size and with `--scale auto`, into real files that are decoded. Half pictures
are enlarged by several upscalers. FOLDER gets `rows.csv`, which a later run continues, and `curves.svg`; the table that
is printed compares, at the bytes of each whole file, whole and half by interpolation between measured points, and what
`auto` took. PSNR is that of red, green and blue.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.codec.enlarging import enlarged
from dcae.codec.pictures.picture import Picture
from dcae.codec.pictures.preparing import prepare
from dcae.codec.scaling import encode_as_asked
from dcae.codec.targets import Asked, psnr_of
from dcae.models.installed import find_model
from dcae.upscalers import find_upscaler

HALF = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
"""Qualities at which half pictures are coded."""
MARKS = {"whole": "o-", "half": "s-", "auto": "x"}


class Row(NamedTuple):
    """A file."""

    model: str
    """Name of the model, and the first half of its id."""
    effort: int
    picture: str
    kind: str
    """whole, half or auto."""
    upscaler: str
    quality: float
    """Asked for."""
    bpp: float
    psnr: float
    coded: str
    """Size that is coded, WIDTHxHEIGHT."""


def main() -> None:
    """Measure what is lacking, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--qualities", default="1,1.5,2", help="of whole pictures and auto")
    parser.add_argument("--upscalers", default="tables,bicubic,lanczos,sr-small", help="the first one is that of files")
    parser.add_argument("--effort", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path, upscalers = options.output / "rows.csv", options.upscalers.split(",")
    codec, header = Codec("lite"), find_model("lite")
    model = f"{header.path.stem} {header.short_id.hex()}"
    # Rows of another model or effort are measured anew, so that no table mixes them.
    rows = [row for row in read_rows(path) if (row.model, row.effort) == (model, options.effort)]
    have = {(row.picture, row.kind, row.quality) for row in rows}
    whole = [float(quality) for quality in options.qualities.split(",")]
    for source in options.pictures:
        picture = prepare(source)
        for kind, qualities in {"whole": whole, "half": HALF, "auto": whole}.items():
            for quality in qualities:
                if (source.stem, kind, quality) not in have:
                    found = measured(codec, source.stem, picture, kind, quality, upscalers, options.effort)
                    rows += [Row(model, options.effort, *row) for row in found]
                    write_rows(path, rows)
        print(source.stem, flush=True)
    print(f"{model}, effort {options.effort}\n\n{table(rows, upscalers)}")
    plot(rows, upscalers[0], options.output / "curves.svg")


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier run, if there was one."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        numbers = {"quality", "bpp", "psnr"}
        rows = [{k: float(v) if k in numbers else v for k, v in row.items()} for row in csv.DictReader(file)]
        return [Row(**row | {"effort": int(row["effort"])}) for row in rows if set(row) == set(Row._fields)]  # type: ignore[arg-type]


def write_rows(path: Path, rows: list[Row]) -> None:
    """All rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows:
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in row])


def measured(
    codec: Codec, name: str, picture: Picture, kind: str, quality: float, upscalers: list[str], effort: int
) -> Iterator[tuple[Any, ...]]:
    """The fields of :class:`Row` from `picture` on, of one file, several times if several upscalers enlarge it."""
    divisor = {"whole": 1, "half": 2, "auto": None}[kind]
    data = encode_as_asked(codec, picture, Asked(quality, None, divisor), {"effort": effort}).data
    header = read_container(data).header
    bpp = 8 * len(data) / (picture.width * picture.height)
    native = codec.decode_picture(data, native=True)
    for upscaler in upscalers if kind == "half" else upscalers[:1]:
        shown = native
        if header.width < picture.width:
            shown = enlarged(native, find_upscaler(upscaler, 2))
        psnr = psnr_of(picture.at_depth(8).pixels, shown.at_depth(8).pixels[: picture.height, : picture.width])
        used = upscaler if shown is not native else ""
        yield name, kind, used, quality, bpp, psnr, f"{header.width}x{header.height}"


def at(rows: list[Row], bpp: float) -> float:
    """PSNR of a curve at a rate, linear over the logarithm of the rate; nan outside of it."""
    points = sorted((math.log(row.bpp), row.psnr) for row in rows)
    inside = points and points[0][0] <= math.log(bpp) <= points[-1][0]
    return float(np.interp(math.log(bpp), *zip(*points, strict=True))) if inside else math.nan


def table(rows: list[Row], upscalers: list[str]) -> str:
    """Gain of the half picture over the whole one at the same bytes, by upscaler, and what auto took."""
    lines = [
        f"| picture | quality | bpp | whole, dB | {' | '.join(f'half, {name}' for name in upscalers)} | auto |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * (len(upscalers) + 1),
    ]
    for row in (row for row in rows if row.kind == "whole"):
        of_it = [other for other in rows if other.picture == row.picture]
        halves = [
            at([other for other in of_it if other.kind == "half" and other.upscaler == name], row.bpp) - row.psnr
            for name in upscalers
        ]
        auto = next((other for other in of_it if other.kind == "auto" and other.quality == row.quality), None)
        gained = "" if auto is None else f"{auto.psnr - row.psnr:+.2f}" if auto.upscaler else "whole"
        cells = ["" if math.isnan(value) else f"{value:+.2f}" for value in halves]
        lines.append(
            f"| {row.picture} | {row.quality:g} | {row.bpp:.3f} | {row.psnr:.2f} | {' | '.join(cells)} | {gained} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row], upscaler: str, path: Path) -> None:
    """A panel for each picture: whole, half by the upscaler of files, auto."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.picture for row in rows))
    columns = min(3, len(names))
    figure = Figure(figsize=(4 * columns, 3 * math.ceil(len(names) / columns)), layout="constrained")
    for k, name in enumerate(names, 1):
        axes = figure.add_subplot(math.ceil(len(names) / columns), columns, k, title=name)
        for kind, mark in MARKS.items():
            of_it = [row for row in rows if (row.picture, row.kind) == (name, kind)]
            points = sorted((row.bpp, row.psnr) for row in of_it if row.upscaler in ("", upscaler))
            axes.plot(*zip(*points, strict=True), mark, label=kind, markersize=8 if kind == "auto" else 4)
        axes.set(xlabel="bpp", ylabel="PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
