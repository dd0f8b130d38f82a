"""The `paper` preset: the published network and its window attention."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import paper_golden
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcae.networks.attention import border_mask
from dcae.networks.base import DCAE
from dcae.networks.paper.blocks import SwinStage, WindowAttention
from dcae.networks.paper.config import PaperConfig
from dcae.networks.paper.wiring import PaperDCAE
from dcae.networks.scales import scale_table

pytest.importorskip("compressai")


@pytest.fixture(scope="module")
def network() -> PaperDCAE:
    """One randomly initialised network for all tests of this file; they leave its weights alone."""
    torch.manual_seed(1)
    network = PaperDCAE(PaperConfig())
    network.add_entropy_models()
    return network.eval()


def test_construction_needs_no_compressai() -> None:
    code = (
        "import sys, torch\n"
        "from dcae.networks.paper.config import PaperConfig\n"
        "from dcae.networks.paper.wiring import PaperDCAE\n"
        "with torch.device('meta'):\n"
        "    network = PaperDCAE(PaperConfig())\n"
        "assert 'compressai' not in sys.modules\n"
        "print(sum(p.numel() for p in network.parameters()))\n"
    )
    root = Path(__file__).resolve().parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert 119e6 < int(result.stdout) < 120e6


def test_state_dict_is_the_published_one(network: PaperDCAE) -> None:
    shapes, _ = paper_golden.read()
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == shapes


@pytest.fixture(scope="module")
def outputs() -> dict[str, NDArray[np.float64]]:
    """What the network with the known weights makes of the known picture, by the names of the golden file."""
    with torch.device("meta"):
        network = PaperDCAE(PaperConfig())
    network.add_entropy_models()
    weights = paper_golden.weights(paper_golden.read()[0])
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    network.double().load_state_dict(tensors, strict=False, assign=True)

    found: dict[str, Tensor] = {}
    watched = {
        "y": network.g_a,
        "z": network.h_a,
        "hyper_scales": network.h_z_s1,
        "hyper_means": network.h_z_s2,
        "dict_first": network.dt_cross_attention[0],
        "dict_last": network.dt_cross_attention[-1],
    }
    watched |= {f"means{k}": module for k, module in enumerate(network.cc_mean_transforms)}
    watched |= {f"scales{k}": module for k, module in enumerate(network.cc_scale_transforms)}
    for name, module in watched.items():
        module.register_forward_hook(lambda _module, _inputs, output, name=name: found.update({name: output}))
    found["x"] = torch.from_numpy(paper_golden.picture())[None]
    with torch.inference_mode():
        result = network.eval()(found["x"])
    found["x_hat"] = result["x_hat"]
    for name in "yz":
        found[f"{name}_bits"] = -result["likelihoods"][name].log2().sum()
    for name in "means", "scales":
        found[name] = torch.cat([found.pop(f"{name}{k}") for k in range(len(network.config.slices))], 1)
    return {name: tensor.numpy() for name, tensor in found.items()}


def _assert_near(actual: NDArray[np.float64], expected: NDArray[np.floating], name: str) -> None:
    """To what float32, in which the golden values are kept, leaves of them."""
    error = np.abs(actual - expected.astype(np.float64))
    assert error.shape == expected.shape, name
    assert np.linalg.norm(error) <= 1e-6 * np.linalg.norm(expected), name
    assert error.max() <= 1e-6 * np.abs(expected).max(), name


@pytest.mark.slow
def test_reproduces_the_published_network(outputs: dict[str, NDArray[np.float64]]) -> None:
    """Sampled outputs."""
    _, golden = paper_golden.read()
    assert golden.keys() == outputs.keys()
    for name, expected in golden.items():
        _assert_near(paper_golden.sample(outputs[name]), expected, name)


@pytest.mark.slow
def test_reproduces_all_of_the_published_network(outputs: dict[str, NDArray[np.float64]], shared: Path) -> None:
    """Every output, and that the sample is one of them."""
    shapes, golden = paper_golden.read()
    folder = shared / "reference"
    assert shapes == json.loads((folder / "paper-state-dict.json").read_text())
    with np.load(folder / "paper-golden.npz") as file:
        assert set(file.files) == outputs.keys()
        for name in file.files:
            _assert_near(outputs[name], file[name], name)
            assert np.array_equal(paper_golden.sample(file[name]), golden[name])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (70, 130), (128, 128)])
def test_any_size(network: PaperDCAE, height: int, width: int) -> None:
    with torch.inference_mode():
        result = network(torch.rand(1, 3, height, width))
    assert result["x_hat"].shape == (1, 3, height, width)
    rows, cols = -(-height // 64), -(-width // 64)
    assert result["likelihoods"]["y"].shape == (1, 320, 4 * rows, 4 * cols)
    assert result["likelihoods"]["z"].shape == (1, 192, rows, cols)
    for tensor in (result["x_hat"], *result["likelihoods"].values()):
        assert tensor.isfinite().all()


def test_batch_equals_single_pictures(network: PaperDCAE) -> None:
    x = torch.rand(2, 3, 64, 128)
    with torch.inference_mode():
        y = network.analysis(x, None)
        alone = torch.cat([network.analysis(picture[None], None) for picture in x])
    torch.testing.assert_close(y, alone, rtol=1e-4, atol=1e-5)


def _naive_attention(attention: WindowAttention, x: Tensor) -> Tensor:
    """What `attention` has to compute for x (1, H, W, C), token by token and without any padding."""
    _, height, width, channels = x.shape
    w, heads = attention.window, attention.heads
    query, key, value = attention.embedding_layer(x[0]).reshape(height, width, 3, heads, -1).unbind(2)
    windows = defaultdict(list)
    for row in range(height):
        for col in range(width):
            windows[(row - attention.shift) // w, (col - attention.shift) // w].append((row, col))
    out = torch.zeros(height, width, heads, channels // heads, dtype=x.dtype)
    for tokens in windows.values():
        for row, col in tokens:
            logits = torch.stack(
                [
                    (query[row, col] * key[r, c]).sum(-1) * (channels // heads) ** -0.5
                    + attention.relative_position_params[:, row - r + w - 1, col - c + w - 1]
                    for r, c in tokens
                ]
            )
            values = torch.stack([value[r, c] for r, c in tokens])
            out[row, col] = (logits.softmax(0)[..., None] * values).sum(0)
    return attention.linear(out.reshape(1, height, width, channels))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (4, 4), (7, 6), (8, 12), (9, 11)])
@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_sees_its_window_and_no_padding(height: int, width: int, shift: int) -> None:
    torch.manual_seed(2)
    attention = WindowAttention(8, 4, 4, shift).double()
    x = torch.randn(1, height, width, 8, dtype=torch.float64)
    with torch.no_grad():
        attention.relative_position_params.normal_()
        torch.testing.assert_close(attention(x), _naive_attention(attention, x), rtol=1e-10, atol=1e-12)
        both = attention(torch.cat([x.flip(1), x]))
        torch.testing.assert_close(both[1:], attention(x), rtol=1e-10, atol=1e-12)


def test_cached_masks_survive_inference_mode() -> None:
    border_mask.cache_clear()
    stage = SwinStage(8, 4, 4, 2)
    x = torch.randn(1, 8, 6, 10)
    with torch.inference_mode():
        expected = stage(x)
    output = stage(x)
    output.square().sum().backward()
    torch.testing.assert_close(output.detach(), expected.clone())
    assert all(parameter.grad is not None for parameter in stage.parameters())
    assert border_mask.cache_info().hits == 2
    assert not [name for name in stage.state_dict() if "mask" in name or "index" in name]


@pytest.mark.slow
def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(3)
    network: DCAE = PaperDCAE(PaperConfig())
    network.add_entropy_models()
    with torch.no_grad():  # a fresh network has ẑ = 0, which gives the first hyper synthesis layers no gradient
        network.entropy_bottleneck.quantiles += 0.3
    x = torch.rand(1, 3, 64, 64)
    result = network.train()(x)
    bits = sum(-likelihood.log2().sum() for likelihood in result["likelihoods"].values())
    loss = 255**2 * (result["x_hat"] - x).square().mean() + bits / 64**2 + network.entropy_bottleneck.loss()
    loss.backward()
    unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_scale_index_is_that_of_compressai(network: PaperDCAE) -> None:
    from compressai.entropy_models import GaussianConditional

    table = torch.tensor(scale_table())
    assert len(table) == 64 and table[0] == torch.tensor(0.11) and table[-1] == 256
    scales = torch.cat([table, table * 1.0001, table * 0.9999, torch.tensor([-3.0, 0.0, 1e6]), 300 * torch.rand(1000)])
    indexes = network.scale_index(network.sigma(scales))
    assert indexes.dtype == torch.int64
    assert torch.equal(indexes, GaussianConditional(list(scale_table())).build_indexes(scales).long())


def test_fused_for_coding_gives_the_same(network: PaperDCAE) -> None:
    context = torch.randn(1, 640, 4, 4)
    with torch.inference_mode():
        plain = network.slice_prior(0, context, None)
        network.prepare_for_coding()
        fused = network.slice_prior(0, context, None)
    assert network._fused
    network._fused = []
    for expected, actual in zip(plain, fused, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
