"""Prediction of z by its neighbours, and tables that are fitted to symbols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_decoder as reference
from helpers import synthetic_picture

from dcae.codec.codec import Codec
from dcae.entropy.tables import gaussian_pmf, gaussian_tables
from dcae.entropy.z_prediction import MAX_SYMBOL, MAX_WEIGHT, checked_weights, differences, no_prediction, restored
from dcae.errors import ModelFileError
from dcae.models.stored import read_model


def _symbols(seed: int, shape: tuple[int, int, int], largest: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape, np.int32)


def _weights(seed: int, channels: int) -> np.ndarray:
    weights = np.random.default_rng(seed).integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (channels, 3), np.int32)
    weights[0] = 0
    return weights


@pytest.mark.parametrize("shape", [(5, 1, 1), (4, 1, 7), (4, 6, 1), (3, 5, 8)])
@pytest.mark.parametrize("largest", [0, 3, MAX_SYMBOL])
def test_what_is_coded_gives_the_symbols_again(shape: tuple[int, int, int], largest: int) -> None:
    symbols, weights = _symbols(sum(shape), shape, largest), _weights(largest, shape[0])
    coded = differences(symbols, weights)
    assert (restored(coded, weights) == symbols).all()
    assert reference.z_of(coded.tolist(), weights.tolist()) == symbols.tolist()
    assert (coded[0] == symbols[0]).all()


def test_hostile_symbols_stay_small_and_come_out_the_same() -> None:
    """Weights under which symbols would double with every neighbour, and excesses as large as a stream can have."""
    coded, weights = _symbols(1, (4, 9, 9), 80000), np.full((4, 3), MAX_WEIGHT, np.int32)
    found = restored(coded, weights)
    assert abs(found).max() == MAX_SYMBOL
    assert reference.z_of(coded.tolist(), weights.tolist()) == found.tolist()


def test_a_plain_area_costs_nothing() -> None:
    symbols = np.full((1, 6, 9), 7, np.int32)
    assert np.count_nonzero(differences(symbols, np.array([[64, 64, -64]], np.int32))) == 1


def test_no_prediction_is_the_identity() -> None:
    symbols = _symbols(3, (4, 3, 3), 90000)
    assert restored(symbols, no_prediction(4)) is symbols
    assert (differences(symbols, no_prediction(4)) == symbols).all()


@pytest.mark.parametrize(
    "weights",
    [np.zeros((3, 3), np.int32), np.zeros((4, 2), np.int32), np.zeros((4, 3)), np.full((4, 3), 257, np.int32),
     np.full((4, 3), -257, np.int32)],
)  # fmt: skip
def test_malformed_weights(weights: np.ndarray) -> None:
    with pytest.raises(ModelFileError, match="prediction of z"):
        checked_weights(weights, 4)


class TestFitting:
    @pytest.fixture(autouse=True)
    def _needs_training(self) -> None:
        pytest.importorskip("compressai", reason="training needs compressai")

    def test_mixture_follows_the_counts(self) -> None:
        from dcae.train.fitting import scale_mixture

        radius, level = 12, 20
        heavy = 0.9 * gaussian_pmf(0.6, radius) + 0.1 * gaussian_pmf(3.0, radius)
        found = scale_mixture(1e6 * heavy, radius, level)
        assert found.sum() == pytest.approx(1) and (found == found[::-1]).all()
        extra = (heavy * np.log2(heavy / found)).sum()
        assert 0 <= extra < 1e-3  # bits a symbol
        assert (heavy * np.log2(heavy / gaussian_pmf(1.1, radius))).sum() > 0.02

    def test_a_row_that_was_never_met_stays_gaussian(self) -> None:
        from dcae.train.fitting import fitted_tables

        gaussian = gaussian_tables()
        found = fitted_tables(np.zeros(len(gaussian.frequencies), np.int64))
        assert abs(found.frequencies - gaussian.frequencies).max() < 2**24 * 1e-3
        assert (found.offsets == gaussian.offsets).all()

    def test_prediction_of_channels_that_gain(self) -> None:
        """One channel that goes on as its neighbours do, and one that is noise."""
        from dcae.train.fitting import fitted_prediction

        rng = np.random.default_rng(4)
        noise = rng.integers(-2, 3, (2, 24, 24)).astype(np.int32)
        walk = np.cumsum(np.cumsum(rng.integers(-1, 2, (24, 24)), 0), 1)[None].astype(np.int32)
        weights = fitted_prediction([np.concatenate([walk, noise[:1]]), np.concatenate([-walk, noise[1:]])])
        assert weights[0].any() and not weights[1].any()

    def test_fitted_model_codes_the_same_symbols_in_fewer_bytes(self, looped_path: Path, tmp_path: Path) -> None:
        from dcae.train.fitting import fit_tables

        path = tmp_path / "fitted.safetensors"
        pictures = [np.array(synthetic_picture(200, 136, seed)) for seed in range(8)]
        header = fit_tables(looped_path, pictures, path)
        before, after = Codec(looped_path), Codec(path)
        assert header.id == after.header.id != before.header.id
        assert header.record == before.header.record | {"tables": "fitted to 8 pictures"}
        picture = synthetic_picture(190, 150, 100)
        for quality in (1, 4, 8):
            first, second = before.encode(picture, quality), after.encode(picture, quality)
            assert len(second) < len(first)
            one, two = before.decode_latents(first), after.decode_latents(second)
            assert (one.z == two.z).all()
            assert all((a == b).all() for a, b in zip(one.y[:-2], two.y[:-2], strict=True))
            after.decode(second)
        assert read_model(path).z_prediction.any()
