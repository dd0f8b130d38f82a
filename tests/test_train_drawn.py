"""Pictures drawn by code, and the colours given to photographs: of every kind, the same again, with any fonts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dcae.train.augment import recoloured
from dcae.train.drawn import KINDS, drawn_picture, fonts
from dcae.train.drawn.canvas import Canvas
from dcae.train.drawn.patterns import dithered


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    """Fonts are looked for anew in this test, and again after it."""
    for cache in (fonts.faces, fonts.font, fonts.tripled):
        cache.cache_clear()
    yield
    for cache in (fonts.faces, fonts.font, fonts.tripled):
        cache.cache_clear()


def _photograph() -> np.ndarray:
    rows, columns = np.mgrid[0:96, 0:96].astype(np.float32)
    waves = [127 + 120 * np.sin(rows / (9 + 3 * c)) * np.cos(columns / 17 + c) for c in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def _colours(pixels: np.ndarray) -> int:
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [None, _photograph()], ids=["", "with a photograph"])
def test_each_kind_is_a_picture_that_can_be_drawn_again(kind: str, cut: np.ndarray | None) -> None:
    drawn = [drawn_picture(np.random.default_rng((3, k)), 96, 128, cut, kind=kind) for k in range(12)]
    for k, pixels in enumerate(drawn):
        assert pixels.shape == (96, 128, 3) and pixels.dtype == np.uint8
        assert np.array_equal(pixels, drawn_picture(np.random.default_rng((3, k)), 96, 128, cut, kind=kind))
    assert sum(_colours(pixels) > 1 for pixels in drawn) >= 8
    assert len({pixels.tobytes() for pixels in drawn}) >= 9


@pytest.mark.parametrize("kind", ["chart", "line art", "flat", "logo", "desktop"])
def test_shapes_may_be_as_small_as_they_come(kind: str) -> None:
    """Small pictures of large units leave least room; Pillow refuses boxes that are turned inside out."""
    for k in range(150):
        assert drawn_picture(np.random.default_rng((7, k)), 32, 32, kind=kind).shape == (32, 32, 3)


def test_kinds_appear_by_their_shares_some_gray(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(share for share, _ in KINDS.values()) == pytest.approx(1)
    seen: list[str] = []
    watched = {name: (share, lambda canvas, n=name: seen.append(n)) for name, (share, _) in KINDS.items()}
    monkeypatch.setattr("dcae.train.drawn.KINDS", watched)
    for k in range(2000):
        drawn_picture(np.random.default_rng((4, k)), 8, 8)
    for name, (share, _) in KINDS.items():
        assert seen.count(name) / 2000 == pytest.approx(share, abs=0.03)
    monkeypatch.undo()
    many = [drawn_picture(np.random.default_rng((5, k)), 64, 64, kind="gradients") for k in range(150)]
    assert 4 < sum(bool((p == p[..., :1]).all()) for p in many) < 40


def test_pictures_are_drawn_without_any_font_file(monkeypatch: pytest.MonkeyPatch, fresh_fonts: None) -> None:
    monkeypatch.setattr(fonts, "_folders", lambda installed: [])
    assert [face.data for face in fonts.faces(True)] == [None]
    for kind in KINDS:
        assert drawn_picture(np.random.default_rng(1), 64, 64, kind=kind).shape == (64, 64, 3)
    page = drawn_picture(np.random.default_rng(1), 64, 64, kind="page")
    assert _colours(page) > 2


def test_fonts_that_vanish_during_a_run_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_fonts: None
) -> None:
    found = [folder for folder in fonts._folders(False) if folder.is_dir()]
    if not found:
        pytest.skip("no font files")
    for name in ("DejaVuSans.ttf", "DejaVuSansMono.ttf"):
        shutil.copy(found[0] / name, tmp_path)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_folders", lambda installed: [tmp_path, tmp_path / "missing"])
    assert [face.name for face in fonts.faces(True)] == ["pillow", "dejavusans", "dejavusansmono"]
    before = [drawn_picture(np.random.default_rng(k), 64, 64, kind="page").tobytes() for k in range(6)]
    for path in list(tmp_path.iterdir()):
        path.unlink()
    for cache in (fonts.font, fonts.tripled):
        cache.cache_clear()
    assert before == [drawn_picture(np.random.default_rng(k), 64, 64, kind="page").tobytes() for k in range(6)]


def test_fonts_of_symbols_are_left_out() -> None:
    names = {face.name for face in fonts.faces(False)}
    assert not names & {"cmex10", "cmsy10", "stixsizoneregular", "stixnonuni"}
    if any(folder.is_dir() for folder in fonts._folders(False)):
        assert {"pillow", "dejavusans", "dejavusansmono", "cmr10", "stixgeneral"} <= names


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    code = (
        "import hashlib, numpy as np; from dcae.train.drawn import drawn_picture\n"
        "print(hashlib.sha256(b''.join(drawn_picture(np.random.default_rng((6, k)), 64, 64).tobytes()"
        " for k in range(30))).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    here = b"".join(drawn_picture(np.random.default_rng((6, k)), 64, 64).tobytes() for k in range(30))
    assert run.stdout.strip() == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize(("letters", "grays"), [("hard", 2), ("smooth", 8)])
def test_letters_have_hard_or_smooth_edges(letters: str, grays: int) -> None:
    canvas = _white_canvas(letters)
    canvas.text(4, 4, "Wave", canvas.font(30), (0, 0, 0))
    pixels = np.asarray(canvas.image)
    assert (pixels == pixels[..., :1]).all()
    assert _colours(pixels) == 2 if grays == 2 else _colours(pixels) >= grays


def test_letters_of_subpixels_have_coloured_edges_and_are_clipped_at_the_border() -> None:
    canvas = _white_canvas("subpixel")
    for x, y in ((4, 4), (-30, 40), (60, -10), (200, 200)):
        canvas.text(x, y, "Wave", canvas.font(30), (0, 0, 0))
    pixels = np.asarray(canvas.image).astype(int)
    assert np.ptp(pixels, axis=2).max() > 40
    assert pixels.min() == 0
    # Red and blue are a third of a pixel off to both sides: on the whole as much ink in each.
    ink = (255 - pixels).sum((0, 1))
    assert ink.min() > 0.97 * ink.max()


def _white_canvas(letters: str) -> Canvas:
    canvas = Canvas(1, 96, 64, 1.0, fonts.faces(False))
    canvas.letters, canvas.face = letters, fonts.faces(False)[0]
    canvas.draw.fontmode = "1" if letters == "hard" else "L"
    canvas.box(0, 0, 96, 64, (255, 255, 255))
    return canvas


def test_dithered_pictures_have_few_colours_and_the_same_brightness() -> None:
    for seed in range(24):
        canvas = Canvas(seed, 96, 96, 1.0, fonts.faces(False), _photograph())
        canvas.fill()
        pixels = np.asarray(dithered(canvas))
        assert pixels.shape == (96, 96, 3)
        assert _colours(pixels) <= 6**3
        assert abs(pixels.mean() - _photograph().mean()) < 12


def test_recoloured_patches_keep_their_range_and_are_hardly_clipped() -> None:
    cut = torch.from_numpy(_photograph()).permute(2, 0, 1)
    means, gray = [], 0
    for k in range(200):
        out = recoloured(np.random.default_rng(k), cut)
        assert torch.equal(out, recoloured(np.random.default_rng(k), cut))
        assert out.shape == cut.shape and out.min() >= 0 and out.max() <= 255
        assert ((out == out.min()) | (out == out.max())).float().mean() < 0.03
        means.append(out.mean().item())
        gray += bool((out - out[:1]).abs().max() < 0.5)
    assert min(means) < 80 and max(means) > 150
    assert 10 < gray < 50


def test_recolouring_keeps_gray_gray() -> None:
    cut = torch.from_numpy(_photograph())[..., :1].permute(2, 0, 1).expand(3, -1, -1)
    for k in range(40):
        out = recoloured(np.random.default_rng(k), cut)
        assert (out - out[:1]).abs().max() < 0.1
