"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from dcae.codec.limits import MAX_PIXELS
from dcae.runtime.engines import ENGINES
from dcae.upscalers import UPSCALER

F = TypeVar("F", bound=Callable[..., object])


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, listed by `--help` in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def coding(function: F) -> F:
    """How a file is coded."""
    return _all(
        click.option("--model", metavar="NAME|PATH", help="An installed model's name or a model file."),
        click.option("--device", default="cpu", show_default=True, help="torch device of the networks."),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            default="auto",
            show_default=True,
            help="What runs the networks; auto: onnx (ONNX Runtime) on the CPU for models that it runs, else torch.",
        ),
        click.option(
            "--max-pixels",
            type=click.IntRange(1),
            help=f"Refuse pictures that have more when padded to multiples of 64.  [default: {MAX_PIXELS}, or what "
            "half of the free memory holds]",
        ),
    )(function)


def upscaler(function: F) -> F:
    """What enlarges pictures."""
    return click.option(
        "--upscaler", default=UPSCALER, show_default=True, metavar="NAME|PATH",
        help="What enlarges: an installed model's name or a model file; in decode also a kernel such as bicubic.",
    )(function)  # fmt: skip


def check_enlarged() -> None:
    """Refuse --upscaler in a command that enlarges nothing.

    Raises:
        click.UsageError: it is given.
    """
    if click.get_current_context().get_parameter_source("upscaler") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--upscaler goes with a --scale other than 1")


def preparation(function: F) -> F:
    """What is made of a picture before it is coded."""
    return _all(
        click.option(
            "--frame",
            type=click.IntRange(0),
            metavar="N",
            help="Which picture of an animation or of several pages, from 0.",
        ),
        click.option("--background", metavar="COLOUR", help="Put a colour under transparent pixels: white, #ffcc00."),
        click.option("--strip", is_flag=True, help="Drop EXIF, XMP and ICC profile; pixels become sRGB."),
        click.option("--to-srgb", is_flag=True, help="Convert to sRGB by the ICC profile, instead of keeping it."),
    )(function)


def batch(function: F) -> F:
    """Which files, and how a batch of them is worked on."""
    return _all(
        recursive,
        click.option(
            "-j",
            "--jobs",
            type=click.IntRange(0),
            default=1,
            show_default=True,
            help="Processes, each with "
            "one thread and a model of its own; 0: one for each core. With 1, one picture uses all cores.",
        ),
        click.option("--force", is_flag=True, help="Overwrite outputs."),
        click.option("--skip-existing", is_flag=True, help="Leave out files whose output exists: continues a batch."),
        click.option(
            "--runner",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="What a batch is run by: this machine, or a Ray cluster (RAY_ADDRESS; with --jobs actors, 0: all).",
        ),
        click.option(
            "--manifest",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Append a line of JSON for each file of a batch: source, output, bytes or error.",
        ),
        click.option("--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", is_flag=True, help="Name files that are left out, too."),
    )(function)


def recursive(function: F) -> F:
    """The option for folders in folders."""
    return click.option("-r", "--recursive", is_flag=True, help="Also take files in folders of folders.")(function)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
