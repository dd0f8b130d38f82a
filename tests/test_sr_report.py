"""The report of `dcae eval sr`, published results beside it, and the protocol on two pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jinja2  # noqa: F401  (without it these tests are skipped)
import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import Page, synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.resize import resized, to_float, to_samples
from dcae.sr.evaluation import Row
from dcae.sr.protocol.resize import modcrop, reduced
from dcae.sr.protocol.scores import scores
from dcae.sr.report.published import SETS, published
from dcae.sr.report.report import gains, page

Run = Callable[..., Result]
GOLDEN = np.load(Path(__file__).with_name("golden") / "sr-protocol.npz")


@pytest.fixture
def dcae() -> Run:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def _row(picture: str, model: str, psnr_y: float, ssim_y: float | None = 0.9) -> Row:
    return Row(picture, 1000, 500, model, 2, "bicubic", psnr_y, ssim_y, psnr_y - 2, 0.25, 7, 12.34)


def test_the_written_report(tmp_path: Path, dcae: Run) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(GOLDEN["hr"]).save(folder / "golden.png")
    for k in range(3):
        synthetic_picture(60 + k, 41, k).save(folder / f"<{k}>.png")
    words = ["eval", "sr", folder, "--models", "bicubic,lanczos,box", "-o", out]
    done = dcae(*words)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"index.html", "rows.csv"}
    text = (out / "index.html").read_text()
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    assert all(r.startswith(("data:", "#")) for r in parsed.references), "self-contained"
    assert len(parsed.references) == 3 * 4, "best, middle and worst: the original and three upscalers"
    assert parsed.rows == 3 + 3 * 4 + len(published(2)) + 3, "with a heading each"
    assert "gain over bicubic" in text and "lanczos and bicubic side by side" in text
    assert "&lt;1&gt;.png" in text and "<1>.png" not in text
    assert "none of them" in text and "SwinIR-light" in text and "DRCT-L" not in text
    again = dcae(*words)
    assert again.exit_code == 1 and "exists already" in again.output
    assert dcae(*words, "--force", "--models", "bicubic", "--limit", "1").exit_code == 0
    assert "side by side" not in (out / "index.html").read_text()


def test_means_and_gains() -> None:
    rows = [_row("a", "one", 30), _row("a", "two", 31.5), _row("b", "one", 40, None), _row("b", "two", 39.75, None)]
    rows += [_row("c", "one", float("inf")), _row("c", "two", float("inf"))]
    assert gains(rows, "two", "one") == {"a": 1.5, "b": -0.25, "c": 0.0}
    text = page(rows[:4], [])
    means = re.sub("<[^>]*>", " ", text[text.index("<h2>Means") : text.index("Seconds are wall")])
    one, two = (line.split() for line in means.splitlines() if line.split()[:1] in (["one"], ["two"]))
    assert one == ["one", "35.000", "0.9000", "33.000", "–", "–", "–", "–", "0.500", "7", "12.340"]
    assert two == [
        "two",
        "35.625",
        "0.9000",
        "33.625",
        "+0.625",
        "-0.25",
        "+1.50",
        "1",
        "of",
        "2",
        "0.500",
        "7",
        "12.340",
    ]


def test_published_results_have_a_source_and_stand_apart(tmp_path: Path, dcae: Run) -> None:
    for scale in (2, 3, 4):
        methods = published(scale)
        assert methods and all(method.source for method in methods)
        assert {name for method in methods for name in method.results} == set(SETS)
        for method in methods:
            for psnr, *ssim in method.results.values():
                assert 23 < psnr < 40 and all(0.6 < value < 1 for value in ssim)
    synthetic_picture(40, 32, 1).save(tmp_path / "a.png")
    done = dcae("eval", "sr", tmp_path, "--scale", 4, "--models", "bicubic", "--published")
    assert done.exit_code == 0, done.output
    ours, others = done.output.split("\n\n")
    assert "published, on other pictures (PSNR / SSIM of Y, x4)" in others and "33.11" in others
    assert len(ours.splitlines()) == 2


def test_by_default_bicubic_and_the_tables_are_measured(tmp_path: Path, dcae: Run) -> None:
    synthetic_picture(40, 32, 1).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'a.png'}\n")
    for scale, wanted in ((2, ["bicubic", "tables-x2-1"]), (3, ["bicubic"])):
        done = dcae("eval", "sr", f"@{tmp_path / 'list.txt'}", "--scale", scale)
        assert [line.split()[0] for line in done.output.splitlines()] == ["model", *wanted]


def test_pictures_of_one_name_are_told_apart(tmp_path: Path, dcae: Run) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        synthetic_picture(40, 32, ord(name)).save(tmp_path / name / "p.png")
    words = ["eval", "sr", tmp_path / "a", tmp_path / "b", "--models", "bicubic", "-o", tmp_path / "rows.json"]
    assert dcae(*words).exit_code == 0
    found = [row["picture"] for row in json.loads((tmp_path / "rows.json").read_text())]
    assert found == ["p.png", str(tmp_path / "b" / "p.png")]


@pytest.mark.parametrize("scale", [2, 3])
def test_compare_by_the_protocol(tmp_path: Path, dcae: Run, scale: int) -> None:
    pixels = GOLDEN["hr"][:190]
    enlarged = to_samples(resized(to_float(reduced(pixels, scale)), scale))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(enlarged).save(tmp_path / "b.png")
    words = ["eval", "compare", tmp_path / "a.png", tmp_path / "b.png", "--protocol", "sr"]
    for border, given in ((scale, ()), (7, ("--border", 7))):
        done = dcae(*words, "--scale", scale, *given)
        assert done.exit_code == 0, done.output
        wanted = scores(modcrop(pixels, scale), enlarged, border)
        assert f"PSNR Y   {wanted.psnr_y:.4f} dB" in done.output
        assert f"SSIM Y   {wanted.ssim_y:.6f}" in done.output
        assert f"PSNR RGB {wanted.psnr_rgb:.4f} dB" in done.output
    assert "needs --scale" in dcae(*words).output
    assert "for --protocol sr" in dcae(*words[:4], "--border", 2).output
    Image.fromarray(enlarged[:100]).save(tmp_path / "b.png")
    done = dcae(*words, "--scale", scale)
    assert done.exit_code == 1 and "they must be equal" in done.output
