"""`dcae eval speed`: stages, processes, continuing; none of it depends on the machine's speed."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture
from PIL import Image
from test_speed_report import plot_is_png

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.errors import DCAEError, OptionError
from dcae.eval.rivals import RIVALS
from dcae.eval.speed import measure as speed
from dcae.eval.speed import worker
from dcae.eval.speed.measure import Settings, shape_of
from dcae.eval.speed.process import ProcessTimes
from dcae.eval.speed.results import AVIF, DIRECTIONS, OURS, PAPER, TORCH
from dcae.eval.speed.stages import CODING, ENTROPY, LOAD, OTHER, TRANSFORM, WRITE, Clock
from dcae.eval.speed.worker import Job
from dcae.models.modelfile import CodingModel

AVIF_PSNR = RIVALS["avif-psnr"]


def _write_pictures(folder: Path, count: int = 2) -> list[Path]:
    paths = [folder / f"picture{k}.png" for k in range(count)]
    for k, path in enumerate(paths):
        synthetic_picture(96, 64, k).save(path)
    return paths


def _fail(*_: object) -> None:
    raise DCAEError("no memory")


# -- stages ------------------------------------------------------------------------------------------------------


def test_clock_charges_every_moment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    now[0] = 1
    with clock.stage(ENTROPY):
        now[0] = 3
        with clock.stage(CODING):
            now[0] = 7
        now[0] = 15
        with contextlib.suppress(ValueError), clock.stage(CODING):
            now[0] = 31
            raise ValueError
    now[0] = 63
    assert clock.stop() == {ENTROPY: 2 + 8, CODING: 4 + 16, OTHER: 1 + 32}


def test_stages_make_up_nearly_all_of_a_call(tmp_path: Path, tiny_path: Path) -> None:
    path = tmp_path / "picture.png"
    synthetic_picture(640, 448).save(path)
    job = Job("encode", OURS, 4.0, str(path), str(tmp_path / "coded"), 1, str(tiny_path), calls=3, seconds=math.inf)
    for action in DIRECTIONS:
        found = worker.run(dataclasses.replace(job, action=action))
        assert set(found.stages) == {LOAD, TRANSFORM, ENTROPY, CODING, OTHER, WRITE}
        assert min(found.stages.values()) > 0
        # What no timed place takes: conversion between pixels and tensors, which a tiny network makes look large.
        assert found.stages[OTHER] < 0.4 * found.seconds


def test_watching_changes_no_byte(tiny_model: CodingModel) -> None:
    codec, image = Codec(tiny_model), synthetic_picture(100, 70)
    data = codec.encode(image, 3)
    codec.observe = Clock().stage
    assert data == codec.encode(image, 3)


# -- processes ---------------------------------------------------------------------------------------------------


def test_job_in_another_process(tmp_path: Path) -> None:
    [picture] = _write_pictures(tmp_path, 1)
    job = Job("encode", "jpeg", 90, str(picture), str(tmp_path / "coded.jpeg"), 1, compare=True)
    encoded, decoded = worker.measure(job), worker.measure(job.reversed())
    assert encoded.bytes == decoded.bytes == (tmp_path / "coded.jpeg").stat().st_size
    assert encoded.psnr is None and decoded.psnr is not None and 25 < decoded.psnr < 60
    assert all(set(o.stages) == {LOAD, "codec", OTHER, WRITE} for o in (encoded, decoded))
    assert encoded.peak is None or encoded.peak < 200  # without torch
    assert Image.open(tmp_path / "coded.jpeg.png").size == (96, 64)


def test_failure_of_a_process_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DCAEError, match="unknown codec 'webp2'"):
        worker.measure(Job("encode", "webp2", 1.0, "none", "none", 1))


def test_threads_are_those_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def run_python(arguments: list[str], standard_input: str, environment: dict[str, str]) -> str:
        given.append(environment)
        return json.dumps(dataclasses.asdict(worker.Outcome({OTHER: 1.0}, 1, None)))

    monkeypatch.setattr(worker, "run_python", run_python)
    worker.measure(Job("encode", "jpeg", 90, "none", "none", 3))
    assert given[0]["OMP_NUM_THREADS"] == "3"


# -- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`dcae eval speed` on tiny pictures; jobs run in this process, which is spared importing torch every time."""
    monkeypatch.setattr(speed, "measure", worker.run)
    monkeypatch.setattr(speed, "import_peak_mib", lambda module: 1.0)
    monkeypatch.setattr(speed, "measure_process", lambda *_: ProcessTimes(5, 1.0, 1.5, 1.75))
    monkeypatch.setattr(speed, "RATE_SIZE", (128, 64))
    monkeypatch.setattr(speed, "CALLS", 1)
    monkeypatch.setattr(speed, "ODD_SIZES", ((17, 33), (1, 1)))
    (tmp_path / "pictures").mkdir()
    _write_pictures(tmp_path / "pictures")

    def run(*options: str, sizes: str = "0.008,0.02", threads: str = "1,2") -> Result:
        fixed = [str(tmp_path / "pictures"), "-o", str(tmp_path / "out"), "--model", str(tiny_path)]
        return CliRunner().invoke(main, ["eval", "speed", *fixed, "--sizes", sizes, "--threads", threads, *options])

    return run


