"""Time and memory of the codec beside AVIF and the published network, by picture size and number of threads."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from PIL import Image

from dcae.codec.rates import nearest_size
from dcae.errors import DCAEError, OptionError
from dcae.eval.environment import environment
from dcae.eval.memory import import_peak_mib
from dcae.eval.pictures import find_pictures, mosaic
from dcae.eval.rivals import RIVALS
from dcae.eval.speed.complexity import measure_complexity
from dcae.eval.speed.process import measure_process
from dcae.eval.speed.results import AVIF, DIRECTIONS, OURS, PAPER, TORCH, Measurement, OddSize, Results, load, save
from dcae.eval.speed.worker import Job, Outcome, measure
from dcae.models.header import ModelHeader
from dcae.models.installed import DEFAULT_MODEL, find_model
from dcae.networks.registry import config_from_dict, preset_of

SKIPPABLE = ("torch", "paper", "process", "odd", "complexity")
ODD_SIZES = ((1, 1), (1, 700), (17, 33), (1023, 769), (4000, 3000))
"""Width and height in pixels."""
RATE_SIZE = (1536, 1024)
"""Of the picture on which AVIF's quality is chosen so that its files are as large as ours."""
MULTIPLE = 64
"""Sides of the timed pictures are multiples of it, so that the networks' padding is no part of the growth."""
CALLS, CALL_SECONDS = 3, 4.0
"""Each process codes a picture up to so many times, beginning none after so many seconds; the fastest counts."""
PROCESS_ROUNDS = 6


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Raises:
        OptionError: what cannot be measured.
    """

    pictures: Path
    """A folder; its pictures are what the timed ones are put together of."""
    model: str = DEFAULT_MODEL
    quality: float = 4.0
    sizes: Sequence[float] = (0.1, 0.4, 1.5, 6, 12, 24, 50)
    """In megapixels (10⁶)."""
    threads: Sequence[int] = (1,)
    repeats: int = 1
    """Rounds over all codecs at each size, of which the fastest counts."""
    paper_up_to: float = 0.4
    """Megapixels of the largest picture that the published network codes."""
    skip: frozenset[str] = frozenset()
    """Of `SKIPPABLE`."""

    def __post_init__(self) -> None:
        if not self.sizes or not all(math.isfinite(s) and s > 0 for s in self.sizes):
            raise OptionError("sizes must be megapixels above 0, at least one")
        if not self.threads or min(self.threads) < 1:
            raise OptionError("numbers of threads must be at least 1")
        if self.repeats < 1:
            raise OptionError(f"the number of repeats must be at least 1, got {self.repeats}")
        if unknown := self.skip - set(SKIPPABLE):
            raise OptionError(f"cannot skip {', '.join(sorted(unknown))}; known: {', '.join(SKIPPABLE)}")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Width and height of every size, about 3:2, by rising area and without repetition."""
        return sorted({shape_of(s) for s in self.sizes}, key=lambda s: s[0] * s[1])


def shape_of(megapixels: float) -> tuple[int, int]:
    """Width and height of a picture of about so many megapixels, multiples of `MULTIPLE`."""
    pixels = megapixels * 1e6
    width = max(1, round(math.sqrt(pixels * 1.5) / MULTIPLE)) * MULTIPLE
    return width, max(1, round(pixels / width / MULTIPLE)) * MULTIPLE


def run(settings: Settings, folder: Path, progress: Callable[[str], None], anew: bool = False) -> Results:
    """Measure what `folder` does not hold yet, and save it there after every step.

    Args:
        progress: called with a line of text every now and then.
        anew: do not look at what `folder` holds.

    Raises:
        OptionError: the folder's measurements come from other pictures, models, machines or versions.
        DCAEError: nothing could be measured.
    """
    header = find_model(settings.model)
    header.config.lambda_of(settings.quality)
    paths = find_pictures(settings.pictures.resolve(), None, progress)
    about = environment() | {
        "pictures": f"{len(paths)} ({paths[0].name} to {paths[-1].name})",
        "model": f"{header.path.stem} ({header.short_id.hex()})",
        "quality": f"{settings.quality:g}",
    }
    results = None if anew else load(folder, about)
    if results is None:
        labels = {OURS: f"DCAE {header.path.stem}", TORCH: f"DCAE {header.path.stem}, torch"}
        labels |= {AVIF: RIVALS[AVIF].label, PAPER: "DCAE paper, random weights"}
        results = Results(about, labels)
    results.failures = []
    with tempfile.TemporaryDirectory(prefix="dcae-speed-") as scratch:
        _Run(settings, header, paths, Path(scratch), folder, progress, results).all()
    return results


