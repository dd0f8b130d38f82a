"""The commands `dcae eval ...`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

import click

from dcae.lazy import LazyGroup

COMMANDS = {
    "rd": "dcae.eval.rd.cli:rd",
    "speed": "dcae.eval.speed.cli:speed",
    "sr": "dcae.sr.report.cli:evaluate",
}
"""Place of each command that is not in this file, `module:name`."""
PROTOCOLS = {"sr": "dcae.sr.evaluation:compared"}
"""Place of what compares two pictures by a protocol of its own."""


@click.group("eval", cls=LazyGroup, places=COMMANDS)
def evaluate() -> None:
    """Measure pictures, codecs and super-resolution."""


@evaluate.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@click.option("--metrics", default="", help="Comma-separated.  [default: all]")
@click.option(
    "--protocol", type=click.Choice(sorted(PROTOCOLS)),
    help="sr: PSNR and SSIM of Y as super-resolution is measured, of an original A and an enlarged picture B.",
)  # fmt: skip
@click.option(
    "--scale", type=click.IntRange(1, 16), help="Of the protocol: both are cropped to multiples of it."
)  # fmt: skip
@click.option(
    "--border", type=click.IntRange(0),
    help="Of the protocol: pixels at each side that do not count.  [default: the scale]",
)  # fmt: skip
def compare(a: Path, b: Path, metrics: str, protocol: str | None, scale: int | None, border: int | None) -> None:
    """The metrics of two pictures of the same size, on their 8-bit sRGB pixels."""
    if protocol is not None:
        if metrics or scale is None:
            raise click.UsageError("--protocol needs --scale, and has metrics of its own")
        for line in resolve_name(PROTOCOLS[protocol])(a, b, scale, border):
            click.echo(line)
        return
    if scale is not None or border is not None:
        raise click.UsageError("--scale and --border are for --protocol sr")
    from dcae.eval.metrics import METRICS, metrics_named
    from dcae.eval.pictures import load_pixels

    chosen = metrics_named(metrics) if metrics else list(METRICS.values())
    first, second = load_pixels(a), load_pixels(b)
    for metric in chosen:
        click.echo(f"{metric.name.upper():8} {metric.text(metric.measure(first, second))}")
