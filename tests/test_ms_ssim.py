"""MS-SSIM of the encoder's search: by NumPy, by torch and as a graph, against the package of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import synthetic_picture
from numpy.typing import NDArray

from dcae.networks.graph import Graph
from dcae.networks.graph_ms_ssim import ms_ssim as graph_ms_ssim
from dcae.networks.ms_ssim import ms_ssim, scale_weights, scales_of, sensitivity
from dcae.runtime.onnx.runner import Runner


def _pair(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A picture (3, H, W) in [0, 1] and one like it, rougher on the left."""
    x = np.asarray(synthetic_picture(width, height), np.float32).transpose(2, 0, 1) / 255
    noise = np.random.default_rng(1).normal(0, 0.1, x.shape) * np.linspace(1, 0.1, width)
    return np.ascontiguousarray(x), np.clip(x + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("width", "height"), [(176, 176), (272, 192)])
def test_values_are_those_of_the_field(width: int, height: int) -> None:
    reference = pytest.importorskip("pytorch_msssim")
    torch = pytest.importorskip("torch")
    x, y = _pair(width, height)
    expected = float(reference.ms_ssim(torch.tensor(x)[None], torch.tensor(y)[None], data_range=1.0))
    assert ms_ssim(x, y) == pytest.approx(expected, abs=1e-5)
    assert 0.5 < expected < 0.97 and ms_ssim(x, x) == 1


@pytest.mark.parametrize(("width", "height", "scales"), [(16, 32, 1), (32, 64, 2), (64, 160, 3), (160, 128, 4)])
def test_small_pictures_have_fewer_scales(width: int, height: int, scales: int) -> None:
    assert scales_of(height, width) == scales and scales_of(176, 176) == 5 == scales_of(3000, 4000)
    assert sum(scale_weights(scales)) == pytest.approx(1)
    x, y = _pair(width, height)
    assert 0.2 < ms_ssim(x, y) < 0.99


@pytest.mark.parametrize(("width", "height"), [(16, 32), (64, 160), (192, 176)])
def test_gradients(width: int, height: int) -> None:
    """Of torch and of the graph, against differences of the value in float64 along the gradient and elsewhere."""
    torch = pytest.importorskip("torch")
    from dcae.runtime.torch_ms_ssim import ms_ssim as torch_ms_ssim

    x, y = _pair(width, height)
    given, variable = torch.tensor(x)[None], torch.tensor(y)[None].requires_grad_()
    value = torch_ms_ssim(given, variable)
    (gradient,) = torch.autograd.grad(value, variable)
    assert float(value.detach()) == pytest.approx(ms_ssim(x, y), abs=1e-5)
    g = Graph()
    found = graph_ms_ssim(g, g.input("x", 4), g.input("y", 4), scales_of(height, width))
    built = Runner(g.built(value=found[0], gradient=found[1]))(x=x[None], y=y[None])
    assert float(built[0]) == pytest.approx(float(value.detach()), abs=1e-5)
    np.testing.assert_allclose(built[1], gradient, atol=2e-3 * float(gradient.abs().max()))
    exact = given.double(), variable.detach().double()
    for direction in (gradient.double(), torch.from_numpy(np.random.default_rng(2).normal(size=y[None].shape))):
        step = direction * (1e-4 / float(direction.abs().max()))
        difference = float(torch_ms_ssim(exact[0], exact[1] + step) - torch_ms_ssim(exact[0], exact[1] - step))
        assert 2 * float((gradient.double() * step).sum()) == pytest.approx(difference, rel=2e-2, abs=1e-9)


def test_errors_count_more_where_the_picture_is_smooth() -> None:
    """As the similarity itself counts them: small errors of as many pixels, in either half of a picture."""
    x = np.full((3, 192, 384), 0.5, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 192, 192)).astype(np.float32)
    x[..., 192:] += noise
    blocks = np.random.default_rng(1).normal(0, 0.004, (3, 48, 96)).astype(np.float32)
    weights, error = sensitivity(x), blocks.repeat(4, 1).repeat(4, 2)
    lost, expected = [], []
    for half in (slice(0, 192), slice(192, 384)):
        y = x.copy()
        y[..., half] += error[..., half]
        lost.append(1 - ms_ssim(x, y))
        expected.append(float((weights * np.square(y - x)).mean()))
    assert lost[0] > 2 * lost[1]
    assert 0.25 < lost[0] / expected[0] < 2 and 0.25 < lost[1] / expected[1] < 2
