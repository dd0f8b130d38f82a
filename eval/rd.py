"""Rate-distortion rows from real files: every picture through every codec at every quality, on the cores given."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dcae.errors import DCAEError, OptionError
from dcae.eval.memory import peak_mib, reset_peak
from dcae.eval.metrics import ms_ssim, psnr
from dcae.eval.pictures import load_pixels
from dcae.eval.rivals import RIVALS, PictureCodec, rival
from dcae.eval.table import Row, Table
from dcae.installed import find_model

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Contestant:
    """A codec of the evaluation and the qualities it is measured at."""

    label: str
    """In tables and plots; of our models with the first half of the model's id, so that tables never mix two."""
    name: str
    """"dcae", or one of `dcae.eval.rivals.RIVALS`."""
    qualities: tuple[float, ...]
    model: str = ""
    """Path of the model file, for "dcae"."""

    @property
    def title(self) -> str:
        return "DCAE" + self.label[4:-8] if self.name == "dcae" else RIVALS[self.name].label

    @property
    def settings(self) -> str:
        return "" if self.name == "dcae" else RIVALS[self.name].settings


def contestant(spec: str, qualities: Sequence[float] = ()) -> Contestant:
    """A codec from how it is written: "jpeg", "avif-psnr", ..., "dcae" (the default model), "dcae:NAME|PATH".

    Args:
        qualities: in the codec's own scale; by default its whole ladder.

    Raises:
        OptionError: an unknown codec, one that is not installed, or a quality outside its range.
        ModelNotFoundError, ModelFileError: no such model.
    """
    if spec == "dcae" or spec.startswith("dcae:"):
        header = find_model(spec.partition(":")[2] or "lite")
        low, high = header.config.qualities
        asked = tuple(qualities) or tuple(float(q) for q in range(int(low), int(high) + 1))
        for quality in asked:
            header.config.lambda_of(quality)
        return Contestant(f"dcae {header.path.stem} {header.short_id.hex()}", "dcae", asked, str(header.path))
    found = rival(spec)
    return Contestant(spec, spec, tuple(float(q) for q in qualities or found.qualities))


def measure(
    pictures: Sequence[Path],
    contestants: Sequence[Contestant],
    table: Table,
    jobs: int,
    progress: Callable[[int, int, str], None],
) -> None:
    """Fill `table` with the rows that it lacks.

    Args:
        pictures: readable ones, all of different names.
        jobs: processes that measure at the same time, one thread each.
        progress: called with (done, all, what was done) after each picture and codec.

    Raises:
        DCAEError: a codec failed on a picture; what was measured before is in the table.
    """
    names = [p.name for p in pictures]
    if len(set(names)) < len(names):
        raise OptionError("two pictures of the same name; their rows could not be told apart")
    have = {row.key for row in table.rows}
    tasks = []
    for path in pictures:
        for c in contestants:
            missing = tuple(q for q in c.qualities if (path.name, c.label, q) not in have)
            if missing:
                tasks.append((path, c, missing))
    with _one_thread_each(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_rows, *task): task for task in tasks}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                path, c, _ = waiting[future]
                try:
                    table.add(future.result())
                except DCAEError as error:
                    raise DCAEError(f"{c.label} on {path.name}: {error}") from error
                progress(done, len(tasks), f"{path.name} {c.label}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The processes started inside keep to one thread; two pools of threads on one core would wait for each other."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_loaded: dict[tuple[str, str], PictureCodec] = {}


def open_codec(c: Contestant) -> PictureCodec:
    key = c.name, c.model
    if key not in _loaded:
        if c.name == "dcae":
            from dcae.codec.codec import Codec

            _loaded[key] = Codec(Path(c.model))
        else:
            _loaded[key] = RIVALS[c.name]
    return _loaded[key]


def _rows(path: Path, c: Contestant, qualities: Sequence[float]) -> list[Row]:
    """One picture through one codec, in a process of the pool."""
    pixels = load_pixels(path)
    image = Image.fromarray(pixels)
    codec = open_codec(c)
    rows = []
    for quality in qualities:
        reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        data = codec.encode(image, quality)
        encode_wall, encode_cpu = time.perf_counter() - wall, time.process_time() - cpu
        wall, cpu = time.perf_counter(), time.process_time()
        decoded = codec.decode(data)
        decode_wall, decode_cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = peak_mib()
        found = np.asarray(decoded.convert("RGB"))
        if found.shape != pixels.shape:
            raise DCAEError(f"decoded to {found.shape[1]}x{found.shape[0]} instead of {image.width}x{image.height}")
        similarity = ms_ssim(pixels, found)
        rows.append(
            Row(
                picture=path.name,
                codec=c.label,
                quality=quality,
                width=image.width,
                height=image.height,
                bytes=len(data),
                bpp=8 * len(data) / (image.width * image.height),
                psnr=psnr(pixels, found),
                ms_ssim=math.nan if similarity is None else similarity,
                encode_seconds=encode_wall,
                encode_cpu=encode_cpu,
                decode_seconds=decode_wall,
                decode_cpu=decode_cpu,
                peak_mib=math.nan if peak is None else peak,
            )
        )
    return rows
