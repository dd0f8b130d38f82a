"""Metrics and BD-rates against known values and against second implementations."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic_picture
from numpy.typing import NDArray
from PIL import Image

import dcae.eval
from dcae.errors import OptionError
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import METRICS, metrics_named

# The example of the package bjontegaard: libx265 with two presets, kbit/s and dB.
ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
TEST = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]


def _pair(seed: int, noise: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    a = np.asarray(synthetic_picture(192, 176, seed))
    b = a + np.random.default_rng(seed).normal(0, noise, a.shape)
    return a, b.round().clip(0, 255).astype(np.uint8)


def _filtered(plane: NDArray[Any]) -> NDArray[Any]:
    """By the Gaussian of 11 taps and a deviation of 1.5, where all of them lie inside."""
    taps = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    for axis in (0, 1):
        plane = np.apply_along_axis(np.convolve, axis, plane, taps / taps.sum(), "valid")
    return plane


def _ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Wang, Simoncelli, Bovik 2003, of every channel."""
    values = []
    for channel in range(3):
        x, y = (p[..., channel].astype(float) for p in (a, b))
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = _filtered(x), _filtered(y)
            vx, vy, covariance = _filtered(x * x) - mx**2, _filtered(y * y) - my**2, _filtered(x * y) - mx * my
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            term = (2 * covariance + c2) / (vx + vy + c2)
            if scale == 4:
                term = term * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            value *= term.mean() ** weight
            if scale < 4:
                x, y = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (x, y))
        values.append(value)
    return float(np.mean(values))


@pytest.mark.parametrize("noise", [1, 10, 60])
def test_metrics_agree_with_a_second_implementation(noise: float) -> None:
    a, b = _pair(3, noise)
    mse = np.mean(np.square(a.astype(float) - b))
    assert METRICS["psnr"].measure(a, b) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)
    # float32 inside; where 1 - MS-SSIM is 0.0005, this is 0.01 dB.
    assert METRICS["ms-ssim"].measure(a, b) == pytest.approx(_ms_ssim(a, b), abs=1e-6)


@pytest.mark.parametrize("shape", [(161, 300), (176, 192), (199, 261)])
def test_ms_ssim_is_that_of_pytorch_msssim(shape: tuple[int, int]) -> None:
    """On odd sides as well, of which publications say nothing."""
    torch = pytest.importorskip("torch")
    measure = pytest.importorskip("pytorch_msssim").ms_ssim
    a = np.asarray(synthetic_picture(shape[1], shape[0], 4))
    b = (a + np.random.default_rng(4).normal(0, 12, a.shape)).round().clip(0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].double() for p in (a, b))
    assert METRICS["ms-ssim"].measure(a, b) == pytest.approx(float(measure(x, y, data_range=255)), abs=1e-6)


def test_what_metrics_are_called_and_where_they_have_values() -> None:
    a, b = _pair(0, 5)
    for name, metric in METRICS.items():
        assert metric.name == name and metric.label.endswith("(dB)")
        worse = a[::-1].copy()
        assert metric.curve(metric.measure(a, b)) > metric.curve(metric.measure(a, worse))
        assert metric.curve(metric.measure(a, a)) == math.inf
        assert math.isnan(metric.curve(math.nan))
        assert math.isnan(metric.measure(a[:160], b[:160])) == (not metric.applies(192, 160)) == (name == "ms-ssim")
    assert METRICS["ms-ssim"].curve(0.99) == pytest.approx(20)


def test_metrics_by_name() -> None:
    assert [m.name for m in metrics_named(" ms-ssim,psnr,,ms-ssim")] == ["ms-ssim", "psnr"]
    with pytest.raises(OptionError, match="unknown metric 'vmaf'; known: psnr, ms-ssim"):
        metrics_named("psnr,vmaf")
    with pytest.raises(OptionError, match="no metric"):
        metrics_named(" ,")


@pytest.mark.parametrize("method", ["akima", "pchip"])
def test_bd_rate_agrees_with_scipy(method: str) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    kind = interpolate.Akima1DInterpolator if method == "akima" else interpolate.PchipInterpolator
    curves = [kind([p[1] for p in reversed(c)], np.log([p[0] for p in reversed(c)])) for c in (ANCHOR, TEST)]
    low, high = TEST[-1][1], ANCHOR[0][1]
    over, test = (float(curve.integrate(low, high)) / (high - low) for curve in curves)
    found = bd_rate(ANCHOR, TEST, method)
    assert found == (pytest.approx(100 * math.expm1(test - over), abs=1e-6), low, high)
    assert -4.5 < found.percent < -4.4


def test_bd_rate_of_the_published_dcae_over_vtm() -> None:
    """Over the curves that the package brings."""
    (path,) = Path(dcae.eval.__path__[0]).rglob("kodak.json")
    curves = {re.split(r", | \(", curve["name"])[0]: curve["results"] for curve in json.loads(path.read_text())}
    vtm, ours = (list(zip(curves[n]["bpp"], curves[n]["psnr"], strict=True)) for n in ("VTM", "DCAE"))
    assert bd_rate(vtm, ours, "pchip").percent == pytest.approx(-16.97611, abs=1e-4)
    assert bd_rate(vtm, ours).percent == pytest.approx(-17.003807, abs=1e-4)  # the paper says -17.0


def test_bd_rates_that_there_are_not() -> None:
    for curve, reason in (
        (ANCHOR[:3], "3 points"),
        ([(rate, 80 - db) for rate, db in ANCHOR], "does not rise everywhere.*quality 45.1.* at rate 1358"),
        (
            [(rate, db + 6) for rate, db in ANCHOR],
            "do not overlap: one ends at quality 40.04, the other begins at 40.8",
        ),
        ([(rate, math.inf) for rate, db in ANCHOR], "not a finite number"),
        ([(rate - 1358.24, db) for rate, db in ANCHOR], "not a finite number"),
    ):
        with pytest.raises(OptionError, match=reason):
            bd_rate(ANCHOR, curve)


def test_compare_names_the_metrics_asked_for(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dcae.cli import main

    for name, pixels in zip(("a.png", "b.png"), _pair(1, 4), strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    command = ["eval", "compare", str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    lines = CliRunner().invoke(main, command).output.splitlines()
    assert [line.split()[0] for line in lines] == ["PSNR", "MS-SSIM"]
    assert CliRunner().invoke(main, [*command, "--metrics", "ms-ssim"]).output.splitlines() == lines[1:]
    result = CliRunner().invoke(main, [*command, "--metrics", "vmaf"])
    assert result.exit_code == 1 and "unknown metric" in result.stderr
