"""What the synthesis leaves over, coded after everything else: skip latents and block means of `lite`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_decoder as reference
import torch
from helpers import TINY, TINY_LOOP, synthetic_picture
from PIL import Image
from reference_exact import ReferenceEntropyModel
from safetensors import safe_open

from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.errors import OptionError
from dcae.models.export import coding_model
from dcae.models.modelfile import CodingModel
from dcae.networks.lite.closed_loop import block_means, spread_means
from dcae.networks.lite.config import LiteConfig
from dcae.networks.means import unspread
from dcae.networks.registry import build_model
from dcae.train.init import grown
from dcae.train.loss import rate_distortion

pytest.importorskip("compressai", reason="the densities for training come from compressai")


def _tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["dcae"])["config"]  # noqa: SIM118


def _error(picture: Image.Image, decoded: Image.Image) -> np.ndarray:
    return np.asarray(picture, float) - np.asarray(decoded, float)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (130, 65)])
@pytest.mark.parametrize("quality", [1, 4.3, 8])
def test_round_trip(looped_model: CodingModel, size: tuple[int, int], quality: float) -> None:
    codec, picture = Codec(looped_model), synthetic_picture(*size)
    data = codec.encode(picture, quality)
    assert data == codec.encode(picture, quality)
    decoded = codec.decode(data)
    assert decoded.size == size
    assert (_error(picture, decoded) ** 2).mean() < 255**2 / 10**1.8


def test_files_read_by_the_second_decoder(looped_path: Path, looped_model: CodingModel) -> None:
    """Symbols of all slices and of the block means, by the integers of the document alone."""
    codec = Codec(looped_model)
    data = codec.encode(synthetic_picture(100, 70), 6)
    tensors, config = _tensors(looped_path)
    model = ReferenceEntropyModel(tensors, config)
    sections = dict(reference.read_sections(data))

    def reader(name: str) -> reference.SymbolReader:
        lengths, offsets = (tensors[f"tables.{name}.{kind}"] for kind in ("lengths", "offsets"))
        rows = np.split(tensors[f"tables.{name}.frequencies"], np.cumsum(lengths)[:-1])
        return reference.SymbolReader(sections[name.upper()], [row.tolist() for row in rows], offsets.tolist())

    n, h, w = config["hyper_channels"], 2, 2
    coded = reference.read_z(reader("z"), (n, h, w), tensors["z_activity"].tolist(), tensors["z_limits"].tolist())
    z = np.array(reference.z_of(coded, tensors["z_prediction"].tolist()))
    assert (z != coded).any()
    by_neighbours = tensors["y_expected"].tolist(), tensors["y_limits"].tolist()
    state, y, found = model.hyper_synthesis(z, 6 * 256), reader("y"), codec.decode_latents(data)
    for k, channels in enumerate(config["slices"]):
        mean, rows, state, hidden = model.slice_prior(k, state, 6 * 256)
        assert rows.shape == (channels, 4 * h, 4 * w)
        symbols = np.array(reference.read_y(y, rows.tolist(), *by_neighbours))
        assert (symbols.reshape(-1) == found.y[k]).all()
        y_hat = model.latent_residual(k, hidden, 64 * symbols + mean, 6 * 256)
        if k + 1 < len(config["slices"]):
            state = model.extend(k, state, y_hat, 6 * 256)
    rows = np.repeat(model.means_rows(6 * 256), h * w).reshape(3, h, w)
    means = np.array(reference.read_y(y, rows.tolist(), *by_neighbours)).reshape(-1).tolist()
    assert means == found.y[-1].tolist() and y.coder.at_end
    assert found.means is not None and found.means.reshape(-1).tolist() == means


@pytest.mark.parametrize("quality", [1.0, 2.7, 8.0])
def test_rows_of_the_means_are_exact(looped_path: Path, looped_model: CodingModel, quality: float) -> None:
    prior = looped_model.prior
    rows = prior.scale_index(prior.means_scale(prior.conditioning(quality)))
    expected = ReferenceEntropyModel(*_tensors(looped_path)).means_rows(round(quality * 256))
    assert rows.reshape(-1).tolist() == expected.tolist()


@pytest.mark.parametrize("quality", [1, 8])
def test_no_file_leaves_with_a_wrong_brightness(looped_model: CodingModel, quality: float) -> None:
    """Three levels too bright, as no training would leave it: the means of 64x64 blocks come out right all the same."""
    network = build_model("lite", **TINY_LOOP).eval()
    network.load_state_dict(looped_model.network.state_dict(), strict=False)
    with torch.no_grad():
        network.g_s.head.bias.add_(3 / 255)
    codec, picture = Codec(coding_model(network)), synthetic_picture(256, 192)
    error = _error(picture, codec.decode(codec.encode(picture, quality)))
    means = error.reshape(3, 64, 4, 64, 3).mean((1, 3))
    assert abs(means.mean()) < 0.15 and np.sqrt((means**2).mean()) < 0.8


def test_constants_and_linear_gradients_pass_through_the_means() -> None:
    rows = torch.linspace(-1, 1, 320)[:, None].expand(320, 256)
    picture = torch.stack([torch.full((320, 256), 0.3), rows, 2 * rows])[None]
    again = spread_means(block_means(picture))
    assert torch.allclose(again[:, :1], picture[:, :1], atol=1e-6)
    assert torch.allclose(again[..., 32:-32, :], picture[..., 32:-32, :], atol=1e-5)


def test_a_network_grows_without_changing_what_it_codes() -> None:
    torch.manual_seed(3)
    small = build_model("lite", **TINY).eval()
    for parameter in small.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    large = build_model("lite", **(TINY_LOOP | {"slices": (8, 24, 16)})).eval()
    large.load_state_dict(grown(small.state_dict(), large))
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        a, b = small(x, 3.0), large(x, 3.0)
    assert torch.equal(a["likelihoods"]["y"], b["likelihoods"]["y"][:, :32])
    assert float(-b["likelihoods"]["y"][:, 32:].log2().sum()) < 1e-2  # skip latents that nothing started are zero
    large.calibrate_skip(x)
    with torch.no_grad():
        c = large(x, 8.0)["x_hat"]
    assert (c - x).square().mean() < (small(x, 8.0)["x_hat"] - x).square().mean()


@pytest.mark.parametrize("worth", [0.0, 3.0])
def test_the_estimate_is_what_the_file_takes(worth: float) -> None:
    picture = synthetic_picture(192, 128)
    torch.manual_seed(2)
    network = build_model("lite", **TINY_LOOP, step_worth=worth).eval()
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    network.calibrate(x)
    with torch.no_grad():
        terms = rate_distortion(x, network(x, 5.0), torch.tensor([0.01]))
    container = read_container(Codec(coding_model(network)).encode(picture, 5))
    coded = 8 * (len(container.z) + len(container.y)) / (192 * 128)
    assert coded == pytest.approx(float(terms.bpp_y + terms.bpp_z), rel=0.02, abs=0.01)


@pytest.mark.parametrize(
    "fields", [{"skip_channels": 8}, {"skip_channels": 48, "slices": (48,)}, {"skip_channels": -1}]
)
def test_shapes_that_do_not_fit_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="skip_channels"):
        LiteConfig(**(TINY_LOOP | fields))


def test_skip_latents_that_are_not_worth_their_bits_are_not_coded(
    looped_model: CodingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the integer tables, as by the densities in training; and λ·D + R is the better for it."""
    codec, picture = Codec(looped_model), synthetic_picture(192, 128)
    weight = codec.config.lambda_of(5)

    def cost(data: bytes) -> float:
        return weight * float((_error(picture, codec.decode(data)) ** 2).sum()) / 3 + 8 * len(data)

    data = codec.encode(picture, 5)
    symbols = codec.decode_latents(data).y[1]
    monkeypatch.setattr(codec.engine, "skip_worth", lambda quality: np.float32(1e9))
    rounded = codec.encode(picture, 5)
    everything = codec.decode_latents(rounded).y[1]
    assert (np.abs(symbols) <= np.abs(everything)).all() and 0 < np.count_nonzero(symbols) < np.count_nonzero(
        everything
    )
    assert cost(data) < cost(rounded)


