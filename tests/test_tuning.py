"""Tuning of the encoder's search for MS-SSIM: what it lowers, and what it is given with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import TINY, synthetic_picture, write_tiny_model
from PIL import Image

from dcae.codec import effort as effort_module
from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.codec.encoder import Encoded
from dcae.errors import OptionError
from dcae.networks.config import METRICS
from dcae.networks.ms_ssim import ms_ssim


@pytest.fixture(scope="module", params=["plain-torch", "plain-onnx", "closed loop-torch", "closed loop-onnx"])
def codec(request: pytest.FixtureRequest) -> Codec:
    kind, engine = request.param.split("-")
    if engine == "torch":
        pytest.importorskip("torch")
    path = request.getfixturevalue("tiny_path" if kind == "plain" else "looped_path")
    return Codec(path, engine=engine)


def _squared_cost(codec: Codec, data: bytes, picture: Image.Image, quality: float) -> float:
    """λ·D + R with squared errors."""
    error = np.asarray(picture, float) - np.asarray(codec.decode(data), float)
    return codec.config.lambda_of(quality) * float((error**2).mean()) * error[..., 0].size + 8 * len(data)


def _tuned_cost(codec: Codec, data: bytes, picture: Image.Image, quality: float) -> float:
    """λ·D + R with 1 - MS-SSIM; sides are multiples of 16."""
    shown = np.asarray(codec.decode(data))
    distortion = METRICS["ms-ssim"] * (1 - ms_ssim(np.asarray(picture).transpose(2, 0, 1), shown.transpose(2, 0, 1)))
    return codec.config.lambda_of(quality) * distortion * shown[..., 0].size + 8 * len(data)


def test_tuning_for_ms_ssim_lowers_what_it_counts(codec: Codec) -> None:
    """And never raises it, whereas squared errors may grow."""
    picture = synthetic_picture(160, 112)
    for quality in (3, 8):
        plain = codec.encode(picture, quality)
        tuned = [codec.encode(picture, quality, effort=effort, tune="ms-ssim") for effort in (2, 3)]
        other = codec.encode(picture, quality, effort=2)
        costs = [_tuned_cost(codec, data, picture, quality) for data in (plain, other, *tuned)]
        assert max(costs[2:]) < 0.995 * costs[0]
        if not codec.engine.closed_loop:  # which corrects squared errors, whatever the search does
            assert costs[3] < costs[2] < costs[1]
            assert _squared_cost(codec, tuned[0], picture, quality) > _squared_cost(codec, other, picture, quality)


def test_files_are_compared_by_what_the_search_counts(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, costs = synthetic_picture(160, 112), []

    def watched(encoded: Encoded) -> float:
        costs.append(encoded.lost + 8 * encoded.size)
        return costs[-1]

    monkeypatch.setattr(Encoded, "cost", property(watched))
    monkeypatch.setattr(codec.engine, "search_latents", lambda x, y, *rest: y + 3)
    data = codec.encode(picture, 4, effort=1, tune="ms-ssim")
    least = min(costs)
    assert data == codec.encode(picture, 4)  # what makes it worse is dropped
    header = len(data) - len(read_container(data).z) - len(read_container(data).y)
    assert least == pytest.approx(_tuned_cost(codec, data, picture, 4) - 8 * header, rel=1e-4)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (70, 17), (300, 200)])
def test_pictures_of_any_size_are_tuned(codec: Codec, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones, for which MS-SSIM has fewer scales, and those that are searched in parts."""
    monkeypatch.setattr(effort_module, "PART", 128)
    picture = synthetic_picture(width, height)
    data = codec.encode(picture, 8, effort=1, tune="ms-ssim")
    assert codec.decode(data).size == picture.size
    if width == 300:
        assert data not in (codec.encode(picture, 8), codec.encode(picture, 8, effort=1))


def test_tuning_that_there_is_not(codec: Codec) -> None:
    picture, mask = synthetic_picture(30, 20), np.zeros((20, 30), np.uint8)
    for changes, said in (
        ({"tune": "ssim"}, "tune must be psnr or ms-ssim, got 'ssim'"),
        ({"tune": "ms-ssim", "effort": 0}, "not what this model was trained for.*an effort of at least 1"),
        ({"tune": "ms-ssim", "roi": mask}, "weighs squared errors, which tune=ms-ssim does not count"),
    ):
        with pytest.raises(OptionError, match=said):
            codec.encode(picture, **{"effort": 1} | changes)  # type: ignore[arg-type]


def test_a_model_that_was_trained_for_ms_ssim_is_searched_for_it(tiny_path: Path, tmp_path: Path) -> None:
    """Its qualities have the λ of those of squared errors, by `METRICS`."""
    path, picture = tmp_path / "similar.safetensors", synthetic_picture(160, 112)
    lambdas = tuple(METRICS["ms-ssim"] * value for value in Codec(tiny_path).config.lambdas)
    write_tiny_model(path, fields=TINY | {"metric": "ms-ssim", "lambdas": lambdas})
    similar, plain = Codec(path), Codec(tiny_path)
    assert similar.config.mse_lambdas == pytest.approx(plain.config.lambdas)
    for tune in ("ms-ssim", "psnr"):
        coded = [read_container(codec.encode(picture, 8, effort=2, tune=tune)) for codec in (similar, plain)]
        assert coded[0].y == coded[1].y and coded[0].z == coded[1].z
        assert (read_container(similar.encode(picture, 8, effort=2)).y == coded[0].y) == (tune == "ms-ssim")
    assert similar.encode(picture, 8) == similar.encode(picture, 8, tune="ms-ssim")
    with pytest.raises(OptionError, match="tune=psnr is not what this model was trained for"):
        similar.encode(picture, 8, tune="psnr")


def test_tuning_is_an_option_everywhere(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dcae
    import dcae.pillow
    from dcae.cli import main

    monkeypatch.chdir(tmp_path)
    picture, codec = synthetic_picture(100, 80), Codec(tiny_path)
    expected = codec.encode(picture, 8, effort=2, tune="ms-ssim")
    assert expected != codec.encode(picture, 8, effort=2)
    assert dcae.encode(picture, 8, model=tiny_path, tune="ms-ssim") == expected
    picture.save("a.dcae", quality=8, model=tiny_path, tune="ms-ssim")
    picture.save("b.png")
    command = ["encode", "b.png", "--model", str(tiny_path), "--tune", "ms-ssim"]
    CliRunner().invoke(main, [*command, "-q", "8"], catch_exceptions=False)
    assert Path("a.dcae").read_bytes() == Path("b.dcae").read_bytes() == expected
    done = CliRunner().invoke(main, [*command, "--effort", "0", "-o", "c.dcae"])
    assert done.exit_code == 1 and "give an effort of at least 1" in done.stderr and not Path("c.dcae").exists()
    limit = str(len(expected) - 20)
    done = CliRunner().invoke(main, [*command, "--target-size", limit, "-o", "c.dcae"], catch_exceptions=False)
    assert done.exit_code == 0 and Path("c.dcae").stat().st_size <= int(limit)
