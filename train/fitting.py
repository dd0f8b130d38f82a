"""Tables and coding of symbols, fitted after training to the symbols that real pictures come to.

Training takes every symbol of y for Gaussian and every channel of z for one density, whatever its neighbours are. Real
symbols have heavier tails than a Gaussian of the predicted scale, and neighbours say how wrong the scale is; some
channels of z carry what is plain over whole regions; where nothing happens, z is nearly certain. Tables that say so,
chosen by neighbours (`dcae/entropy/symbol_coding.py`), cost a decoder next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.codec import Codec
from dcae.codec.latents import Check, LatentCoder
from dcae.entropy.symbol_coding import SymbolCoding
from dcae.entropy.tables import Tables, gaussian_pmf, gaussian_radius, gaussian_tables
from dcae.entropy.y_coding import LARGEST, UNIT, YCoding
from dcae.entropy.z_coding import MAX_ACTIVITY, MAX_WEIGHT, NEIGHBOURS, ONE, Integers, ZCoding, neighbours, plain_coding
from dcae.models.header import ModelHeader
from dcae.models.modelfile import with_tables
from dcae.networks.scales import SCALE_LEVELS, scale_table
from dcae.runtime.protocol import Floats
from dcae.train.held_out import centre

SIDE = 768
"""Greatest side in pixels of what is coded of a picture: its centre."""
_PRIOR = 200.0
"""Symbols that what was trained counts for in a row."""
_LIMITS = (19, 45, 77, 128)
"""Of y's neighbours, in 1/64."""
_PRIOR_Z = 20.0
"""The same of z in a row of one set."""
_WORTH = 0.01
"""Share of a channel's bits that prediction must save."""
_SETS = 5
"""Sets of tables of z for positions that have a row above: equally many are of each."""
_ACTIVITY = 8
"""Activity of what a channel usually comes to."""
_ROUNDS = 500


