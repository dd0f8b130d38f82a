"""The commands `dcae eval ...`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path

import click

from dcae.lazy import LazyGroup

COMMANDS = {
    "rd": "dcae.eval.rd.cli:rd",
    "speed": "dcae.eval.speed.cli:speed",
    "sr": "dcae.sr.cli:evaluate",
}
"""Place of each command that is not in this file, `module:name`."""


@click.group("eval", cls=LazyGroup, places=COMMANDS)
def evaluate() -> None:
    """Measure pictures, codecs and super-resolution."""


@evaluate.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@click.option("--metrics", default="", help="Comma-separated.  [default: all]")
def compare(a: Path, b: Path, metrics: str) -> None:
    """The metrics of two pictures of the same size, on their 8-bit sRGB pixels."""
    from dcae.eval.metrics import METRICS, metrics_named
    from dcae.eval.pictures import load_pixels

    chosen = metrics_named(metrics) if metrics else list(METRICS.values())
    first, second = load_pixels(a), load_pixels(b)
    for metric in chosen:
        click.echo(f"{metric.name.upper():8} {metric.text(metric.measure(first, second))}")
