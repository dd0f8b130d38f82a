"""The commands `dcae encode`, `decode` and `info`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcae.codec import options
from dcae.codec.batch import PICTURES, SUFFIX, decoded_name, encoded_name, is_batch, is_folder, work_list
from dcae.codec.run import Work, run
from dcae.codec.targets import SCALES, Asked, Target, divisor_of, parse_size
from dcae.codec.tuning import model_or_default, tune_for
from dcae.errors import DCAEError, OptionError, naming, one_line
from dcae.files import read_bytes
from dcae.models.installed import find_model

if TYPE_CHECKING:
    from dcae.codec.filecoders import FileCoder


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("-o", "--output", help="Output file, - for stdout, or folder.  [default: the picture's name with .dcae]")
@click.option("-q", "--quality", type=float, help="1 (small) to 8 (good), any number between.  [default: 4]")
@click.option("--target-size", metavar="SIZE", help="Largest file of at most so many bytes: 200000, 200k, 1.5M, 64KiB.")
@click.option("--target-bpp", type=float, help="The same in bits per pixel.")
@click.option("--target-psnr", type=float, help="Smallest file whose picture has at least so many dB.")
@click.option(
    "--effort", type=click.IntRange(0, 4),
    help="How long to search for a file of fewer bytes for its quality.  [default: 2; for `paper` 0]",
)  # fmt: skip
@click.option(
    "--tune", type=click.Choice(["psnr", "ms-ssim"]),
    help="What that quality is measured by: squared errors, or the similarity of structures, for which the default "
    "model is `lite-msssim`.  [default: what the model was trained for; psnr]",
)  # fmt: skip
@click.option("--roi", metavar="MASK", help="Gray picture of the same size: black where errors need not count.")
@options.preparation
@click.option(
    "--scale", type=click.Choice(SCALES), default=SCALES[0], show_default=True,
    help="Code the picture smaller; decoding enlarges it. auto: at half its size, where that has more PSNR.",
)  # fmt: skip
@options.upscaler
@click.option(
    "--fallback/--no-fallback", default=True, show_default=True,
    help="Store the picture without loss where that is no larger, and a drawing as AVIF where that is better.",
)  # fmt: skip
@options.coding
@options.batch
@click.option(
    "--portable", is_flag=True, help="For `paper`: float64 where it decides probabilities. `lite` needs no such thing."
)
def encode(
    pictures: tuple[str, ...],
    output: str | None,
    quality: float | None,
    target_size: str | None,
    target_bpp: float | None,
    target_psnr: float | None,
    model: str | None,
    effort: int | None,
    tune: str | None,
    roi: str | None,
    scale: str,
    upscaler: str,
    fallback: bool,
    frame: int | None,
    background: str | None,
    strip: bool,
    to_srgb: bool,
    portable: bool,
    **settings: Any,
) -> None:
    """Compress PICTURES.

    Each is a file that Pillow reads or - for stdin. Several go into a folder, `-o DIR`, as photo.jpg.dcae: files,
    folders, quoted patterns, and @FILE with a path in each line. With Ray, URLs of files and folders as well.
    """
    if scale == "1":
        options.check_enlarged()
    target = _target(quality, target_size, target_bpp, target_psnr)
    header = find_model(model_or_default(model, tune))
    if target is None:
        quality = header.config.default_quality if quality is None else quality
        header.config.lambda_of(quality)  # before anything heavy is imported
    if output is not None and not is_folder(output) and Path(output).suffix.lower() in PICTURES:
        raise OptionError(f"{output}: the name of a picture; files of encode end in {SUFFIX}")

    _check_background(background)

    def coder(**shared: Any) -> FileCoder:
        from dcae.codec.effort import effort_or_default
        from dcae.codec.filecoders import FileEncoder
        from dcae.codec.pictures.preparation import Preparation

        how = Preparation(frame, background, strip, to_srgb)
        how_long = effort_or_default(effort, header.config)
        coding: dict[str, Any] = {"portable": portable, "effort": how_long, "fallback": fallback, "upscaler": upscaler}
        coding["tune"] = tune_for(tune, how_long, header.config)
        asked = Asked(quality, target, divisor_of(scale))
        made = FileEncoder(model=header.path, asked=asked, preparation=how, options=coding, **shared)
        if roi is not None:
            coding["roi"] = made.mask(roi)
        return made

    work = Work("encoded", PICTURES, SUFFIX, encoded_name, coder)
    run(work, pictures, output, **settings)


def _check_background(colour: str | None) -> None:
    if colour is not None:
        from dcae.codec.pictures.preparing import colour_named

        colour_named(colour)


def _target(quality: float | None, size: str | None, bpp: float | None, psnr: float | None) -> Target | None:
    if size is bpp is psnr is None:
        return None
    if quality is not None:
        raise click.UsageError("give a quality or a target, not both")
    return Target(None if size is None else parse_size(size), bpp, psnr)


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "-o", "--output", help="Output picture, - for stdout as PNG, or folder.  [default: the file's name with .png]"
)
@click.option(
    "--format", "kind", metavar="TYPE", help="png, jpg, webp, ...  [default: the output's suffix; png in a folder]"
)
@click.option(
    "--picture-quality",
    type=click.IntRange(1, 100),
    help="Of written JPEG, WebP, AVIF and HEIC.  [default: 95]",
)
@click.option("--depth", type=click.Choice(["8", "16"]), help="Bits of a sample.  [default: as the picture had]")
@click.option("--background", metavar="COLOUR", help="Put a colour under transparent pixels: white, #ffcc00.")
@click.option("--fit", type=click.IntRange(1), metavar="SIDE", help="Shrink to at most so many pixels a side.")
@click.option("--native", is_flag=True, help="Leave a picture that was coded small as small as it is.")
@click.option("--scale", type=click.IntRange(1, 4), default=1, show_default=True, help="Enlarge the decoded picture.")
@options.upscaler
@options.coding
@options.batch
def decode(
    files: tuple[str, ...],
    output: str | None,
    kind: str | None,
    picture_quality: int | None,
    depth: str | None,
    background: str | None,
    fit: int | None,
    native: bool,
    scale: int,
    upscaler: str,
    model: str | None,
    **settings: Any,
) -> None:
    """Decompress .dcae FILES.

    One (- for stdin) becomes a picture of the output's type. Several go into a folder, `-o DIR`, as photo.png: files,
    folders, quoted patterns, and @FILE with a path in each line.
    """
    from dcae.codec.output import check_quality, type_of

    if scale == 1:
        options.check_enlarged()
    suffix = (kind or "png").lower().lstrip(".")
    many = output is None or settings["runner"] == "ray" or is_batch(files, output)
    found_kind = type_of("-" if output is None or many else output, kind)
    check_quality(found_kind, picture_quality)
    path = find_model(model).path if model else None
    _check_background(background)

    def coder(**shared: Any) -> FileCoder:
        from dcae.codec.filecoders import FileDecoder

        bits = None if depth is None else int(depth)
        return FileDecoder(
            model=path, kind=found_kind, picture_quality=picture_quality, fit=fit, depth=bits, background=background,
            native=native, scale=scale, upscaler=upscaler, **shared,
        )  # fmt: skip

    def rename(name: str) -> str:
        return decoded_name(name, suffix)

    work = Work("decoded", frozenset({SUFFIX}), f".{suffix}", rename, coder)
    run(work, files, output, **settings)


@click.command()
@click.argument("files", nargs=-1, required=True)
@options.recursive
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file, in a line of its own.")
def info(files: tuple[str, ...], recursive: bool, as_json: bool) -> None:
    """Show what .dcae FILES or model files say of themselves; folders, patterns and @FILE as for decode."""
    paths = list(files)
    if is_batch(files, None):
        paths = [source.path for source in work_list(files, frozenset({SUFFIX}), recursive).sources]
    failed = False
    for path in paths:
        try:
            text = _described(path, as_json, named=len(paths) > 1)
        except DCAEError as error:
            click.echo(f"dcae: {one_line(naming(path, str(error)))}", err=True)
            failed = True
        else:
            click.echo(text)
    if failed:
        raise click.exceptions.Exit(1)


def _described(path: str, as_json: bool, named: bool) -> str:
    """A file's description in rows, below its name if there are others, or as JSON."""
    import json

    from dcae.codec.describe import file_info, model_info

    if path.endswith(".safetensors"):
        found = model_info(path)
        rows = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
        if "lambdas" in found:
            rows["lambdas"] = " ".join(f"{v:.4g}" for v in found["lambdas"])
    else:
        described = file_info(read_bytes(path))
        found, rows = described.as_dict(), described.rows()
    if as_json:
        return json.dumps({"file": path} | found)
    lines = [f"{name + ':':10} {value}" for name, value in rows.items()]
    return "\n".join([f"{one_line(path)}", *lines, ""] if named else lines)
