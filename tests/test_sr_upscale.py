"""`dcae upscale`: pictures of all kinds, folders, tiles, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture
from PIL import Image
from test_sr_networks import network_of

from dcae.cli import main
from dcae.resize import resized, to_float, to_samples
from dcae.sr.files import FileUpscaler
from dcae.sr.models import write_network
from dcae.sr.networks.upscaler import NetworkUpscaler

Run = Callable[..., Result]


@pytest.fixture
def dcae() -> Run:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    write_network(network_of(), path, {}, True)
    return path


def _samples(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_picture_becomes_what_the_network_makes_of_it(tmp_path: Path, dcae: Run, model: Path) -> None:
    image = synthetic_picture(40, 33, 1)
    exif = Image.Exif()
    exif[0x010E] = "a title"
    image.save(tmp_path / "a.png", exif=exif)
    for tile in (0, 16):
        done = dcae("upscale", tmp_path / "a.png", "-o", tmp_path / f"{tile}.png", "--model", model, "--tile", tile)
        assert done.exit_code == 0, done.output
    assert "40x33 -> 80x66" in done.output
    wanted = to_samples(NetworkUpscaler(network_of(), "n", 0)(to_float(np.asarray(image))))
    assert np.array_equal(_samples(tmp_path / "0.png"), wanted)
    assert np.array_equal(_samples(tmp_path / "16.png"), wanted)
    assert Image.open(tmp_path / "0.png").getexif()[0x010E] == "a title"


def test_alpha_gray_and_16_bits_are_kept(tmp_path: Path, dcae: Run, model: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    image = synthetic_picture(24, 18, 1)
    alpha = Image.linear_gradient("L").resize((24, 18))
    image.putalpha(alpha)
    image.save(folder / "alpha.png")
    synthetic_picture(24, 18, 2).convert("L").save(folder / "sub" / "gray.jpg")
    deep = (np.arange(18 * 24, dtype=np.uint16) * 151).reshape(18, 24)
    Image.fromarray(deep).save(folder / "deep.png")
    done = dcae("upscale", folder, "-r", "-o", f"{out}/", "--model", model)
    assert done.exit_code == 0, done.output
    assert Image.open(out / "sub" / "gray.png").mode == "L"
    found = _samples(out / "alpha.png")
    assert np.array_equal(found[..., 3:], to_samples(resized(to_float(np.asarray(alpha)[..., None]), 2)))
    upscaler = NetworkUpscaler(network_of(), "n", 0)
    assert np.array_equal(
        _samples(out / "deep.png"), to_samples(upscaler(to_float(deep[..., None])), np.uint16)[..., 0]
    )
    again = dcae("upscale", folder, "-r", "-o", f"{out}/", "--model", model)
    assert again.exit_code == 1 and "3 of 3 outputs exist already" in again.output
    (out / "deep.png").unlink()
    again = dcae("upscale", folder, "-r", "-o", f"{out}/", "--model", model, "--skip-existing")
    assert again.exit_code == 0 and "1 enlarged, 2 skipped" in again.output


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_need_no_model(tmp_path: Path, dcae: Run, scale: int) -> None:
    image = synthetic_picture(9, 7, 1)
    image.save(tmp_path / "a.png")
    done = dcae("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--scale", scale, "--model", "lanczos")
    assert done.exit_code == 0, done.output
    wanted = to_samples(resized(to_float(np.asarray(image)), scale, "lanczos"))
    assert np.array_equal(_samples(tmp_path / "b.png"), wanted)


def test_several_processes_make_the_same(tmp_path: Path, dcae: Run, model: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        synthetic_picture(20 + k, 16, k).save(folder / f"{k}.png")
    for jobs in (1, 2):
        done = dcae("upscale", folder, "-o", tmp_path / f"{jobs}/", "--model", model, "--jobs", jobs)
        assert done.exit_code == 0, done.output
    for k in range(3):
        one, two = (_samples(tmp_path / jobs / f"{k}.png").astype(int) for jobs in "12")
        assert np.abs(one - two).max() <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nobody"], "no model named 'nobody'"),
        (["--model", "MODEL", "--scale", "3"], "enlarges by 2, not by 3"),
        (["--model", "MODEL", "--device", "nowhere"], "device 'nowhere' is not available"),
        (["--max-pixels", "100"], "more than the limit of 100"),
        (["--scale", "5"], "5 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, dcae: Run, model: Path, words: list[str], message: str) -> None:
    synthetic_picture(20, 20, 1).save(tmp_path / "a.png")
    words = [str(model) if word == "MODEL" else word for word in words]
    done = dcae("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *words)
    assert done.exit_code != 0
    assert message in done.output, done.output
    assert not (tmp_path / "b.png").exists()


def test_pictures_are_limited_by_what_they_become() -> None:
    settings = {"device": "cpu", "engine": "auto", "kind": "PNG", "model": "bicubic"}
    four, two = (FileUpscaler(scale=scale, max_pixels=None, **settings).largest() for scale in (4, 2))
    assert four <= two // 3
    assert FileUpscaler(scale=4, max_pixels=1000, **settings).largest() == 1000
