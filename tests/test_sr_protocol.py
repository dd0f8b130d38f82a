"""Super-resolution's protocol against golden numbers of the published code, and the commands that follow it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.errors import ModelNotFoundError, OptionError
from dcae.resize import KERNELS, resized, taps, to_float, to_samples
from dcae.sr.cli import KERNEL_NAMES
from dcae.sr.evaluation import Row, table
from dcae.sr.find import find_upscaler
from dcae.sr.protocol.resize import modcrop, reduced
from dcae.sr.protocol.scores import luma, psnr, scores, ssim

GOLDEN = np.load(Path(__file__).with_name("golden") / "sr-protocol.npz")
"""192x240 pixels of a Kodak picture; its reductions, corners of their enlargements, and scores by BasicSR's code."""
SCORES = json.loads(str(GOLDEN["report_json"]))
Run = Callable[..., Result]


@pytest.fixture
def dcae() -> Run:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pictures_are_those_of_the_published_code(scale: int) -> None:
    small = reduced(GOLDEN["hr"], scale)
    assert np.array_equal(small, GOLDEN[f"x{scale}_lr"])
    corner = to_samples(resized(to_float(small), scale))[:64, :64]
    assert np.array_equal(corner, GOLDEN[f"x{scale}_bicubic_up"])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_scores_are_those_of_the_published_code(scale: int) -> None:
    hr, golden = GOLDEN["hr"], SCORES[f"x{scale}"]
    enlarged = to_samples(resized(to_float(GOLDEN[f"x{scale}_lr"]), scale))
    inside, whole = scores(hr, enlarged, scale), scores(hr, enlarged, 0)
    crop = slice(scale, -scale), slice(scale, -scale)
    found = {
        "psnr_y_crop": inside.psnr_y, "ssim_y_crop": inside.ssim_y, "psnr_rgb_crop": inside.psnr_rgb,
        "ssim_rgb_crop": ssim(hr[crop], enlarged[crop]), "psnr_y_nocrop": whole.psnr_y, "ssim_y_nocrop": whole.ssim_y,
    }  # fmt: skip
    # The published code counts in float32, and a sample of 138,240 lies on a tie.
    assert found == pytest.approx(golden, abs=1e-5)


def test_interior_weights_are_matlabs() -> None:
    _, weights = taps(32, 1 / 2, "bicubic")
    assert np.allclose(256 * weights[8][np.abs(weights[8]) > 0], [-3, -9, 29, 111, 111, 29, -9, -3])
    _, weights = taps(33, 1 / 3, "bicubic")
    wanted = [-1, -2, 0, 9, 21, 27, 21, 9, 0, -2, -1]
    assert [round(float(w), 9) for w in 81 * weights[5] if abs(w) > 1e-9] == [w for w in wanted if w]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
def test_every_kernel_keeps_a_plain_picture_and_does_not_shift_a_ramp(kernel: str, factor: float) -> None:
    plain = np.full((12, 24, 2), 0.25, np.float32)
    found = resized(plain, factor, kernel)
    assert found.shape == (round(12 * factor), round(24 * factor), 2)
    assert np.allclose(found, 0.25, atol=1e-6)
    ramp = np.arange(48, dtype=np.float32)[None, :, None].repeat(4, 0)
    inside = slice(int(16 * factor), int(32 * factor))
    wanted = (np.arange(round(48 * factor)) + 0.5) / factor - 0.5
    error = resized(ramp, factor, kernel)[0, inside, 0] - wanted[inside]
    assert abs(error.mean()) < 1e-4
    assert abs(error).max() < (0.5 if kernel == "box" else 0.02)


def test_samples_of_both_depths_are_rounded_and_clipped() -> None:
    x = np.array([[-1.0, 0.5, 2.0, 0.31]], np.float32)
    assert to_samples(x).tolist() == [[0, 128, 255, 79]]
    assert to_samples(x, np.uint16).tolist() == [[0, 32768, 65535, 20316]]
    deep = np.random.default_rng(1).integers(0, 65536, (8, 8, 1)).astype(np.uint16)
    assert np.array_equal(to_samples(to_float(deep), np.uint16), deep)
    assert reduced(deep, 2).dtype == np.uint16


def test_scores_refuse_what_cannot_be_compared() -> None:
    a = np.zeros((20, 20, 3), np.uint8)
    for b, border, message in (
        (np.zeros((20, 21, 3), np.uint8), 0, "cannot be compared"),
        (a.astype(np.uint16), 0, "scores are of uint8"),
        (a, 10, "nothing inside a border of 10"),
    ):
        with pytest.raises(OptionError, match=message):
            scores(a, b, border)
    assert scores(a, a, 2).psnr_y == math.inf
    assert scores(a, a, 5).ssim_y is None
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)
    assert luma(np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)).tolist() == [[235, 16, 81.481]]
    with pytest.raises(OptionError, match="too small for scale 4"):
        modcrop(np.zeros((3, 9, 3)), 4)


def test_names_on_the_command_line_are_those_of_the_kernels() -> None:
    assert tuple(KERNELS) == KERNEL_NAMES
    with pytest.raises(OptionError, match="unknown kernel 'sinc'"):
        taps(8, 2, "sinc")
    with pytest.raises(ModelNotFoundError, match="no model named 'sinc'; installed: "):
        find_upscaler("sinc", 2)
    with pytest.raises(OptionError, match="scale must be 2 or 3 or 4, got 5"):
        find_upscaler("bicubic", 5)


