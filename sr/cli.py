"""The commands `dcae upscale`, `downscale` and `import-upscaler`. Heavy imports happen inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dcae.codec import batch, options
from dcae.codec.batch import PICTURES
from dcae.codec.run import Work, run
from dcae.errors import one_line
from dcae.extras import require
from dcae.models.installed import check_model_output

if TYPE_CHECKING:
    from dcae.sr.files import FileScaler

F = TypeVar("F", bound=Callable[..., object])
KERNEL_NAMES = ("bicubic", "lanczos", "bilinear", "box")
"""Names of `dcae.resize.KERNELS`, whose module imports NumPy."""
_ON_THE_CPU: dict[str, Any] = {"device": "cpu", "engine": "auto"}

kernel_option = click.option(
    "--kernel", type=click.Choice(KERNEL_NAMES), default=KERNEL_NAMES[0], show_default=True,
    help="What reduces the pictures; that of the field's benchmarks is bicubic.",
)  # fmt: skip
_WRITING = (
    click.option("-o", "--output", required=True, help="Output picture, - for stdout as PNG, or folder."),
    click.option(
        "--format", "kind", metavar="TYPE", help="png, jpg, webp, ...  [default: the output's suffix; png in a folder]"
    ),
    click.option(
        "--picture-quality", type=click.IntRange(1, 100), help="Of JPEG, WebP and AVIF that are written.  [default: 95]"
    ),
    click.option("--depth", type=click.Choice(["8", "16"]), help="Bits of a sample.  [default: as the picture has]"),
    click.option(
        "--max-pixels", type=click.IntRange(1),
        help="Refuse pictures that have more when padded to multiples of 64.  [default: what half of the free memory "
        "holds]",
    ),
)  # fmt: skip


def _writing(function: F) -> F:
    """What is written."""
    for option in reversed(_WRITING):
        function = option(function)
    return function


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--scale", type=click.IntRange(2, 16), required=True, help="Divisor of both sides.")
@kernel_option
@_writing
@options.preparation
@options.batch
def downscale(pictures: tuple[str, ...], scale: int, kernel: str, **settings: Any) -> None:
    """Reduce PICTURES as super-resolution's benchmarks do.

    Sides are cropped to multiples of the scale, samples weighted as by MATLAB's imresize with antialiasing, and
    rounded. Files, folders, quoted patterns and @FILE as for encode; those of a folder keep their names.
    """

    def scaler(**shared: Any) -> FileScaler:
        from dcae.sr.files import FileDownscaler

        return FileDownscaler(scale=scale, kernel=kernel, **shared)

    _run_scaler("reduced", scaler, pictures, **_ON_THE_CPU, **settings)


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="Factor on both sides.")
@click.option(
    "--model", metavar="NAME|PATH",
    help=f"An installed model's name, a model file, or a kernel: {', '.join(KERNEL_NAMES)}.  [default: the newest "
    "installed tables of the scale, else bicubic]",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="torch device of a network.")
@click.option(
    "--tile", type=click.IntRange(0),
    help="Side in pixels of the parts of a picture that a model enlarges at once; 0: whole pictures.  [default: what "
    "--memory has room for, at most 256 for networks and 512 for tables]",
)  # fmt: skip
@click.option(
    "--memory", metavar="SIZE",
    help="Memory that those parts may take in each process: 500M, 2GiB.  [default: half of what is free, shared by "
    "the processes]",
)  # fmt: skip
@click.option(
    "--frames",
    is_flag=True,
    help="PICTURES is the folder of a video's frames: all of one size, in the order of the numbers in their names.",
)
@_writing
@options.preparation
@options.batch
def upscale(
    pictures: tuple[str, ...], scale: int, model: str | None, device: str, tile: int | None, memory: str | None,
    frames: bool, **settings: Any,
) -> None:  # fmt: skip
    """Enlarge PICTURES.

    Alpha, gray, 16 bits and metadata are kept. Files, folders, quoted patterns and @FILE as for encode; those of a
    folder keep their names. When memory runs out, smaller parts are tried.
    """
    if tile is not None and memory is not None:
        raise click.UsageError("give --tile or --memory, not both")
    from dcae.codec.targets import parse_size
    from dcae.sr.find import look_up

    found = look_up(model, scale)
    found.check(device, tile is not None or memory is not None)
    size = None if memory is None else parse_size(memory)
    if frames:
        pictures = _frames(pictures, **settings)
        settings["output"] = os.path.join(settings["output"], "")  # a folder, of a single frame as well
    if not settings["quiet"]:
        click.echo(f"enlarging by {scale} with {one_line(found.name)}", err=True)

    def scaler(**shared: Any) -> FileScaler:
        from dcae.sr.files import FileUpscaler

        return FileUpscaler(scale=scale, model=found.reference, tile=tile, memory=size, **shared)

    _run_scaler("enlarged", scaler, pictures, device=device, engine="auto", **settings)


def _frames(
    pictures: tuple[str, ...], *, output: str, recursive: bool, runner: str, quiet: bool, **_: Any
) -> tuple[str, ...]:
    """The frames of a folder, in their order; what is odd about them is said."""
    from dcae.sr.frames import frames_of

    if len(pictures) != 1 or recursive or runner != "local":
        raise click.UsageError("--frames takes one folder, without -r and --runner")
    if output == "-":
        raise click.UsageError("frames need a folder to go to: -o DIR")
    return frames_of(pictures[0], (lambda line: None) if quiet else lambda line: click.echo(one_line(line), err=True))


def _run_scaler(
    done: str, scaler: Callable[..., FileScaler], pictures: tuple[str, ...], *, output: str, kind: str | None,
    picture_quality: int | None, depth: str | None, frame: int | None, background: str | None, strip: bool,
    to_srgb: bool, **settings: Any,
) -> None:  # fmt: skip
    """Run what makes pictures of pictures.

    Args:
        done: past participle of it.
        scaler: makes it.
        settings: as of :func:`dcae.codec.run.run`.
    """
    from dcae.codec.output import check_quality, type_of
    from dcae.codec.pictures.preparation import Preparation

    suffix = (kind or "png").lower().lstrip(".")
    many = settings["runner"] == "ray" or batch.is_batch(pictures, output)
    found = type_of(f"x.{suffix}" if many else output, kind)
    check_quality(found, picture_quality)
    if background is not None:
        from dcae.codec.pictures.preparing import colour_named

        colour_named(background)

    def coder(**shared: Any) -> FileScaler:
        return scaler(
            kind=found, picture_quality=picture_quality, depth=None if depth is None else int(depth),
            preparation=Preparation(frame, background, strip, to_srgb), **shared,
        )  # fmt: skip

    def rename(name: str) -> str:
        return str(Path(name).with_suffix(f".{suffix}"))

    run(Work(done, PICTURES, f".{suffix}", rename, coder), pictures, output, **settings)


@click.command("import-upscaler")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Model file (.safetensors).")
@click.option(
    "--img-range", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
    help="Of DRCT; what no tensor tells, and 1 in all that are published.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the output.")
def import_upscaler(source: Path, output: Path, img_range: float, force: bool) -> None:
    """Turn a published SOURCE into a model file.

    A checkpoint (.pth) of DRCT or SRGAN's generator, whose architecture is read from the file; or the folder of the
    tables (.npy) of an SR-LUT, MuLUT, SPF-LUT or AutoLUT, or one of them where a folder has those of several.
    """
    check_model_output(str(output), force)
    if source.is_dir() or source.suffix == ".npy":
        _import_tables(source, output, force)
        return
    require("checkpoints need", "torch", "torch")
    from dcae.sr.models import write_network
    from dcae.sr.networks.importer import import_upscaler as read

    network = read(source, img_range)
    header = write_network(network, output, {"imported_from": source.name}, force)
    what = f"{header.config.preset} x{network.config.scale}, {network.cost().parameters} parameters"
    click.echo(f"{output}: {what}, model {header.short_id.hex()}", err=True)


def _import_tables(source: Path, output: Path, force: bool) -> None:
    from dcae.sr.tables.importer import import_tables
    from dcae.sr.tables.layout import table_bytes
    from dcae.sr.tables.tablefile import write_tables

    config, tensors, files = import_tables(source)
    header = write_tables(output, config, tensors, {"imported_from": files}, force)
    what = f"tables x{config.scale}, {len(files)} files, {table_bytes(config)} bytes"
    click.echo(f"{output}: {what}, model {header.short_id.hex()}", err=True)
