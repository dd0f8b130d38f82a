"""One run that measures the codec and its rivals on a folder of pictures: rate, sizes, time, memory, processes."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

from dcae.config import PaperConfig
from dcae.errors import OptionError
from dcae.eval.complexity import Complexity, measure_complexity
from dcae.eval.memory import import_peak_mib
from dcae.eval.pictures import find_pictures, mosaic, pixel_count
from dcae.eval.process import ProcessTimes, measure_process
from dcae.eval.rate import Curve, measure_curves, quality_at
from dcae.eval.rivals import AVIF_PSNR, RIVALS, PictureCodec
from dcae.eval.worker import Job, measure
from dcae.installed import DEFAULT_MODEL, find_model
from dcae.modelfile import ModelHeader

SECTIONS = ("complexity", "rd", "sizes", "time", "paper", "process")
"""What can be skipped, in the order of measuring; `paper` is a part of `time`, and of `complexity`."""
QUALITY = 4.0
"""Of the sizes, times and processes, unless the model ends before."""
PAPER_LABEL = "DCAE paper, random weights"
SIZES = ((1, 1), (1, 700), (17, 33), (1023, 769), (4000, 3000))


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    pictures: Path
    """A folder."""
    model: str = DEFAULT_MODEL
    limit: int | None = None
    """Use only the first pictures of the folder."""
    skip: frozenset[str] = frozenset()
    """Of `SECTIONS`."""
    sizes: Sequence[tuple[int, int]] = SIZES
    """Width and height in pixels."""
    rivals: tuple[str, ...] = tuple(RIVALS)
    repeats: int = 2
    """Runs of each timing in one process, of which the fastest counts."""
    process_rounds: int = 6
    """Rounds of whole processes; the first fills the system's file cache and does not count if there are others."""

    def __post_init__(self) -> None:
        if unknown := self.skip - set(SECTIONS):
            raise OptionError(f"unknown sections {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
        if self.skip >= set(SECTIONS) - {"paper"}:
            raise OptionError("every section is skipped, nothing to measure")
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"the number of pictures must be at least 1, got {self.limit}")


@dataclass(frozen=True)
class SizeRow:
    """One picture of the sizes through encoder and decoder, each in a fresh process."""

    width: int
    height: int
    bytes: int
    psnr: float | None
    """dB, None when identical."""
    encode: float
    """Seconds without loading the model, first call."""
    decode: float
    encode_peak: float | None
    """MiB of the whole process."""
    decode_peak: float | None


@dataclass(frozen=True)
class TimeRow:
    """One codec's time and memory; medians over the pictures, each picture's fastest run."""

    codec: str
    quality: float
    pictures: int
    bpp: float
    encode: float
    """Seconds per picture."""
    decode: float
    encode_per_megapixel: float
    """Seconds per 10⁶ pixels, for comparing codecs that were timed on different pictures."""
    decode_per_megapixel: float
    encode_peak: float | None
    """MiB of the process that encoded all pictures one after the other."""
    decode_peak: float | None


