"""Wall clock of whole processes: what a user of the command line waits for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dcae.errors import DCAEError


@dataclass(frozen=True)
class ProcessTimes:
    """Medians in seconds over `runs` of each command, which alternated."""

    runs: int
    import_torch: float
    encode: float
    decode: float
    encode_torch: float | None = None
    """With `--engine torch`, as the next."""
    decode_torch: float | None = None


def measure_process(
    picture: Path, quality: float, model: list[str], folder: Path, rounds: int, progress: Callable[[str], None]
) -> ProcessTimes:
    """Time `dcae encode` and `dcae decode` of one picture against a Python that imports torch.

    Args:
        model: options that name the model, empty for the default.
        folder: where the coded and the decoded picture are written.
        rounds: the first fills the system's file cache and does not count if there are others.
    """
    coded, decoded = str(folder / "process.dcae"), str(folder / "process.png")
    commands = {
        "import torch": ["-c", "import torch"],
        "encode": ["-m", "dcae", "encode", str(picture), "-q", f"{quality:g}", "-o", coded, "--force", *model],
        "decode": ["-m", "dcae", "decode", coded, "-o", decoded, "--force", *model],
    }
    commands |= {f"{name} by torch": [*commands[name], "--engine", "torch"] for name in ("encode", "decode")}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for k in range(rounds):
        progress(f"whole process: round {k + 1}/{rounds}")
        for name, arguments in commands.items():
            started = time.perf_counter()
            result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder)
            seconds[name].append(time.perf_counter() - started)
            if result.returncode:
                raise DCAEError(f"dcae {name} failed in another process ({result.stderr.strip()})")
    first = 1 if rounds > 1 else 0
    return ProcessTimes(rounds - first, *(median(values[first:]) for values in seconds.values()))
