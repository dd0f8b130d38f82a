"""The codecs to compare with: each codes pictures, and those of Pillow give the baselines' files."""

from __future__ import annotations

import csv
import io
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import synthetic_picture
from PIL import features

from dcae.errors import DCAEError, MissingDependencyError, OptionError
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import psnr
from dcae.eval.rd.measure import Contestant, Task, run
from dcae.eval.rivals import RIVALS, rival, vvc

LIBRARIES = {"avif": "1.4.2", "libjpeg_turbo": "3.2.0", "webp": "1.6.0"}
"""Those that the baselines' files were written with: their bytes are reproduced, of others' some percent."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _usable(name: str) -> None:
    if reason := RIVALS[name].missing:
        pytest.skip(reason)


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_picture_comes_back(name: str) -> None:
    _usable(name)
    found = rival(name)
    image = synthetic_picture(98, 66, 5)
    sizes, db = [], []
    for quality in (found.qualities[2], found.qualities[-3], found.qualities[-1]):
        data = found.encode(image, quality)
        decoded = found.decode(data)
        assert decoded.mode == "RGB" and decoded.size == (98, 66)
        sizes.append(len(data))
        db.append(psnr(np.asarray(image), np.asarray(decoded)))
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] < 98 * 66 * 3
    assert db == sorted(db) and db[0] > 17 and db[2] > 28  # the picture's noise alone, removed, leaves 30 dB


@pytest.mark.parametrize("name", list(RIVALS))
def test_colours_come_back(name: str) -> None:
    """Of flat pictures, which no subsampling changes: a wrong matrix or range shifts them by ten levels and more."""
    _usable(name)
    found = rival(name)
    for colour in ((255, 255, 255), (0, 0, 0), (200, 30, 60), (20, 160, 90), (40, 60, 220)):
        image = synthetic_picture(64, 64)
        image.paste(colour, (0, 0, 64, 64))
        decoded = np.asarray(found.decode(found.encode(image, found.qualities[-1])), int)
        assert np.abs(decoded.mean((0, 1)) - colour).max() <= 2.5, colour


@pytest.mark.parametrize(
    ("name", "baseline", "library", "qualities"),
    [
        ("jpeg", "jpeg-420", "libjpeg_turbo", (8, 30, 75)),
        ("webp", "webp-m6", "webp", (5, 20)),
        ("avif", "avif-s6-444", "avif", (12, 50)),
        ("avif-psnr", "avif-s6-444-psnr", "avif", (12, 50)),
    ],
)
@pytest.mark.parametrize("picture", ["kodim05", "kodim14", "kodim19"])
def test_the_baselines_are_reproduced(
    shared: Path, name: str, baseline: str, library: str, qualities: tuple[int, ...], picture: str
) -> None:
    _usable(name)
    with (shared / "baselines" / "results.csv").open() as file:
        expected = {
            float(r["quality"]): r for r in csv.DictReader(file) if (r["codec"], r["image"]) == (baseline, picture)
        }
    path = shared / "data" / "kodak" / f"{picture}.png"
    rows, reasons = run(
        Task(path, Contestant(name, name, tuple(map(float, qualities))), qualities, ("psnr", "ms-ssim"))
    )
    assert not reasons and [row.quality for row in rows] == list(qualities)
    same = features.version(library) == LIBRARIES[library]
    for row in rows:
        known = expected[row.quality]
        assert row.bytes == pytest.approx(int(known["bytes"]), rel=0 if same else 0.03)
        assert row.bpp == pytest.approx(float(known["bpp"]), rel=1e-5 if same else 0.03)
        assert row.psnr == pytest.approx(float(known["psnr"]), abs=1e-5 if same else 0.15)
        assert row.ms_ssim == pytest.approx(float(known["msssim"]), abs=2e-6 if same else 0.003)


_AVIF = {"speed": 6, "subsampling": "4:4:4", "max_threads": 1}
_PSNR = {"advanced": {"tune": "psnr"}}


@pytest.mark.parametrize(
    ("name", "kind", "options", "others"),
    [
        ("jpeg", "JPEG", {"subsampling": 2, "progressive": True}, [{"subsampling": 0}, {"progressive": False}]),
        ("webp", "WEBP", {"method": 6}, [{"method": 0}, {"method": 4}, {"lossless": True}]),
        ("avif", "AVIF", _AVIF, [{"speed": 9}, {"speed": 4}, {"subsampling": "4:2:0"}, _PSNR]),
        ("avif-psnr", "AVIF", _AVIF | _PSNR, [{"speed": 4}, {"subsampling": "4:2:0"}, {"advanced": {"tune": "ssim"}}]),
    ],
)
def test_settings_are_those_of_the_label(
    name: str, kind: str, options: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    """The bytes are those that Pillow writes with the options that are meant, and not those with any other."""
    _usable(name)
    image = synthetic_picture(160, 96, 3)

    def written(options: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=50, **options)
        return buffer.getvalue()

    data = rival(name).encode(image, 50)
    assert data == written(options)
    assert all(data != written(options | other) for other in others)


def test_what_vvc_does_not_code() -> None:
    _usable("vvc")
    found = rival("vvc")
    for size in ((97, 66), (66, 97), (8, 64)):
        with pytest.raises(DCAEError, match="even sides"):
            found.encode(synthetic_picture(*size), 37)
    with pytest.raises(OptionError, match="QP 64"):
        found.encode(synthetic_picture(64, 64), 64)
    with pytest.raises(DCAEError, match="ffmpeg"):
        found.decode(b"no stream" * 100)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("interruptible")
def test_a_signal_while_ffmpeg_is_being_started_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(get_ffmpeg_exe=lambda: str(program)))
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            vvc._ffmpeg([])
        assert started[0].returncode == -signal.SIGKILL
    finally:
        started[0].kill()


def test_codecs_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="unknown codec 'gif'; known: jpeg, "):
        rival("gif")
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    monkeypatch.setattr("dcae.extras.find_spec", lambda package: None)
    for name, reason in (
        ("avif", "pip install 'pillow"),
        ("jxl", r"needs imagecodecs, which is not installed: pip install 'dcae\[rivals\]'$"),
        ("heic-444", r"needs pillow-heif, .*pip install 'dcae\[rivals\]' .*GPL"),
        ("mozjpeg", r"needs pyvips, .*pip install 'dcae\[rivals\]'$"),
        ("vvc", r"needs imageio-ffmpeg, .*pip install 'dcae\[rivals\]' .*GPL"),
    ):
        assert not RIVALS[name].available
        with pytest.raises(MissingDependencyError, match=reason):
            rival(name)
    assert RIVALS["jpeg"].available and RIVALS["webp"].available


def test_ladders_rise_in_rate() -> None:
    for name, found in RIVALS.items():
        steps = [b - a for a, b in zip(found.qualities, found.qualities[1:], strict=False)]
        falling = name == "jxl" or name.startswith("vvc")
        assert all(step < 0 if falling else step > 0 for step in steps) and len(steps) >= 4
        assert math.isfinite(sum(found.qualities)) and found.label and found.settings


def test_mozjpeg_needs_fewer_bytes_than_pillows_jpeg() -> None:
    _usable("mozjpeg")
    image = synthetic_picture(256, 192, 3)
    found = {}
    for name in ("jpeg", "mozjpeg"):
        files = [rival(name).encode(image, q) for q in rival(name).qualities]
        assert all(data.startswith(b"\xff\xd8") for data in files)
        found[name] = [
            (float(len(data)), psnr(np.asarray(image), np.asarray(rival(name).decode(data)))) for data in files
        ]
    assert bd_rate(found["jpeg"], found["mozjpeg"]).percent < -5
