"""Exact arithmetic: a second implementation, everything that changes floating-point results, its bounds."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import synthetic_picture
from reference_exact import ReferenceEntropyModel, rnd
from safetensors import safe_open

from dcae.codec.codec import Codec
from dcae.codec.container import read_container, write_container
from dcae.codec.fields import NUMERICS
from dcae.entropy import exact_export
from dcae.entropy.exact import ExactEntropyModel
from dcae.entropy.exact_bounds import LIMIT
from dcae.entropy.exact_tensors import ExactTensors, check, maps
from dcae.errors import FileFormatError, ModelFileError, SymbolMismatchError
from dcae.models.installed import find_model
from dcae.models.modelfile import CodingModel, load_model
from dcae.networks.lite.wiring import LiteDCAE

_SCRIPT = Path(__file__).parent.parent / "tools" / "exactness.py"


def _tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["dcae"])["config"]  # noqa: SIM118


def _exact(path: Path) -> ExactTensors:
    tensors = _tensors(path)[0]
    return ExactTensors(*(torch.from_numpy(np.array(tensors[f"exact.{name}"])) for name in ExactTensors._fields))


def test_rounding_of_the_reference() -> None:
    n = np.array([-6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7])
    assert rnd(n, 2).tolist() == np.rint(n / 4).astype(int).tolist()
    assert rnd(n, 1).tolist() == np.rint(n / 2).astype(int).tolist()
    assert rnd(n, -2).tolist() == (4 * n).tolist()


@pytest.mark.parametrize("quality", [1.0, 2.5, 7.99609375, 8.0])
@pytest.mark.parametrize("spread", [2, 60, 60000])
def test_both_implementations_agree(tiny_path: Path, tiny_model: CodingModel, quality: float, spread: int) -> None:
    """State, rows, means and ŷ, for symbols as they occur and for such as only a hostile file has."""
    reference = ReferenceEntropyModel(*_tensors(tiny_path))
    steps, config = round(quality * 256), tiny_model.network.config
    draw = np.random.default_rng(spread)
    z = draw.integers(-spread, spread + 1, (config.hyper_channels, 2, 3))
    with torch.inference_mode(), tiny_model.prior.arithmetic():
        prior = tiny_model.prior
        q = prior.conditioning(quality)
        context = prior.hyper_synthesis(torch.from_numpy(z)[None].float() + tiny_model.z_median, q)
        state = reference.hyper_synthesis(z, steps)
        for k, channels in enumerate(config.slices):
            assert (context[0].numpy() == state).all(), f"the state of slice {k}"
            found = prior.slice_prior(k, context, q)
            mean, row, state, hidden = reference.slice_prior(k, state, steps)
            assert (prior.scale_index(found.scale)[0].numpy() == row).all()
            assert (found.mean[0].numpy() * 64 == mean).all()
            symbols = draw.integers(-spread, spread + 1, (channels, 8, 12))
            y_hat = prior.latent_residual(k, found.support, torch.from_numpy(symbols)[None].float() + found.mean, q)
            y = reference.latent_residual(k, hidden, 64 * symbols + mean, steps)
            assert (y_hat[0].numpy() * 64 == y).all()
            if k + 1 < len(config.slices):
                context = prior.extend_context(k, context, found.support, y_hat, q)
                state = reference.extend(k, state, y, steps)


def test_the_shipped_model_agrees_with_the_reference() -> None:
    model = load_model(find_model("lite").path)
    prior, config = model.prior, model.header.config
    reference = ReferenceEntropyModel(*_tensors(model.header.path))
    z = np.random.default_rng(0).integers(-3, 4, (config.hyper_channels, 1, 1))
    with torch.inference_mode(), prior.arithmetic():
        q = prior.conditioning(3.25)
        context = prior.hyper_synthesis(torch.from_numpy(z)[None].float() + model.z_median, q)
        found = prior.slice_prior(0, context.clone(), q)
    state = reference.hyper_synthesis(z, 832)
    assert (context[0].numpy() == state).all()
    mean, row, _, _ = reference.slice_prior(0, state, 832)
    assert (found.mean[0].numpy() * 64 == mean).all() and (found.scale[0].numpy() == row).all()


def test_any_order_of_summation_gives_the_same(tiny_path: Path) -> None:
    """In float64, with the inputs of every sum permuted, and alone or in a batch: equal to the last bit."""
    model = load_model(tiny_path)
    prior = model.prior
    assert isinstance(prior, ExactEntropyModel)
    z = torch.from_numpy(np.random.default_rng(5).integers(-9, 10, (2, 16, 2, 2))).float()

    def run(z: torch.Tensor) -> torch.Tensor:
        q = prior.conditioning(5.0)
        found = prior.slice_prior(0, prior.hyper_synthesis(z, q), q)
        return torch.cat([found.mean.double(), found.scale.double()], 1)

    linear = torch.nn.functional.linear

    def permuted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        order = torch.randperm(x.shape[-1], generator=torch.Generator().manual_seed(1))
        y = sum(x[..., i : i + 1] * weight[:, i] for i in order.tolist())
        return y if bias is None else y + bias

    with torch.inference_mode():
        expected = run(z)
        assert torch.equal(torch.cat([run(z[:1]), run(z[1:])]), expected)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dcae.entropy.exact.F.linear", permuted)
            assert torch.equal(run(z), expected)
            patch.setattr(
                "dcae.entropy.exact.F.linear",
                lambda x, w, b=None: linear(x.double(), w.double(), b if b is None else b.double()).float(),
            )
            assert torch.equal(run(z), expected)


def test_settings_of_the_caller_do_not_matter(tiny_path: Path) -> None:
    codec = Codec(tiny_path, engine="torch")
    data = codec.encode(synthetic_picture(100, 70), 3)
    y_hat = codec.decode_latents(data).y_hat
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = codec.encode(synthetic_picture(100, 70), 3)
            assert read_container(again).header.numerics == NUMERICS.index("integer")
            assert np.array_equal(codec.decode_latents(data).y_hat, y_hat)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("capability", "left_out"),
    [("AVX512", set()), ("AVX2", {"AVX-512"}), ("DEFAULT", {"AVX-512", "AVX2"}), ("ZVECTOR", {"AVX-512", "AVX2"})],
)
def test_the_sceptics_script_asks_the_processor(capability: str, left_out: set[str]) -> None:
    """Code for an instruction set that the processor lacks would kill the process (SIGILL)."""
    spec = importlib.util.spec_from_file_location("exactness", _SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert {name for name, asked in script.VARIANTS.items() if script.missing(asked, capability)} == left_out


def _reduced(x: torch.Tensor, bits: int) -> torch.Tensor:
    """As tensor cores take float32: 8 significant bits with bfloat16, 11 with TF32."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


