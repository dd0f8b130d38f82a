"""What `dcae eval speed` measured: kept in a folder as JSON, so that it can be continued, and as a CSV table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dcae.errors import DCAEError, OptionError
from dcae.eval.speed.complexity import Complexity
from dcae.eval.speed.process import ProcessTimes
from dcae.eval.speed.stages import AROUND
from dcae.files import write_bytes

CSV_COLUMNS = (
    "codec", "quality", "threads", "width", "height", "direction", "stage", "seconds", "peak_mib", "bytes", "run",
)  # fmt: skip
DIRECTIONS = ("encode", "decode")
OURS, TORCH, PAPER, AVIF = "dcae", "dcae-torch", "paper", "avif-psnr"
"""The codecs, as jobs name them: the model by the default engine, the same by PyTorch, ..."""


@dataclass(frozen=True)
class Measurement:
    """One codec encoding or decoding one picture."""

    codec: str
    quality: float
    threads: int
    width: int
    height: int
    direction: str
    """"encode" or "decode"."""
    stages: dict[str, float]
    """Seconds by stage."""
    peak: float | None
    """MiB of a process that does only this; None where the system does not tell."""
    bytes: int
    """Size of the coded file."""
    run: str
    """Beginning of the run that measured it, UTC."""

    @property
    def megapixels(self) -> float:
        """10⁶ pixels."""
        return self.width * self.height / 1e6

    @property
    def seconds(self) -> float:
        """Time of the codec: all stages but loading and writing files."""
        return sum(s for stage, s in self.stages.items() if stage not in AROUND)


@dataclass(frozen=True)
class OddSize:
    """One picture of an unusual size through encoder and decoder."""

    width: int
    height: int
    bytes: int
    psnr: float | None
    """dB, None when identical."""
    encode_peak: float | None
    """MiB of the whole process."""
    decode_peak: float | None


@dataclass
class Results:
    """Everything measured so far; what was skipped is empty."""

    environment: dict[str, str]
    """Machine and software, and what else must be the same for numbers to stand side by side."""
    labels: dict[str, str]
    """Names of the codecs in the report."""
    runs: list[str] = field(default_factory=list)
    """Beginnings of the runs that contributed."""
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What could not be measured, and why; of the last run."""
    baselines: dict[str, float | None] = field(default_factory=dict)
    """Peak MiB of a Python that only imports a module, by module."""
    complexity: dict[str, Complexity] = field(default_factory=dict)
    """Complexity by preset."""
    odd: list[OddSize] = field(default_factory=list)
    process: ProcessTimes | None = None

    def find(self, codec: str, threads: int, direction: str) -> list[Measurement]:
        """One codec's measurements, by rising size."""
        found = [m for m in self.measurements if (m.codec, m.threads, m.direction) == (codec, threads, direction)]
        return sorted(found, key=lambda m: m.megapixels)

    @property
    def threads(self) -> list[int]:
        """Numbers of threads that were measured, rising."""
        return sorted({m.threads for m in self.measurements})

    def replace_cell(self, width: int, height: int, threads: int, cell: list[Measurement]) -> None:
        """Put `cell` where what there was of this size and number of threads is now."""
        key = (width, height, threads)
        others = [m for m in self.measurements if (m.width, m.height, m.threads) != key]
        codecs = list(self.labels)
        self.measurements = sorted(
            [*others, *cell],
            key=lambda m: (m.threads, m.megapixels, DIRECTIONS.index(m.direction), codecs.index(m.codec)),
        )

    def ratios(self, over: str, threads: int, direction: str) -> dict[tuple[int, int], float]:
        """Time of ours over that of another codec, by (width, height); only of sizes that one run measured in both."""
        theirs = {(m.width, m.height): m for m in self.find(over, threads, direction)}
        ratios = {}
        for m in self.find(OURS, threads, direction):
            other = theirs.get((m.width, m.height))
            if other and other.run == m.run:
                ratios[m.width, m.height] = m.seconds / other.seconds
        return ratios


def to_csv(results: Results) -> str:
    """A row per codec, threads, size, direction and stage."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_csv_rows(results))
    return buffer.getvalue()


def _csv_rows(results: Results) -> Iterator[list[Any]]:
    for m in results.measurements:
        for stage, seconds in m.stages.items():
            peak = "" if m.peak is None else f"{m.peak:.1f}"
            yield [
                m.codec, f"{m.quality:g}", m.threads, m.width, m.height, m.direction, stage, f"{seconds:.6f}", peak,
                m.bytes, m.run,
            ]  # fmt: skip


def save(results: Results, folder: Path) -> None:
    """Write `speed.json` and `speed.csv`, each whole or not at all."""
    write_bytes(str(folder / "speed.json"), (json.dumps(asdict(results), indent=1, allow_nan=False) + "\n").encode())
    write_bytes(str(folder / "speed.csv"), to_csv(results).encode())


def load(folder: Path, environment: dict[str, str]) -> Results | None:
    """What an earlier run left in `folder`, None if nothing.

    Args:
        environment: of this run; that of the earlier one must be the same.

    Raises:
        OptionError: measured in another environment.
        DCAEError: no file of ours.
    """
    path = folder / "speed.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["measurements"] = [Measurement(**m) for m in values["measurements"]]
        values["complexity"] = {name: Complexity(**c) for name, c in values["complexity"].items()}
        values["odd"] = [OddSize(**size) for size in values["odd"]]
        values["process"] = ProcessTimes(**values["process"]) if values["process"] else None
        results = Results(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DCAEError(
            f"{path}: not what this dcae eval speed writes ({error}); choose another folder or --force"
        ) from error
    for name in environment | results.environment:
        before, now = results.environment.get(name, "none"), environment.get(name, "none")
        if before != now:
            raise OptionError(
                f"{folder}: was measured with another {name} ({before}, now {now}); times of both do not belong side "
                "by side; choose another folder, or discard what is there with --force"
            )
    return results
