"""Tables and prediction of z, fitted after training to the symbols that real pictures come to.

Training takes every symbol of y for Gaussian and every channel of z for one density, whatever its neighbours are. Real
symbols have heavier tails than a Gaussian of the predicted scale, and some channels of z carry what is plain over whole
regions: tables that say so, and a prediction (`dcae/entropy/z_prediction.py`), cost a decoder nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.codec import Codec
from dcae.codec.latents import Check, LatentCoder
from dcae.entropy.tables import Tables, gaussian_pmf, gaussian_tables
from dcae.entropy.z_prediction import MAX_WEIGHT, NEIGHBOURS, ONE, Weights, differences, neighbours, no_prediction
from dcae.models.header import ModelHeader
from dcae.models.modelfile import with_tables
from dcae.networks.scales import SCALE_LEVELS, scale_table
from dcae.train.held_out import centre

SIDE = 768
"""Greatest side in pixels of what is coded of a picture: its centre."""
_PRIOR = 200.0
"""Symbols that what was trained counts for in a row."""
_WORTH = 0.01
"""Share of a channel's bits that prediction must save."""
_ROUNDS = 500


def fit_tables(model: Path, pictures: Sequence[NDArray[np.uint8]], path: Path, force: bool = True) -> ModelHeader:
    """Write the file of a codec's model anew, with tables and prediction of z fitted to pictures.

    Every picture is coded at two of the model's whole qualities, in turn, so that together they see all; without search
    (effort 0), since what is fitted to that fits searched latents as well.

    Args:
        model: file.
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
    weights = fitted_prediction(found.z)
    tables_z = fitted_hyper_tables(codec.engine.tables_z, found.z, weights)
    record = {"tables": f"fitted to {len(pictures)} pictures"}
    return with_tables(model, fitted_tables(found.counts), tables_z, weights, record, path, force)


class _Symbols:
    """Symbols that pictures come to with a model."""

    def __init__(self, codec: Codec) -> None:
        self.codec, self.coder = codec, LatentCoder(codec.engine)
        tables = gaussian_tables()
        self.starts, self.offsets, self.lengths = tables.starts, tables.offsets, tables.lengths
        self.counts = np.zeros(len(tables.frequencies), np.int64)
        """Of every entry of :func:`gaussian_tables`."""
        self.z: list[NDArray[np.int32]] = []
        """(N, h, w) each."""

    def add(self, picture: NDArray[np.uint8], quality: int) -> None:
        engine = self.codec.engine
        with engine.coding():
            latents = self.codec.decode_latents(self.codec.encode(Image.fromarray(picture), quality))
            symbols = iter(latents.y)

            def count(mean: object, rows: NDArray[np.uint8], y_hats: object) -> NDArray[np.int32]:
                coded = next(symbols)
                entries = (coded - self.offsets[rows]).clip(0, self.lengths[rows] - 1)
                self.counts += np.bincount(self.starts[rows] + entries, minlength=len(self.counts))
                return coded

            stride = self.codec.config.stride
            shape = (1, self.codec.config.hyper_channels, *(-(-side // stride) for side in picture.shape[:2]))
            model = engine.entropy_model(engine.numerics[0])
            self.coder.walk(model, latents.z, shape, quality, count, Check())
        self.z.append(latents.z.reshape(shape[1:]))


def fitted_tables(counts: NDArray[np.int64]) -> Tables:
    """Tables of y from how often every entry of :func:`gaussian_tables` was met; rows never met stay Gaussian."""
    gaussian, pmfs = gaussian_tables(), []
    for row, (begin, end) in enumerate(zip(gaussian.starts, gaussian.starts[1:], strict=False)):
        seen = (counts[begin:end] + counts[begin:end][::-1]) / 2.0
        radius = -int(gaussian.offsets[row])
        pmfs.append(scale_mixture(seen, radius, row))
    return Tables.from_pmfs(pmfs, gaussian.offsets.tolist())


def scale_mixture(counts: NDArray[np.floating], radius: int, level: int) -> NDArray[np.float64]:
    """Mixture of Gaussians of mean 0 and the deviations of the scale table that makes counts most likely.

    By expectation and maximisation; so many parameters that any symmetric, peaked distribution comes near, and smooth
    where there are few counts.

    Args:
        counts: (2·radius + 1,) of the symbols -radius ... radius, the ends with all beyond.
        level: of the table, whose Gaussian counts for some symbols and which the search begins at.
    """
    parts = np.stack([gaussian_pmf(sigma, radius) for sigma in scale_table()])
    seen = counts + _PRIOR * parts[level]
    parts = np.maximum(parts, 1e-30)
    # Shares fall slowly where a part is nearly as good as another, and rise fast.
    shares = np.full(SCALE_LEVELS, 1e-3)
    shares[level] = 1 - shares.sum()
    for _ in range(_ROUNDS):
        mixed = shares @ parts
        shares = shares * (parts @ (seen / mixed)) / seen.sum()
    found: NDArray[np.float64] = shares @ parts
    return found / found.sum()


def fitted_prediction(z: Sequence[NDArray[np.int32]]) -> Weights:
    """Weights of the prediction of z by least squares, for the channels that gain by it.

    Args:
        z: (N, h, w) symbols each.
    """
    weights = no_prediction(len(z[0]))
    squares = np.zeros((len(weights), NEIGHBOURS, NEIGHBOURS))
    products = np.zeros((len(weights), NEIGHBOURS))
    for symbols in z:
        around = np.stack(neighbours(symbols), -1).reshape(len(weights), -1, NEIGHBOURS).astype(float)
        squares += np.einsum("npi,npj->nij", around, around)
        products += np.einsum("npi,np->ni", around, symbols.reshape(len(weights), -1).astype(float))
    least = np.linalg.solve(squares + np.eye(NEIGHBOURS), products[..., None])[..., 0]
    tried = np.rint(ONE * least).clip(-MAX_WEIGHT, MAX_WEIGHT).astype(np.int32)
    before, after = _entropies(z, weights), _entropies(z, tried)
    paid = after < (1 - _WORTH) * before
    weights[paid] = tried[paid]
    return weights


def _entropies(z: Sequence[NDArray[np.int32]], weights: Weights) -> NDArray[np.float64]:
    """(N,) bits that what is coded of all z takes at least, channel by channel."""
    found = []
    for channel in np.concatenate([differences(s, weights).reshape(len(weights), -1) for s in z], 1):
        counts = np.unique(channel, return_counts=True)[1]
        found.append((counts * np.log2(len(channel) / counts)).sum())
    return np.array(found)


def fitted_hyper_tables(trained: Tables, z: Sequence[NDArray[np.int32]], weights: Weights) -> Tables:
    """Tables of z: new ones for the channels that are predicted, the others as they were trained.

    Args:
        trained: for z as it is.
        z: (N, h, w) symbols each.
    """
    coded = np.concatenate([differences(s, weights).reshape(len(weights), -1) for s in z], 1)
    pmfs, offsets = [], trained.offsets.tolist()
    for channel, (begin, end) in enumerate(zip(trained.starts, trained.starts[1:], strict=False)):
        if not weights[channel].any():
            pmfs.append(trained.frequencies[begin:end].astype(float))
            continue
        radius = int(abs(coded[channel]).max()) + 2
        counts = np.bincount(coded[channel] + radius, minlength=2 * radius + 1).astype(float)
        level = int(np.searchsorted(scale_table(), coded[channel].std()).clip(0, SCALE_LEVELS - 1))
        pmfs.append(scale_mixture((counts + counts[::-1]) / 2, radius, level))
        offsets[channel] = -radius
    return Tables.from_pmfs(pmfs, offsets)
