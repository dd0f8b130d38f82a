"""Encoding or decoding one picture in a process of its own: what each stage took, and the memory.

`measure` starts that process and hands it a job as JSON; run as a module, this file is that process.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dcae.eval.memory import peak_mib, run_python
from dcae.eval.metrics import psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rivals import PictureCodec, rival
from dcae.eval.speed.stages import CODEC, LOAD, WRITE, Clock

ENGINES = {"dcae": "auto", "dcae-torch": "torch"}
"""Our codecs -> what runs them."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    action: str
    """"encode" (picture to coded file) or "decode" (coded file to PNG, beside it)."""
    codec: str
    """"dcae", "dcae-torch" (the same by the engine torch), "paper" or one of `dcae.eval.rivals.RIVALS`."""
    quality: float
    picture: str
    """Path of the original."""
    file: str
    """Path of the coded file."""
    threads: int
    model: str = ""
    """Path of the model file, for ours."""
    calls: int = 1
    """At most so many runs, of which the fastest counts."""
    seconds: float = 0.0
    """No further run begins once they took so long together."""
    compare: bool = False
    """Measure the PSNR of what was decoded."""

    def reversed(self) -> Job:
        """The job of decoding what this one encodes."""
        return replace(self, action="decode")


@dataclass(frozen=True)
class Outcome:
    """What it took."""

    stages: dict[str, float]
    """Wall clock seconds by stage of `dcae.eval.speed.stages.STAGES`; the model was loaded before."""
    bytes: int
    """Of the coded file."""
    peak: float | None
    """MiB of the whole process after its first run."""
    psnr: float | None = None
    """dB; None when identical, or not asked for."""

    @property
    def seconds(self) -> float:
        """All stages."""
        return sum(self.stages.values())


def measure(job: Job) -> Outcome:
    """Run a job in another process.

    Raises:
        DCAEError: it failed there.
    """
    threads = dict.fromkeys(_THREADS, str(job.threads))
    return Outcome(**json.loads(run_python(["-m", "dcae.eval.speed.worker"], json.dumps(asdict(job)), threads)))


def load_codec(name: str, model: str) -> PictureCodec:
    """The codec of a job; ours without a limit to the size of pictures."""
    if name in ENGINES:
        from dcae.codec.codec import Codec

        return Codec(Path(model), max_pixels=sys.maxsize, engine=ENGINES[name])
    if name == "paper":
        return _random_paper()
    return rival(name)


def _random_paper() -> PictureCodec:
    """The `paper` preset with weights that are random, but the same in every process."""
    import torch

    from dcae.codec.codec import Codec
    from dcae.models.export import coding_model
    from dcae.networks.registry import build_model

    torch.manual_seed(0)
    return Codec(coding_model(build_model("paper")))


def run(job: Job) -> Outcome:
    """Do a job in this process."""
    codec = load_codec(job.codec, job.model)
    fastest: Outcome | None = None
    peak, started = None, time.perf_counter()
    for call in range(job.calls):
        if call and time.perf_counter() - started >= job.seconds:
            break
        stages = (_encode if job.action == "encode" else _decode)(codec, job)
        if call == 0:
            peak = peak_mib()
        outcome = Outcome(stages, Path(job.file).stat().st_size, peak)
        if fastest is None or outcome.seconds < fastest.seconds:
            fastest = outcome
    assert fastest is not None
    if job.compare and job.action == "decode":
        found = psnr(load_pixels(Path(job.picture)), load_pixels(_decoded(job)))
        fastest = replace(fastest, psnr=found if np.isfinite(found) else None)
    return fastest


def _decoded(job: Job) -> Path:
    return Path(f"{job.file}.png")


def _encode(codec: PictureCodec, job: Job) -> dict[str, float]:
    """Picture file to coded file, as `dcae encode` does."""
    clock = Clock()
    if hasattr(codec, "observe"):  # one of ours, which opens the picture itself and tells of its stages
        codec.observe = clock.stage
        data = codec.encode(job.picture, job.quality)  # type: ignore[arg-type]
    else:
        with clock.stage(LOAD):
            image = Image.fromarray(load_pixels(Path(job.picture)))
        with clock.stage(CODEC):
            data = codec.encode(image, job.quality)
    with clock.stage(WRITE):
        Path(job.file).write_bytes(data)
    return clock.stop()


def _decode(codec: PictureCodec, job: Job) -> dict[str, float]:
    """Coded file to PNG, as `dcae decode` does."""
    clock = Clock()
    with clock.stage(LOAD):
        data = Path(job.file).read_bytes()
    if hasattr(codec, "observe"):
        codec.observe = clock.stage
        image = codec.decode(data)
    else:
        with clock.stage(CODEC):
            image = codec.decode(data)
    with clock.stage(WRITE):
        image.save(_decoded(job), "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return clock.stop()


def _prepare_process(threads: int) -> None:
    """Settings that belong to a whole process."""
    from PIL import AvifImagePlugin

    from dcae.runtime.process import keep_memory

    keep_memory()  # as the commands do
    AvifImagePlugin.DEFAULT_MAX_THREADS = threads  # Pillow's only way for the decoder, and it serves the encoder too
    Image.MAX_IMAGE_PIXELS = None  # the pictures are our own
    # Where memory runs out, the system shall end this process and not another that does someone's work.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _job = Job(**json.load(sys.stdin))
    _prepare_process(_job.threads)
    json.dump(asdict(run(_job)), sys.stdout)