@pytest.mark.slow
def test_command(command: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    result = command("--skip", "paper")
    assert result.exit_code == 0, result.output
    assert "broken.png: skipped" in result.stderr
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [f"speed.{s}" for s in ("csv", "json", "md", "png", "svg")]
    rows = list(csv.DictReader((out / "speed.csv").open()))
    codecs = {OURS, TORCH, AVIF} if AVIF_PSNR.available else {OURS, TORCH}
    assert {(r["codec"], r["threads"], r["width"], r["direction"]) for r in rows} == {
        (c, t, w, d) for c in codecs for t in "12" for w in ("128", "192") for d in DIRECTIONS
    }
    assert all(float(r["seconds"]) > 0 and int(r["bytes"]) > 0 for r in rows)
    ours = {r["stage"] for r in rows if r["codec"] == OURS}
    assert ours == {LOAD, TRANSFORM, ENTROPY, CODING, OTHER, WRITE}
    report = (out / "speed.md").read_text()
    headings = ["Time by picture size", "Time by stage", "Memory", "Odd sizes", "Complexity", "Whole process"]
    assert [line[3:] for line in report.splitlines() if line.startswith("## ")] == headings
    assert "| 17x33 |" in report and "2 (picture0.png to picture1.png)" in report
    assert json.loads((out / "speed.json").read_text())["complexity"].keys() == {"lite"}


@pytest.mark.slow
def test_continuing_measures_only_what_is_missing(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not AVIF_PSNR.available:
        pytest.skip("this Pillow does not write AVIF")
    jobs: list[Job] = []

    def measured(job: Job) -> worker.Outcome:
        jobs.append(job)
        if len(jobs) == 6:
            raise KeyboardInterrupt
        return worker.run(job)

    monkeypatch.setattr(speed, "measure", measured)
    skip = ("--skip", "torch,paper,odd,complexity,process")
    assert command(*skip, threads="1").exit_code != 0  # interrupted in the second size
    assert len(jobs) == 6
    before = (tmp_path / "out" / "speed.csv").read_text()
    assert {r["width"] for r in csv.DictReader(io.StringIO(before))} == {"128"}

    time.sleep(1.1 - time.time() % 1)  # runs are told apart by the second
    result = command(*skip, threads="1")
    assert result.exit_code == 0 and "1 of 2 sizes" in result.stderr
    after = (tmp_path / "out" / "speed.csv").read_text()
    assert after.startswith(before) and len(after) > len(before)
    assert {Path(job.picture).stem for job in jobs[6:]} == {"128x64", "192x128"}  # the former for AVIF's quality
    assert "from 2 runs (" in (tmp_path / "out" / "speed.md").read_text()

    count = len(jobs)
    assert command(*skip, threads="1").exit_code == 0
    assert len(jobs) == count and (tmp_path / "out" / "speed.csv").read_text() == after
    assert command(*skip, "--force", sizes="0.008", threads="1").exit_code == 0
    assert len(jobs) > count and "from one run" in (tmp_path / "out" / "speed.md").read_text()


@pytest.mark.slow
def test_measurements_of_other_machines_are_not_mixed(command: Callable[..., Result], tmp_path: Path) -> None:
    skip = ("--skip", "paper,odd,complexity,process")
    assert command(*skip, sizes="0.008", threads="1").exit_code == 0
    path = tmp_path / "out" / "speed.json"
    values = json.loads(path.read_text())
    values["environment"]["torch"] = "1.0"
    path.write_text(json.dumps(values))
    for options, message in (((), "another torch (1.0"), (("--quality", "3"), "another")):
        result = command(*skip, *options, sizes="0.008", threads="1")
        assert result.exit_code == 1 and message in result.stderr and "--force" in result.stderr
    path.write_text("{}")
    assert "not what this dcae eval speed writes" in command(*skip).stderr


@pytest.mark.slow
def test_a_codec_that_fails_is_named_and_not_tried_on_larger_pictures(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not AVIF_PSNR.available:
        pytest.skip("this Pillow does not write AVIF")
    tried: list[str] = []

    def measured(job: Job) -> worker.Outcome:
        tried.append(job.codec)
        if job.codec == AVIF:
            raise DCAEError("exit code -9, perhaps out of memory")
        return worker.run(job)

    monkeypatch.setattr(speed, "measure", measured)
    result = command("--skip", "paper,odd,complexity,process", threads="1")
    assert result.exit_code == 0, result.output
    assert tried.count(AVIF) == 1
    report = (tmp_path / "out" / "speed.md").read_text()
    assert "- AVIF speed 6 tune=psnr at 0.00819 MP, 1 thread, encode: exit code -9" in report
    assert "- AVIF speed 6 tune=psnr at 0.0246 MP, 1 thread: not tried" in report
    assert plot_is_png(tmp_path / "out" / "speed.png")

    monkeypatch.setattr(speed, "measure", _fail)
    monkeypatch.setattr(speed._Run, "avif_quality", lambda self: 30)
    result = command("--force", "--skip", "paper,odd,complexity,process", threads="1")
    assert result.exit_code == 1 and "nothing could be measured" in result.stderr


@pytest.mark.slow
def test_paper_and_rounds(command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    def measured(job: Job) -> worker.Outcome:
        jobs.append(job)
        return worker.Outcome({OTHER: 2.0 if len(jobs) < 8 else 1.0}, 900, None)

    monkeypatch.setattr(speed, "measure", measured)
    monkeypatch.setattr(speed._Run, "avif_quality", lambda self: 30)
    monkeypatch.setattr(speed, "measure_process", _fail)
    skip = ("--skip", "odd,complexity")
    result = command(*skip, "--paper-up-to", "0.01", "--repeats", "2", threads="2")
    assert result.exit_code == 0, result.output
    assert {Path(job.picture).stem for job in jobs if job.codec == PAPER} == {"128x64"}
    codecs = [OURS, TORCH, AVIF, PAPER] if AVIF_PSNR.available else [OURS, TORCH, PAPER]
    first = [(job.codec, job.action) for job in jobs[: 4 * len(codecs)]]
    assert first == [(codec, direction) for direction in DIRECTIONS for codec in codecs] * 2  # they take turns
    assert all(job.threads == 2 for job in jobs)
    assert "- process: no memory" in (tmp_path / "out" / "speed.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sizes", "a"), "--sizes a: numbers"),
        (("--sizes", "0.1,-2"), "megapixels above 0"),
        (("--sizes", ""), "megapixels above 0"),
        (("--threads", "1.5"), "--threads 1.5: numbers"),
        (("--threads", "0"), "at least 1"),
        (("--repeats", "0"), "at least 1"),
        (("--skip", "rd,odd"), "cannot skip rd"),
        (("--quality", "9"), "quality 9"),
        (("--model", "none"), "no model named 'none'"),
    ],
)
def test_bad_options(command: Callable[..., Result], options: tuple[str, ...], message: str) -> None:
    result = command(*options)
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_nothing_to_measure(tmp_path: Path, tiny_path: Path) -> None:
    with pytest.raises(DCAEError, match="no readable picture"):
        speed.run(Settings(tmp_path, str(tiny_path)), tmp_path, print)
    with pytest.raises(OptionError, match="no such folder"):
        speed.run(Settings(tmp_path / "nowhere", str(tiny_path)), tmp_path, print)


def test_shapes() -> None:
    for megapixels in (0.1, 0.4, 1.5, 6, 12, 24, 50):
        width, height = shape_of(megapixels)
        assert width % 64 == height % 64 == 0
        assert width * height / 1e6 == pytest.approx(megapixels, rel=0.05)
        assert 1.3 < width / height < 1.7
    assert shape_of(1e-6) == (64, 64)
    assert Settings(Path(), sizes=(1e-6, 12, 1e-5, 0.1)).shapes == [(64, 64), (384, 256), shape_of(12)]