def fit_tables(model: Path, pictures: Sequence[NDArray[np.uint8]], path: Path, force: bool = True) -> ModelHeader:
    """Write the file of a codec's model anew, with tables and coding of symbols fitted to pictures.

    Every picture is coded at two of the model's whole qualities, in turn, so that together they see all; without search
    (effort 0), since what is fitted to that fits searched latents as well.

    Args:
        model: file, exported without tables fitted before.
        pictures: (H, W, 3) each, at least one.
        path: of the file to be written.
        force: overwrite a file of that name.

    Raises:
        OptionError: it exists, and `force` is not set.
    """
    codec = Codec(model)
    found = _Symbols(codec)
    low, high = codec.config.qualities
    qualities = np.arange(round(low), round(high) + 1)
    half = -(-len(qualities) // 2)
    for k, picture in enumerate(pictures):
        for quality in {int(qualities[k % half]), int(qualities[(k % half + half) % len(qualities)])}:
            found.add(centre(picture, SIDE), quality)
    coding = SymbolCoding(found.coding, fitted_z_coding(found.z))
    tables_z = fitted_hyper_tables(codec.engine.tables_z, found.z, coding.z)
    record = {"tables": f"fitted to {len(pictures)} pictures"}
    return with_tables(model, fitted_tables(found.counts), tables_z, coding, record, path, force)


class _Symbols:
    """Symbols that pictures come to with a model."""

    def __init__(self, codec: Codec) -> None:
        self.codec, self.coder = codec, LatentCoder(codec.engine)
        tables = gaussian_tables()
        self.starts, self.offsets, self.lengths = tables.starts, tables.offsets, tables.lengths
        self.coding = y_coding()
        self.counts = np.zeros((self.coding.sets, len(tables.frequencies)), np.int64)
        """Of every entry of :func:`gaussian_tables`, for each set of tables."""
        self.z: list[NDArray[np.int32]] = []
        """(N, h, w) each."""

    def add(self, picture: NDArray[np.uint8], quality: int) -> None:
        engine = self.codec.engine
        with engine.coding():
            latents = self.codec.decode_latents(self.codec.encode(Image.fromarray(picture), quality))
            symbols = iter(latents.y)

            def count(mean: Floats, rows: NDArray[np.uint8], y_hats: object) -> Integers:
                flat = next(symbols)
                coded, levels = flat.reshape(mean.shape[1:]), rows.reshape(mean.shape[1:])
                for parts, chosen in self.coding.stages(coded, levels):
                    self._count(np.concatenate([coded[:, i, j].reshape(-1) for i, j in parts]), chosen)
                return flat

            stride = self.codec.config.stride
            shape = (1, self.codec.config.hyper_channels, *(-(-side // stride) for side in picture.shape[:2]))
            model = engine.entropy_model(engine.numerics[0])
            self.coder.walk(model, latents.z, shape, quality, count, Check())
        self.z.append(latents.z.reshape(shape[1:]))

    def _count(self, symbols: Integers, rows: NDArray[np.uint16]) -> None:
        chosen, levels = np.divmod(rows.astype(np.int64), SCALE_LEVELS)
        entries = (symbols - self.offsets[levels]).clip(0, self.lengths[levels] - 1)
        places = chosen * self.counts.shape[1] + self.starts[levels] + entries
        self.counts += np.bincount(places, minlength=self.counts.size).reshape(self.counts.shape)


def y_coding() -> YCoding:
    """Coding of y by its neighbours: what Gaussians of the scale table come to, and limits around that."""
    expected = []
    for sigma in scale_table():
        radius = gaussian_radius(sigma)
        magnitudes = np.minimum(abs(np.arange(-radius, radius + 1)), LARGEST)
        expected.append(round(UNIT * float(gaussian_pmf(sigma, radius) @ magnitudes)))
    return YCoding(np.array(expected, np.int32), np.array(_LIMITS, np.int32))


def fitted_tables(counts: NDArray[np.int64]) -> Tables:
    """Tables of y, set by set, from how often every entry of :func:`gaussian_tables` was met, (sets, entries).

    What a row comes to in all sets together counts for some symbols in each; of rows never met a Gaussian is left.
    """
    gaussian, pmfs = gaussian_tables(), []
    bounds = [*zip(gaussian.starts.tolist(), gaussian.starts[1:].tolist(), strict=False)]
    radii = (-gaussian.offsets).tolist()
    usual = [
        scale_mixture(counts[:, begin:end].sum(0), radius, gaussian_pmf(sigma, radius))
        for (begin, end), radius, sigma in zip(bounds, radii, scale_table(), strict=True)
    ]
    for seen in counts:
        pmfs += [
            scale_mixture(seen[begin:end], radius, row)
            for (begin, end), radius, row in zip(bounds, radii, usual, strict=True)
        ]
    return Tables.from_pmfs(pmfs, [-radius for radius in radii] * len(counts))


def scale_mixture(counts: NDArray[Any], radius: int, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mixture of Gaussians of mean 0 and the deviations of the scale table that makes counts most likely.

    By expectation and maximisation; so many parameters that any symmetric, peaked distribution comes near, and smooth
    where there are few counts.

    Args:
        counts: (2·radius + 1,) of the symbols -radius ... radius, the ends with all beyond; made symmetric.
        prior: probabilities of the same that count for some symbols.
    """
    parts = np.maximum(np.stack([gaussian_pmf(sigma, radius) for sigma in scale_table()]), 1e-30)
    seen = (counts + counts[::-1]) / 2 + _PRIOR * prior
    # Shares fall slowly where a part is nearly as good as another, and rise fast: so the best one begins with most.
    shares = np.full(SCALE_LEVELS, 1e-3)
    shares[int(np.argmax(np.log(parts) @ seen))] += 1 - shares.sum()
    for _ in range(_ROUNDS):
        mixed = shares @ parts
        shares = shares * (parts @ (seen / mixed)) / seen.sum()
    found: NDArray[np.float64] = shares @ parts
    return found / found.sum()


def fitted_z_coding(z: Sequence[Integers]) -> ZCoding:
    """Coding of z by its neighbours that fits symbols (N, h, w) each."""
    coding = replace(plain_coding(len(z[0])), prediction=fitted_prediction(z))
    coded = [coding.differences(symbols) for symbols in z]
    usual = np.concatenate([np.minimum(abs(c), 3).reshape(len(c), -1) for c in coded], 1).mean(1)
    activity = np.rint(_ACTIVITY / np.maximum(usual, _ACTIVITY / MAX_ACTIVITY)).astype(np.int32)
    coding = replace(coding, activity=activity)
    seen = [coding.seen_from_below(c[:, row]) for c in coded for row in range(c.shape[1] - 1)]
    if not seen:  # no picture of two rows
        return coding
    limits = np.quantile(np.concatenate(seen), np.arange(1, _SETS) / _SETS)
    return replace(coding, limits=np.unique(limits.astype(np.int32)))


def fitted_prediction(z: Sequence[Integers]) -> Integers:
    """Weights (N, 3) of the prediction of z by least squares, for the channels that gain by it.

    Args:
        z: (N, h, w) symbols each.
    """
    plain = plain_coding(len(z[0]))
    squares = np.zeros((len(z[0]), NEIGHBOURS, NEIGHBOURS))
    products = np.zeros((len(z[0]), NEIGHBOURS))
    for symbols in z:
        around = np.stack(neighbours(symbols), -1).reshape(len(symbols), -1, NEIGHBOURS).astype(float)
        squares += np.einsum("npi,npj->nij", around, around)
        products += np.einsum("npi,np->ni", around, symbols.reshape(len(symbols), -1).astype(float))
    least = np.linalg.solve(squares + np.eye(NEIGHBOURS), products[..., None])[..., 0]
    weights = np.rint(ONE * least).clip(-MAX_WEIGHT, MAX_WEIGHT).astype(np.int32)
    tried = replace(plain, prediction=weights)
    paid = _entropies([tried.differences(s) for s in z]) < (1 - _WORTH) * _entropies(z)
    weights[~paid] = 0
    return weights


def _entropies(coded: Sequence[Integers]) -> NDArray[np.float64]:
    """(N,) bits that symbols (N, h, w) each take at least, channel by channel."""
    found = []
    for channel in np.concatenate([part.reshape(len(part), -1) for part in coded], 1):
        counts = np.unique(channel, return_counts=True)[1]
        found.append((counts * np.log2(len(channel) / counts)).sum())
    return np.array(found)


def fitted_hyper_tables(trained: Tables, z: Sequence[Integers], coding: ZCoding) -> Tables:
    """Tables of z, set by set: of what a channel comes to wherever its neighbours say the same.

    Args:
        trained: for z as it is, a row per channel; they count for some symbols in the sets of channels that are not
            predicted, and distributions of all that is coded in those of the others.
        z: (N, h, w) symbols each.
    """
    coded = [coding.differences(symbols) for symbols in z]
    rows = [
        coding.table_rows(c[:, row - 1] if row else None, c.shape[2]).reshape(len(c), -1) for c in coded
        for row in range(c.shape[1])
    ]  # fmt: skip
    places = np.concatenate(rows, 1)
    values = np.concatenate([c[:, row] for c in coded for row in range(c.shape[1])], 1)
    usual = [_usual(trained, channel, values[channel], coding) for channel in range(len(values))]
    pmfs, offsets = [], []
    for row in range(coding.sets * len(usual)):
        channel = row % len(usual)
        prior, offset = usual[channel]
        entries = (values[channel, places[channel] == row] - offset).clip(0, len(prior) - 1)
        counts = np.bincount(entries, minlength=len(prior)) + _PRIOR_Z * prior
        pmfs.append(counts / counts.sum())
        offsets.append(offset)
    return Tables.from_pmfs(pmfs, offsets)


def _usual(trained: Tables, channel: int, values: Integers, coding: ZCoding) -> tuple[NDArray[np.float64], int]:
    """Probabilities of what is coded of a channel, whatever its neighbours, and the first symbol they are of."""
    if not coding.prediction[channel].any():
        row = trained.frequencies[trained.starts[channel] : trained.starts[channel + 1]]
        return row / row.sum(), int(trained.offsets[channel])
    radius = int(abs(values).max()) + 2
    counts = np.bincount(values + radius, minlength=2 * radius + 1).astype(float)
    return scale_mixture(counts, radius, gaussian_pmf(max(float(values.std()), scale_table()[0]), radius)), -radius
