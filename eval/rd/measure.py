"""Rate-distortion rows from real files: every picture through every codec at every quality, on the cores given."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.effort import check_effort
from dcae.codec.tuning import tune_for
from dcae.errors import DCAEError, OptionError
from dcae.eval.environment import processor
from dcae.eval.memory import peak_mib, reset_peak
from dcae.eval.metrics import METRICS, Metric
from dcae.eval.pictures import load_pixels
from dcae.eval.rd.rows import Row, Table
from dcae.eval.rivals import RIVALS, PictureCodec, Rival, rival
from dcae.models.installed import DEFAULT_MODEL, find_model

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Contestant:
    """A codec of the evaluation and the qualities it is measured at."""

    label: str
    """Name in tables; of our models with the first half of the model's id, so that tables never mix two."""
    name: str
    """"dcae", or one of `dcae.eval.rivals.RIVALS`."""
    qualities: tuple[float, ...]
    model: str = ""
    """Path of the model file, for "dcae"."""
    effort: int = 0
    """How long the encoder searches, for "dcae"."""
    tune: str = "psnr"
    """What it searches for, for "dcae"."""
    every: int = 1
    """Measured on every picture, on every second, ...: a codec that takes minutes a picture is so on a sample."""

    @property
    def title(self) -> str:
        """Name for people: the codec's own, and the model's."""
        return "DCAE" + self.label[4:-8] if self.name == "dcae" else RIVALS[self.name].label

    @property
    def family(self) -> str:
        """Name of the line that plots over time join this codec to others by: those that differ in effort only."""
        if self.name == "dcae":
            return re.sub(r"@\d+", "", self.title.rpartition(" ")[0])  # without the id, and without an effort
        return RIVALS[self.name].family or self.title

    @property
    def variant_of(self) -> str:
        """Label of the same codec with the settings that this one's are to be compared with, of ours without a search;
        empty if it is that one."""
        if self.name == "dcae":
            return re.sub(r"@\d+(\+ms-ssim)?(?= \w+$)", "", self.label) if self.effort else ""
        return RIVALS[self.name].variant_of

    @property
    def settings(self) -> str:
        """Options that another codec is called with; empty for ours."""
        return "" if self.name == "dcae" else RIVALS[self.name].settings


def contestant(spec: str, qualities: Sequence[float] = ()) -> Contestant:
    """A codec from how it is written: "jpeg", "avif-psnr", ..., "dcae" (the default model), "dcae:NAME|PATH",
    "dcae:NAME@EFFORT", "dcae:NAME@EFFORT+ms-ssim" (tuned for it).

    "avif-s0-psnr/4" or "dcae:NAME@EFFORT/4" is measured on every fourth picture alone.

    Args:
        qualities: in the codec's own scale; by default its whole ladder.

    Raises:
        OptionError: an unknown codec, a quality outside its range, or an effort that there is not.
        MissingDependencyError: a codec whose package is not installed.
        ModelNotFoundError, ModelFileError: no such model.
    """
    if spec == "dcae" or spec.startswith("dcae:"):
        found = re.fullmatch(r"(.*?)(?:@(\d+)(\+ms-ssim)?(?:/(\d+))?)?", spec.partition(":")[2], re.DOTALL)
        assert found
        effort = int(found[2] or 0)
        check_effort(effort)
        header = find_model(found[1] or DEFAULT_MODEL)
        tune = tune_for("ms-ssim" if found[3] else None, effort, header.config)
        low, high = header.config.qualities
        asked = tuple(qualities) or tuple(float(q) for q in range(int(low), int(high) + 1))
        for quality in asked:
            header.config.lambda_of(quality)
        searched = (f"@{effort}" if effort else "") + (found[3] or "")
        label = f"dcae {header.path.stem}{searched} {header.short_id.hex()}"
        every = _every(spec, found[4])
        return Contestant(label, "dcae", asked, str(header.path), effort=effort, tune=tune, every=every)
    name, _, given = spec.partition("/")
    ladder = qualities or rival(name).qualities
    return Contestant(name, name, tuple(float(q) for q in ladder), every=_every(spec, given))


def _every(spec: str, given: str | None) -> int:
    if given and not (given.isdecimal() and 1 <= int(given) <= 1000):
        raise OptionError(f"{spec}: behind the slash stands a whole number from 1 on, of every how many pictures")
    return int(given or 1)


