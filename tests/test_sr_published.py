"""DRCT and SRGAN's networks: equal to the published code's outputs and counts, and the import of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drct_golden import check_case, golden_network

from dcae.cli import main
from dcae.errors import ModelFileError, OptionError
from dcae.networks.registry import any_config
from dcae.sr.find import find_upscaler
from dcae.sr.models import load_network, new_network, write_network
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.importer import import_upscaler
from dcae.sr.networks.upscaler import NetworkUpscaler
from dcae.train.discriminators import UNetDiscriminator, VGGDiscriminator

GOLDEN = np.load(Path(__file__).with_name("golden") / "drct.npz")
CASES = ("tiny_x2_w8", "tiny_x1_gray", "tiny_x2_noshift", "tiny_x2_identity")
TINY = json.loads(str(GOLDEN["tiny_x2_w8/config_json"]))


@pytest.fixture
def reference(shared: Path) -> Path:
    """Folder of the reference material on super-resolution."""
    if not (shared / "reference" / "sr").is_dir():
        pytest.skip(f"no reference material on super-resolution in {shared}")
    return shared / "reference" / "sr"


def empty(fields: dict[str, Any]) -> SRNetwork:
    """A network of which only the shapes are there."""
    with torch.device("meta"):
        return new_network(fields)


@pytest.mark.parametrize("case", CASES)
def test_small_drct_is_the_published_one(case: str) -> None:
    check_case(GOLDEN, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["tiny_x4_w16_64", "tiny_x3_batch", "drct_x2", "drct_l_x4"])
def test_drct_is_the_published_one(reference: Path, case: str) -> None:
    check_case(np.load(reference / "drct-golden.npz"), case)


def test_the_published_script_is_the_network_with_its_padding(reference: Path) -> None:
    golden = np.load(reference / "drct-golden.npz")
    network = golden_network(json.loads(str(golden["protocol_x2/config_json"])), 11)
    x = golden["protocol_x2/input"]
    height, width = x.shape[2:]
    for axis, length in ((2, height), (3, width)):  # a whole window more where it is a multiple
        missing = (length // 16 + 1) * 16 - length
        x = np.concatenate([x, np.flip(x, axis).take(range(missing), axis)], axis)
    with torch.inference_mode():
        found = network(torch.from_numpy(x)).numpy()[:, :, : 2 * height, : 2 * width]
    assert np.abs(found - golden["protocol_x2/output_whole"]).max() < 2e-5


@pytest.mark.parametrize(
    ("name", "scale", "parameters", "kmacs"),
    [
        ("drct", 1, 13_844_155, None), ("drct", 2, 13_991_867, 4385), ("drct", 3, 14_176_507, None),
        ("drct", 4, 14_139_579, 1134), ("drct-l", 4, 27_580_719, 2196), ("drct-l", 1, 27_285_295, None),
        ("srresnet", 2, 1_399_637, 360), ("srresnet", 4, 1_547_350, 139),
    ],
)  # fmt: skip
def test_parameters_and_cost_are_those_counted(name: str, scale: int, parameters: int, kmacs: int | None) -> None:
    cost = empty({"preset": name, "scale": scale}).cost()
    assert cost.parameters == parameters
    assert kmacs is None or cost.macs / 1000 == pytest.approx(kmacs, abs=1)


def test_discriminators_have_as_many_parameters_and_logits() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VGGDiscriminator().parameters()) == 23_563_649
        assert sum(p.numel() for p in UNetDiscriminator().parameters()) == 4_376_897
    torch.manual_seed(1)
    assert VGGDiscriminator(32)(torch.rand(2, 3, 32, 32)).shape == (2, 1)
    unet = UNetDiscriminator(8)
    assert unet(torch.rand(2, 3, 27, 18)).shape == (2, 1, 27, 18)
    unet(torch.rand(1, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in unet.parameters())


@pytest.mark.parametrize("name", ["drct", "drct-l"])
def test_names_and_shapes_are_those_of_published_checkpoints(reference: Path, name: str) -> None:
    published = json.loads((reference / "drct-state-dict.json").read_text())
    entries = published["DRCT" if name == "drct" else "DRCT-L"]["state_dict"]
    wanted = {key: tuple(entry["shape"]) for key, entry in entries.items() if entry["kind"] == "parameter"}
    found = {key: tuple(value.shape) for key, value in empty({"preset": name, "scale": 4}).state_dict().items()}
    assert found == wanted


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 20), (8, 8), (17, 9)])
def test_drct_takes_any_size(height: int, width: int) -> None:
    network = golden_network(TINY, 1)
    with torch.inference_mode():
        x = torch.rand(1, 3, height, width)
        found = network(x)
        assert found.shape == (1, 3, 2 * height, 2 * width)
        assert found.isfinite().all()


@pytest.mark.parametrize("size", [(64, 64), (32, 24), (13, 9)])
def test_half_precision_works_at_every_size(size: tuple[int, int]) -> None:
    network, x = golden_network(TINY, 1), torch.rand(1, 3, *size)
    with torch.inference_mode():
        exact = network(x)
        found = network.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert float((found.float() - exact).abs().mean()) < 0.05 * float(exact.std())


def test_a_gray_network_enlarges_each_colour() -> None:
    network = golden_network(json.loads(str(GOLDEN["tiny_x1_gray/config_json"])), 4)
    x = np.random.default_rng(1).random((9, 8, 3), np.float32)
    upscaler = NetworkUpscaler(network, "gray")
    assert np.allclose(upscaler(x)[..., 1:2], upscaler(x[..., 1:2]), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_srresnet_in_tiles_is_the_whole(scale: int) -> None:
    torch.manual_seed(1)
    network = new_network({"preset": "srresnet", "scale": scale, "channels": 6, "blocks": 2})
    network(torch.rand(4, 3, 16, 16))  # statistics of the norms
    network.eval()
    x = np.random.default_rng(2).random((50, 41, 3), np.float32)
    whole = NetworkUpscaler(network, "n", tile=0)(x)
    assert whole.shape == (50 * scale, 41 * scale, 3)
    assert np.abs(NetworkUpscaler(network, "n", tile=16)(x) - whole).max() < 1e-5
    network.halo = 4
    assert np.abs(NetworkUpscaler(network, "n", tile=16)(x) - whole).max() > 1e-4


def test_batch_norms_are_merged_into_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = new_network({"preset": "srresnet", "scale": 2, "channels": 6, "blocks": 2})
    for norm in [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    network(torch.rand(4, 3, 16, 16))  # statistics of the norms
    write_network(network.eval(), tmp_path / "m.safetensors", {}, False)
    merged = find_upscaler(str(tmp_path / "m.safetensors"), 2)
    assert isinstance(merged, NetworkUpscaler)
    kinds = [type(layer).__name__ for layer in merged.network.modules()]
    assert "BatchNorm2d" not in kinds and kinds.count("Conv2d") == 8
    x = np.random.default_rng(2).random((20, 31, 3), np.float32)
    assert np.abs(merged(x) - NetworkUpscaler(network, "n")(x)).max() < 1e-5
    assert load_network(tmp_path / "m.safetensors").state_dict().keys() == network.state_dict().keys()


def test_sizes_whose_heads_do_not_divide_are_refused() -> None:
    for width, growth, heads in ((72, 24, 5), (64, 16, 6), (100, 20, 7)):
        with pytest.raises(OptionError, match="which do not divide them"):
            any_config({"preset": "drct", "width": width, "growth": growth, "heads": heads})
    for fields, message in (
        ({"preset": "drct", "colours": 2}, "colours must be 1 or 3"),
        ({"preset": "drct", "scale": 5}, "scale must be 1, 3 or a power of two"),
        ({"preset": "drct", "heads": 90}, "heads must be in 1..64"),
        ({"preset": "drct", "shifted": 1}, "must be of type bool"),
        ({"preset": "srresnet", "scale": 3}, "scale must be 2, 4 or 8"),
    ):
        with pytest.raises(OptionError, match=message):
            any_config(fields)


# -- import of checkpoints --------------------------------------------------------------------------------------------


def _checkpoint(path: Path, case: str, how: str) -> SRNetwork:
    """A file as the published code writes it: the weights, buffers, and a wrapper."""
    published = json.loads(str(GOLDEN[f"{case}/config_json"]))
    network = golden_network(published, int(GOLDEN[f"{case}/seed"]))
    weights = dict(network.state_dict())
    for name in [name for name in weights if name.endswith("relative_position_bias_table")]:
        weights[name.replace("bias_table", "index")] = torch.zeros(4, 4, dtype=torch.int64)
        if published["img_size"] > published["window_size"] and (".swin2." in name or ".swin4." in name):
            weights[name.replace("attn.relative_position_bias_table", "attn_mask")] = torch.zeros(4, 4)
    wrapped: dict[str, Any] = {
        "bare": weights, "module": {f"module.{k}": v for k, v in weights.items()}, "params": {"params": weights},
        "ema": {"params": {k: v + 1 for k, v in weights.items()}, "params_ema": weights},
    }[how]  # fmt: skip
    torch.save(wrapped, path)
    return network


@pytest.mark.parametrize(
    ("case", "how"),
    [("tiny_x2_w8", "params"), ("tiny_x2_noshift", "ema"), ("tiny_x1_gray", "bare"), ("tiny_x2_identity", "module")],
)
def test_the_architecture_is_read_from_the_checkpoint(tmp_path: Path, case: str, how: str) -> None:
    wanted = _checkpoint(tmp_path / "c.pth", case, how)
    found = import_upscaler(tmp_path / "c.pth")
    assert found.config == wanted.config
    x = torch.from_numpy(GOLDEN[f"{case}/input"])
    with torch.inference_mode():
        assert torch.equal(found(x), wanted(x))


def test_a_checkpoint_of_srresnet_is_imported(tmp_path: Path) -> None:
    network = new_network({"preset": "srresnet", "scale": 4, "channels": 6, "blocks": 3})
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "c.pth")
    found = import_upscaler(tmp_path / "c.pth")
    assert found.config == network.config
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))


def test_import_upscaler_writes_a_model_file(tmp_path: Path) -> None:
    wanted = _checkpoint(tmp_path / "c.pth", "tiny_x2_w8", "ema")
    words = ["import-upscaler", str(tmp_path / "c.pth"), "-o", str(tmp_path / "m.safetensors")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = load_network(tmp_path / "m.safetensors")
    assert found.config == wanted.config
    x = torch.from_numpy(GOLDEN["tiny_x2_w8/input"])
    with torch.inference_mode():
        assert torch.equal(found(x), wanted(x))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and "exists already" in done.output


def test_import_upscaler_refuses_a_wrong_name_before_any_work(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["import-upscaler", str(tmp_path / "none.pth"), "-o", str(tmp_path / "x.png")])
    assert done.exit_code == 1
    assert "x.png: model files end in .safetensors" in done.output


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "c.pth", "tiny_x2_w8", "bare")
    weights = torch.load(tmp_path / "c.pth", weights_only=True)
    (tmp_path / "text.pth").write_text("none")
    cases: dict[str, tuple[Any, str]] = {
        "list": ([1, 2], "no tensors by name"),
        "other": ({"a.weight": torch.zeros(3)}, "neither DRCT nor SRGAN"),
        "missing": ({k: v for k, v in weights.items() if k != "norm.bias"}, "too few for drct, among them norm.bias"),
        "more": (weights | {"odd.weight": torch.zeros(2)}, "1 tensors too many"),
        "shape": (weights | {"norm.bias": torch.zeros(2)}, "size mismatch for norm.bias"),
        "empty": (weights | {"conv_first.weight": torch.zeros(0, 3, 3, 3)}, "cannot be imported"),
        "scalar": (weights | {"upsample.0.weight": torch.tensor(1.0)}, "cannot be imported"),
        "unbacked": (weights | {"norm.bias": torch.zeros(1).expand(1 << 20)}, "more numbers than are in the file"),
        "shared": (
            weights | {f"more.{k}": weights["conv_first.weight"] for k in range(4000)},
            "more numbers than are in the file",
        ),
        "deep": (
            weights | {k.replace("layers.0", "layers.11"): v for k, v in weights.items() if "layers.0.swin1" in k},
            "more weights than the",
        ),
        "scale": (
            {name: torch.ones(9, 3) for name in ("trunk.0.rcb.0.weight", "conv1.0.weight", "upsampling.9999999.a")},
            "scale must be",
        ),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ModelFileError, match=message):
            import_upscaler(tmp_path / f"{name}.pth")
    for name in ("text", "nothing"):
        with pytest.raises(ModelFileError, match=r"not a readable checkpoint|no such file"):
            import_upscaler(tmp_path / f"{name}.pth")


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": _Evil()}, "evil.pth")
    with pytest.raises(ModelFileError, match="not a readable checkpoint"):
        import_upscaler(Path("evil.pth"))
    assert not Path("touched").exists()
