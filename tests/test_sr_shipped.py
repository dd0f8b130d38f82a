"""The shipped upscaler: what it gains on pictures that it never saw, and what its file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dcae
from dcae.sr.evaluation import load_rgb, measure
from dcae.sr.find import find_upscaler
from dcae.sr.models import find_sr_model

GOLDEN = np.load(Path(__file__).with_name("golden") / "sr-protocol.npz")


def gain(name: str, pixels: np.ndarray) -> float:
    """PSNR of Y in dB over bicubic enlargement by 2, by the field's protocol."""
    found = (measure(name, pixels, find_upscaler(model, 2), "bicubic").psnr_y for model in ("sr-small", "bicubic"))
    return next(found) - next(found)


def test_it_is_in_the_package_and_small() -> None:
    header = find_sr_model("sr-small", 2)
    assert header.path.is_relative_to(Path(dcae.__file__).parent)
    assert header.path.stat().st_size < 2**20
    assert header.config.preset == "sr-small"
    assert header.record["data"] and header.record["patches"] > 10_000


def test_it_gains_on_a_crop_of_kodak() -> None:
    assert gain("kodim23", GOLDEN["hr"]) > 1.7


@pytest.mark.slow
def test_it_gains_on_kodak(shared: Path) -> None:
    pictures = sorted((shared / "data" / "kodak").glob("*.png"))
    if not pictures:
        pytest.skip(f"no Kodak pictures in {shared}")
    gains = [gain(path.name, load_rgb(str(path))) for path in pictures]
    assert len(gains) == 24
    assert np.mean(gains) >= 1.2
    assert min(gains) > 0.5
