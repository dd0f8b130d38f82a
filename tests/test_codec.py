"""Pictures to files and back with a tiny untrained model; damage of every kind."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import synthetic_picture, write_tiny_model
from numpy.typing import NDArray
from PIL import Image

import dcae
from dcae.codec import feedback
from dcae.codec.codec import Codec
from dcae.codec.container import Container, read_container, write_container
from dcae.errors import (
    DCAEError,
    FileFormatError,
    ModelFileError,
    ModelNotFoundError,
    OptionError,
    PictureError,
    SymbolMismatchError,
)
from dcae.models.modelfile import CodingModel, load_model
from dcae.networks.base import pad_to_multiple


@pytest.fixture(scope="module")
def codec(tiny_model: CodingModel) -> Codec:
    return Codec(tiny_model)


@pytest.fixture(scope="module")
def small(codec: Codec) -> bytes:
    """The smallest file there is: one pixel."""
    return codec.encode(synthetic_picture(1, 1), 1)


def _psnr(a: Image.Image, b: Image.Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)))


@torch.inference_mode()
def _reconstruction(model: CodingModel, picture: Image.Image, quality: float) -> NDArray[np.uint8]:
    """What the networks alone make of a picture, without a file: the hooks called as `DCAE.forward` calls them."""
    network, prior = model.network, model.prior
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    q = network.conditioning(quality)
    y = network.analysis(pad_to_multiple(x, 64), q)
    z_hat = torch.round(network.hyper_analysis(y, q) - model.z_median) + model.z_median
    y_hats = []
    with prior.arithmetic():
        exact_q = prior.conditioning(quality)
        context = prior.hyper_synthesis(z_hat, exact_q)
        for k, y_k in enumerate(y.split(network.config.slices, 1)):
            found = prior.slice_prior(k, context, exact_q)
            y_hats.append(prior.latent_residual(k, found.support, (y_k - found.mean).round() + found.mean, exact_q))
            if k + 1 < len(network.config.slices):
                context = prior.extend_context(k, context, found.support, y_hats[-1], exact_q)
    x_hat = network.synthesis(torch.cat(y_hats, 1), q)[0, :, : picture.height, : picture.width]
    return (x_hat * 255).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (17, 33), (64, 64), (65, 130)])
@pytest.mark.parametrize("quality", [1, 4.3, 8])
def test_round_trip(codec: Codec, size: tuple[int, int], quality: float) -> None:
    picture = synthetic_picture(*size)
    data = codec.encode(picture, quality)
    decoded = codec.decode(data)
    assert (decoded.mode, decoded.size) == ("RGB", size)
    assert data == codec.encode(picture, quality)
    steps = round(quality * 256) / 256
    plain = codec.decode(codec.encode(picture, quality, correct_means=False))
    difference = np.asarray(plain, int) - _reconstruction(load_model(codec.header.path), picture, steps)
    assert np.abs(difference).max() <= 1  # of one arithmetic, but not of the very same calls
    assert _psnr(decoded, picture) > 18


def test_quality_is_the_trade_of_size_against_error(codec: Codec) -> None:
    picture = synthetic_picture(130, 65)
    files = [codec.encode(picture, quality) for quality in np.arange(1, 8.01)]
    assert [read_container(data).header.quality for data in files] == list(range(256, 2049, 256))
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]
    assert _psnr(codec.decode(files[-1]), picture) > _psnr(codec.decode(files[0]), picture)


def test_quality_is_stored_in_steps(codec: Codec) -> None:
    picture = synthetic_picture(8, 8)
    assert codec.encode(picture, 3.3) == codec.encode(picture, 845 / 256)
    assert read_container(codec.encode(picture, 3.3)).header.quality == 845


@pytest.mark.parametrize("quality", [0, 0.99, 8.01, -3, 1e300, float("nan"), float("inf"), -float("inf")])
def test_quality_out_of_range(codec: Codec, quality: float) -> None:
    with pytest.raises(OptionError, match="quality"):
        codec.encode(synthetic_picture(1, 1), quality)


def test_gray_is_the_rounded_mean_of_the_channels(codec: Codec) -> None:
    data = codec.encode(synthetic_picture(40, 30), 4)
    container = read_container(data)
    gray = write_container(dataclasses.replace(container, header=dataclasses.replace(container.header, colour=1)))
    mean = np.asarray(codec.decode(data), np.float64).mean(2)
    np.testing.assert_array_equal(np.asarray(codec.decode(gray)), np.floor(mean + 0.5))


# -- damage ---------------------------------------------------------------------------------------------------


def test_every_truncation_is_an_error(codec: Codec, small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(FileFormatError):
            codec.decode(small[:length])


def test_every_bit_flip_is_an_error(codec: Codec, small: bytes) -> None:
    for position in range(8 * len(small)):
        data = bytearray(small)
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(FileFormatError):
            codec.decode(bytes(data))


def _mutations(payload: bytes, count: int) -> Iterator[bytes]:
    """Another stream in place of a good one: bits flipped, words dropped, added, replaced, all random."""
    rng = np.random.default_rng(3)
    yield b""
    yield bytes(len(payload))
    yield b"\xff" * len(payload)
    for length in range(0, len(payload), max(4, len(payload) // 160 * 4)):
        yield payload[:length]
    for length in (1, 2, 3, 4, 8, 40):
        yield payload + rng.bytes(length)
        yield rng.bytes(length) + payload
    for _ in range(count):
        data = bytearray(payload)
        for _ in range(rng.choice([1, 1, 1, 5])):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        yield bytes(data)
        yield rng.bytes(len(payload))


@pytest.mark.parametrize("section", ["z", "y"])
def test_other_streams_with_a_right_crc(codec: Codec, small: bytes, section: str) -> None:
    """Damage that the CRC does not show, or a malicious file: an error of ours or the very same symbols."""
    container = read_container(small)
    original = codec.decode_latents(small)
    payload = getattr(container, section)
    refused = mismatches = 0
    for mutated in _mutations(payload, 80):
        streams = {"z": container.z, "y": container.y} | {section: mutated}
        data = write_container(Container(container.header, **streams))
        try:
            latents = codec.decode_latents(data)
        except FileFormatError as error:
            refused += 1
            mismatches += isinstance(error, SymbolMismatchError)
            continue
        np.testing.assert_array_equal(latents.z, original.z)
        for found, expected in zip(latents.y, original.y, strict=True):
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(latents.y_hat, original.y_hat)
    assert refused > 50
    if section == "y":  # no arithmetic has a say in z, whose damage is therefore damage
        assert mismatches > 50


@pytest.mark.parametrize("section", ["z", "y"])
def test_streams_with_words_left_over(codec: Codec, small: bytes, section: str) -> None:
    container = read_container(small)
    streams = {"z": container.z, "y": container.y}
    streams[section] += bytes(8)
    with pytest.raises(FileFormatError, match=f"the stream of {section} is longer than its symbols"):
        codec.decode(write_container(Container(container.header, **streams)))


def test_wrong_check_value(codec: Codec, small: bytes) -> None:
    container = read_container(small)
    header = dataclasses.replace(container.header, check=container.header.check ^ 1)
    with pytest.raises(SymbolMismatchError, match="do not belong together"):
        codec.decode(write_container(dataclasses.replace(container, header=header)))


def test_check_covers_the_latents_and_not_only_the_symbols(tiny_model: CodingModel, small: bytes) -> None:
    """A mean that differs leaves the symbols as they are, but not ŷ."""
    codec = Codec(tiny_model)
    entropy_model = codec.engine.entropy_model("integer")
    original = entropy_model.slice_prior

    def other(k, context, q):  # type: ignore[no-untyped-def]
        prior = original(k, context, q)
        return prior._replace(mean=prior.mean + 1 / 64) if k == 1 else prior

    entropy_model.slice_prior = other  # type: ignore[method-assign]
    try:
        with pytest.raises(SymbolMismatchError, match="do not belong together"):
            codec.decode(small)
    finally:
        del entropy_model.slice_prior
    codec.decode(small)


def _with_header(data: bytes, **changes: Any) -> bytes:
    container = read_container(data)
    return write_container(Container(dataclasses.replace(container.header, **changes), container.z, container.y))


def test_other_sizes_and_qualities_than_encoded(codec: Codec, small: bytes) -> None:
    """Sections that are each intact but do not belong together."""
    for change in ({"quality": 300}, {"quality": 2048}, {"width": 65}, {"width": 64 * 5, "height": 64 * 3}):
        with pytest.raises(FileFormatError):
            codec.decode(_with_header(small, **change))
    with pytest.raises(FileFormatError, match=r"quality 9 is outside 1\.\.8"):
        codec.decode(_with_header(small, quality=9 * 256))


def test_wrong_model(codec: Codec, small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tiny_model(path, seed=2)
    other = Codec(path)
    with pytest.raises(ModelNotFoundError, match=codec.header.id[:16]):
        other.decode(small)
    assert other.encode(synthetic_picture(1, 1), 1) != small


def test_max_pixels(tiny_model: CodingModel, codec: Codec) -> None:
    data = codec.encode(synthetic_picture(20, 10), 1)
    assert Codec(tiny_model, max_pixels=4096).decode(data).size == (20, 10)
    with pytest.raises(FileFormatError, match=r"20x10 pixels, 4096 when padded .* more than the limit of 4095"):
        Codec(tiny_model, max_pixels=4095).decode(data)


def _forbidden(*_: object) -> None:
    raise AssertionError("the networks were used")


@pytest.mark.parametrize(("width", "height"), [(16777215, 16777215), (16384, 10922), (1, 16777215), (4096, 4096)])
def test_huge_pictures_in_small_files_never_reach_the_network(
    tiny_model: CodingModel, small: bytes, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `max_pixels`, or since so many symbols need a longer stream."""
    codec = Codec(tiny_model)
    monkeypatch.setattr(codec.engine, "entropy_model", _forbidden)
    monkeypatch.setattr(codec.engine, "synthesis", _forbidden)
    with pytest.raises(FileFormatError, match=r"limit of|too few for the declared"):
        codec.decode(_with_header(small, width=width, height=height))