def measure(
    pictures: Sequence[Path],
    contestants: Sequence[Contestant],
    table: Table,
    jobs: int,
    progress: Callable[[int, int, str], None],
    metrics: Sequence[Metric] = tuple(METRICS.values()),
    skip: Callable[[str], None] = lambda reason: None,
) -> None:
    """Fill `table` with the rows, or the metrics of rows, that it lacks.

    Args:
        pictures: of a name that came before, a picture is skipped: their rows could not be told apart.
        jobs: processes that measure at the same time, one thread each.
        progress: called with (done, all, what was done) after each picture and codec.
        metrics: those to measure.
        skip: called with what was skipped and why: pictures that cannot be read, qualities at which a codec failed.

    Raises:
        DCAEError: the table cannot be written, or a process died; what was measured before is in the table.
    """
    have = {row.key for row in table.rows if row.has(metrics)}
    names: set[str] = set()
    tasks: list[Task] = []
    for path in pictures:
        if path.name in names:
            skip(f"{path}: skipped, another picture has the same name")
            continue
        names.add(path.name)
        for c in (c for c in contestants if (len(names) - 1) % c.every == 0):
            if missing := tuple(q for q in c.qualities if (path.name, c.label, q) not in have):
                tasks.append(Task(path, c, missing, tuple(m.name for m in metrics)))
    with _one_thread_each(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _quiet) as pool:
        waiting = {pool.submit(run, task): task for task in tasks}
        broken: BrokenProcessPool | None = None
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                task = waiting[future]
                try:
                    rows, reasons = future.result()
                except BrokenProcessPool as error:  # the pool's end; others may have finished before it
                    broken = error
                    continue
                table.add(rows)
                for reason in reasons:
                    skip(f"{task.path.name} {task.contestant.label}: skipped, {reason}")
                progress(done, len(tasks), f"{task.path.name} {task.contestant.label}")
        except BaseException:
            for child in multiprocessing.active_children():  # nobody waits for a file that takes a minute
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    if broken:
        raise DCAEError(
            f"a process that measures died, perhaps out of memory; {len(table.rows)} rows are in {table.path} and "
            f"the same command continues from there (--jobs 1 needs the least memory)"
        ) from broken


def _quiet() -> None:
    """An interrupted process of the pool ends without a traceback; where interrupts are ignored it ignores them too."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


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


class _Ours:
    """Our codec with an effort, as what is measured."""

    def __init__(self, c: Contestant) -> None:
        from dcae.codec.codec import Codec

        self._codec, self._effort, self._tune = Codec(Path(c.model)), c.effort, c.tune

    def encode(self, image: Image.Image, quality: float) -> bytes:
        return self._codec.encode(image, quality, effort=self._effort, tune=self._tune)

    def decode(self, data: bytes) -> Image.Image:
        return self._codec.decode(data)


_loaded: dict[tuple[str, str, int, str], PictureCodec] = {}


def open_codec(c: Contestant) -> PictureCodec:
    """The codec of a contestant; its model is loaded once in a process."""
    key = c.name, c.model, c.effort, c.tune
    if key not in _loaded:
        _loaded[key] = _Ours(c) if c.name == "dcae" else rival(c.name)
    return _loaded[key]


@dataclass(frozen=True)
class Task:
    """Piece of work of a process of the pool: a picture through a codec at several qualities."""

    path: Path
    contestant: Contestant
    qualities: tuple[float, ...]
    metrics: tuple[str, ...]
    """Names in `METRICS`."""


def run(task: Task) -> tuple[list[Row], list[str]]:
    """Measure one picture through one codec; the rows, and the reasons of what was skipped."""
    rows: list[Row] = []
    reasons: list[str] = []
    try:
        pixels = load_pixels(task.path)
        codec = open_codec(task.contestant)
    except Exception as error:
        return rows, [_reason(error)]
    for quality in task.qualities:
        try:
            rows.append(_row(task, codec, pixels, quality))
        except Exception as error:  # foreign codecs raise anything
            reasons.append(f"quality {quality:g}: {_reason(error)}")
    return rows, reasons


def _reason(error: Exception) -> str:
    """Message of an error, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, DCAEError) else f"{type(error).__name__}: {text}"


def _row(task: Task, codec: PictureCodec, pixels: NDArray[np.uint8], quality: float) -> Row:
    image = Image.fromarray(pixels)
    reset_peak()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    data = codec.encode(image, quality)
    encode_wall, encode_cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    wall, cpu = time.perf_counter(), _cpu_seconds()
    decoded = codec.decode(data)
    decode_wall, decode_cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    in_process = not isinstance(codec, Rival) or codec.in_process
    peak = peak_mib() if in_process else None
    found = np.asarray(decoded.convert("RGB"))
    if found.shape != pixels.shape:
        raise DCAEError(f"decoded to {found.shape[1]}x{found.shape[0]} instead of {image.width}x{image.height}")
    values = {m.field: m.measure(pixels, found) if m.name in task.metrics else math.nan for m in METRICS.values()}
    return Row(
        picture=task.path.name,
        codec=task.contestant.label,
        quality=quality,
        width=image.width,
        height=image.height,
        bytes=len(data),
        bpp=8 * len(data) / (image.width * image.height),
        **values,
        encode_seconds=encode_wall,
        encode_cpu=encode_cpu,
        decode_seconds=decode_wall,
        decode_cpu=decode_cpu,
        peak_mib=math.nan if peak is None else peak,
        measured=f"{datetime.now(timezone.utc).date().isoformat()} {processor()}",
    )


def _cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    try:
        import resource
    except ImportError:  # Windows
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
