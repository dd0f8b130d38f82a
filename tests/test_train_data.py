"""Training pictures: what is read, held out and cut, and how often each kind of patch is seen."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcae.errors import OptionError
from dcae.train import augment
from dcae.train.augment import blurred
from dcae.train.config import TrainConfig
from dcae.train.data import Loader, Patches, Picture, load_folder, read_split, split
from dcae.train.held_out import validation_pictures


def _waves(k: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width] / 30.0
    waves = np.stack([np.sin(rows * (1 + k) + c) * np.cos(columns - c) for c in range(3)], -1)
    waves += (columns > 1 + 0.7 * k)[..., None]
    noise = np.random.default_rng(k).normal(0, 3, waves.shape)
    return np.clip(110 + 60 * waves + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, three in a folder of large ones, and files that must be skipped."""
    root = tmp_path_factory.mktemp("pictures")
    for k in range(6):
        name = "part-large" if k > 2 else "part-1"
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(_waves(k, 160, 192)).save(root / name / f"{k}.png")
    (root / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (16, 16)).save(root / "tiny.png")
    return root


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[Picture]:
    return load_folder(folder)


def _flat(level: int, large: bool = False, source: str = "") -> Picture:
    return Picture(np.full((80, 80, 3), level, np.uint8), source or str((level, large)), large)


def test_folder_is_read_with_its_faults_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = load_folder(folder)
        training, held_out = read_split(folder, 64)
    used = [p for p in found if min(p.pixels.shape[:2]) >= 64]
    assert len(used) == len(found) - 1 == len(training) + len(held_out)
    assert [p.pixels.shape for p in used] == [(160, 192, 3)] * 6
    assert [p.large for p in used] == [False] * 3 + [True] * 3
    assert len({p.source for p in used}) == 6
    assert any("broken.jpg" in m and "unreadable" in m for m in caplog.messages)
    assert any("a side is below 64 pixels: 1 of the pictures" in m for m in caplog.messages)
    with pytest.raises(OptionError, match="no picture of at least 999x999"):
        read_split(folder, 999)


def test_what_is_held_out_does_not_depend_on_how_large_pictures_must_be(tmp_path: Path) -> None:
    for k in range(130):  # every third is small, so that counting without them would hold out others
        side = 32 if k % 3 == 0 else 96
        Image.new("RGB", (side, side), (k, 0, 0)).save(tmp_path / f"{k:03}.png")
    of_all, of_large = ({int(p.pixels[0, 0, 0]) for p in read_split(tmp_path, side)[1]} for side in (16, 64))
    assert of_all == {59, 119} and of_large == {119} | ({59} if 59 % 3 else set())
    for k in (59, 119):  # where none would be left, others are chosen
        Image.new("RGB", (32, 32), (k, 0, 0)).save(tmp_path / f"{k:03}.png")
    training, held_out = read_split(tmp_path, 64)
    assert held_out and not {p.source for p in training} & {p.source for p in held_out}


