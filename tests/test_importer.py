"""Reading the authors' checkpoints."""

from __future__ import annotations

import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dcae.errors import ModelFileError
from dcae.networks.paper.config import PaperConfig
from dcae.networks.paper.importer import import_checkpoint, read_checkpoint
from dcae.networks.paper.wiring import PaperDCAE

pytest.importorskip("compressai")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Different numbers for every parameter; a row expanded to the shape, which makes the files small."""
    torch.manual_seed(1)
    with torch.device("meta"):
        network = PaperDCAE(PaperConfig())
    network.add_entropy_models()
    return {name: torch.randn(p.shape[-1]).expand(p.shape) for name, p in network.named_parameters()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pth.tar"


def _old_name(key: str) -> str:
    for new, old in {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}.items():
        key = key.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{old}")
    return key


def _assert_same(read: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    assert read.keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.items())


def test_training_checkpoint(path: Path, weights: dict[str, Tensor]) -> None:
    filled = {
        "gaussian_conditional.scale_table": torch.linspace(0.11, 256, 64),
        "gaussian_conditional._quantized_cdf": torch.ones(64, 3133, dtype=torch.int32),
        "entropy_bottleneck._quantized_cdf": torch.ones(192, 23, dtype=torch.int32),
        "entropy_bottleneck._cdf_length": torch.ones(192, dtype=torch.int32),
        "entropy_bottleneck._offset": torch.ones(192, dtype=torch.int32),
        "entropy_bottleneck.target": torch.ones(3),
        "g_a.3.layers.1.msa.attn_mask": torch.ones(4, 64, 64),
    }
    state = OrderedDict({f"module.{_old_name(k)}": v for k, v in (weights | filled).items()})
    assert "module.entropy_bottleneck._matrix0" in state
    schedule = {"milestones": Counter([46]), "gamma": 0.1, "last_epoch": 49}
    torch.save({"epoch": 49, "loss": torch.tensor(1.0), "state_dict": state, "lr_scheduler": schedule}, path)
    network = import_checkpoint(path, 0.0067)
    assert network.config.lambdas == (0.0067,)
    assert not network.training
    _assert_same(dict(network.named_parameters()), weights)
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 20, 30))["x_hat"].shape == (1, 3, 20, 30)


@pytest.mark.slow
def test_bare_state_dict_of_another_precision(path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({name: tensor.double() for name, tensor in weights.items()}, path)
    read = read_checkpoint(path)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in read.values())
    _assert_same(read, weights)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("changes", "drop", "names"),
    [
        ({}, ["dt", "g_s.0.bias"], ["lacks", "dt", "g_s.0.bias"]),
        ({"dt": torch.zeros(64, 640)}, [], ["shape", "dt", "(64, 640)", "(128, 640)"]),
        ({"dt": torch.zeros(128, 640, dtype=torch.int64)}, [], ["dt", "not a float tensor"]),
        ({"dt": torch.zeros(128, 640).to_sparse()}, [], ["dt", "not a float tensor"]),
        ({"dt": 3}, [], ["dt", "int"]),
        ({"g_a.7\n.weight": torch.zeros(3)}, [], ["unknown", "g_a.7"]),
    ],
)
def test_other_networks(
    path: Path, weights: dict[str, Tensor], changes: dict[str, Any], drop: list[str], names: list[str]
) -> None:
    torch.save({"state_dict": {k: v for k, v in (weights | changes).items() if k not in drop}}, path)
    with pytest.raises(ModelFileError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert all(name in message for name in [str(path), *names])


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, {3: torch.zeros(1)}, torch.zeros(2), None])
def test_torch_files_without_state_dict(path: Path, content: Any) -> None:
    torch.save(content, path)
    with pytest.raises(ModelFileError, match="no state dict"):
        read_checkpoint(path)


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_code_is_not_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"dt": _Evil()}}, path)
    with pytest.raises(ModelFileError):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_damaged_files(path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"state_dict": weights}, path)
    whole = path.read_bytes()
    scrambled = bytearray(whole)
    for position in range(0, len(whole), 97):
        scrambled[position] ^= 0x55
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "no checkpoint")
    damaged = [b"", b"x", b"hello" * 100, whole[:100], whole[: len(whole) // 2], whole[:-1], bytes(scrambled)]
    for data in [*damaged, whole[: len(whole) // 2] + whole[len(whole) // 2 + 64 :], path.read_bytes(), b"\x80\x02}q"]:
        path.write_bytes(data)
        with pytest.raises(ModelFileError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in tmp_path / "none.pth.tar", tmp_path:
        with pytest.raises(ModelFileError, match="cannot read"):
            read_checkpoint(path)