def test_symbols_of_y_that_are_not_worth_their_bits_are_smaller(
    looped_model: CodingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the configuration says what a step is worth."""
    codec, found = Codec(looped_model), []
    for worth in (0.0, 3.0):
        monkeypatch.setattr(codec._encoder, "_config", replace(codec.config, step_worth=worth))
        found.append(np.abs(codec.decode_latents(codec.encode(synthetic_picture(192, 128), 5)).y[0]))
    assert (found[1] <= found[0]).all() and 0 < np.count_nonzero(found[1]) < np.count_nonzero(found[0])


def test_less_of_y_makes_files_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the shipped weights, λ·D + R in bits, without search; found latents are left alone much more."""
    codec, picture = Codec("lite"), synthetic_picture(320, 256)
    costs = []
    for worth in (0.0, 50.0):
        monkeypatch.setattr(codec._encoder, "_config", replace(codec.config, step_worth=worth))
        data = codec.encode(picture, 2)
        squared = float((_error(picture, codec.decode(data)) ** 2).sum())
        costs.append(codec.config.lambda_of(2) * squared / 3 + 8 * len(data))
    assert costs[1] < 0.999 * costs[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 7)])
def test_means_to_code_arrive_at_their_blocks(size: tuple[int, int]) -> None:
    wanted = torch.randn(2, 3, *size)
    arrived = block_means(spread_means(unspread(wanted)))
    assert (arrived - wanted).abs().max() < 1e-3
    assert np.array_equal(unspread(wanted.numpy()), unspread(wanted).numpy())
    assert torch.allclose(unspread(torch.ones(1, 3, *size)), torch.ones(1, 3, *size), atol=1e-4)


def test_encoder_codes_the_means_that_arrive(looped_model: CodingModel) -> None:
    """Files of a model that unspreads its means show blocks nearer to their means than without."""
    picture, errors = synthetic_picture(256, 320), []
    for unspreads_means in (False, True):
        network = build_model("lite", **TINY_LOOP, unspreads_means=unspreads_means).eval()
        network.load_state_dict(looped_model.network.state_dict(), strict=False)
        codec = Codec(coding_model(network))
        left = _error(picture, codec.decode(codec.encode(picture, 3)))
        errors.append((left.reshape(5, 64, 4, 64, 3).mean((1, 3)) ** 2).mean())
    assert errors[1] < 0.6 * errors[0]