class _Run:
    """The steps of one run."""

    def __init__(
        self,
        settings: Settings,
        header: ModelHeader,
        paths: list[Path],
        scratch: Path,
        folder: Path,
        progress: Callable[[str], None],
        results: Results,
    ) -> None:
        self.settings, self.header, self.paths, self.scratch = settings, header, paths, scratch
        self.folder, self.progress, self.results = folder, progress, results
        self.began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.qualities = {OURS: settings.quality, TORCH: settings.quality, PAPER: 1.0}
        self.failed: set[str] = set()
        """Codecs that failed and are not tried on larger pictures."""

    def all(self) -> None:
        self.sizes()
        for name, step in (("complexity", self.complexity), ("odd", self.odd_sizes), ("process", self.process)):
            if name not in self.settings.skip:
                try:
                    step()
                except DCAEError as error:
                    self.fail(f"{name}: {error}")
                self.save()
        self.save()

    def save(self) -> None:
        save(self.results, self.folder)

    def sizes(self) -> None:
        cells = [(shape, threads) for shape in self.settings.shapes for threads in sorted(set(self.settings.threads))]
        missing = [cell for cell in cells if not self.has(*cell)]
        if kept := len(cells) - len(missing):
            self.progress(f"{kept} of {len(cells)} sizes and thread counts were measured before and are kept")
        if not missing:
            return
        if RIVALS[AVIF].available:
            self.qualities[AVIF] = self.avif_quality()
        else:
            self.progress("AVIF: left out, this build of Pillow does not write it")
        self.results.baselines = {name: import_peak_mib(name) for name in ("torch", "onnxruntime", "PIL.Image")}
        self.results.runs.append(self.began)
        for shape in dict.fromkeys(shape for shape, _ in missing):
            picture = self.mosaic(*shape)
            for threads in (t for s, t in missing if s == shape):
                cell = self.cell(picture, *shape, threads)
                self.results.replace_cell(*shape, threads, cell)
                self.save()
            picture.unlink()
        if not self.results.measurements:
            raise DCAEError(f"nothing could be measured: {self.results.failures[0]}")

    def codecs(self, shape: tuple[int, int]) -> list[str]:
        """Those that are measured at a size."""
        codecs = [OURS]
        if "torch" not in self.settings.skip and preset_of(self.header.config).graphs:
            codecs.append(TORCH)
        if RIVALS[AVIF].available:
            codecs.append(AVIF)
        if "paper" not in self.settings.skip and shape in {
            shape_of(s) for s in self.settings.sizes if s <= self.settings.paper_up_to
        }:
            codecs.append(PAPER)
        return codecs

    def has(self, shape: tuple[int, int], threads: int) -> bool:
        """Whether an earlier run has measured all codecs here."""
        found = {
            (m.codec, m.direction)
            for m in self.results.measurements
            if (m.width, m.height) == shape and m.threads == threads
        }
        return found >= {(codec, direction) for codec in self.codecs(shape) for direction in DIRECTIONS}

    def cell(self, picture: Path, width: int, height: int, threads: int) -> list[Measurement]:
        """All codecs on one picture with one number of threads, taking turns."""
        where = f"{width * height / 1e6:.3g} MP, {threads} thread{'s' * (threads > 1)}"
        best: dict[tuple[str, str], Outcome] = {}
        for k in range(self.settings.repeats):
            for direction in DIRECTIONS:
                for codec in self.codecs((width, height)):
                    if codec in self.failed:
                        if k == 0 and direction == DIRECTIONS[0]:
                            self.fail(f"{self.results.labels[codec]} at {where}: not tried, it failed before")
                        continue
                    job = self.job(codec, picture, threads, direction)
                    try:
                        outcome = measure(job)
                    except DCAEError as error:
                        self.failed.add(codec)
                        self.fail(f"{self.results.labels[codec]} at {where}, {direction}: {error}")
                        continue
                    key = (codec, direction)
                    if key not in best or outcome.seconds < best[key].seconds:
                        best[key] = outcome
                    self.progress(f"{where}: {self.results.labels[codec]}, {direction} {outcome.seconds:.3g} s")
        return [
            Measurement(
                codec, self.qualities[codec], threads, width, height, direction, o.stages, o.peak, o.bytes, self.began
            )
            for (codec, direction), o in best.items()
        ]

    def fail(self, line: str) -> None:
        self.results.failures.append(line)
        self.progress(line)

    def job(self, codec: str, picture: Path, threads: int, direction: str) -> Job:
        file = picture.with_suffix(f".{codec}")
        return Job(
            direction, codec, self.qualities[codec], str(picture), str(file), threads, str(self.header.path), CALLS,
            CALL_SECONDS,
        )  # fmt: skip

    def mosaic(self, width: int, height: int) -> Path:
        path = self.scratch / f"{width}x{height}.png"
        mosaic(self.paths, width, height).save(path, compress_level=1)
        return path

    def avif_quality(self) -> int:
        """AVIF's quality whose files are as large as ours."""
        width, height = RATE_SIZE
        picture = self.mosaic(width, height)
        ours = measure(self.job(OURS, picture, max(self.settings.threads), "encode")).bytes
        with Image.open(picture) as image:
            quality = int(nearest_size(lambda q: RIVALS[AVIF].encode(image, int(q)), 0, 100, ours)[0])
        self.progress(f"AVIF at quality {quality} makes files as large as ours ({8 * ours / width / height:.3f} bpp)")
        return quality

    def complexity(self) -> None:
        configs = [self.header.config]
        if "paper" not in self.settings.skip and self.header.config.preset != "paper":
            configs.append(config_from_dict({"preset": PAPER}))
        for config in configs:
            if config.preset in self.results.complexity:
                continue
            self.progress(f"complexity: {config.preset}")
            self.results.complexity[config.preset] = measure_complexity(config)

    def odd_sizes(self) -> None:
        for width, height in ODD_SIZES[len(self.results.odd) :]:
            self.progress(f"odd sizes: {width}x{height}")
            picture = self.mosaic(width, height)
            file = picture.with_suffix(".dcae")
            job = Job(
                "encode", OURS, self.settings.quality, str(picture), str(file), max(self.settings.threads),
                str(self.header.path), compare=True,
            )  # fmt: skip
            encode, decode = measure(job), measure(job.reversed())
            self.results.odd.append(OddSize(width, height, encode.bytes, decode.psnr, encode.peak, decode.peak))

    def process(self) -> None:
        if self.results.process:
            return
        installed = self.settings.model == DEFAULT_MODEL
        model = [] if installed else ["--model", str(self.header.path)]
        self.results.process = measure_process(
            self.paths[0], self.settings.quality, model, self.scratch, PROCESS_ROUNDS, self.progress
        )


def default_threads() -> tuple[int, ...]:
    """One, and all cores."""
    return tuple(sorted({1, os.cpu_count() or 1}))
