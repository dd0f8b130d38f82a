"""The lite network: shapes, gradients, windows, rate control, and that only exact-ready operations decide a rate."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import TINY
from torch import Tensor, nn

from dcae.errors import OptionError
from dcae.networks.exact_ready import depth_to_space
from dcae.networks.lite.blocks import WindowAttention, space_to_depth
from dcae.networks.lite.config import LiteConfig
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.loss import Distortion, rate_distortion

pytest.importorskip("compressai", reason="the densities for training come from compressai")

SMALL = TINY | {"layers": ("C", "CSS")}


WRONG = [
    {"preset": "lite"} | values
    for values in (
        {"layers": ["C"]},
        {"layers": ["C", "X"]},
        {"head_channels": 0},
        {"head_channels": 48},
        {"lambdas": [0.001 * k for k in range(1, 70)]},
        {"lambdas": [0.2, 0.1]},
        {"lambdas": []},
    )
]


def _small(**overrides: object) -> nn.Module:
    torch.manual_seed(0)
    network = build_model("lite", **(SMALL | overrides))
    with torch.no_grad():
        for parameter in network.parameters():  # so that branches which start at zero take part
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def test_every_parameter_learns() -> None:
    network = _small().train()
    x = torch.rand(8, 3, 64, 64)
    output = network(x, torch.arange(1.0, 9.0))
    bits = sum(-v.log2().sum() for v in output["likelihoods"].values())
    (bits + (output["x_hat"] - x).square().sum()).backward()
    network.entropy_bottleneck.loss().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 130), (65, 64), (200, 130)])
def test_any_size(height: int, width: int) -> None:
    network = _small().eval()
    with torch.no_grad():
        output = network(torch.rand(2, 3, height, width), 3.5)
    rows, columns = -(-height // 64), -(-width // 64)
    assert output["x_hat"].shape == (2, 3, height, width)
    assert output["likelihoods"]["y"].shape == (2, 32, 4 * rows, 4 * columns)
    assert output["likelihoods"]["z"].shape == (2, 16, rows, columns)
    assert all(v.isfinite().all() for v in (output["x_hat"], *output["likelihoods"].values()))


def _naive_windows(layer: WindowAttention, x: Tensor) -> Tensor:
    """Attention token by token: who shares my window, and is on my side of the wrap, is seen."""
    _, height, width, channels = x.shape
    w, shift, size = layer.window, layer.shift, channels // layer.heads
    query, key, value = (t.reshape(height, width, layer.heads, size) for t in layer.qkv(layer.norm(x))[0].chunk(3, -1))
    out = torch.zeros(height, width, layer.heads, size)

    def cell(row: int, column: int) -> tuple[int, int]:
        # The shifted grid starts `shift` samples in; what lies before it is a narrower window of its own.
        return (row - shift) // w, (column - shift) // w

    for row in range(height):
        for column in range(width):
            seen = [
                (r, c) for r in range(height) for c in range(width) if cell(r, c) == cell(row, column)
            ]  # fmt: skip
            for head in range(layer.heads):
                table = layer.position_bias[head].reshape(2 * w - 1, 2 * w - 1)
                logits = torch.stack(
                    [
                        query[row, column, head] @ key[r, c, head] / math.sqrt(size)
                        + table[row - r + w - 1, column - c + w - 1]
                        for r, c in seen
                    ]
                )
                weights = logits.softmax(0)
                out[row, column, head] = sum(a * value[r, c, head] for a, (r, c) in zip(weights, seen, strict=True))
    return x + layer.out(out.reshape(1, height, width, channels))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (5, 7), (3, 9)])
def test_windows_match_a_naive_reference(height: int, width: int, shifted: bool) -> None:
    torch.manual_seed(1)
    layer = WindowAttention(8, head_channels=4, window=4, shifted=shifted)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
        x = torch.randn(1, height, width, 8)
        torch.testing.assert_close(layer(x), _naive_windows(layer, x), rtol=1e-4, atol=1e-4)


def test_space_to_depth_is_inverted() -> None:
    x = torch.randn(2, 8, 16, 5)
    assert torch.equal(depth_to_space(space_to_depth(x, 4), 4), x)
    pixel = x[0, 5, 6]  # row 1 of its patch, column 2
    assert torch.equal(space_to_depth(x, 4)[0, 1, 1].reshape(4, 4, 5)[1, 2], pixel)


def test_starts_as_a_transform_codec() -> None:
    """Untrained, synthesis inverts analysis up to the truncation of the highest frequencies."""
    torch.manual_seed(0)
    network = build_model("lite").eval()
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 128), torch.linspace(0, 2, 128), indexing="ij")
    x = (0.5 + 0.3 * torch.stack([rows.sin(), columns.cos(), (rows * columns).sin()]))[None]
    with torch.no_grad():
        q = network.conditioning(4.0)
        x_hat = network.synthesis(network.analysis(x, q), q)
    assert (x_hat - x).square().mean() < 1e-3


def test_quality_interpolates_between_anchors() -> None:
    network = _small().eval()
    low, high, between = (network.conditioning(v) for v in (3.0, 4.0, 3.25))
    torch.testing.assert_close(between.gain_y, 0.75 * low.gain_y + 0.25 * high.gain_y)
    assert torch.equal(network.conditioning(torch.tensor([3.0, 4.0])).gain_y, torch.cat([low.gain_y, high.gain_y]))
    assert network.conditioning(8.0).weights[0, -1] == 1


@pytest.mark.parametrize("quality", [0.99, 8.01, math.nan, -1.0])
def test_quality_outside_the_model_is_refused(quality: float) -> None:
    with pytest.raises(OptionError, match="outside 1"):
        _small().conditioning(quality)


def test_one_lambda_is_one_anchor() -> None:
    network = _small(lambdas=(0.0067,)).eval()
    assert network.config.qualities == (1.0, 1.0)
    assert network.config.lambda_of(1.0) == 0.0067
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64), 1.0)["x_hat"].shape == (1, 3, 64, 64)


def test_lambda_is_log_linear_in_quality() -> None:
    config = LiteConfig()
    assert config.lambda_of(1) == pytest.approx(0.0009)
    assert config.lambda_of(8) == pytest.approx(0.1152)
    assert config.lambda_of(2.5) == pytest.approx(0.0009 * 2**1.5)


def test_entropy_model_has_only_exact_ready_modules() -> None:
    """What decides a probability has a fixed-point form: no normalisation layers, no smooth activations."""
    network = build_model("lite", entropy_models=False)
    allowed = {"Linear", "Depthwise", "Identity", "ModuleList", "Modulation", "ConvLayer", "GatedUnit"}
    allowed |= {"DictionaryAttention", "SliceNetwork", "HyperSynthesis"}
    kinds = {type(m).__name__ for part in (network.h_s, network.slice_networks) for m in part.modules()}
    assert kinds <= allowed


def test_latents_lie_on_the_grid() -> None:
    network = _small().eval()
    with torch.no_grad():
        q = network.conditioning(2.0)
        y = network.analysis(torch.rand(1, 3, 64, 64), q)
        z_hat = network.hyper_analysis(y, q).round()
        prior = network.slice_prior(0, network.hyper_synthesis(z_hat, q), q)
        y_hat = (y[:, :8] - prior.mean).round() + prior.mean
        y_hat = network.latent_residual(0, prior.support, y_hat, q)
    for value in (prior.mean, y_hat):
        on_grid = value * network.latent_grid
        assert torch.equal(on_grid, on_grid.round())
        assert on_grid.any()


def test_configuration_survives_json() -> None:
    config = LiteConfig(lambdas=(0.01, 0.02))
    assert config_from_dict(config.to_dict()) == config
    for wrong in ({"preset": "huge"}, {"preset": "lite", "depth": 3}, {"preset": "lite", "slices": [1, 2]}, *WRONG):
        with pytest.raises(OptionError):
            config_from_dict(wrong)


def test_the_rate_is_that_of_rounded_latents_and_its_gradient_that_of_noisy_ones() -> None:
    network = _small().train()
    y = torch.tensor([0.3, -0.2, 2.4]).reshape(1, 3, 1, 1).requires_grad_()
    mean = torch.zeros(1, 3, 1, 1, requires_grad=True)
    sigma = torch.tensor([0.11, 0.11, 1.0]).reshape(1, 3, 1, 1).requires_grad_()
    symbols = network.symbols(y, mean, sigma)
    assert symbols.flatten().tolist() == [0, 0, 2]
    bits = -network.likelihood(y, mean, sigma, symbols).log2()
    with torch.no_grad():
        coded = -network.eval().likelihood(y, mean, sigma, symbols).log2()
    assert torch.allclose(bits, coded, rtol=1e-5)
    assert bits[0, 0] < 1e-3  # a latent that is always zero costs nothing, as in files
    bits.sum().backward()
    assert y.grad is not None and y.grad[0, 2] > 0  # towards the mean
    assert mean.grad is not None and mean.grad[0, 2] < 0 and sigma.grad is not None and sigma.grad[0, 2] != 0


def test_errors_of_block_means_count_again() -> None:
    x = torch.rand(1, 3, 128, 128)
    rate = {"likelihoods": {"y": torch.ones(1, 1, 8, 8), "z": torch.ones(1, 1, 2, 2), "c": torch.ones(1, 3, 2, 2)}}
    checkers = 0.1 * (2.0 * (torch.arange(128)[:, None] + torch.arange(128)).remainder(2) - 1)

    def loss(error: Tensor, weight: float) -> float:
        output, kind = rate | {"x_hat": x + error}, Distortion(block_means=weight)
        return float(rate_distortion(x, output, torch.tensor([0.01]), kind).loss)

    brighter = torch.full((128, 128), 0.1)
    assert loss(brighter, 0) == pytest.approx(0.01 * 255**2 * 0.01, rel=1e-4)
    assert loss(brighter, 0.5) == pytest.approx(2.5 * loss(brighter, 0), rel=1e-4)  # three sizes of blocks
    assert loss(checkers, 0.5) == pytest.approx(loss(checkers, 0), rel=1e-4)


def test_a_smooth_picture_drowns_no_other_when_ms_ssim_is_evened() -> None:
    """Values are those of squared errors then, gradients point where MS-SSIM grows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 192, 192, generator=generator)
    x[0] = 0.5 + 0.01 * (x[0] - 0.5)
    noise = 0.02 * torch.randn(x.shape, generator=generator)
    rate = {"likelihoods": {"y": torch.ones(2, 1, 12, 12), "z": torch.ones(2, 1, 3, 3)}}
    lambdas, found = torch.tensor([32.0]), {}
    for kind in (Distortion("ms-ssim"), Distortion("ms-ssim", even=True), Distortion("ms-ssim", pixel_share=1)):
        x_hat = (x + noise).requires_grad_()
        terms = rate_distortion(x, rate | {"x_hat": x_hat}, lambdas, kind)
        (gradient,) = torch.autograd.grad(terms.loss.sum(), x_hat)
        found[kind] = terms.loss.detach(), gradient
    (plain, strict), (even, evened), (squared, _) = found.values()
    assert plain[0] > 5 * plain[1]
    assert torch.allclose(even, squared) and torch.allclose(squared, 0.01 * 255**2 * terms.mse, rtol=1e-4)
    for k in range(2):
        assert torch.allclose(evened[k] / evened[k].norm(), strict[k] / strict[k].norm(), atol=1e-5)
        assert evened[k].norm() == pytest.approx(float(strict[k].norm() * even[k] / plain[k]), rel=1e-3)
    half = rate_distortion(x, rate | {"x_hat": x + noise}, lambdas, Distortion("ms-ssim", pixel_share=0.5)).loss
    assert torch.allclose(half, (plain + squared) / 2)


def test_symbols_that_are_not_worth_their_bits_are_smaller() -> None:
    network = _small()
    y = 0.99 * torch.linspace(-4, 4, 81).reshape(1, 1, 9, 9)  # no halves
    mean, sigma = torch.zeros_like(y), torch.full_like(y, 0.4)

    def coded(worth: float) -> Tensor:
        return network.symbols(y, mean, sigma, torch.tensor(worth))

    assert torch.equal(coded(1e6), y.round()) and not coded(0.0).any()
    some = coded(4.0)
    assert (some.abs() <= y.round().abs()).all() and not torch.equal(some, y.round()) and some.any()

    def cost(symbols: Tensor) -> float:
        bits = -network.likelihood(y, mean, sigma, symbols).log2()
        return float((4.0 * (y - symbols) ** 2 + bits).sum())

    network.eval()
    assert cost(some) < min(cost(y.round()), cost(torch.zeros_like(y)))