@pytest.mark.parametrize(("where", "bits"), [("linear", 8), ("matmul", 8), ("matmul", 11)])
def test_reduced_precision_of_the_machine_is_noticed_and_avoided(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, bits: int
) -> None:
    codec = Codec(tiny_path, engine="torch")
    data = codec.encode(synthetic_picture(100, 70), 6)
    linear, matmul = torch.nn.functional.linear, torch.matmul

    def reduced(a: torch.Tensor, b: torch.Tensor, *bias: Any) -> torch.Tensor:
        if a.dtype == torch.float32:
            a, b = _reduced(a, bits), _reduced(b, bits)
        return linear(a, b, *bias) if where == "linear" else matmul(a, b)

    monkeypatch.setattr(
        "dcae.entropy.exact.F.linear" if where == "linear" else "dcae.entropy.exact.torch.matmul", reduced
    )
    expected = codec.decode_latents(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcae.entropy.exact._is_ieee", lambda device: True)
        with pytest.raises(SymbolMismatchError):
            codec.decode_latents(data)  # what would happen: the test's own arithmetic does change symbols
    monkeypatch.undo()
    np.testing.assert_array_equal(codec.decode_latents(data).y_hat, expected.y_hat)


def test_bounds_are_computed_from_the_weights(tiny_path: Path) -> None:
    model, exact = load_model(tiny_path), _exact(tiny_path)
    network = model.network
    assert isinstance(network, LiteDCAE)
    check(network, exact)

    def refused(message: str, **changed: torch.Tensor) -> None:
        with pytest.raises(ModelFileError, match=message):
            check(network, exact._replace(**changed))

    refused("shape", fractions=exact.fractions[1:])
    refused("type", gains=exact.gains.long())
    refused("out of range", shifts=exact.shifts.clone().fill_(127))
    refused("not on their grid", shifts=exact.shifts - 4)
    refused("too large", shifts=(exact.shifts + 3).clamp(max=24))
    refused("keys", keys=torch.full_like(exact.keys, 32767))
    refused("exponentials", exponentials=exact.exponentials * 2**12)
    refused("exponentials", exponentials=torch.zeros_like(exact.exponentials))
    refused("gain table", gains=exact.gains * 8)
    refused("dictionary", value_shift=(exact.value_shift - 4).to(torch.int8))

    # The bound is sharp enough to mean something: a worst case of every map really sums to less than 2**24.
    for name, module in maps(network).items():
        worst = module.weight.double().flatten(1).abs().sum(1) * LIMIT
        assert float(worst.min()) > 0, name
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.h_s.embed.weight[0, 0] += 0.3
    with pytest.raises(ModelFileError, match=r"h_s\.embed are not on their grid"):
        check(broken, exact)


def test_files_say_that_they_are_exact(tiny_path: Path) -> None:
    data = Codec(tiny_path).encode(synthetic_picture(64, 64), 2)
    assert NUMERICS[read_container(data).header.numerics] == "integer"


@pytest.mark.slow
def test_float64_for_presets_without_exact_arithmetic() -> None:
    """Files of `paper` say which arithmetic they were made with, and are read with it."""
    pytest.importorskip("compressai")
    from dcae.models.export import coding_model
    from dcae.networks.registry import build_model

    torch.manual_seed(0)
    network = build_model("paper")
    codec = Codec(coding_model(network))
    picture = synthetic_picture(70, 64)
    plain, portable = codec.encode(picture, 1), codec.encode(picture, 1, portable=True)
    kinds = [NUMERICS[read_container(data).header.numerics] for data in (plain, portable)]
    assert kinds == ["float32", "float64"]
    y_hat = codec.decode_latents(portable).y_hat
    assert y_hat.dtype == np.float32
    np.testing.assert_allclose(y_hat, codec.decode_latents(plain).y_hat, atol=0.02, rtol=0.01)
    assert codec.decode(portable).size == (70, 64)


def test_a_file_with_another_arithmetic_than_its_model_has(tiny_path: Path) -> None:
    codec = Codec(tiny_path)
    container = read_container(codec.encode(synthetic_picture(20, 20), 2, portable=True))
    assert NUMERICS[container.header.numerics] == "integer"  # which is as portable as it gets
    for other in ("float32", "float64"):
        header = dataclasses.replace(container.header, numerics=NUMERICS.index(other))
        with pytest.raises(FileFormatError, match=f"numerics are {other}"):
            codec.decode(write_container(dataclasses.replace(container, header=header)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_comes_to_the_same_latents(tiny_path: Path) -> None:
    on_cpu, on_gpu = Codec(tiny_path), Codec(tiny_path, device="cuda")
    for size in ((64, 64), (200, 136)):
        for encoder in (on_cpu, on_gpu):
            data = encoder.encode(synthetic_picture(*size), 5.5)
            expected, found = on_cpu.decode_latents(data), on_gpu.decode_latents(data)
            np.testing.assert_array_equal(expected.y_hat, found.y_hat)


def test_a_sample_that_runs_away_at_one_anchor_does_not_set_the_ranges(
    tiny_model: CodingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model draws its own sample; where that went astray, no input would have bits left for its fraction."""
    network = copy.deepcopy(tiny_model.network)
    head = network.slice_network(0).head  # type: ignore[attr-defined]

    def walk(*arguments: Any) -> None:
        head(torch.full((1, 4, 4, head.in_features), 5000.0 if arguments[-1] == 0 else 3.0))

    monkeypatch.setattr(exact_export, "_walk", walk)
    ranges = exact_export._ranges(network, tiny_model.tables_z, tiny_model.z_median)
    assert ranges["slice_networks.0.head"] == 4 * 3.0
