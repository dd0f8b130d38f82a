"""Example pictures of the page."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcae.errors import OptionError
from dcae.serve.examples import EXAMPLES, SIZE, example_png

PAGE = Path(__file__).resolve().parents[1] / "serve" / "page"


@pytest.mark.parametrize("name", EXAMPLES)
def test_small_pictures_are_those_of_the_examples(name: str) -> None:
    """What the page shows before an example is drawn; `tools/page_pictures.py` writes it."""
    with Image.open(BytesIO(example_png(name))) as whole, Image.open(PAGE / f"{name}.webp") as small:
        assert whole.size == SIZE and whole.mode == "RGB"
        reduced = np.asarray(whole.resize(small.size, Image.Resampling.LANCZOS), int)
        assert np.abs(np.asarray(small.convert("RGB"), int) - reduced).mean() < 8
    assert (PAGE / f"{name}.webp").stat().st_size < 40_000


def test_widths_and_names() -> None:
    with Image.open(BytesIO(example_png("map", 96))) as small:
        assert small.size == (96, 64)
    for name, width in (("map", 63), ("map", SIZE[0] + 1), ("photograph", 100)):
        with pytest.raises(OptionError, match="example"):
            example_png(name, width)
