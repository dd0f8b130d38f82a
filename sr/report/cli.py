"""The command `dcae eval sr`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcae.errors import OptionError, one_line
from dcae.extras import require
from dcae.files import check_output, write_bytes
from dcae.sr.cli import KERNEL_NAMES, kernel_option

if TYPE_CHECKING:
    from dcae.sr.evaluation import Row
    from dcae.sr.upscalers import Upscaler

_ROWS = (".csv", ".json")


@click.command("sr")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="Factor on both sides.")
@click.option(
    "--models", metavar="NAME[,NAME...]",
    help=f"Upscalers: {', '.join(KERNEL_NAMES)}, names of installed models, paths of model files. Gains are over the "
    "first, and the first two are shown side by side.  [default: bicubic and what upscale takes by default]",
)  # fmt: skip
@kernel_option
@click.option("--limit", type=click.IntRange(1), help="Only the first pictures.")
@click.option("--device", default="cpu", show_default=True, help="torch device of the networks.")
@click.option("--published", "others", is_flag=True, help="Print what others published at this scale, too.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="Rows of the pictures, .csv or .json; or a folder, which gets index.html, the report, and rows.csv.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the output.")
def evaluate(
    pictures: tuple[str, ...], scale: int, models: str | None, kernel: str, limit: int | None, device: str,
    others: bool, output: Path | None, force: bool,
) -> None:  # fmt: skip
    """The field's protocol on PICTURES.

    Files, folders, quoted patterns and @FILE as for encode. Each picture is cropped to multiples of the scale, reduced,
    enlarged by every upscaler, rounded to 8 bits, and compared inside a border of `scale` pixels: PSNR and SSIM of Y
    (BT.601, not rounded), PSNR of RGB; means over the pictures.
    """
    if output is not None:
        _check(output, force)
    from dcae.sr.evaluation import measured, table, write_rows
    from dcae.sr.find import find_upscalers, look_up

    names = ["bicubic", look_up(None, scale).name] if models is None else [part.strip() for part in models.split(",")]
    names = [name for name in dict.fromkeys(names) if name]
    if not names:
        raise OptionError("no upscaler named; give --models")
    upscalers = find_upscalers(names, scale, device)
    rows, paths = [], {}
    for path, row in measured(pictures, upscalers, kernel, limit, _say):
        rows.append(row)
        paths[row.picture] = path
    click.echo(table(rows))
    if others:
        from dcae.sr.report.published import published_text

        click.echo(f"\n{published_text(scale)}")
    if output is not None and output.suffix in _ROWS:
        write_rows(output, rows, force)
    elif output is not None:
        _report(output, rows, paths, upscalers, kernel, force)


def _say(line: str) -> None:
    click.echo(one_line(line), err=True)


def _check(output: Path, force: bool) -> None:
    """Refuse an output that could not be written."""
    if output.suffix in _ROWS:
        check_output(str(output), force)
        return
    if output.suffix and not output.is_dir():
        raise OptionError(f"{output}: rows are written as .csv or .json, a report into a folder")
    require("a report needs", "eval", "jinja2")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{output}: cannot be made a folder ({error.strerror or error})") from error
    for name in ("rows.csv", "index.html"):
        check_output(str(output / name), force)


def _report(
    folder: Path, rows: list[Row], paths: dict[str, str], upscalers: list[Upscaler], kernel: str, force: bool
) -> None:
    from dcae.sr.evaluation import write_rows
    from dcae.sr.report.report import page, strips_of

    write_rows(folder / "rows.csv", rows, force)
    strips = strips_of(rows, paths, upscalers, kernel, _say)
    write_bytes(str(folder / "index.html"), page(rows, strips).encode(), force)
    _say(f"the report is {folder / 'index.html'}")
