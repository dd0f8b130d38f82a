"""Metrics, rivals, complexity."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dcae.cli import main
from dcae.errors import OptionError
from dcae.eval import memory
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import ms_ssim, psnr
from dcae.eval.pictures import find_pictures, load_pixels, mosaic
from dcae.eval.speed.complexity import measure_complexity
from dcae.networks.lite.config import LiteConfig
from dcae.networks.paper.config import PaperConfig


def _write_pictures(folder: Path, count: int = 2, width: int = 96, height: int = 64) -> list[Path]:
    rows, columns = np.mgrid[:height, :width]
    paths = []
    for k in range(count):
        channels = [128 + 90 * np.sin((rows + (c + k) * columns) / 13) for c in range(3)]
        noise = np.random.default_rng(k).normal(0, 6, (height, width, 3))
        paths.append(folder / f"picture{k}.png")
        Image.fromarray((np.stack(channels, -1) + noise).clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def test_psnr_by_hand() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, np.full_like(black, 255)) == 0
    one = black.copy()
    one[0, 0, 0] = 6  # mean squared error 36 / 12 = 3
    assert psnr(black, one) == psnr(one, black) == pytest.approx(10 * math.log10(255**2 / 3))


def test_psnr_refuses_what_it_cannot_compare() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OptionError, match="shape"):
        psnr(picture, picture[:2])
    with pytest.raises(OptionError, match="float32"):
        psnr(picture, picture.astype(np.float32))


def test_ms_ssim() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (161, 170, 3), dtype=np.uint8)
    assert ms_ssim(picture[:160], picture[:160]) is None
    assert ms_ssim(picture, picture) == pytest.approx(1)
    other = ms_ssim(picture, (picture // 2).astype(np.uint8))
    assert other is not None and 0 < other < 0.99


def test_compare_command(tmp_path: Path) -> None:

    pixels = np.random.default_rng(1).integers(0, 250, (170, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels + 5).save(tmp_path / "b.png")
    Image.fromarray(pixels[:50]).save(tmp_path / "small.png")

    def compare(*names: str) -> Any:
        return CliRunner().invoke(main, ["eval", "compare", *(str(tmp_path / name) for name in names)])

    output = compare("a.png", "b.png").output
    assert f"PSNR     {20 * math.log10(255 / 5):.4f} dB" in output
    expected = ms_ssim(pixels, pixels + 5)
    assert expected is not None and f"MS-SSIM  {expected:.6f} ({-10 * math.log10(1 - expected):.4f} dB)" in output
    assert "identical" in compare("a.png", "a.png").output
    assert "below 161" in compare("small.png", "small.png").output
    for names, message in ((("a.png", "small.png"), "shape"), (("a.png", "none.png"), "none.png")):
        result = compare(*names)
        assert result.exit_code == 1
        assert message in result.stderr and result.stderr.count("\n") == 1


def test_bd_rate_of_known_curves() -> None:
    anchor = [(0.1 * 2**k, 28.0 + 3 * k) for k in range(5)]
    assert bd_rate(anchor, [(0.8 * rate, db) for rate, db in anchor]).percent == pytest.approx(-20)
    better = bd_rate(anchor, [(rate, db + 1.5) for rate, db in reversed(anchor)])
    assert better.percent == pytest.approx(100 * (2**-0.5 - 1))  # half of the 3 dB that double the rate
    assert (better.low, better.high) == (29.5, 40.0)
    for wrong, message in (
        (anchor[:3], "has 3 points"),
        ([(r, 60 - d) for r, d in anchor], "does not rise"),
        ([(r, d + 20) for r, d in anchor], "do not overlap"),
    ):
        with pytest.raises(OptionError, match=message):
            bd_rate(anchor, wrong)


def test_bd_rate_reproduces_the_baselines(shared: Path) -> None:
    averages = json.loads((shared / "baselines" / "kodak-averages.json").read_text())["settings"]
    published = json.loads((shared / "baselines" / "bd-rate.json").read_text())["psnr"]
    for name, anchor in (("webp-m6", "avif-s6-444-psnr"), ("jpeg-420", "avif-s6-444")):
        test, over = ([(p["bpp"], p["psnr"]) for p in averages[n]] for n in (name, anchor))
        assert bd_rate(over, test).percent == pytest.approx(published[name]["full"][anchor], abs=1e-3)


def test_mosaic(tmp_path: Path) -> None:
    paths = _write_pictures(tmp_path, 2)
    Image.open(paths[1]).transpose(Image.Transpose.ROTATE_270).save(paths[1])
    first, second = (load_pixels(p) for p in paths)
    assert second.shape == (96, 64, 3)
    pixels = np.asarray(mosaic(paths, 200, 70))
    assert pixels.shape == (70, 200, 3)
    assert np.array_equal(pixels[:64, :96], first)
    assert np.array_equal(pixels[:64, 96:192], np.rot90(second))
    assert np.array_equal(pixels[:64, 192:], first[:, ::-1][:, :8])  # mirrored, the second time
    assert np.array_equal(np.asarray(mosaic(paths, 1, 1)), first[:1, :1])


def test_peak_memory_of_a_process_is_its_own() -> None:
    ballast = np.ones(300 * 2**20, np.uint8)
    alone, ours = memory.import_peak_mib("json"), memory.peak_mib()
    if alone is None or ours is None:
        pytest.skip("this system does not tell")
    assert 2 < alone < 100 < len(ballast) / 2**20 < ours


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    _write_pictures(tmp_path, 2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("ignored")
    lines: list[str] = []
    found = find_pictures(tmp_path, None, lines.append)
    assert [p.name for p in found] == ["picture0.png", "picture1.png"]
    assert len(lines) == 1 and lines[0].startswith("broken.png: skipped")
    assert len(find_pictures(tmp_path, 1, lines.append)) == 1


def test_lite_stays_within_its_budgets() -> None:
    lite = measure_complexity(LiteConfig())
    assert lite.parameters <= 8.0e6
    assert 1 < lite.analysis <= 45
    assert 1 < lite.entropy_model + lite.synthesis == lite.decoder <= 45


def test_the_published_network_is_counted_too() -> None:
    """On a picture whose maps it takes in portions; the published 119 M parameters and some hundreds of kMAC/px."""
    paper = measure_complexity(PaperConfig())
    assert 100e6 < paper.parameters < 140e6
    assert paper.analysis > 100 and paper.synthesis > 100


def test_complexity_counts_what_is_known() -> None:
    # Lapped 16x16 patches every 8 pixels take 12 multiply-accumulates per pixel and channel, whatever the layers; the
    # synthesis computes one more row and column of cells than there are samples.
    bare = LiteConfig(widths=(32, 64), layers=("", ""), latent_channels=64, slices=(64,))
    measured = measure_complexity(bare, 64, 128)
    down = 16 * 32 * 64 / 256
    head = 64 * 64 / 256
    assert measured.analysis * 1000 == pytest.approx(12 * 32 + down + head, rel=0.01)
    cells8, cells16 = (9 * 17) / (8 * 16), (5 * 9) / (4 * 8)
    assert measured.synthesis * 1000 == pytest.approx(12 * 32 * cells8 + down * cells16 + head, rel=0.01)
