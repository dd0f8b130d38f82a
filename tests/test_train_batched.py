"""Patches cut a batch at a time keep what those cut one by one promise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import training_settings
from torch import Tensor

from dcae.train import augment, batched_augment
from dcae.train.batched import BatchedPatches, Store, drawn_pool
from dcae.train.codec_task import CodecTask
from dcae.train.data import Patches, Picture
from dcae.train.processes import Group


def _noise(k: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Three small and two large ones; one is smaller than the cuts that are to be shrunk."""
    sizes = [(160, 192), (100, 130), (96, 80), (200, 180), (170, 300)]
    return [Picture(_noise(k, *size), str(k), k > 2) for k, size in enumerate(sizes)]


def _flat(level: int, large: bool) -> Picture:
    return Picture(np.full((160, 160, 3), level, np.uint8), str((level, large)), large)


def test_a_sample_depends_on_seed_step_and_place_alone(pictures: list[Picture]) -> None:
    def make(seed: int = 3) -> BatchedPatches:
        return BatchedPatches(pictures, 0.5, seed, "cpu", smooth=0.4, drawn=0.2, colour=0.5, pool=3)

    whole = make().batch(7, 64, 0, 48)
    assert whole.pixels.shape == (48, 3, 64, 64) and whole.pixels.dtype == torch.uint8
    parts = [make().batch(7, 64, first, 12) for first in (0, 12, 24, 36)]
    assert np.array_equal(whole.draws, np.concatenate([p.draws for p in parts]))
    assert torch.equal(whole.pixels, torch.cat([p.pixels for p in parts]))
    assert len({patch.numpy().tobytes() for patch in whole.pixels}) == 48
    assert whole.draws.min() >= 0 and whole.draws.max() < 1
    for other in (make().batch(8, 64, 0, 48), make(4).batch(7, 64, 0, 48)):
        assert not torch.equal(whole.pixels, other.pixels) and not np.array_equal(whole.draws, other.draws)


def test_cuts_are_squares_of_the_pictures_mirrored_and_transposed(pictures: list[Picture]) -> None:
    """Compared with every square that there is, mirrored and transposed."""
    picture = _noise(9, 7, 6)
    found = Store([picture], torch.device("cpu")).cut(np.random.default_rng(0).random((600, 5)), 5)
    squares = {
        (top, left, flip, turn): _turned(picture[top : top + 5, left : left + 5], flip, turn).tobytes()
        for top in range(3) for left in range(2) for flip in range(2) for turn in range(2)
    }  # fmt: skip
    seen = {patch.permute(1, 2, 0).numpy().tobytes() for patch in found}
    assert seen == set(squares.values()) and len(seen) == 24
    upright = Store([picture], torch.device("cpu")).cut(np.random.default_rng(0).random((90, 5)), 5, mirrored=False)
    seen = {patch.permute(1, 2, 0).numpy().tobytes() for patch in upright}
    assert seen == {v for (_, _, flip, turn), v in squares.items() if not flip and not turn}


def _turned(square: np.ndarray, flip: int, turn: int) -> np.ndarray:
    square = square[:, ::-1] if flip else square
    return np.ascontiguousarray(square.swapaxes(0, 1) if turn else square)


def test_small_pictures_go_back_and_forth() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = Store([picture], torch.device("cpu")).cut(np.zeros((1, 5)), 6, mirrored=False)[0]
    assert found[0, 0].tolist() == [0, 3, 3, 0, 0, 3] and found[2, :, 1].tolist() == [5, 11, 11, 5, 5, 11]


def test_pictures_are_chosen_by_their_area() -> None:
    store = Store([np.zeros((64, 64, 3), np.uint8), np.full((192, 64, 3), 1, np.uint8)], torch.device("cpu"))
    found = store.cut(np.random.default_rng(0).random((2000, 5)), 8)[:, 0, 0, 0].float().mean()
    assert abs(found - 0.75) < 0.04


@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_shares_are_as_set_and_as_one_by_one(monkeypatch: pytest.MonkeyPatch, smooth: float) -> None:
    """Seen by levels: small pictures have 10, large ones 20, drawn ones 30, the made ones 40 and 50."""
    monkeypatch.setattr("dcae.train.batched.drawn_pool", lambda *_: [np.full((64, 64, 3), 30, np.uint8)])
    monkeypatch.setattr("dcae.train.data.drawn_picture", lambda rng, h, w, cut: np.full((h, w, 3), 30, np.uint8))
    for module, name in (("data", "magnified"), ("batched.augment", "blurred_and_noisy")):
        monkeypatch.setattr(f"dcae.train.{module}.{name}", _level(40))
    for module in ("data", "batched.augment"):
        monkeypatch.setattr(f"dcae.train.{module}.before_plain_background", _level(50))
    set_up = [_flat(10, False), _flat(20, True)]
    shares = {"smooth": smooth, "drawn": 0.2}
    batched = BatchedPatches(set_up, 0.5, 1, "cpu", **shares).batch(0, 64, 0, 3000)
    single = Patches(set_up, 0.5, 1, **shares).batch(0, 64, 0, 3000)
    counted = []
    for batch in (batched, single):
        levels = batch.pixels[:, 0, 0, 0].numpy()
        counted.append([float(np.mean(levels == level)) for level in (10, 20, 30, 40, 50)])
    assert sum(counted[0]) == pytest.approx(1)
    assert counted[0][2] == pytest.approx(0.2, abs=0.03)
    assert counted[0] == pytest.approx(counted[1], abs=0.04)