def test_downscale_writes_the_protocols_picture(tmp_path: Path, dcae: Run) -> None:
    Image.fromarray(GOLDEN["hr"][:191]).save(tmp_path / "a.png")
    done = dcae("downscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--scale", 3)
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), reduced(GOLDEN["hr"][:189], 3))
    done = dcae("downscale", tmp_path / "a.png", "-o", tmp_path / "c.png", "--scale", 3, "--kernel", "lanczos")
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), reduced(GOLDEN["hr"][:189], 3, "lanczos"))


def test_downscale_of_a_folder_keeps_alpha_gray_depth_and_goes_on_after_a_failure(tmp_path: Path, dcae: Run) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image = synthetic_picture(40, 32, 1)
    image.putalpha(Image.linear_gradient("L").resize((40, 32)))
    image.save(folder / "alpha.png")
    synthetic_picture(40, 32, 2).convert("L").save(folder / "gray.jpg")
    deep = (np.arange(32 * 40, dtype=np.uint16) * 50).reshape(32, 40)
    Image.fromarray(deep).save(folder / "deep.png")
    (folder / "broken.png").write_bytes(b"none")
    Image.new("RGB", (1, 40)).save(folder / "thin.png")
    done = dcae("downscale", folder, "-o", f"{out}/", "--scale", 2)
    assert done.exit_code == 1, done.output
    assert sorted(path.name for path in out.iterdir()) == ["alpha.png", "deep.png", "gray.png"]
    assert "broken.png" in done.output and "thin.png: a picture of 1x40 pixels is too small for scale 2" in done.output
    modes = {name: Image.open(out / f"{name}.png").mode for name in ("alpha", "deep", "gray")}
    assert modes == {"alpha": "RGBA", "deep": "I;16", "gray": "L"}
    assert {Image.open(path).size for path in out.iterdir()} == {(20, 16)}
    assert np.array_equal(np.asarray(Image.open(out / "deep.png")), reduced(deep[..., None], 2)[..., 0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "1"], "1 is not in the range"),
        (["--scale", "2", "--kernel", "sinc"], "'sinc' is not one of"),
        (["--scale", "2", "--format", "nothing"], "no picture type that Pillow writes"),
        (["--scale", "2", "--background", "nothing"], "nothing"),
        (["--scale", "2", "--picture-quality", "50"], "PNG has no quality"),
    ],
)
def test_downscale_refuses_before_any_work(tmp_path: Path, dcae: Run, words: list[str], message: str) -> None:
    synthetic_picture(20, 20, 1).save(tmp_path / "a.png")
    done = dcae("downscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *words)
    assert done.exit_code != 0
    assert message in done.output
    assert not (tmp_path / "b.png").exists()


def test_eval_sr_prints_a_table_and_writes_rows(tmp_path: Path, dcae: Run) -> None:
    Image.fromarray(GOLDEN["hr"]).save(tmp_path / "golden.png")
    synthetic_picture(40, 33, 1).save(tmp_path / "other.png")
    image = synthetic_picture(40, 33, 1)
    image.putalpha(3)
    image.save(tmp_path / "transparent.png")
    for kind in ("csv", "json"):
        done = dcae(
            "eval", "sr", tmp_path, "--scale", 2, "--models", "bicubic,bilinear", "-o", tmp_path / f"rows.{kind}"
        )
        assert done.exit_code == 0, done.output
    assert "left out: " in done.output and "transparent.png" in done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert [line[0] for line in lines if line[0] in ("model", *KERNELS)] == ["model", "bicubic", "bilinear"]
    records = json.loads((tmp_path / "rows.json").read_text())
    assert [(r["picture"], r["model"]) for r in records[:2]] == [("golden.png", "bicubic"), ("golden.png", "bilinear")]
    assert len(records) == 4
    assert records[0]["psnr_y"] == pytest.approx(SCORES["x2"]["psnr_y_crop"], abs=1e-5)
    assert records[0]["psnr_y"] > records[1]["psnr_y"]
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [float(r["ssim_y"]) for r in rows] == [r["ssim_y"] for r in records]
    again = dcae("eval", "sr", tmp_path, "-o", tmp_path / "rows.csv")
    assert again.exit_code == 1 and "exists already" in again.output


def test_the_table_has_means_of_the_pictures_dB() -> None:
    def row(psnr_y: float, ssim_y: float | None, seconds: float) -> Row:
        return Row("p", 1000, 500, "m", 2, "bicubic", psnr_y, ssim_y, psnr_y - 2, seconds, 7, 12.34)

    cells = table([row(30, 0.9, 1), row(40, None, 2)]).splitlines()[1].split()
    assert cells == ["m", "35.000", "0.9000", "33.000", "3", "7", "12.3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "nobody"], "no model named 'nobody'"),
        (["--models", ","], "no upscaler named; give --models"),
        (["-o", "rows.txt"], "written as .csv or .json"),
        (
            ["--models", "bicubic,tables", "--device", "cuda"],
            "none of bicubic, tables-x2-1 is a network; leave out --device cuda",
        ),
    ],
)
def test_eval_sr_refuses(tmp_path: Path, dcae: Run, words: list[str], message: str) -> None:
    synthetic_picture(20, 20, 1).save(tmp_path / "a.png")
    done = dcae("eval", "sr", tmp_path, *words)
    assert done.exit_code == 1
    assert message in done.output


def test_eval_sr_of_nothing(tmp_path: Path, dcae: Run) -> None:
    assert "no such file or folder" in dcae("eval", "sr", tmp_path / "none").output
    done = dcae("eval", "sr", tmp_path)
    assert done.exit_code == 1 and "nothing to measure" in done.output
