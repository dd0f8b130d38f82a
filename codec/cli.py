"""The commands `dcae encode`, `decode` and `info`. Heavy imports happen inside."""

from __future__ import annotations

import io
import time
from pathlib import Path

import click

from dcae.errors import OptionError
from dcae.files import check_output, read_bytes, write_bytes
from dcae.models.installed import DEFAULT_MODEL, find_model, find_model_by_id, installed_models
from dcae.runtime.engines import ENGINES

_model = click.option("--model", metavar="NAME|PATH", help="An installed model's name or a model file.")
_device = click.option("--device", default="cpu", show_default=True, help="torch device of the networks.")
_engine = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What runs the networks; auto: onnx (ONNX Runtime) on the CPU for models that it runs, else torch.",
)
_max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    help="Refuse pictures that have more when padded to multiples of 64.  [default: 16777216, or what half of the free "
    "memory holds]",
)
_force = click.option("--force", is_flag=True, help="Overwrite the output.")


def _derived(source: str, suffix: str) -> str:
    if source != "-" and not Path(source).name:
        raise OptionError(f"{source or 'an empty name'}: not a file")
    return "-" if source == "-" else str(Path(source).with_suffix(suffix))


@click.command()
@click.argument("picture")
@click.option("-o", "--output", help="Output file, - for stdout.  [default: the picture's name with .dcae]")
@click.option("-q", "--quality", type=float, help="1 (small) to 8 (good), any number between.  [default: 4]")
@_model
@_device
@_engine
@_force
@_max_pixels
@click.option(
    "--portable", is_flag=True, help="For `paper`: float64 where it decides probabilities. `lite` needs no such thing."
)
def encode(
    picture: str,
    output: str | None,
    quality: float | None,
    model: str | None,
    device: str,
    engine: str,
    force: bool,
    max_pixels: int | None,
    portable: bool,
) -> None:
    """Compress PICTURE (a file that Pillow reads, - for stdin)."""
    output = output or _derived(picture, ".dcae")
    check_output(output, force)
    header = find_model(model or DEFAULT_MODEL)
    quality = header.config.default_quality if quality is None else quality
    header.config.lambda_of(quality)  # before anything heavy is imported
    from dcae.codec.pictures.preparing import prepare

    image = prepare(read_bytes(picture) if picture == "-" else picture)
    started = time.perf_counter()
    from dcae.codec.codec import Codec
    from dcae.codec.limits import affordable_pixels
    from dcae.runtime.process import keep_memory

    keep_memory()
    data = Codec(header.path, device, max_pixels or affordable_pixels(), engine).encode(image, quality, portable)
    write_bytes(output, data, force)
    _report(output, len(data), image.width * image.height, time.perf_counter() - started)


@click.command()
@click.argument("file")
@click.option("-o", "--output", help="Output picture, - for stdout as PNG.  [default: the file's name with .png]")
@_model
@_device
@_engine
@_force
@_max_pixels
def decode(
    file: str, output: str | None, model: str | None, device: str, engine: str, force: bool, max_pixels: int | None
) -> None:
    """Decompress a .dcae FILE (- for stdin) to a picture of the output's type."""
    output = output or _derived(file, ".png")
    check_output(output, force)
    kind = _picture_format(output)
    data = read_bytes(file)
    from dcae.codec.container import read_file_header

    header = read_file_header(data)
    found = find_model(model) if model else find_model_by_id(header.model)
    started = time.perf_counter()
    from dcae.codec.codec import Codec
    from dcae.codec.limits import affordable_pixels
    from dcae.runtime.process import keep_memory

    keep_memory()
    image = Codec(found.path, device, max_pixels or affordable_pixels(), engine).decode(data)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    except MemoryError:
        raise
    except Exception as error:  # a picture too large for the format makes Pillow's writers raise almost anything
        raise OptionError(f"{output}: Pillow cannot write this picture as {kind} ({error})") from error
    write_bytes(output, buffer.getvalue(), force)
    _report(output, len(data), image.width * image.height, time.perf_counter() - started)


def _picture_format(output: str) -> str:
    from PIL import Image

    suffix = Path(output).suffix.lower() if output != "-" else ".png"
    Image.preinit()  # the usual types; all others take as long to import as a picture of 1 megapixel to write
    kind = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        raise OptionError(f"{output}: no picture type that Pillow writes; use .png")
    return kind


def _report(output: str, size: int, pixels: int, seconds: float) -> None:
    click.echo(f"{output}: {size} bytes, {8 * size / pixels:.4f} bpp, {seconds:.2f} s", err=True)


@click.command()
@click.argument("file")
def info(file: str) -> None:
    """Show what a .dcae FILE or a model file says of itself."""
    if file.endswith(".safetensors"):
        _model_info(file)
        return
    from dcae.codec.container import COLOURS, NUMERICS, QUALITY_STEPS, VERSION, read_container

    data = read_bytes(file)
    container = read_container(data)
    header = container.header
    names = [name for name, m in installed_models().items() if m.short_id == header.model]
    rows = {
        "format": f"dcae version {VERSION}, {len(data)} bytes, {8 * len(data) / header.width / header.height:.4f} bpp",
        "picture": f"{header.width} x {header.height}, {COLOURS[header.colour]}",
        "quality": f"{header.quality / QUALITY_STEPS:g}",
        "model": f"{header.model.hex()} ({names[0] if names else 'not installed'})",
        "numerics": NUMERICS[header.numerics],
        "sections": f"z {len(container.z)} bytes, y {len(container.y)} bytes",
        "check": f"{header.check:08x}",
    }
    for name, value in rows.items():
        click.echo(f"{name + ':':10} {value}")


def _model_info(file: str) -> None:
    import json

    header = find_model(file)
    click.echo(f"id:        {header.id}")
    click.echo(f"lambdas:   {' '.join(f'{v:.4g}' for v in header.config.lambdas)}")
    click.echo(f"config:    {json.dumps(header.config.to_dict())}")
    click.echo(f"record:    {json.dumps(header.record)}")
