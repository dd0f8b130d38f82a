"""Pictures in bands, strips and tiles: the same as whole ones, in both engines, whatever their height."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY, TINY_LOOP, synthetic_picture, write_tiny_model
from PIL import Image

from dcae.codec.codec import Codec
from dcae.networks.bands import WHOLE, Band
from dcae.networks.lite import reach
from dcae.networks.lite.config import LiteConfig
from dcae.networks.registry import build_model
from dcae.runtime.protocol import Array, Engine
from dcae.runtime.tiles import Divider

SHIFTED: dict[str, Any] = TINY_LOOP | {"layers": ("CS", "SSC"), "window": 4}
"""With windows at both resolutions, every second shifted."""
SMALL = {"positions": 1, "columns": 16, "tile": 64}
"""As many bands, strips and tiles as there can be."""


def _divided(codec: Codec, **sizes: int) -> Codec:
    for name, value in sizes.items():
        setattr(codec._coder.divider, name, value)
    return codec


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module", params=["plain", "looped"])
def path(request: pytest.FixtureRequest, tiny_path: Path, looped_path: Path) -> Path:
    return tiny_path if request.param == "plain" else looped_path


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize(("size", "mode"), [((300, 700), "RGB"), ((1, 517), "L"), ((517, 1), "RGB"), ((390, 260), "L")])
def test_files_and_pictures_do_not_depend_on_the_bands(
    path: Path, engine: str, size: tuple[int, int], mode: str
) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    picture = synthetic_picture(*size).convert(mode)
    whole = _divided(Codec(path, engine=engine), positions=10**6, columns=10**6, tile=10**6)
    data = whole.encode(picture, 5.5, correct_means=True)
    shown, latents = whole.decode(data), whole.decode_latents(data)
    for sizes in (SMALL, {"positions": 24 * 20, "columns": 40, "tile": 100}):
        codec = _divided(Codec(path, engine=engine), **sizes)
        assert codec.encode(picture, 5.5, correct_means=True) == data
        found = codec.decode_latents(data)
        assert all(np.array_equal(a, b) for a, b in zip(found.y, latents.y, strict=True))
        np.testing.assert_array_equal(found.y_hat, latents.y_hat)
        # Sums of floating-point numbers may differ in their last bits where a library has other paths for few rows.
        difference = np.abs(_pixels(codec.decode(data)) - _pixels(shown))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def _streamed(hook: Any, heights: Iterator[int], *arrays: Array) -> Array:
    """The rows that a transform gives for bands of its inputs."""
    found, begin, band = [], 0, Band(last=False)
    while begin < arrays[0].shape[2]:
        end = begin + next(heights)
        band.last = end >= arrays[0].shape[2]
        found.append(hook(*(np.ascontiguousarray(a[:, :, begin:end]) for a in arrays), 3.3, band))
        begin, band = end, band.next(False)
    assert not band.kept and not WHOLE.kept
    return np.concatenate(found, 2)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "shifted.safetensors"
    write_tiny_model(path, seed=2, fields=SHIFTED)
    return path


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_every_transform_in_bands_of_any_heights(shifted: Path, engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    codec = Codec(shifted, engine=engine)
    e: Engine = codec.engine
    generator = np.random.default_rng(3)
    x = generator.random((1, 3, 9 * 64, 2 * 64), np.float32)

    def heights(scale: int) -> Iterator[int]:
        while True:
            yield scale * int(generator.integers(12, 20))

    with e.coding():
        y = e.analysis(x, 3.3)
        base = e.base_synthesis(y, 3.3)
        skip = e.skip_latents(x, base, 3.3)
        both = np.concatenate([y, skip], 1)
        for hook, scale, arrays in (
            (e.analysis, 16, (x,)),
            (e.hyper_analysis, 1, (y,)),
            (e.base_synthesis, 1, (y,)),
            (e.skip_latents, 15, (x, base)),
            (e.synthesis, 1, (both,)),
        ):
            expected = hook(*arrays, 3.3)  # type: ignore[operator]
            found = _streamed(hook, heights(scale), *arrays)
            np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize("fields", [TINY, SHIFTED, TINY | {"layers": ("CCC", "CS"), "window": 6}])
@pytest.mark.parametrize("axis", [2, 3])
def test_the_reach_is_what_a_change_of_the_input_shows(fields: dict[str, Any], axis: int) -> None:
    torch.manual_seed(1)
    network: Any = build_model("lite", entropy_models=False, **fields).eval()
    config, q = network.config, network.conditioning(torch.tensor([4.0]))
    for parameter in network.parameters():  # some maps are zero at the start
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    chains = {
        "analysis": (lambda x: network.g_a(x.permute(0, 2, 3, 1), q.weights).permute(0, 3, 1, 2), 3, 256),
        "base_synthesis": (lambda y: network.base_synthesis(y, q), config.transform_channels, 20),
        "hyper_analysis": (lambda y: network.hyper_analysis(y, q), config.transform_channels, 32),
        "hyper_synthesis": (
            lambda z: network.hyper_synthesis(z, q).permute(0, 3, 1, 2), config.hyper_channels, 12,
        ),
        "slice_prior": (lambda s: network.slice_prior(0, s.permute(0, 2, 3, 1), q).mean, config.context_width, 12),
    }  # fmt: skip
    for name, (hook, channels, length) in chains.items():
        layers, other = reach.layers_of(config, name), 64 if name == "analysis" else 4
        shape = (1, channels, length, other) if axis == 2 else (1, channels, other, length)
        x = torch.randn(shape)
        with torch.no_grad():
            before = hook(x)
            influence = np.zeros((before.shape[axis], length), bool)
            for place in range(length):
                changed = x.clone()
                changed.select(axis, place).add_(torch.randn(channels, other))
                difference = (hook(changed) != before).movedim(axis, 0).flatten(1).any(1)
                influence[:, place] = difference.numpy()
        for row, places in enumerate(influence):
            low, high = reach.needed(layers, row, row + 1)
            expected = np.arange(max(low, 0), min(high, length))
            np.testing.assert_array_equal(np.flatnonzero(places), expected, err_msg=f"{name} {row}")
        for count in range(length):
            alone = [not places[count:].any() for places in influence]
            assert reach.ready(layers, count) == (alone.index(False) if False in alone else len(alone)), (name, count)


@pytest.mark.parametrize("fields", [{}, {"window": 16}, {"window": 5}, {"layers": ("SCS", "CCSS"), "window": 7}])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (400, 24), (24, 1300), (512, 512)])
def test_bands_strips_and_tiles_cover_a_picture_once(fields: dict[str, Any], height: int, width: int) -> None:
    divider = Divider(LiteConfig(**fields), positions=100, columns=60, tile=200)
    for name in ("analysis", "hyper_analysis", "base_synthesis", "skip_latents", "add_skip"):
        strips = list(divider.strips(name, width))
        assert [strips[0].begin, strips[-1].end] == [0, width]
        assert all(a.end == b.begin for a, b in pairwise(strips))
        assert all(0 <= s.low <= s.begin < s.end <= s.high <= width for s in strips)
        bands = list(divider.bands(name, height, width))
        assert [bands[0][0], bands[-1][1]] == [0, height] and all(a[1] == b[0] for a, b in pairwise(bands))
        assert [band.first for *_, band in bands] == [k == 0 for k in range(len(bands))]
        assert [band.last for *_, band in bands] == [k == len(bands) - 1 for k in range(len(bands))]
    for step in ("hyper_synthesis", "slice_prior", ""):
        seen = np.zeros((height, width), int)
        for tile in divider.tiles(step, height, width):
            seen[tile.rows, tile.columns] += 1
        assert (seen == 1).all()