@dataclass
class Results:
    """Everything that one run measured; what was skipped is empty."""

    environment: dict[str, str]
    pictures: list[str]
    mean_pixels: float
    """Of the pictures."""
    label: str
    """What the model is called."""
    quality: float
    """Of the sizes, times and processes."""
    complexity: dict[str, Complexity] = field(default_factory=dict)
    """By preset."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """By codec: "dcae" and the names in `dcae.eval.rivals.RIVALS`."""
    sizes: list[SizeRow] = field(default_factory=list)
    times: list[TimeRow] = field(default_factory=list)
    baselines: dict[str, float | None] = field(default_factory=dict)
    """Peak MiB of a Python that only imports a module, by module."""
    process: ProcessTimes | None = None


def run(settings: Settings, progress: Callable[[str], None]) -> Results:
    """Measure.

    Args:
        progress: called with a line of text every now and then.

    Raises:
        DCAEError: nothing could be measured, or a codec failed.
    """
    header = find_model(settings.model)
    paths = find_pictures(settings.pictures.resolve(), settings.limit, progress)
    label = f"DCAE {header.path.stem}"
    mean_pixels = float(np.mean([pixel_count(p) for p in paths]))
    quality = min(QUALITY, header.config.qualities[1])
    results = Results(_environment(header), [p.name for p in paths], mean_pixels, label, quality)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dcae-benchmark-") as folder:
        bench = _Bench(settings, header, paths, Path(folder), progress, results)
        for section in SECTIONS:
            if section not in settings.skip and section != "paper":
                getattr(bench, section)()
    results.environment["duration"] = f"{(time.perf_counter() - started) / 60:.0f} minutes"
    return results


@dataclass
class _Bench:
    """The sections, by name."""

    settings: Settings
    header: ModelHeader
    paths: list[Path]
    folder: Path
    progress: Callable[[str], None]
    results: Results

    def __post_init__(self) -> None:
        self.rivals = {name: RIVALS[name] for name in self.settings.rivals if RIVALS[name].available}

    def complexity(self) -> None:
        configs = [self.header.config]
        if "paper" not in self.settings.skip and self.header.config.preset != "paper":
            configs.append(PaperConfig())
        for config in configs:
            self.progress(f"complexity: {config.preset}")
            self.results.complexity[config.preset] = measure_complexity(config)

    def rd(self) -> None:
        from dcae.codec.codec import Codec

        low, high = (int(q) for q in self.header.config.qualities)
        codecs: dict[str, tuple[PictureCodec, Sequence[float]]] = {
            "dcae": (Codec(self.header.path), range(low, high + 1))
        }
        codecs |= {name: (rival, rival.qualities) for name, rival in self.rivals.items()}
        self.results.curves = measure_curves(codecs, self.paths, self.progress)

    def sizes(self) -> None:
        for width, height in self.settings.sizes:
            self.progress(f"sizes: {width}x{height}")
            path = self.folder / f"{width}x{height}.png"
            mosaic(self.paths, width, height).save(path, compress_level=1)
            job = Job("encode", "dcae", self.results.quality, [str(path)], str(self.folder), str(self.header.path))
            encode, decode = measure(job), measure(job.reversed())
            self.results.sizes.append(
                SizeRow(
                    width,
                    height,
                    encode.sizes[0],
                    decode.psnr,
                    encode.seconds[0],
                    decode.seconds[0],
                    encode.peak,
                    decode.peak,
                )
            )

    def time(self) -> None:
        self.results.baselines = {name: import_peak_mib(name) for name in ("torch", "PIL.Image")}
        ours = self._time("dcae", self.results.label, self.results.quality, self.paths)
        if AVIF_PSNR in self.rivals.values():
            curve = self.results.curves.get("avif-psnr")
            if curve is None:
                curve = measure_curves({"avif-psnr": (AVIF_PSNR, AVIF_PSNR.qualities)}, self.paths[:2], self.progress)[
                    "avif-psnr"
                ]
            self._time("avif-psnr", AVIF_PSNR.label, quality_at(curve, ours.bpp), self.paths)
        if "paper" not in self.settings.skip:
            self._time("paper", PAPER_LABEL, 1.0, self.paths[:1])

    def _time(self, codec: str, label: str, quality: float, paths: list[Path]) -> TimeRow:
        self.progress(f"time: {label}, {len(paths)} pictures, {self.settings.repeats} times each")
        pictures = [str(p) for p in paths]
        job = Job("encode", codec, quality, pictures, str(self.folder), str(self.header.path), self.settings.repeats)
        encode, decode = measure(job), measure(job.reversed())
        pixels = [pixel_count(p) for p in paths]
        row = TimeRow(
            label,
            quality,
            len(paths),
            float(np.mean([8 * size / n for size, n in zip(encode.sizes, pixels, strict=True)])),
            median(encode.seconds),
            median(decode.seconds),
            median(s / n * 1e6 for s, n in zip(encode.seconds, pixels, strict=True)),
            median(s / n * 1e6 for s, n in zip(decode.seconds, pixels, strict=True)),
            encode.peak,
            decode.peak,
        )
        self.results.times.append(row)
        return row

    def process(self) -> None:
        installed = self.settings.model == DEFAULT_MODEL
        self.results.process = measure_process(
            self.paths[0],
            self.results.quality,
            [] if installed else ["--model", str(self.header.path)],
            self.folder,
            self.settings.process_rounds,
            self.progress,
        )


def _environment(header: ModelHeader) -> dict[str, str]:
    import PIL
    import torch

    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads of torch": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "model": f"{header.path.stem} ({header.short_id.hex()})",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