def test_sources_come_from_the_list_beside_the_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("part-1/a", "part-1/b", "part-2/a", "part-2/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
    rows = [("part-1", "a.png", "one"), ("part-1", "b.png", "two"), ("part-2", "a.png", "two")]
    with open(tmp_path / "MANIFEST.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "file", "source_repo", "source_path"])
        writer.writerows([part, name, "repo", source] for part, name, source in rows)
    sources = ["repo/one", "repo/two", "repo/two", str(tmp_path / "part-2" / "c.png")]
    assert [p.source for p in load_folder(tmp_path)] == sources
    assert [p.source for p in load_folder(tmp_path / "part-2")] == sources[2:]
    (tmp_path / "MANIFEST.csv").write_text("something,else\n1,2\n")
    with caplog.at_level(logging.WARNING):
        assert len({p.source for p in load_folder(tmp_path)}) == 4
    assert any("not a list" in m for m in caplog.messages)


def test_pictures_above_a_size_are_large_wherever_they_lie(tmp_path: Path) -> None:
    Image.new("RGB", (1500, 1000)).save(tmp_path / "a.png")
    Image.new("RGB", (1500, 900)).save(tmp_path / "b.png")
    assert [p.large for p in load_folder(tmp_path)] == [True, False]


def test_every_sixtieth_picture_is_held_out_and_all_of_its_source() -> None:
    many = [_flat(k) for k in range(130)]
    seen, held = ({int(p.pixels[0, 0, 0]) for p in part} for part in split(many))
    assert held == {59, 119} and seen == set(range(130)) - held
    many[3] = _flat(3, source=many[59].source)
    seen, held = ({int(p.pixels[0, 0, 0]) for p in part} for part in split(many))
    assert held == {3, 59, 119} and seen == set(range(130)) - held
    for few in (1, 2, 20):
        training, out = split(many[:few])
        assert len(out) == 1 and out[0].pixels is many[few - 1].pixels
        assert few == 1 or out[0].source not in {p.source for p in training}
    same = [_flat(k, source="one") for k in range(3)]
    training, out = split(same)
    assert [p.pixels[0, 0, 0] for p in training] == [0, 1] and len(out) == 1


def test_whole_photographs_of_the_large_are_held_out() -> None:
    """22 of 5 crops each, in an order that mixes them; those of one are never on both sides."""
    many = [_flat(k) for k in range(100)] + [_flat(k, True, f"photograph {k % 22}") for k in range(110)]
    training, held = split(many)
    assert len(training) + len(held) == 210
    assert not {p.source for p in training} & {p.source for p in held}
    assert len({p.source for p in held if p.large}) == 4
    assert sum(p.large for p in held) == 20
    assert sum(not p.large for p in held) == 1


def test_patches_are_reproducible_vary_and_do_not_depend_on_the_split(pictures: list[Picture]) -> None:
    def make() -> Patches:
        return Patches(pictures, 0.5, seed=3, smooth=0.4, drawn=0.2, colour=0.5)

    whole = make().batch(7, 64, 0, 24)
    assert whole.pixels.shape == (24, 3, 64, 64)
    assert whole.pixels.dtype == torch.uint8
    halves = [make().batch(7, 64, first, 12) for first in (0, 12)]
    assert torch.equal(whole.pixels, torch.cat([h.pixels for h in halves]))
    assert np.array_equal(whole.draws, np.concatenate([h.draws for h in halves]))
    assert len({patch.numpy().tobytes() for patch in whole.pixels}) == 24
    assert not torch.equal(whole.pixels, make().batch(8, 64, 0, 24).pixels)
    # Only pixels of the pictures, unless changed.
    colours = {tuple(c) for p in pictures for c in p.pixels.reshape(-1, 3).tolist()}
    cut = Patches(pictures, 0.0, seed=3).batch(0, 64, 0, 2).pixels
    assert {tuple(c) for c in cut.permute(0, 2, 3, 1).reshape(-1, 3).tolist()} <= colours


def test_the_loader_hands_out_every_step_in_any_order(pictures: list[Picture]) -> None:
    patches = Patches(pictures, 0.5, seed=3)
    loader = Loader(patches, rank=1)
    for step, patch, count in ((0, 64, 2), (1, 64, 2), (2, 128, 1), (9, 64, 2)):
        assert torch.equal(loader.batch(step, patch, count).pixels, patches.batch(step, patch, count, count).pixels)
    loader.close()


def test_the_share_of_smooth_patches_is_as_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by their levels: small pictures are of level 10, large ones 20, the two kinds of made ones 30 and 40."""
    monkeypatch.setattr("dcae.train.data.magnified", lambda rng, cut, side: torch.full((3, side, side), 30.0))
    monkeypatch.setattr("dcae.train.data.before_plain_background", lambda rng, cut: torch.full_like(cut, 40))
    small, large = [_flat(10)] * 3, [_flat(20, large=True)]

    def shares(pictures: list[Picture], smooth: float) -> dict[int, float]:
        seen = Patches(pictures, 0.3, seed=1, smooth=smooth).batch(0, 64, 0, 1000).pixels[:, 0, 5, 5]
        return {level: (seen == level).float().mean().item() for level in (10, 20, 30, 40)}

    mixed = shares(small + large, 0.4)
    assert mixed[10] == pytest.approx(0.6, abs=0.05)
    assert mixed[20] == pytest.approx(0.22, abs=0.05)
    assert mixed[30] == pytest.approx(0.1, abs=0.04)
    assert mixed[40] == pytest.approx(0.08, abs=0.04)
    assert shares(small, 0.4)[30] == pytest.approx(0.32, abs=0.05)
    assert shares(large, 0.4)[10] == 0 and shares(large, 0.4)[20] > 0.7
    assert shares(small + large, 0.0)[20] == pytest.approx(0.25, abs=0.05)


def test_the_shares_of_drawn_and_recoloured_patches_are_as_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[bool] = []

    def draw(rng: np.random.Generator, height: int, width: int, cut: np.ndarray | None) -> np.ndarray:
        assert cut is None or cut.shape == (height, width, 3)
        cuts.append(cut is not None)
        return np.full((height, width, 3), 50, np.uint8)

    monkeypatch.setattr("dcae.train.data.drawn_picture", draw)
    monkeypatch.setattr("dcae.train.data.recoloured", lambda rng, cut: torch.full(cut.shape, 60.0))
    patches = Patches([_flat(10)], 0.0, seed=1, drawn=0.3, colour=0.5)
    seen = patches.batch(0, 64, 0, 1000).pixels[:, 0, 5, 5]
    for level, share in ((50, 0.3), (60, 0.35), (10, 0.35)):
        assert (seen == level).float().mean().item() == pytest.approx(share, abs=0.05)
    assert np.mean(cuts) == pytest.approx(0.35, abs=0.08)
    with pytest.raises(OptionError, match="together at most 1"):
        TrainConfig(smooth=0.6, drawn=0.5)


def test_magnified_patches_are_smoother_and_those_before_a_background_mostly_plain(pictures: list[Picture]) -> None:
    def roughness(x: torch.Tensor) -> float:
        return float((x[:, 1:] - x[:, :-1]).abs().mean())

    source = torch.from_numpy(_waves(9, 128, 128)).permute(2, 0, 1)
    for k in range(8):
        large = augment.magnified(np.random.default_rng(k), source[:, :64, :64], 128)
        assert large.shape == (3, 128, 128)
        assert roughness(large) < 0.8 * roughness(source[:, :64, :64].float())
        assert abs(large.mean() - source[:, :64, :64].float().mean()) < 2
    covered = []
    for k in range(40):
        out = augment.before_plain_background(np.random.default_rng(k), source)
        assert out.min() > -20 and out.max() < 275
        other = augment.before_plain_background(np.random.default_rng(k), 255 - source)
        covered.append(((out - other).abs() > 1).any(0).float().mean().item())
    assert 0.1 < np.mean(covered) < 0.7 and min(covered) < 0.35


def test_validation_pictures_are_of_each_kind() -> None:
    held = [_flat(k) for k in range(20)]
    held += [Picture(np.full((1100, 2048, 3), k, np.uint8), f"photograph {k // 5}", True) for k in range(20)]
    chosen = validation_pictures(held, 16)
    assert [p.shape for p in chosen] == [(80, 80, 3)] * 8 + [(1024, 1024, 3)] * 4 + [(512, 512, 3)] * 4
    assert [int(p[0, 0, 0]) for p in chosen[:12]] == [*range(8), 0, 5, 10, 15]
    assert all(p.std() > 5 for p in chosen[12:])
    again = validation_pictures(held, 16)
    assert all(np.array_equal(a, b) for a, b in zip(chosen, again, strict=True))
    assert [len(p) for p in validation_pictures(held[:1], 8)] == [80, 512, 512]
    assert [len(p) for p in validation_pictures(held[-3:], 2)] == [1024] * 2
    assert [len(p) for p in validation_pictures(held[16:22], 7)] == [80] * 4 + [1024] * 2 + [512]


def test_the_shared_training_set_has_enough_to_hold_out(shared: Path) -> None:
    """Whole photographs, none of which training sees in another size."""
    root = shared / "data" / "train"
    with open(root / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["part"], row["file"]))
    nothing = np.zeros((1, 1, 3), np.uint8)
    training, held = split(
        [Picture(nothing, f"{r['source_repo']}/{r['source_path']}", r["part"] == "part-large") for r in rows]
    )
    assert not {p.source for p in training} & {p.source for p in held}
    assert len({p.source for p in held if p.large}) == 4
    assert len(training) > 0.95 * len(rows) and sum(not p.large for p in held) >= 15


def test_blurring_heeds_no_default_type() -> None:
    """Which another thread may change for a moment while it compiles."""
    x, before = torch.rand(3, 12, 12), torch.get_default_dtype()
    expected = blurred(x, 1.0)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(blurred(x, 1.0), expected)
    finally:
        torch.set_default_dtype(before)


def test_gray_of_16_bits_is_not_clipped(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (256, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert (load_folder(tmp_path)[0].pixels == np.tile(np.arange(256)[:, None], (256, 1, 3))).all()
