"""`dcae serve`: the search for the rival's quality."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image
from service import picture

from dcae.eval.rivals import RIVALS, Rival
from dcae.serve.service.coding import Coder
from dcae.serve.service.compare import _theirs
from dcae.serve.service.settings import Settings

CODER = Coder(Settings(), lambda told: None)


@dataclass(frozen=True)
class Counting(Rival):
    """A format whose files have ten bytes for each step of quality."""

    asked: list[float] = field(default_factory=list)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        self.asked.append(quality)
        return bytes(10 * int(quality))

    def decode(self, data: bytes) -> Image.Image:
        return Image.new("RGB", (8, 8))


@pytest.mark.parametrize(("limit", "quality"), [(0, 1), (10, 1), (19, 1), (509, 50), (950, 95), (990, 99), (9999, 100)])
def test_the_highest_quality_that_fits_is_found_in_few_steps(limit: int, quality: int) -> None:
    rival = Counting("Counting", "", ())
    coded, setting = _theirs(rival, Image.new("RGB", (8, 8)), limit, CODER, "Counting")
    assert setting == f"quality {quality}" and len(coded.data) == 10 * quality
    assert len(rival.asked) <= 8


@pytest.mark.parametrize("name", ["avif-psnr", "jpeg", "webp"])
def test_a_rival_uses_the_bytes_of_the_highest_qualities(name: str) -> None:
    """But is none without loss, which would be another format's mode."""
    rival = RIVALS[name]
    if not rival.available:
        pytest.skip(rival.missing)
    image = Image.open(io.BytesIO(picture(64, 64)))
    sizes = []
    for limit in (len(rival.encode(image, 97)), 1 << 20):
        coded, setting = _theirs(rival, image, limit, CODER, rival.label)
        assert int(setting.removeprefix("quality ")) >= 97
        assert not np.array_equal(np.asarray(coded.image), np.asarray(image))
        sizes.append(len(coded.data))
    assert sizes[0] < sizes[1] and setting == "quality 100"
