"""Encoding or decoding some pictures in a process of its own: what it took in time and memory.

`measure` starts that process and hands it a job as JSON; run as a module, this file is that process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from dcae.eval.memory import peak_mib, run_python
from dcae.eval.metrics import psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rivals import PictureCodec, rival

_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    action: str
    """"encode" (writes the files) or "decode" (reads them)."""
    codec: str
    """"dcae", "paper" or one of `dcae.eval.rivals.RIVALS`."""
    quality: float
    pictures: list[str]
    """Paths of the originals."""
    folder: str
    """Where the coded files are, one per picture."""
    model: str = ""
    """Path of the model file, for "dcae"."""
    repeats: int = 1

    def reversed(self) -> Job:
        """The job of decoding what this one encodes."""
        return replace(self, action="decode")


@dataclass(frozen=True)
class Outcome:
    """What it took, per picture in the order of the job."""

    seconds: list[float]
    """Wall clock of encoding a loaded picture to bytes, or bytes to pixels; the fastest of the repeats."""
    sizes: list[int]
    """Bytes."""
    psnr: float | None
    """dB, of the last picture decoded; None when that is identical, or after encoding."""
    peak: float | None
    """MiB, of the whole process."""


def measure(job: Job) -> Outcome:
    """Run a job in another process.

    Raises:
        DCAEError: it failed there.
    """
    return Outcome(**json.loads(run_python(["-m", "dcae.eval.worker"], json.dumps(asdict(job)))))


def load_codec(name: str, model: str) -> PictureCodec:
    """The codec of a job."""
    if name == "dcae":
        from dcae.codec.codec import Codec

        return Codec(Path(model))
    if name == "paper":
        return _random_paper()
    return rival(name)


def _random_paper() -> PictureCodec:
    """The `paper` preset with weights that are random, but the same in every process."""
    import torch

    from dcae.codec.codec import Codec
    from dcae.export import coding_model
    from dcae.presets import build_model

    torch.manual_seed(0)
    return Codec(coding_model(build_model("paper")))


def run(job: Job) -> Outcome:
    """Do a job in this process."""
    codec = load_codec(job.codec, job.model)
    seconds: list[float] = []
    sizes: list[int] = []
    decoded: Image.Image | None = None
    for k, picture in enumerate(job.pictures):
        file = Path(job.folder) / f"{k}.{job.codec}"
        if job.action == "encode":
            image = Image.fromarray(load_pixels(Path(picture)))
            data, fastest = _fastest(partial(codec.encode, image, job.quality), job.repeats)
            file.write_bytes(data)
        else:
            data = file.read_bytes()
            decoded, fastest = _fastest(partial(codec.decode, data), job.repeats)
        seconds.append(fastest)
        sizes.append(len(data))
    peak = peak_mib()  # before the original is loaded as well
    difference = None
    if decoded is not None:
        difference = psnr(load_pixels(Path(job.pictures[-1])), np.asarray(decoded.convert("RGB")))
    return Outcome(seconds, sizes, difference if difference != float("inf") else None, peak)


def _fastest(function: Callable[[], _T], repeats: int) -> tuple[_T, float]:
    """The function's last result, and the shortest time that it took."""
    fastest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        fastest = min(fastest, time.perf_counter() - started)
    return result, fastest


if __name__ == "__main__":
    json.dump(asdict(run(Job(**json.load(sys.stdin)))), sys.stdout)