def _level(level: float):  # type: ignore[no-untyped-def]
    def made(*arguments: object) -> Tensor:
        x = next(a for a in arguments if isinstance(a, Tensor))
        side = arguments[-1] if isinstance(arguments[-1], int) else x.shape[-1]
        return torch.full((*x.shape[:-2], side, side), level)

    return made


def test_colours_change_as_often_and_keep_gray_gray() -> None:
    set_up = [Picture(np.repeat(_noise(1, 160, 160)[..., :1], 3, 2), "gray", False)]
    plain = BatchedPatches(set_up, 0.0, 1, "cpu").batch(0, 64, 0, 400).pixels
    changed = BatchedPatches(set_up, 0.0, 1, "cpu", colour=0.3).batch(0, 64, 0, 400).pixels
    differs = (plain != changed).flatten(1).any(1)
    # A tenth of them keeps brightness and contrast, and gray pictures have no colours to change.
    assert 0.2 < float(differs.float().mean()) < 0.34
    spread = changed.int().amax(1) - changed.int().amin(1)
    assert int(spread.max()) <= 1


def test_changes_have_the_statistics_of_those_one_by_one() -> None:
    """Means and deviations over a thousand samples of what each does to one picture."""
    cut = torch.from_numpy(_noise(5, 32, 32) // 2 + 60).permute(2, 0, 1).float()
    rng, u = np.random.default_rng(1), np.random.default_rng(2).random((1000, 40))
    many = cut.expand(1000, -1, -1, -1)
    field = batched_augment.noise_field(1, torch.device("cpu"))
    pairs = {
        "recoloured": (batched_augment.recoloured(u, many), lambda: augment.recoloured(rng, cut)),
        "before": (
            batched_augment.before_plain_background(u, many, field), lambda: augment.before_plain_background(rng, cut)
        ),
        "magnified": (batched_augment.blurred_and_noisy(u, many, field), lambda: augment.magnified(rng, cut, 32)),
    }  # fmt: skip
    for name, (batched, single) in pairs.items():
        alone = torch.stack([single() for _ in range(1000)])
        for statistic in (_mean, _contrast, _colourfulness):
            a, b = statistic(batched), statistic(alone)
            error = float((a.std() + b.std()) / 1000**0.5)
            assert abs(float(a.mean() - b.mean())) < 4 * error + 0.05, (name, statistic.__name__)
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.2, abs=0.05), (name, statistic.__name__)


def _mean(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))


def _contrast(x: Tensor) -> Tensor:
    return x.mean(1).std((1, 2))


def _colourfulness(x: Tensor) -> Tensor:
    return (x[:, 0] - x[:, 2]).std((1, 2))


def test_cuts_are_shrunk_and_enlarged_over_the_same_range() -> None:
    """Seen on stripes: their period in the patch says by how much."""
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, :, :] = (127 + 100 * np.sin(np.arange(512) * 2 * np.pi / 16)).astype(np.uint8)[None, :, None]
    picture = Picture(stripes, "stripes", False)
    shrunk = _periods(BatchedPatches([picture], 1.0, 1, "cpu").batch(0, 128, 0, 64).pixels)
    assert 7.5 < shrunk.min() < 9.5 and 13 < shrunk.max() < 16.1
    enlarged = BatchedPatches([picture], 0.0, 1, "cpu", smooth=1.0)._magnified(
        np.random.default_rng(0).random((64, 60)), 128
    )
    grown = _periods(enlarged)
    assert 15.5 < grown.min() < 19.5 and 33 < grown.max() < 41


def _periods(patches: Tensor) -> np.ndarray:
    """By the highest line of the spectrum, of the direction that has stripes."""
    x = patches[:, 0].double().numpy()
    found = []
    for patch in x:
        line = patch.mean(0) if patch.mean(0).std() > patch.mean(1).std() else patch.mean(1)
        spectrum = np.abs(np.fft.rfft((line - line.mean()) * np.hanning(len(line)), 4096))
        found.append(4096 / int(spectrum.argmax()))
    return np.array(found)


def test_the_pool_is_the_same_by_any_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, pictures: list[Picture]
) -> None:
    monkeypatch.setattr("dcae.train.batched._DRAWN_SIDE", 64)
    monkeypatch.setattr("dcae.train.batched.cores", lambda: 1)
    alone = list(drawn_pool(pictures, 1, 18))
    assert all(p.shape == (64, 64, 3) and p.dtype == np.uint8 for p in alone)
    assert len({p.tobytes() for p in alone}) > 12
    assert all(np.array_equal(a, b) for a, b in zip(alone, drawn_pool(pictures, 1, 18), strict=True))


def test_the_pool_is_drawn_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two spawned ones draw what one draws."""
    set_up = [Picture(_noise(1, 520, 520), "one", False)]
    monkeypatch.setattr("dcae.train.batched.cores", lambda: 1)
    alone = list(drawn_pool(set_up, 1, 17))
    monkeypatch.setattr("dcae.train.batched.cores", lambda: 2)
    assert all(np.array_equal(a, b) for a, b in zip(alone, drawn_pool(set_up, 1, 17), strict=True))


def test_the_task_cuts_as_it_is_told(training_pictures: Path) -> None:
    settings = training_settings(training_pictures, cutting="batched", drawn_pool=2)
    for cutting, kind in (("batched", BatchedPatches), ("auto", Patches), ("each", Patches)):
        task = CodecTask(dataclasses.replace(settings, cutting=cutting), Group(0, 1, "cpu"), None)
        assert type(task._loader.patches) is kind
        task.close()
