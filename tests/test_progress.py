"""Progress within a picture: what is told is what is done, and a terminal shows it."""

from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_picture

from dcae.cli import main
from dcae.codec import picture_bar
from dcae.codec.codec import Codec
from dcae.codec.picture_bar import PictureBar
from dcae.runtime.progress import GRADIENT, SLICE, watcher, watching


class Recorder:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.pixels: list[int] = []
        self.expected: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.told: Counter[str] = Counter()

    def begin(self, pixels: int) -> None:
        self.pixels.append(pixels)

    def expect(self, step: str, pixels: int) -> None:
        self.expected[step] += pixels

    def advance(self, step: str, pixels: int) -> None:
        self.done[step] += pixels
        self.told[step] += 1


@pytest.mark.parametrize(
    ("engine", "options", "looks"),
    [
        ("onnx", {"correct_means": False}, 0),
        ("onnx", {"correct_means": False, "fallback": True}, 1),
        ("onnx", {}, 2),
        ("torch", {"effort": 2}, 3),
    ],
)
def test_all_that_is_expected_is_done(
    engine: str, options: dict[str, object], looks: int, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    codec, recorder = Codec(tiny_path, engine=engine), Recorder()
    monkeypatch.setattr("dcae.codec.feedback.WORTH", 0)
    picture = np.random.default_rng(0).integers(0, 256, (200, 330, 3), np.uint8)
    with watching(recorder):
        data = codec.encode(picture, 3, **options)  # type: ignore[arg-type]
    padded = 256 * 384
    assert recorder.pixels == [200 * 330] and recorder.done == +recorder.expected
    assert recorder.done["base_synthesis"] == looks * padded
    assert recorder.done[SLICE] == len(codec.config.slices) * max(looks, 1) * padded
    assert recorder.done[GRADIENT] == (2 * padded if engine == "torch" else 0)

    recorder = Recorder()
    with watching(recorder):
        codec.decode(data)
    assert recorder.pixels == [200 * 330] and recorder.done == recorder.expected
    assert recorder.done == {SLICE: len(codec.config.slices) * padded, "base_synthesis": padded}


def test_a_correction_that_is_not_worth_it_is_no_longer_expected(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcae.codec.feedback.WORTH", 1e9)
    recorder = Recorder()
    with watching(recorder):
        Codec(tiny_path).encode(synthetic_picture(100, 70), correct_means=True)
    assert recorder.done == recorder.expected and recorder.done["base_synthesis"] == 128 * 128


def test_large_pictures_tell_in_between(tiny_path: Path) -> None:
    """By bands and tiles, and not of a picture at once."""
    recorder = Recorder()
    with watching(recorder):
        codec = Codec(tiny_path)
        codec.encode(synthetic_picture(1300, 1000), correct_means=False)
    for step, parts in {"analysis": 3, SLICE: 2 * len(codec.config.slices)}.items():
        assert recorder.told[step] >= parts, step


def test_nobody_is_told_outside() -> None:
    recorder = Recorder()
    with watching(recorder):
        assert watcher() is recorder
    assert watcher() is not recorder
    watcher().advance(SLICE, 5)
    assert not recorder.done


def test_the_share_grows_to_one_and_is_one_of_time() -> None:
    bar = PictureBar("a.png")
    bar.begin(10**6)
    bar.expect(SLICE, 5 * 10**6)
    bar.expect("base_synthesis", 10**6)
    assert bar.fraction == 0
    seen = []
    for _ in range(5):
        bar.advance(SLICE, 10**6)
        seen.append(bar.fraction)
    assert seen == sorted(seen) and 0.3 < seen[-1] < 0.6  # five slices take about as long as a synthesis
    bar.advance("base_synthesis", 2 * 10**6)  # more than was expected
    assert bar.fraction == 1
    bar.begin(10**6)
    assert bar.fraction == 0
    bar.expect(SLICE, 5 * 10**6)
    bar.expect(GRADIENT, 10**6)
    bar.advance(GRADIENT, 10**6)
    assert 0.7 < bar.fraction < 0.95  # one gradient step takes several times as long as coding
    bar.close()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("batch", [False, True])
def test_a_terminal_shows_a_bar_of_what_takes_long(
    batch: bool, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    monkeypatch.setattr(picture_bar, "_PATIENCE", 0.0)
    synthetic_picture(400, 300).save("photo.png")

    def shown(*arguments: str, terminal: bool = True) -> list[str]:
        screen = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(sys, "stderr", screen)
        main.main([*arguments, "--force"], standalone_mode=False)
        return [line for line in screen.getvalue().replace("\r", "\n").split("\n") if "0.1 MP [" in line]

    to = "out/" if batch else "photo.dcae"
    lines = shown("encode", "photo.png", "-o", to, "--model", "tiny")
    assert lines and all(line.startswith("photo.png: ") for line in lines)
    assert not shown("encode", "photo.png", "-o", to, "--model", "tiny", "--quiet")
    assert not shown("encode", "photo.png", "-o", to, "--model", "tiny", terminal=False)
    source = "out/photo.png.dcae" if batch else "photo.dcae"
    lines = shown("decode", source, "-o", "back/" if batch else "back.png")
    assert lines and all(line.startswith(f"{source}: ") for line in lines)


def test_a_search_for_a_size_has_a_bar_for_each_coding(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    monkeypatch.setattr(picture_bar, "_PATIENCE", 0.0)
    synthetic_picture(400, 300).save("photo.png")
    size = len(Codec(tiny_path).encode("photo.png", 3.3))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    main.main(["encode", "photo.png", "--model", "tiny", "--target-size", str(size)], standalone_mode=False)
    assert "photo.png: " in screen.getvalue() and "photo.png, coding 2: " in screen.getvalue()


def test_a_quick_picture_has_none(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_bar, "_PATIENCE", 3600.0)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    synthetic_picture(400, 300).save(tmp_path / "photo.png")
    main.main(["encode", str(tmp_path / "photo.png"), "--model", "tiny"], standalone_mode=False)
    assert "MP [" not in screen.getvalue()
