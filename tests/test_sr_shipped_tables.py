"""The tables that are shipped: the same pixels everywhere, and better than interpolation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from lut_golden import SMALL
from PIL import Image

from dcae.resize import to_float, to_samples
from dcae.sr.find import find_upscaler
from dcae.sr.models import find_sr_model
from dcae.sr.protocol.resize import reduced
from dcae.sr.protocol.scores import scores
from dcae.sr.tables.engine import TableEngine
from dcae.sr.tables.tablefile import read_tables

PIXELS = {"tables-x2-1": "b838d9f3681c345ed8b6cf8966258029d320682970f88208c59bfa87dc79a2cb"}
"""Name -> SHA-256 of what a model makes of the golden picture."""


@pytest.mark.parametrize("name", PIXELS)
def test_shipped_tables_enlarge_alike_everywhere(name: str) -> None:
    header, tensors = read_tables(find_sr_model(name, 2).path)
    found = TableEngine(header.config, tensors)(np.load(SMALL)["picture"])
    assert hashlib.sha256(found.tobytes()).hexdigest() == PIXELS[name]
    assert header.path.stat().st_size < 2_000_000
    assert {"data", "steps", "patches", "hardware", "log"} <= header.record.keys()


@pytest.mark.parametrize("number", [5, 13, 20])
def test_shipped_tables_are_better_than_bicubic(number: int, shared: Path) -> None:
    pixels = np.asarray(Image.open(shared / "data" / "kodak" / f"kodim{number:02}.png"))[:256, :256]
    small = to_float(reduced(pixels, 2))
    tables, bicubic = (
        scores(pixels, to_samples(find_upscaler(name, 2)(small)), 2) for name in ("tables", "bicubic")
    )  # fmt: skip
    assert tables.psnr_y > bicubic.psnr_y + 0.6
    assert tables.ssim_y is not None and bicubic.ssim_y is not None and tables.ssim_y > bicubic.ssim_y