def test_streams_are_never_shorter_than_the_bound(codec: Codec) -> None:
    """The bound that refuses short streams holds where it is tightest: flat pictures, whose symbols cost little."""
    for size in ((1, 1), (64, 64), (300, 200)):
        for colour in (0, 128, 255):
            picture = Image.new("RGB", size, (colour,) * 3)
            assert codec.decode(codec.encode(picture, 1)).size == size


def test_errors_are_one_family() -> None:
    assert dcae.DCAEError is DCAEError
    assert issubclass(SymbolMismatchError, FileFormatError)
    kinds = FileFormatError, ModelFileError, ModelNotFoundError, OptionError, PictureError
    assert all(issubclass(kind, DCAEError) for kind in kinds)


@pytest.fixture
def too_bright(tiny_model: CodingModel) -> Codec:
    """A codec whose synthesis makes everything three levels too bright."""
    network = copy.deepcopy(tiny_model.network)
    with torch.no_grad():
        network.g_s.head.bias.add_(3 / 255)
    return Codec(dataclasses.replace(tiny_model, network=network))


@pytest.mark.parametrize("size", [(128, 128), (100, 70)])
def test_the_encoder_feeds_back_errors_of_brightness(too_bright: Codec, size: tuple[int, int]) -> None:
    picture, quality = synthetic_picture(*size), 8.0
    weight = too_bright.config.lambda_of(quality)

    def measured(data: bytes) -> tuple[float, float]:
        error = np.asarray(picture, float) - np.asarray(too_bright.decode(data), float)
        return abs(error.mean()), weight * float((error**2).mean()) * error[..., 0].size + 8 * len(data)

    plain = measured(too_bright.encode(picture, quality, correct_means=False))
    data = too_bright.encode(picture, quality)
    brightness, cost = measured(data)
    assert plain[0] > 2 and brightness < plain[0] / 2
    assert cost < plain[1]
    assert data == too_bright.encode(picture, quality, correct_means=True)


def test_feedback_is_dropped_where_it_costs_more_than_it_gains(
    too_bright: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = synthetic_picture(70, 130)
    plain = too_bright.encode(picture, 8, correct_means=False)
    monkeypatch.setattr(feedback, "corrected", lambda x, error: x - error)
    assert too_bright.encode(picture, 8) == plain
