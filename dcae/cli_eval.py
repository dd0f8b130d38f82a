"""The commands `dcae eval ...`. Heavy imports happen inside."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dcae.cli_speed import speed
from dcae.errors import DCAEError, OptionError
from dcae.files import write_bytes


@click.group("eval")
def evaluate() -> None:
    """Measure pictures and codecs."""


evaluate.add_command(speed)


@evaluate.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
def compare(a: Path, b: Path) -> None:
    """PSNR and MS-SSIM of two pictures of the same size, on their 8-bit sRGB pixels."""
    from dcae.eval.metrics import ms_ssim, ms_ssim_db, psnr
    from dcae.eval.pictures import load_pixels

    first, second = load_pixels(a), load_pixels(b)
    db, similarity = psnr(first, second), ms_ssim(first, second)
    click.echo(f"PSNR     {db:.4f} dB" if db < float("inf") else "PSNR     inf (identical)")
    if similarity is None:
        click.echo("MS-SSIM  none (a side is below 161 pixels)")
    else:
        click.echo(f"MS-SSIM  {similarity:.6f} ({ms_ssim_db(similarity):.4f} dB)")


@evaluate.command()
@click.argument("pictures", type=Path)
@click.option("-o", "--output", required=True, type=Path, metavar="FOLDER", help="Where the report goes.")
@click.option(
    "--codecs", default="dcae,jpeg,webp,avif,avif-psnr", show_default=True,
    help="Comma-separated; dcae:NAME|PATH for further models of ours.",
)  # fmt: skip
@click.option("--qualities", default="", help="Of the dcae codecs, comma-separated.  [default: all whole ones]")
@click.option("--metrics", default="psnr,ms-ssim", show_default=True, help="Of the BD-rates.")
@click.option("--anchor", default="avif-psnr", show_default=True, help="Codec that BD-rates are over.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), help="Processes.  [default: one per core]")
def rd(pictures: Path, output: Path, codecs: str, qualities: str, metrics: str, anchor: str, jobs: int) -> None:
    """Rate-distortion of codecs on a folder of PICTURES, from real files; continued where it was interrupted.

    FOLDER gets rows.csv (a row per picture, codec and quality), a curve per codec in CompressAI's JSON layout, and
    bd-rate.txt.
    """
    from dcae.eval.pictures import find_pictures
    from dcae.eval.rd import Contestant, contestant, measure
    from dcae.eval.summary import compare, to_compressai, to_text
    from dcae.eval.table import Table, mean_curves

    def say(line: str) -> None:
        click.echo(line, err=True)

    try:
        ladder = [float(q) for q in qualities.split(",") if q.strip()]
    except ValueError as error:
        raise OptionError(f"--qualities {qualities}: numbers separated by commas are wanted ({error})") from error
    contestants: list[Contestant] = []
    for spec in filter(None, (c.strip() for c in codecs.split(","))):
        try:
            contestants.append(contestant(spec, ladder if spec.startswith("dcae") else ()))
        except DCAEError as error:
            say(f"{spec}: left out, {error}")
    if not contestants:
        raise OptionError("no codec left to measure")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{output}: cannot be made a folder ({error.strerror or error})") from error
    table = Table(output / "rows.csv")
    found = find_pictures(pictures.resolve(), None, say)
    measure(found, contestants, table, jobs, lambda done, of, what: say(f"{done}/{of} {what}"))

    labels = [c.label for c in contestants]
    names = {p.name for p in found}
    rows = [row for row in table.rows if row.codec in labels and row.picture in names]
    rows.sort(key=lambda row: (labels.index(row.codec), row.picture, row.quality))
    for codec, points in mean_curves(rows).items():
        write_bytes(str(output / f"{codec.replace(' ', '-')}.json"), to_compressai(codec, points).encode())
    if anchor not in labels:
        say(f"no BD-rates: the anchor {anchor} was not measured")
        return
    text = to_text(compare(rows, anchor, [m.strip() for m in metrics.split(",")]), anchor)
    write_bytes(str(output / "bd-rate.txt"), (text + "\n").encode())
    click.echo(text)
