"""The shipped upscalers: what they gain on pictures that they never saw, and what their files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dcae
from dcae.sr.evaluation import load_rgb, measure
from dcae.sr.find import find_upscaler
from dcae.sr.models import find_sr_model

GOLDEN = np.load(Path(__file__).with_name("golden") / "sr-protocol.npz")


def gain(name: str, pixels: np.ndarray, scale: int) -> float:
    """PSNR of Y in dB over bicubic enlargement, by the field's protocol."""
    found = (measure(name, pixels, find_upscaler(model, scale), "bicubic").psnr_y for model in ("sr-small", "bicubic"))
    return next(found) - next(found)


@pytest.mark.parametrize(("scale", "patches"), [(2, 10_000), (4, 2_000)])
def test_it_is_in_the_package_and_small(scale: int, patches: int) -> None:
    header = find_sr_model("sr-small", scale)
    assert header.path.is_relative_to(Path(dcae.__file__).parent)
    assert header.path.stat().st_size < 2**20
    assert header.config.preset == "sr-small"
    assert header.record["data"] and header.record["patches"] > patches


@pytest.mark.parametrize(("scale", "least"), [(2, 1.7), (4, 0.5)])
def test_it_gains_on_a_crop_of_kodak(scale: int, least: float) -> None:
    assert gain("kodim23", GOLDEN["hr"], scale) > least


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "mean", "least"), [(2, 1.2, 0.5), (4, 0.6, 0.2)])
def test_it_gains_on_kodak(shared: Path, scale: int, mean: float, least: float) -> None:
    pictures = sorted((shared / "data" / "kodak").glob("*.png"))
    if not pictures:
        pytest.skip(f"no Kodak pictures in {shared}")
    gains = [gain(path.name, load_rgb(str(path)), scale) for path in pictures]
    assert len(gains) == 24
    assert np.mean(gains) >= mean
    assert min(gains) > least
