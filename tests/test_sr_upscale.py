"""`dcae upscale`: pictures of all kinds, folders, tiles, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import icc_profile, synthetic_picture
from PIL import Image
from test_sr_networks import network_of

from dcae.cli import main
from dcae.errors import PictureWarning
from dcae.resize import resized, to_float, to_samples
from dcae.sr import find
from dcae.sr.files import FileUpscaler
from dcae.sr.find import find_upscaler
from dcae.sr.memory import SMALLEST, Limits, TiledUpscaler
from dcae.sr.models import write_network
from dcae.sr.networks.live import peak_bytes
from dcae.sr.networks.upscaler import TILE, NetworkUpscaler
from dcae.sr.upscalers import Cost

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
    profile = icc_profile(b"RGB ", 1.8)
    image.save(tmp_path / "a.png", exif=exif, icc_profile=profile)
    for tile in (0, 16):
        done = dcae("upscale", tmp_path / "a.png", "-o", tmp_path / f"{tile}.png", "--model", model, "--tile", tile)
        assert done.exit_code == 0, done.output
    assert "40x33 -> 80x66" in done.output
    wanted = to_samples(NetworkUpscaler(network_of(), "n", 0)(to_float(np.asarray(image))))
    assert np.array_equal(_samples(tmp_path / "0.png"), wanted)
    assert np.array_equal(_samples(tmp_path / "16.png"), wanted)
    written = Image.open(tmp_path / "0.png")
    assert written.getexif()[0x010E] == "a title" and written.info["icc_profile"] == profile


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


def test_tables_keep_16_bits(tmp_path: Path, dcae: Run) -> None:
    deep = (np.arange(20, dtype=np.uint16) * 61 + 20_000 + np.zeros((9, 1), np.uint16)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert dcae("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", "tables").exit_code == 0
    found = _samples(tmp_path / "b.png").astype(int)
    assert np.abs(found - to_samples(resized(to_float(deep[..., None]), 2), np.uint16)[..., 0]).max() < 514
    steps = np.diff(found[4])
    assert np.count_nonzero(steps) > 30 and np.median(steps) == pytest.approx(30, abs=15)


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
        (["--model", "bicubic", "--device", "nonsense"], "bicubic runs on the CPU; leave out --device nonsense"),
        (["--model", "tables", "--device", "cuda"], "tables-x2-1 runs on the CPU; leave out --device cuda"),
        (["--model", "lanczos", "--tile", "64"], "lanczos has no tiles; leave out --tile"),
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


def test_by_default_tables_enlarge_by_2_and_a_kernel_by_others(tmp_path: Path, dcae: Run) -> None:
    synthetic_picture(20, 17, 1).save(tmp_path / "a.png")
    for scale, name in ((2, "tables-x2-1"), (3, "bicubic")):
        words = ["upscale", tmp_path / "a.png", "--scale", scale]
        done = dcae(*words, "-o", tmp_path / f"{scale}.png")
        assert done.exit_code == 0 and f"enlarging by {scale} with {name}" in done.output
        dcae(*words, "-o", tmp_path / "named.png", "--model", name, "--force")
        assert np.array_equal(_samples(tmp_path / f"{scale}.png"), _samples(tmp_path / "named.png"))
    assert not dcae("upscale", tmp_path / "a.png", "-o", tmp_path / "q.png", "--quiet").output


def test_tiles_follow_from_the_memory(tmp_path: Path, dcae: Run, model: Path) -> None:
    for name, most in ((str(model), TILE), ("tables", 512)):
        upscalers = [find_upscaler(name, 2, limits=Limits(memory)) for memory in (1, 4 << 20, 1 << 40)]
        sides = [upscaler.tile for upscaler in upscalers if isinstance(upscaler, TiledUpscaler)]
        assert sides[0] == SMALLEST < sides[1] < sides[2] == most
    assert Limits(None, 4).side(100, 0, 4096, free=1 << 20) == 36
    # As many bytes as a tile takes by the count of its tensors.
    network = network_of()
    assert peak_bytes(lambda: network(torch.zeros(1, 3, 64, 64))) > 4 * 3 * 128 * 128
    synthetic_picture(80, 70, 1).save(tmp_path / "a.png")
    for memory in ("1", "1GiB"):
        done = dcae(
            "upscale", tmp_path / "a.png", "-o", tmp_path / f"{memory}.png", "--model", model, "--memory", memory
        )
        assert done.exit_code == 0, done.output
    assert np.array_equal(_samples(tmp_path / "1.png"), _samples(tmp_path / "1GiB.png"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_smaller_tiles_when_memory_runs_out(
    tmp_path: Path, dcae: Run, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    seen: list[int] = []
    enlarged = NetworkUpscaler._enlarged

    def scarce(self: NetworkUpscaler, x: np.ndarray) -> np.ndarray:
        seen.append(max(x.shape))
        if max(x.shape) > 140:
            raise error
        return enlarged(self, x)

    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        synthetic_picture(400, 50, 1).save(folder / f"{name}.png")
    words = ["upscale", folder, "--model", model, "--tile", "0"]
    assert dcae(*words, "-o", tmp_path / "whole/").exit_code == 0
    monkeypatch.setattr(NetworkUpscaler, "_enlarged", scarce)
    find._loaded.cache_clear()
    done = dcae(*words, "-o", tmp_path / "tiled/")
    find._loaded.cache_clear()
    assert done.exit_code == 0, done.output
    assert seen[0] == 400 and sum(side > 140 for side in seen) == 2, "the second picture begins with small tiles"
    for name in "ab":
        whole, tiled = (_samples(tmp_path / way / f"{name}.png").astype(int) for way in ("whole", "tiled"))
        assert np.abs(whole - tiled).max() <= 1


def test_memory_that_runs_out_at_the_smallest_tile_is_an_error() -> None:
    class Greedy(TiledUpscaler):
        def cost(self) -> Cost:
            return Cost(0, 0)

        def in_tiles_of(self, x: np.ndarray, tile: int) -> np.ndarray:
            tiles.append(tile)
            raise MemoryError

    tiles: list[int] = []
    with (
        pytest.raises(MemoryError),
        pytest.warns(PictureWarning, match="memory ran out, gone on in tiles of 75 pixels"),
    ):
        Greedy(0)(np.zeros((150, 40, 3), np.float32))
    assert tiles == [0, 75, 37]


def _frames(folder: Path, *numbers: int, size: tuple[int, int] = (18, 16)) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        synthetic_picture(*size, number).save(folder / f"shot-{number}.png")


def test_frames_keep_order_and_names(tmp_path: Path, dcae: Run) -> None:
    folder, out = tmp_path / "frames", tmp_path / "large"
    _frames(folder, 9, 10, 11, 14)
    (folder / "sound.wav").write_bytes(b"")
    words = ["upscale", "--frames", folder, "-o", out, "--manifest", tmp_path / "m"]
    done = dcae(*words)
    assert done.exit_code == 0, done.output
    assert "4 frames of 18x16 pixels, shot-9.png to shot-14.png" in done.output
    assert "2 numbers are missing, the first after shot-11.png" in done.output
    written = [Path(json.loads(line)["output"]).name for line in (tmp_path / "m").read_text().splitlines()]
    assert written == ["shot-9.png", "shot-10.png", "shot-11.png", "shot-14.png"]
    (out / "shot-10.png").unlink()
    done = dcae(*words, "--skip-existing")
    assert done.exit_code == 0 and "1 enlarged, 3 skipped" in done.output
    assert {Image.open(path).size for path in out.iterdir()} == {(36, 32)}


def test_a_single_frame_goes_into_a_folder(tmp_path: Path, dcae: Run) -> None:
    _frames(tmp_path / "frames", 1)
    assert dcae("upscale", "--frames", tmp_path / "frames", "-o", tmp_path / "out").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shot-1.png"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("cover.png", (18, 16), "cover.png: no number in its name"),
        ("other-3.png", (18, 16), "differ in more than their number"),
        ("shot-02.png", (18, 16), "have the same number"),
        ("shot-3.png", (16, 18), "shot-3.png: 16x18 pixels, and .*shot-1.png has 18x16"),
    ],
)
def test_what_is_no_folder_of_frames_is_refused(
    tmp_path: Path, dcae: Run, name: str, size: tuple[int, int], message: str
) -> None:
    folder = tmp_path / "frames"
    _frames(folder, 1, 2)
    synthetic_picture(*size, 3).save(folder / name)
    done = dcae("upscale", "--frames", folder, "-o", tmp_path / "out")
    assert done.exit_code == 1 and re.search(message, done.output), done.output
    assert not (tmp_path / "out").exists()
    for words, said in (
        ((folder, folder, "-o", "x"), "one folder"),
        ((folder, "-o", "-"), "need a folder to go to"),
        ((folder / name, "-o", "x"), "takes a folder of numbered pictures"),
    ):
        done = dcae("upscale", "--frames", *words)
        assert done.exit_code and said in done.output


def test_pictures_are_limited_by_what_they_become() -> None:
    settings = {"device": "cpu", "engine": "auto", "kind": "PNG", "model": "bicubic"}
    four, two = (FileUpscaler(scale=scale, max_pixels=None, **settings).largest() for scale in (4, 2))
    assert four <= two // 3
    assert FileUpscaler(scale=4, max_pixels=1000, **settings).largest() == 1000
