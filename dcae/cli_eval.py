"""The commands `dcae eval ...`. Heavy imports happen inside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from dcae.cli_speed import speed
from dcae.errors import DCAEError, OptionError


@click.group("eval")
def evaluate() -> None:
    """Measure pictures and codecs."""


evaluate.add_command(speed)


@evaluate.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@click.option("--metrics", default="", help="Comma-separated.  [default: all that are installed]")
def compare(a: Path, b: Path, metrics: str) -> None:
    """The metrics of two pictures of the same size, on their 8-bit sRGB pixels."""
    from dcae.eval.metrics import METRICS, metrics_named
    from dcae.eval.pictures import load_pixels

    chosen = metrics_named(metrics) if metrics else [m for m in METRICS.values() if not m.missing]
    first, second = load_pixels(a), load_pixels(b)
    for metric in chosen:
        click.echo(f"{metric.name.upper():8} {metric.text(metric.measure(first, second))}")


@evaluate.command()
@click.argument("pictures", type=Path)
@click.option("-o", "--output", required=True, type=Path, metavar="FOLDER", help="Where the report goes.")
@click.option(
    "--codecs", default="dcae,jpeg,webp,avif,avif-psnr", show_default=True,
    help="Comma-separated; dcae:NAME|PATH for further models of ours. Also jpeg-444, jxl, heic, vvc, ...: an unknown"
    " name lists all.",
)  # fmt: skip
@click.option("--qualities", default="", help="Of the dcae codecs, comma-separated.  [default: all whole ones]")
@click.option("--metrics", default="psnr,ms-ssim", show_default=True, help="Those to measure.")
@click.option("--anchor", help="Codec that BD-rates are over.  [default: avif-psnr, if it is measured]")
@click.option(
    "--published", "published_curves", multiple=True, metavar="kodak|FILE",
    help="Draw published curves beside: those on Kodak that the package brings, or CompressAI's JSON. Repeatable.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), help="Processes.  [default: one per core]")
def rd(
    pictures: Path,
    output: Path,
    codecs: str,
    qualities: str,
    metrics: str,
    anchor: str | None,
    published_curves: tuple[str, ...],
    jobs: int,
) -> None:
    """Rate-distortion of codecs on a folder of PICTURES, from real files; continued where it was interrupted.

    FOLDER gets index.html, the report; rows.csv, a row per picture, codec and quality; curves/, a curve per codec in
    CompressAI's JSON layout; plots as SVG and PNG; bd-rate.txt and summary.json.
    """
    from dcae.eval.metrics import metrics_named
    from dcae.eval.pictures import find_pictures
    from dcae.eval.published import published
    from dcae.eval.rd import Contestant, contestant, measure
    from dcae.eval.rd_report import make_report, write_report
    from dcae.eval.summary import to_text
    from dcae.eval.table import Table, common_pictures

    def say(line: str) -> None:
        click.echo(line, err=True)

    skipped: list[str] = []

    def skip(line: str) -> None:
        skipped.append(line)
        say(line)

    chosen = metrics_named(metrics)
    try:
        ladder = [float(q) for q in qualities.split(",") if q.strip()]
    except ValueError as error:
        raise OptionError(f"--qualities {qualities}: numbers separated by commas are wanted ({error})") from error
    contestants: list[Contestant] = []
    for spec in filter(None, (c.strip() for c in codecs.split(","))):
        try:
            named = contestant(spec, ladder if spec.startswith("dcae") else ())
        except DCAEError as error:
            skip(f"{spec}: left out, {error}")
            continue
        if named.label in [c.label for c in contestants]:
            skip(f"{spec}: left out, {named.label} is there already")
        else:
            contestants.append(named)
    if not contestants:
        raise OptionError("no codec left to measure")
    labels = [c.label for c in contestants]
    over = anchor if anchor in labels else _label(anchor or "avif-psnr")
    if anchor and over not in labels:
        raise OptionError(f"--anchor {anchor} is not among the codecs to measure: {', '.join(labels)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{output}: cannot be made a folder ({error.strerror or error})") from error
    table = Table(output / "rows.csv")
    found = find_pictures(pictures.resolve(), None, skip)
    others = [curve for name in published_curves for curve in published(name, (p.name for p in found))]
    measure(found, contestants, table, jobs, _progress(say), chosen, skip)

    names = {p.name for p in found}
    rows = [row for row in table.rows if row.codec in labels and row.picture in names]
    if not rows:
        raise DCAEError(f"nothing was measured, {len(skipped)} skipped")
    rows.sort(key=lambda row: (labels.index(row.codec), row.picture, row.quality))
    if left_out := {row.picture for row in rows} - common_pictures(rows):
        say(f"averages are without {len(left_out)} pictures that a codec has no row of: {', '.join(sorted(left_out))}")
    report = make_report(rows, contestants, over, [metric.name for metric in chosen], others)
    write_report(report, output, found, say)
    if report.comparisons:
        click.echo(to_text(report.comparisons, over))
    else:
        say(f"no BD-rates: the anchor {over} was not measured")
    say(f"the report is {output / 'index.html'}")
    if skipped:
        say(f"{len(skipped)} skipped, as said above")


def _label(spec: str) -> str:
    """As rows name the codec; of one that is not there as it is written."""
    from dcae.eval.rd import contestant

    try:
        return contestant(spec).label
    except DCAEError:
        return spec


def _progress(say: Callable[[str], None]) -> Callable[[int, int, str], None]:
    """Says what was done, and for how long it will go on if all tasks take the time of those before."""
    started = time.monotonic()

    def progress(done: int, of: int, what: str) -> None:
        left = round((time.monotonic() - started) / done * (of - done))
        say(f"{done}/{of} {what}" + (f", {left // 60}:{left % 60:02} left" if left else ""))

    return progress
