"""`dcae eval rd`: rows from real files, continued after an interruption, averaged and compared."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture, write_tiny_model
from PIL import Image

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.errors import DCAEError, OptionError
from dcae.eval.rd import measure as rd
from dcae.eval.rd.curves import compare, mean_curves, to_text
from dcae.eval.rd.measure import Contestant, contestant
from dcae.eval.rd.report import make_report
from dcae.eval.rd.rows import Row, Table
from dcae.eval.rivals import rival
from dcae.eval.rivals.base import threads

ROW = Row("a.png", "jpeg", 10, 100, 50, 625, 1.0, 30.0, 0.9, 0.1, 0.1, 0.2, 0.2, math.nan)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for k in range(2):
        synthetic_picture(192, 176, k).save(path / f"{k}.png")
    (path / "broken.png").write_bytes(b"no picture")
    return path


def _rd(folder: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["eval", "rd", str(folder), "-o", str(out), "--jobs", "2", *options])


@pytest.mark.slow
def test_rows_are_measured_continued_and_compared(folder: Path, tiny_path: Path, tmp_path: Path) -> None:
    codecs = f"jpeg,nonsense,webp,dcae:{tiny_path}"
    result = _rd(folder, tmp_path, "--codecs", codecs, "--qualities", "1,4.5,6,8", "--anchor", "jpeg")
    assert result.exit_code == 0, result.output
    assert "broken.png: skipped" in result.stderr
    assert "nonsense: left out, unknown codec" in result.stderr
    rows = Table(tmp_path / "rows.csv").rows
    ladder = rival("jpeg").qualities
    assert sum(r.codec == "jpeg" for r in rows) == 2 * len(ladder)
    ours = [r for r in rows if r.codec.startswith("dcae tiny ")]
    assert sorted({r.quality for r in ours}) == [1, 4.5, 6, 8]

    # A row says what its file was.
    row = next(r for r in rows if (r.picture, r.codec, r.quality) == ("1.png", "jpeg", ladder[5]))
    pixels = np.asarray(Image.open(folder / "1.png"))
    data = rival("jpeg").encode(Image.fromarray(pixels), row.quality)
    error = np.square(np.asarray(rival("jpeg").decode(data), float) - pixels).mean()
    assert row.bytes == len(data)
    assert row.bpp == pytest.approx(8 * len(data) / (192 * 176), rel=1e-6)
    assert row.psnr == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)
    assert 0 < row.ms_ssim < 1 and row.encode_seconds > 0 and row.decode_seconds > 0

    curve = json.loads((tmp_path / "curves" / "jpeg.json").read_text())
    assert curve["name"] == "jpeg"
    assert curve["results"]["bpp"] == sorted(curve["results"]["bpp"])
    assert len(curve["results"]["psnr"]) == len(curve["results"]["ms-ssim"]) == len(ladder)
    assert "psnr     webp" in result.stdout and "ms-ssim  webp" in result.stdout
    assert (tmp_path / "bd-rate.txt").read_text() == result.stdout

    # Interrupted in the middle of a line: only what is missing is measured again.
    text = (tmp_path / "rows.csv").read_text()
    lines = text.splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join(lines[:-3]) + lines[-3][:20])
    again = _rd(folder, tmp_path, "--codecs", codecs, "--qualities", "1,4.5,6,8", "--anchor", "jpeg")
    assert again.exit_code == 0
    assert "1/1 " in again.stderr
    measured = {r.key: r.bytes for r in Table(tmp_path / "rows.csv").rows}
    assert measured == {r.key: r.bytes for r in rows}
    assert again.stdout == result.stdout


def test_nothing_to_measure_is_an_error(folder: Path, tmp_path: Path) -> None:
    for options, message in (
        (("--codecs", "nonsense"), "no codec left"),
        (("--metrics", "nonsense"), "unknown metric"),
        (("--qualities", "a"), "numbers separated by commas"),
        (("--codecs", "dcae", "--qualities", "9"), "no codec left"),
        (("--codecs", "jpeg", "--anchor", "webp"), "--anchor webp is not among"),
        (("--codecs", "jpeg,webp/2", "--anchor", "webp"), "the anchor webp must be measured on all pictures"),
    ):
        result = _rd(folder, tmp_path / "out", *options)
        assert result.exit_code == 1
        assert message in result.stderr.splitlines()[-1]
    result = _rd(tmp_path / "none", tmp_path / "out", "--codecs", "jpeg")
    assert result.exit_code == 1 and "no such folder" in result.stderr


def test_a_foreign_or_damaged_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table = Table(path)
    table.add([ROW])
    table.add([replace(ROW, quality=20)])
    assert [r.key for r in Table(path).rows] == [("a.png", "jpeg", 10), ("a.png", "jpeg", 20)]
    path.write_text(path.read_text().replace("625", "many"))
    with pytest.raises(DCAEError, match="line 2 is damaged"):
        Table(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DCAEError, match="something else"):
        Table(path)


def test_rows_say_where_and_when_they_were_measured_and_older_ones_are_read(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rd.measure(sorted(folder.glob("*.png"))[:1], [contestant("jpeg", (10, 20))], Table(path), 1, lambda *_: None)
    first, second = Table(path).rows
    assert re.fullmatch(r"\d{4}-\d\d-\d\d .+", first.measured) and first.measured == second.measured
    older = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(older) + "\n")
    assert "measured" not in older[0]
    assert Table(path).rows == [replace(row, measured="") for row in (first, second)]
    report = make_report([replace(first, measured=""), second], [contestant("jpeg")], "jpeg", ["psnr"])
    assert report.measured == {"": ["jpeg"], second.measured: ["jpeg"]}


def test_a_codec_from_how_it_is_written(tiny_path: Path) -> None:
    assert contestant("webp").qualities == tuple(float(q) for q in rival("webp").qualities)
    ours = contestant(f"dcae:{tiny_path}", [2, 3.5])
    assert ours.label.startswith("dcae tiny ") and ours.qualities == (2, 3.5)
    assert contestant("webp").every == 1 and replace(contestant("webp/4"), every=1) == contestant("webp")
    assert contestant("webp/4").every == 4 and contestant(f"dcae:{tiny_path}@3/4").every == 4
    assert contestant(f"dcae:{tiny_path}@3").every == 1
    with pytest.raises(OptionError, match="webp/0: behind the slash"):
        contestant("webp/0")
    with pytest.raises(OptionError, match="@3/0: behind the slash"):
        contestant(f"dcae:{tiny_path}@3/0")
    with pytest.raises(OptionError, match="outside"):
        contestant(f"dcae:{tiny_path}", [9])
    with pytest.raises(OptionError, match="unknown codec"):
        contestant("gif")


def test_an_effort_and_what_it_is_tuned_for_are_written_behind_the_model(tiny_path: Path) -> None:
    """Codecs that differ in effort are one line of the plots over time; tuned for something else they are another."""
    codecs = {spec: contestant(f"dcae:{tiny_path}{spec}", [8]) for spec in ("", "@1", "@2", "@2+ms-ssim")}
    assert [(c.effort, c.tune) for c in codecs.values()] == [(0, "psnr"), (1, "psnr"), (2, "psnr"), (2, "ms-ssim")]
    assert len({c.label for c in codecs.values()}) == 4
    assert [c.family for c in codecs.values()] == ["DCAE tiny"] * 3 + ["DCAE tiny+ms-ssim"]
    picture, found = synthetic_picture(100, 80), rd.open_codec(codecs["@2+ms-ssim"]).encode
    assert found(picture, 8) == Codec(tiny_path).encode(picture, 8, effort=2, tune="ms-ssim")
    for wrong, said in (("@7", "effort must be"), ("@0+ms-ssim", "give an effort"), ("+ms-ssim", "no such model")):
        with pytest.raises(DCAEError, match=said):
            contestant(f"dcae:{tiny_path}{wrong}")


def test_averages_and_bd_rates_of_known_rows() -> None:
    rows = []
    for picture, factor in (("a.png", 1.0), ("b.png", 2.0)):
        for k in range(5):
            for codec, better in (("anchor", 1.0), ("test", 0.8)):
                bpp = 0.1 * 2**k * factor * better
                rows.append(replace(ROW, picture=picture, codec=codec, quality=k, bpp=bpp, psnr=28 + 3 * k))
    curves = mean_curves(rows)
    assert [p["bpp"] for p in curves["test"]] == pytest.approx([0.12 * 2**k for k in range(5)])
    (psnr, similarity) = compare(rows, "anchor", ["psnr", "ms-ssim"])
    assert psnr.percent == pytest.approx(-20)
    assert psnr.spread == (pytest.approx(-20), pytest.approx(0, abs=1e-6))
    assert similarity.percent is None and "does not rise" in similarity.reason
    text = to_text([psnr, similarity], "anchor")
    assert "-20.00 %" in text and "28.00 to 40.00 dB" in text and "no BD-rate: " in text
    # A quality that one picture lacks would make the mean another set's.
    assert len(mean_curves(rows[1:])["anchor"]) == 4
    with pytest.raises(OptionError, match="was not measured"):
        compare(rows, "avif", ["psnr"])


@pytest.mark.slow
def test_a_metric_is_added_to_rows_that_are_there(folder: Path, tmp_path: Path) -> None:
    synthetic_picture(90, 60).save(tmp_path / "small.png")  # too small for MS-SSIM: nothing to add
    for path in folder.glob("[01].png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "out"
    first = _rd(tmp_path, out, "--codecs", "webp", "--metrics", "psnr")
    assert first.exit_code == 0, first.output
    cells = (out / "rows.csv").read_text().splitlines()[1].split(",")
    assert cells[8] == "" and float(cells[7]) > 0
    # As if the first run had been another machine's: what is there already is kept, not measured again.
    rows = {r.key: replace(r, psnr=r.psnr + 1) for r in Table(out / "rows.csv").rows}
    (out / "rows.csv").unlink()
    Table(out / "rows.csv").add(list(rows.values()))
    second = _rd(tmp_path, out, "--codecs", "webp", "--metrics", "ms-ssim")
    assert second.exit_code == 0 and "2/2 " in second.stderr
    both = {r.key: r for r in Table(out / "rows.csv").rows}
    assert list(both) == list(rows)
    for key, row in both.items():
        assert row.psnr == rows[key].psnr and row.bytes == rows[key].bytes
        assert math.isnan(row.ms_ssim) == (row.picture == "small.png")
    third = _rd(tmp_path, out, "--codecs", "webp", "--metrics", "psnr,ms-ssim")
    assert third.exit_code == 0 and ".png webp" not in third.stderr
    # Another file: what was measured of the former one says nothing of it.
    table = Table(out / "rows.csv")
    key = "0.png", "webp", 50.0
    table.add([replace(both[key], bytes=7, psnr=math.nan)])
    assert math.isnan({r.key: r for r in Table(out / "rows.csv").rows}[key].psnr)


@pytest.mark.slow
def test_what_fails_is_named_and_skipped(folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "0.png").write_bytes((folder / "0.png").read_bytes())
    (pictures / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (17000, 2)).save(pictures / "wide.png")  # WebP ends at 16383
    result = _rd(pictures, tmp_path / "out", "--codecs", "jpeg,webp,jpeg", "--anchor", "jpeg", "--metrics", "psnr")
    assert result.exit_code == 0, result.output
    assert "jpeg: left out, jpeg is there already" in result.stderr
    assert "wide.png webp: skipped, quality 50: " in result.stderr
    failed = len(rival("webp").qualities)
    assert result.stderr.splitlines()[-1] == f"{failed + 2} skipped, as said above"
    assert "averages are without 1 pictures that a codec has no row of: wide.png" in result.stderr
    rows = Table(tmp_path / "out" / "rows.csv").rows
    assert {(r.picture, r.codec) for r in rows} == {("0.png", "jpeg"), ("0.png", "webp"), ("wide.png", "jpeg")}
    assert "psnr     webp" in result.stdout
    # The averages are those of the picture that both have.
    own = sorted((r.bpp, r.psnr) for r in rows if (r.picture, r.codec) == ("0.png", "jpeg"))
    assert [(p["bpp"], p["psnr"]) for p in mean_curves(rows)["jpeg"]] == own

    (pictures / "0.png").unlink()
    result = _rd(pictures, tmp_path / "none", "--codecs", "webp")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(f"nothing was measured, {failed + 1} skipped")


def test_a_picture_of_another_size_or_any_error_is_a_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def encode(self, image: Image.Image, quality: float) -> bytes:
            if quality == 3:
                raise RuntimeError("lines\nand lines")
            return b"x"

        def decode(self, data: bytes) -> Image.Image:
            return Image.new("RGB", (5, 7))

    monkeypatch.setitem(rd._loaded, ("jpeg", "", 0, "psnr"), Wrong())
    task = rd.Task(folder / "0.png", Contestant("jpeg", "jpeg", (2, 3)), (2, 3), ("psnr",))
    assert rd.run(task) == (
        [],
        ["quality 2: decoded to 5x7 instead of 192x176", "quality 3: RuntimeError: lines and lines"],
    )
    rows, reasons = rd.run(replace(task, path=tmp_path / "gone.png"))
    assert not rows and "no such file" in reasons[0]


@pytest.mark.slow
def test_a_name_that_comes_twice_is_skipped(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes((folder / "1.png").read_bytes())
    reasons: list[str] = []
    table = Table(tmp_path / "rows.csv")
    paths = [folder / "0.png", tmp_path / "0.png"]
    rd.measure(paths, [Contestant("jpeg", "jpeg", (50,))], table, 1, lambda *_: None, skip=reasons.append)
    assert [r.key for r in table.rows] == [("0.png", "jpeg", 50)]
    assert reasons == [f"{paths[1]}: skipped, another picture has the same name"]


@pytest.mark.slow
def test_a_process_that_dies_is_one_line(folder: Path, tmp_path: Path) -> None:
    def kill(done: int, of: int, what: str) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    table = Table(tmp_path / "rows.csv")
    codecs = [contestant(name) for name in ("jpeg", "webp", "avif", "avif-psnr")]
    with pytest.raises(DCAEError, match=r"a process that measures died.* rows are in .*rows.csv"):
        rd.measure([folder / "0.png", folder / "1.png"], codecs, table, 1, kill)
    kept = Table(tmp_path / "rows.csv").rows
    assert 0 < len(kept) < 2 * sum(len(c.qualities) for c in codecs)
    rd.measure([folder / "0.png"], codecs[:1], table, 1, lambda *_: None)
    assert {r.key for r in table.rows} >= {("0.png", "jpeg", q) for q in codecs[0].qualities}


def test_processes_use_one_thread_and_their_children_count(folder: Path) -> None:
    before = dict(os.environ)
    with rd._one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == "1" and threads() == 1
    assert dict(os.environ) == before
    started = rd._cpu_seconds()
    subprocess.run([sys.executable, "-c", "for k in range(3000000): pass"], check=True)
    assert rd._cpu_seconds() - started > 0.03


def test_of_a_new_model_only_its_own_rows_are_measured(folder: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "same-name.safetensors", tmp_path / "out"
    for seed in (1, 2):
        write_tiny_model(path, seed)
        options = ("--codecs", f"dcae:{path},webp,jpeg", "--qualities", "1,3,5,7", "--anchor", "jpeg")
        result = _rd(folder, out, *options)
        assert result.exit_code == 0, result.output
        rows = Table(out / "rows.csv").rows
        if seed == 1:
            before = rows
            continue
        done = [line for line in result.stderr.splitlines() if line.partition("/")[0].isdigit()]
        assert len(done) == 2 and all("dcae same-name" in line for line in done)
        # Times as well are those of the first run, which shows that nothing of the rivals was measured again.
        assert rows[: len(before)] == before
        new = {row.codec for row in rows[len(before) :]}
        assert len(new) == 1 and not new & {row.codec for row in before}
        summary = json.loads((out / "summary.json").read_text())
        assert set(summary["labels"]) == new | {"webp", "jpeg"}, "the old model is in the table, but not in the report"


def test_several_folders_are_a_report_each(folder: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    picture = synthetic_picture(240, 176, 7)
    picture.save(large / "a.webp", lossless=True)
    command = ["eval", "rd", str(folder), str(large), "-o", str(tmp_path / "out"), "--jobs", "1"]
    result = CliRunner().invoke(main, [*command, "--codecs", "jpeg,webp/2", "--anchor", "jpeg", "--metrics", "psnr"])
    assert result.exit_code == 0, result.output
    rows = Table(tmp_path / "out" / folder.name / "rows.csv").rows
    assert {(r.codec, r.picture) for r in rows} == {("jpeg", "0.png"), ("jpeg", "1.png"), ("webp", "0.png")}
    assert "averages are without" not in result.stderr and "psnr     webp" in result.stdout
    for name, count in ((folder.name, 2), ("large", 1)):
        assert len(json.loads((tmp_path / "out" / name / "summary.json").read_text())["pictures"]) == count
        assert (tmp_path / "out" / name / "index.html").is_file()
    row = next(r for r in Table(tmp_path / "out" / "large" / "rows.csv").rows if r.codec == "jpeg")
    assert row.bytes == len(rival("jpeg").encode(picture, row.quality)), "the pixels of a lossless WebP are its own"
    twice = CliRunner().invoke(main, ["eval", "rd", str(large), str(large), "-o", str(tmp_path / "twice")])
    assert twice.exit_code == 1 and "same name" in twice.stderr


_FFMPEG = """#!/bin/sh
case "$*" in
  *-encoders*) echo libvvenc ;;
  *-filters*) echo zscale ;;
  *) trap '' INT; echo $$ > "$DCAE_TEST_PID.new"; mv "$DCAE_TEST_PID.new" "$DCAE_TEST_PID"; while :; do sleep 1; done ;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("whole_group", [True, False])
def test_interrupting_leaves_no_ffmpeg_behind(folder: Path, tmp_path: Path, whole_group: bool) -> None:
    """Ctrl-C in a terminal reaches the whole group of processes, `kill -INT` the first alone."""
    pytest.importorskip("imageio_ffmpeg")
    program, pid_file = tmp_path / "ffmpeg", tmp_path / "pid"
    program.write_text(_FFMPEG)
    program.chmod(0o755)
    environment = os.environ | {"IMAGEIO_FFMPEG_EXE": str(program), "DCAE_TEST_PID": str(pid_file)}
    command = [sys.executable, "-m", "dcae", "eval", "rd", str(folder), "-o", str(tmp_path / "out"), "--codecs", "vvc"]
    with subprocess.Popen(
        [*command, "--jobs", "1"], env=environment, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE
    ) as process:
        try:
            _until(lambda: pid_file.exists() or process.poll() is not None)
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
            _until(lambda: process.poll() is not None)
            assert process.returncode != 0
            _until(lambda: not _runs(int(pid_file.read_text())))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_processes_that_measure_ignore_interrupts_where_their_parent_does() -> None:
    """A script starts its background programs so: Ctrl-C in its terminal is not meant for them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        rd._quiet()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # of a machine that does other things as well
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
