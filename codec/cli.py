"""The commands `dcae encode`, `decode` and `info`. Heavy imports happen inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcae.codec import options
from dcae.codec.batch import (
    PICTURES,
    SUFFIX,
    Job,
    decoded_name,
    encoded_name,
    is_batch,
    is_folder,
    jobs_into,
    make_folders,
    unfinished,
    work_list,
)
from dcae.errors import DCAEError, OptionError, one_line
from dcae.files import check_output, read_bytes
from dcae.models.installed import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from dcae.codec.filecoders import FileCoder
    from dcae.codec.targets import Target


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("-o", "--output", help="Output file, - for stdout, or folder.  [default: the picture's name with .dcae]")
@click.option("-q", "--quality", type=float, help="1 (small) to 8 (good), any number between.  [default: 4]")
@click.option("--target-size", metavar="SIZE", help="Largest file of at most so many bytes: 200000, 200k, 1.5M, 64KiB.")
@click.option("--target-bpp", type=float, help="The same in bits per pixel.")
@click.option("--target-psnr", type=float, help="Smallest file whose picture has at least so many dB.")
@click.option(
    "--effort", type=click.IntRange(0, 4), default=0, show_default=True,
    help="How long to search for a smaller file of the same quality; above 0 it needs torch.",
)  # fmt: skip
@options.preparation
@click.option(
    "--fallback/--no-fallback", default=True, show_default=True,
    help="Store the picture without loss where that is no larger.",
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
    effort: int,
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
    folders, quoted patterns, and @FILE with a path in each line.
    """
    target = _target(quality, target_size, target_bpp, target_psnr)
    header = find_model(model or DEFAULT_MODEL)
    if target is None:
        quality = header.config.default_quality if quality is None else quality
        header.config.lambda_of(quality)  # before anything heavy is imported
    if output is not None and not is_folder(output) and Path(output).suffix.lower() in PICTURES:
        raise OptionError(f"{output}: the name of a picture; files of encode end in {SUFFIX}")

    if effort and settings["engine"] == "auto":
        settings["engine"] = "torch"  # which alone knows gradients

    def coder(**shared: Any) -> FileCoder:
        from dcae.codec.filecoders import FileEncoder
        from dcae.codec.pictures.preparation import Preparation

        how = Preparation(frame, background, strip, to_srgb)
        coding = {"portable": portable, "effort": effort, "fallback": fallback}
        return FileEncoder(
            model=header.path, quality=quality, target=target, preparation=how, options=coding, **shared
        )  # fmt: skip

    _work(pictures, output, PICTURES, encoded_name, SUFFIX, coder, "encoded", **settings)


def _target(quality: float | None, size: str | None, bpp: float | None, psnr: float | None) -> Target | None:
    if size is bpp is psnr is None:
        return None
    from dcae.codec.targets import Target, parse_size

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
    "--picture-quality", type=click.IntRange(1, 100), help="Of JPEG, WebP and AVIF that are written.  [default: 95]"
)
@click.option("--depth", type=click.Choice(["8", "16"]), help="Bits of a sample.  [default: as the picture had]")
@click.option("--background", metavar="COLOUR", help="Put a colour under transparent pixels: white, #ffcc00.")
@click.option("--fit", type=click.IntRange(1), metavar="SIDE", help="Shrink to at most so many pixels a side.")
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
    model: str | None,
    **settings: Any,
) -> None:
    """Decompress .dcae FILES.

    One (- for stdin) becomes a picture of the output's type. Several go into a folder, `-o DIR`, as photo.png: files,
    folders, quoted patterns, and @FILE with a path in each line.
    """
    from dcae.codec.output import check_quality, type_of

    suffix = (kind or "png").lower().lstrip(".")
    found_kind = type_of("-" if output is None or is_batch(files, output) else output, kind)
    check_quality(found_kind, picture_quality)
    path = find_model(model).path if model else None

    def coder(**shared: Any) -> FileCoder:
        from dcae.codec.filecoders import FileDecoder

        bits = None if depth is None else int(depth)
        return FileDecoder(
            model=path, kind=found_kind, picture_quality=picture_quality, fit=fit, depth=bits, background=background,
            **shared,
        )  # fmt: skip

    def rename(name: str) -> str:
        return decoded_name(name, suffix)

    _work(files, output, frozenset({SUFFIX}), rename, f".{suffix}", coder, "decoded", **settings)


