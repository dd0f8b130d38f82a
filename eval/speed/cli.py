"""The command `dcae eval speed`. Heavy imports happen inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from dcae.errors import OptionError
from dcae.extras import require
from dcae.files import write_bytes
from dcae.models.installed import DEFAULT_MODEL

_T = TypeVar("_T", int, float)


@click.command()
@click.argument("pictures", type=Path)
@click.option("-o", "--output", required=True, type=Path, metavar="FOLDER", help="Where the report goes.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, metavar="NAME|PATH")
@click.option("-q", "--quality", default=4.0, show_default=True)
@click.option("--sizes", default="0.1,0.4,1.5,6,12,24,50", show_default=True, help="Megapixels, comma-separated.")
@click.option("--threads", help="Numbers of threads, comma-separated.  [default: 1 and the number of cores]")
@click.option("--repeats", default=1, show_default=True, help="Rounds over the codecs, the fastest counts.")
@click.option(
    "--paper-up-to", default=0.4, show_default=True, metavar="MP", help="Largest picture for the published network."
)
@click.option("--skip", default="", help="Leave out, comma-separated: torch, paper, process, odd, complexity.")
@click.option("--force", is_flag=True, help="Discard what FOLDER holds and measure anew.")
def speed(
    pictures: Path,
    output: Path,
    model: str,
    quality: float,
    sizes: str,
    threads: str | None,
    repeats: int,
    paper_up_to: float,
    skip: str,
    force: bool,
) -> None:
    """Encode and decode time per stage and peak memory, by both engines, beside AVIF and the published network.

    By picture size and number of threads. The pictures are mosaics of those in the folder PICTURES. FOLDER gets
    speed.md (the report), speed.svg and speed.png, speed.csv (a row per codec, threads, size, direction and stage) and
    speed.json; what it already holds of the same model on the same machine is kept, so that an interrupted run can be
    continued.
    """
    require("a speed report needs", "eval", "torch", "matplotlib")
    from dcae.eval.speed.measure import Settings, default_threads, run
    from dcae.eval.speed.plot import plot
    from dcae.eval.speed.report import to_markdown

    settings = Settings(
        pictures,
        model,
        quality,
        _numbers("--sizes", sizes, float),
        default_threads() if threads is None else _numbers("--threads", threads, int),
        repeats,
        paper_up_to,
        frozenset(filter(None, (name.strip() for name in skip.split(",")))),
    )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{output}: cannot be made a folder ({error.strerror or error})") from error
    results = run(settings, output, lambda line: click.echo(line, err=True), force)
    write_bytes(str(output / "speed.md"), to_markdown(results).encode())
    for kind in ("svg", "png"):
        write_bytes(str(output / f"speed.{kind}"), plot(results, kind))
    click.echo(f"{output / 'speed.md'}", err=True)


def _numbers(option: str, text: str, kind: Callable[[str], _T]) -> tuple[_T, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise OptionError(f"{option} {text}: numbers separated by commas are wanted ({error})") from error
