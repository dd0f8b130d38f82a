"""The codec as a degradation: what training sees is what decoding a file gives, at qualities between two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import synthetic_picture
from PIL import Image

from dcae.codec.codec import Codec
from dcae.errors import OptionError
from dcae.models.modelfile import CodingModel
from dcae.sr.protocol import resize
from dcae.sr.tables.settings import TableSettings
from dcae.sr.training.degradation import Degradation
from dcae.sr.training.settings import SRSettings
from dcae.train.checkpoint import CHECKPOINT, load_checkpoint
from dcae.train.loop import train
from dcae.train.settings import Settings
from dcae.train.written import span

pytest.importorskip("compressai", reason="the codec's forward pass needs compressai")


def degradation(tiny_path: Path, qualities: str) -> Degradation:
    """The tiny model's, at scale 2."""
    return Degradation(
        SRSettings.from_dict({"degradation": "codec", "codec": str(tiny_path), "codec_qualities": qualities})
    )


@pytest.mark.parametrize("quality", [1, 5])
def test_pictures_are_what_decoding_a_file_gives(tiny_path: Path, tiny_model: CodingModel, quality: int) -> None:
    pixels = np.asarray(synthetic_picture(128, 128, 1))
    small = resize.reduced(pixels, 2, "bicubic")
    codec = Codec(tiny_model)
    decoded = np.asarray(codec.decode(codec.encode(Image.fromarray(small), quality)))
    found = degradation(tiny_path, str(quality)).picture(pixels, 0.5)
    own, theirs = (np.abs(x.astype(int) - small).mean() for x in (found, decoded))
    assert own > 1, "nothing was coded"
    # The encoder searches and corrects brightness, which the forward pass does not.
    assert np.abs(found.astype(int) - decoded).mean() < 0.6 * own
    assert own == pytest.approx(theirs, rel=0.3)


def test_the_draw_says_which_quality(tiny_path: Path) -> None:
    pixels = np.asarray(synthetic_picture(128, 128, 1))
    large = torch.from_numpy(resize.to_float(pixels)).permute(2, 0, 1)[None]
    both = degradation(tiny_path, "1..8")(large.expand(2, -1, -1, -1), np.array([0.0, 1.0]))
    assert torch.equal((both * 255).round() / 255, both)
    for found, quality in zip(both, ("1", "8"), strict=True):
        alone = degradation(tiny_path, quality)(large, np.array([0.3]))[0]
        assert (alone - found).abs().mean() < 1e-3
    assert (both[0] - both[1]).abs().mean() > 0.01


@pytest.mark.parametrize("kind", [SRSettings, TableSettings])
def test_a_run_learns_from_what_the_codec_leaves(
    tmp_path: Path, tiny_path: Path, training_pictures: Path, kind: type[Settings]
) -> None:
    fields: dict[str, Any] = (
        {"channels": 8, "depth": 1} if kind is SRSettings else {"unit": {"features": 4, "layers": 1}}
    )
    values = {"data": str(training_pictures), "network": fields, "patch": 64, "batch": 2, "steps": 1}
    values |= {"degradation": "codec", "codec": str(tiny_path), "validation_pictures": 1, "precision": "float32"}
    saved = load_checkpoint(train(kind.from_dict(values), tmp_path) / CHECKPOINT)
    assert "codec" in saved["state"]["measure"] and "1..8" in saved["state"]["measure"]


def test_qualities_that_the_codec_does_not_have_are_refused(tiny_path: Path) -> None:
    with pytest.raises(OptionError, match=r"must be within 1\.\.8"):
        degradation(tiny_path, "1..9")


@pytest.mark.parametrize(
    ("written", "value"),
    [("1..3", (1.0, 3.0)), ("2", (2.0, 2.0)), ("", ()), ([], ()), ([1, 2.5], (1.0, 2.5)), (4, (4.0, 4.0))],
)
def test_ranges(written: Any, value: tuple[float, ...]) -> None:
    assert span(written) == value