def _work(
    paths: tuple[str, ...],
    output: str | None,
    suffixes: frozenset[str],
    rename: Callable[[str], str],
    suffix: str,
    coder: Callable[..., FileCoder],
    verb: str,
    *,
    recursive: bool,
    jobs: int,
    force: bool,
    skip_existing: bool,
    quiet: bool,
    verbose: bool,
    **shared: Any,
) -> None:
    """One file to its output, or a batch into a folder."""
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing exclude each other")
    if is_batch(paths, output):
        if output is None:
            raise click.UsageError("several files need a folder to go to: -o DIR")
        work = _batch(paths, output, suffixes, rename, recursive, quiet, verbose)
        todo = unfinished(work, skip_existing, force)
        processes = min(jobs or options.cores(), len(todo))
        make_folders(todo)
        _run(
            coder(force=force, sharing=max(processes, 1), **shared), todo, processes, len(work) - len(todo), verb, quiet
        )
        return
    output = output or _derived(paths[0], suffix)
    job = Job(paths[0], output)
    if skip_existing and output != "-" and not unfinished([job], skip_existing, force):
        return
    check_output(output, force)
    done = coder(force=force, **shared)(job)
    if not quiet:
        click.echo(f"{output}: {done.said}", err=True)


def _derived(source: str, suffix: str) -> str:
    if source != "-" and not Path(source).name:
        raise OptionError(f"{source or 'an empty name'}: not a file")
    return "-" if source == "-" else str(Path(source).with_suffix(suffix))


def _batch(
    paths: tuple[str, ...],
    output: str,
    suffixes: frozenset[str],
    rename: Callable[[str], str],
    recursive: bool,
    quiet: bool,
    verbose: bool,
) -> list[Job]:
    """The jobs of a batch."""
    if not is_folder(output) and (output == "-" or Path(output).suffix.lower() in {SUFFIX, *PICTURES}):
        raise OptionError(f"{output}: several files need a folder to go to; a name of one that is new ends with /")
    if Path(output).exists() and not Path(output).is_dir():
        raise OptionError(f"{output}: not a folder, which several files need to go to")
    work = work_list(paths, suffixes, recursive)
    if not work.sources:
        more = "" if recursive else " (folders in folders are looked into with -r)"
        raise OptionError(f"{' '.join(paths)}: nothing to do, no file of the right type{more}")
    if work.left_out and not quiet:
        for path in work.left_out if verbose else ():
            click.echo(f"{one_line(path)}: left out, of another type", err=True)
        click.echo(
            f"{len(work.left_out)} files of other types left out{'' if verbose else ' (-v names them)'}", err=True
        )
    return jobs_into(output, work.sources, rename)


def _run(coder: FileCoder, jobs: list[Job], processes: int, skipped: int, verb: str, quiet: bool) -> None:
    """Do the jobs of a batch.

    Raises:
        click.exceptions.Exit: with code 1, some failed.
    """
    from dcae.codec.progress import Progress
    from dcae.codec.workers import outcomes

    with Progress(verb, len(jobs), skipped, quiet) as progress:
        for outcome in outcomes(coder, jobs, processes):
            progress.take(outcome)
    progress.summary()
    if progress.failed:
        raise click.exceptions.Exit(1)


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
            named = str(error) if path in str(error) else f"{path}: {error}"
            click.echo(f"dcae: {one_line(named)}", err=True)
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
        rows["lambdas"] = " ".join(f"{v:.4g}" for v in found["lambdas"])
    else:
        described = file_info(read_bytes(path))
        found, rows = described.as_dict(), described.rows()
    if as_json:
        return json.dumps({"file": path} | found)
    lines = [f"{name + ':':10} {value}" for name, value in rows.items()]
    return "\n".join([f"{one_line(path)}", *lines, ""] if named else lines)
