"""Coding of z by its neighbours, and tables that are fitted to symbols."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_decoder as reference
from helpers import TINY_LOOP, synthetic_picture, write_tiny_model

from dcae.codec.codec import Codec
from dcae.entropy.tables import gaussian_pmf, gaussian_tables
from dcae.entropy.z_coding import MAX_SYMBOL, MAX_WEIGHT, ZCoding, plain_coding
from dcae.errors import ModelFileError
from dcae.models.stored import read_model


def _symbols(seed: int, shape: tuple[int, ...], largest: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape, np.int32)


def _coding(seed: int, channels: int) -> ZCoding:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (channels, 3), np.int32)
    weights[0] = 0
    return ZCoding(weights, rng.integers(0, 9, channels, np.int32), np.array([5, 9, 30], np.int32))


@pytest.mark.parametrize("shape", [(5, 1, 1), (4, 1, 7), (4, 6, 1), (3, 5, 8)])
@pytest.mark.parametrize("largest", [0, 3, MAX_SYMBOL])
def test_what_is_coded_gives_the_symbols_again(shape: tuple[int, int, int], largest: int) -> None:
    symbols, coding = _symbols(sum(shape), shape, largest), _coding(largest, shape[0])
    coded = coding.differences(symbols)
    assert (coding.restored(coded) == symbols).all()
    assert reference.z_of(coded.tolist(), coding.prediction.tolist()) == symbols.tolist()
    assert (coded[0] == symbols[0]).all()


def test_hostile_symbols_stay_small_and_come_out_the_same() -> None:
    """Weights under which symbols would double with every neighbour, and excesses as large as a stream can have."""
    coded = _symbols(1, (4, 9, 9), 80000)
    coding = replace(plain_coding(4), prediction=np.full((4, 3), MAX_WEIGHT, np.int32))
    found = coding.restored(coded)
    assert abs(found).max() == MAX_SYMBOL
    assert reference.z_of(coded.tolist(), coding.prediction.tolist()) == found.tolist()
    assert np.isfinite(coding.seen_from_below(coded[:, 0])).all()


def test_a_plain_area_costs_nothing() -> None:
    symbols = np.full((1, 6, 9), 7, np.int32)
    coding = replace(plain_coding(1), prediction=np.array([[64, 64, -64]], np.int32))
    assert np.count_nonzero(coding.differences(symbols)) == 1


def test_without_a_say_of_neighbours_nothing_changes() -> None:
    symbols, plain = _symbols(3, (4, 3, 3), 90000), plain_coding(4)
    assert plain.restored(symbols) is symbols and (plain.differences(symbols) == symbols).all()
    assert plain.sets == 1 and [*plain.arrays(3)] == [slice(0, 3)]
    assert (plain.table_rows(symbols[:, 0], 3) == np.repeat(np.arange(4), 3)).all()


@pytest.mark.parametrize("width", [1, 2, 7])
def test_sets_of_tables_are_those_of_the_document(width: int) -> None:
    coding = _coding(2, 5)
    assert coding.sets == 5 and len([*coding.arrays(4)]) == 4
    assert (coding.table_rows(None, width) == np.repeat(np.arange(5), width)).all()
    seen = set()
    for seed in range(20):
        above = _symbols(seed, (5, width), 1 + seed % 3) * (np.random.default_rng(seed).random((5, width)) < seed / 20)
        sets = reference.z_row_sets(above.tolist(), coding.activity.tolist(), coding.limits.tolist())
        assert coding.table_rows(above, width).reshape(5, -1)[3].tolist() == [3 + 5 * chosen for chosen in sets]
        seen |= set(sets)
    assert seen >= {1, 4}


def _with(**fields: np.ndarray) -> None:
    replace(plain_coding(4), **fields)


@pytest.mark.parametrize(
    "fields",
    [{"prediction": np.zeros((3, 3), np.int32)}, {"prediction": np.zeros((4, 2), np.int32)},
     {"prediction": np.zeros((4, 3))}, {"prediction": np.full((4, 3), 257, np.int32)},
     {"prediction": np.full((4, 3), -(2**31), np.int32)}, {"activity": np.full(4, 256, np.int32)},
     {"activity": np.full(4, -1, np.int32)}, {"activity": np.zeros((4, 1), np.int32)},
     {"limits": np.array([3, 3], np.int32)}, {"limits": np.arange(16, dtype=np.int32)},
     {"limits": np.array([-(2**31), 2**31 - 1, 0], np.int32)}, {"limits": np.zeros((1, 1), np.int32)},
     {"limits": np.zeros(1, np.int64)}],
)  # fmt: skip
def test_malformed_numbers(fields: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelFileError, match="coding of z"):
        _with(**fields)


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

    def test_fitted_model_codes_the_same_symbols_in_fewer_bytes(self, tmp_path: Path) -> None:
        from dcae.train.fitting import fit_tables

        model, path = tmp_path / "model.safetensors", tmp_path / "fitted.safetensors"
        write_tiny_model(model, fields=TINY_LOOP)
        pictures = [np.array(synthetic_picture(200, 136, seed)) for seed in range(8)]
        header = fit_tables(model, pictures, path)
        before, after = Codec(model), Codec(path)
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
        coding = read_model(path).z_coding
        assert coding.prediction.any() and coding.activity.all()
