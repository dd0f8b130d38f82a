"""The command `dcae eval rd`. Heavy imports happen inside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcae.errors import DCAEError, OptionError
from dcae.extras import require

if TYPE_CHECKING:
    from dcae.eval.metrics import Metric
    from dcae.eval.rd.measure import Contestant


@click.command()
@click.argument("pictures", type=Path, nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=Path, metavar="FOLDER", help="Where the report goes.")
@click.option(
    "--codecs", default="dcae,jpeg,webp,avif,avif-psnr", show_default=True,
    help="Comma-separated; dcae: the default model at effort 0; dcae:NAME|PATH for further models of ours, "
    "dcae:NAME@EFFORT for an effort (dcae:lite@2 is what dcae encode does), with +ms-ssim behind it tuned for that. "
    "Also mozjpeg, avif-s4-psnr, jxl, heic, vvc, ...: an unknown name lists all. "
    "avif-s2-psnr/4, dcae:NAME@EFFORT/4: on every fourth picture alone, since it takes long.",
)  # fmt: skip
@click.option("--qualities", default="", help="Of the dcae codecs, comma-separated.  [default: all whole ones]")
@click.option("--metrics", default="psnr,ms-ssim", show_default=True, help="Those to measure.")
@click.option("--anchor", help="Codec that BD-rates are over.  [default: avif-psnr, if it is measured]")
@click.option(
    "--published", multiple=True, metavar="kodak|FILE",
    help="Draw published curves beside: those on Kodak that the package brings, or CompressAI's JSON. Repeatable.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), help="Processes.  [default: one per core]")
def rd(
    pictures: tuple[Path, ...],
    output: Path,
    codecs: str,
    qualities: str,
    metrics: str,
    anchor: str | None,
    published: tuple[str, ...],
    jobs: int,
) -> None:
    """Rate-distortion of codecs on folders of PICTURES, from real files; continued where it was interrupted.

    FOLDER gets index.html, the report; rows.csv, a row per picture, codec and quality; curves/, a curve per codec in
    CompressAI's JSON layout; plots as SVG and PNG; bd-rate.txt and summary.json. Of several folders of pictures, each
    is a report of its own, in a folder of the same name inside of FOLDER. What rows.csv holds is not measured again:
    of a new model only its own rows are.
    """
    require("a report needs", "eval", "bjontegaard", "matplotlib", "jinja2")
    from dcae.eval.metrics import metrics_named

    run = _Run(metrics_named(metrics), published, jobs)
    run.contestants = run.named(codecs, _ladder(qualities))
    labels = [c.label for c in run.contestants]
    run.anchor = anchor if anchor in labels else _label(anchor or "avif-psnr")
    if anchor and run.anchor not in labels:
        raise OptionError(f"--anchor {anchor} is not among the codecs to measure: {', '.join(labels)}")
    if run.anchor in [c.label for c in run.contestants if c.every > 1]:
        raise OptionError(f"the anchor {run.anchor} must be measured on all pictures")
    names = [folder.resolve().name for folder in pictures]
    if len(set(names)) < len(names):
        raise OptionError("two folders of pictures have the same name; measure them one by one")
    for folder, name in zip(pictures, names, strict=True):
        run.report(folder, output / name if len(pictures) > 1 else output)
    if run.skipped:
        say(f"{len(run.skipped)} skipped, as said above")


def say(line: str) -> None:
    """A line on stderr."""
    click.echo(line, err=True)


@dataclass
class _Run:
    """What one call of the command measures, on every folder."""

    metrics: list[Metric]
    published: Sequence[str]
    jobs: int
    contestants: list[Contestant] = field(default_factory=list)
    anchor: str = ""
    skipped: list[str] = field(default_factory=list)

    def skip(self, line: str) -> None:
        self.skipped.append(line)
        say(line)

    def named(self, codecs: str, qualities: Sequence[float]) -> list[Contestant]:
        """Codecs of a comma-separated list that can be measured, each once.

        Raises:
            OptionError: there is none.
        """
        from dcae.eval.rd.measure import contestant

        found: list[Contestant] = []
        for spec in filter(None, (c.strip() for c in codecs.split(","))):
            try:
                named = contestant(spec, qualities if spec.startswith("dcae") else ())
            except DCAEError as error:
                self.skip(f"{spec}: left out, {error}")
                continue
            if named.label in [c.label for c in found]:
                self.skip(f"{spec}: left out, {named.label} is there already")
            else:
                found.append(named)
        if not found:
            raise OptionError("no codec left to measure")
        return found

    def report(self, folder: Path, output: Path) -> None:
        """Measure what `output` lacks of the pictures in `folder`, and write the report."""
        from dcae.eval.pictures import find_pictures
        from dcae.eval.rd.curves import common_pictures, to_text
        from dcae.eval.rd.measure import measure
        from dcae.eval.rd.published import published
        from dcae.eval.rd.report import make_report, write_report
        from dcae.eval.rd.rows import Table

        found = find_pictures(folder.resolve(), None, self.skip)
        others = [curve for name in self.published for curve in published(name, (p.name for p in found))]
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{output}: cannot be made a folder ({error.strerror or error})") from error
        table = Table(output / "rows.csv")
        measure(found, self.contestants, table, self.jobs, _progress(), self.metrics, self.skip)

        labels, names = [c.label for c in self.contestants], {p.name for p in found}
        rows = [row for row in table.rows if row.codec in labels and row.picture in names]
        if not rows:
            raise DCAEError(f"{folder}: nothing was measured, {len(self.skipped)} skipped")
        rows.sort(key=lambda row: (labels.index(row.codec), row.picture, row.quality))
        whole = [row for row in rows if row.codec in [c.label for c in self.contestants if c.every == 1]]
        if left_out := {row.picture for row in whole} - common_pictures(whole):
            missing = ", ".join(sorted(left_out))
            say(f"averages are without {len(left_out)} pictures that a codec has no row of: {missing}")
        report = make_report(rows, self.contestants, self.anchor, [metric.name for metric in self.metrics], others)
        write_report(report, output, found, say)
        if report.comparisons:
            click.echo(to_text(report.comparisons, self.anchor))
        else:
            say(f"no BD-rates: the anchor {self.anchor} was not measured")
        say(f"the report is {output / 'index.html'}")


def _ladder(text: str) -> list[float]:
    try:
        return [float(q) for q in text.split(",") if q.strip()]
    except ValueError as error:
        raise OptionError(f"--qualities {text}: numbers separated by commas are wanted ({error})") from error


def _label(spec: str) -> str:
    """Name of a codec in rows; of one that is not there the text as it is written."""
    from dcae.eval.rd.measure import contestant

    try:
        return contestant(spec).label
    except DCAEError:
        return spec


def _progress() -> Callable[[int, int, str], None]:
    """Says what was done, and for how long it will go on if all tasks take the time of those before."""
    started = time.monotonic()

    def progress(done: int, of: int, what: str) -> None:
        left = round((time.monotonic() - started) / done * (of - done))
        say(f"{done}/{of} {what}" + (f", {left // 60}:{left % 60:02} left" if left else ""))

    return progress
