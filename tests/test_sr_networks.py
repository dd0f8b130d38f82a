"""Networks that enlarge: their shapes and cost, the folding of what is trained, tiles, and their model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import LITE, synthetic_picture
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dcae.cli import main
from dcae.errors import DCAEError, ModelFileError, ModelNotFoundError, OptionError
from dcae.models.installed import find_model, installed_models
from dcae.models.modelfile import load_model, read_header
from dcae.models.stored import identity
from dcae.networks.registry import any_config, build_model, preset_names
from dcae.resize import resized, to_float
from dcae.sr.find import find_upscaler
from dcae.sr.models import export_network, find_sr_model, load_network, new_network, read_sr_header, write_network
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.upscaler import NetworkUpscaler
from dcae.sr.protocol.resize import reduced
from dcae.sr.tiles import in_tiles

TINY = {"preset": "sr-small", "scale": 2, "channels": 8, "depth": 2}


def network_of(seed: int = 1, **fields: Any) -> SRNetwork:
    """A tiny network whose layers do something."""
    torch.manual_seed(seed)
    network = new_network(TINY | fields).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def picture_of(height: int, width: int) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    return to_float(np.asarray(synthetic_picture(width, height, 3)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_untrained_network_is_bicubic_interpolation(scale: int) -> None:
    network, x = new_network(TINY | {"scale": scale}), picture_of(21, 18)
    found = NetworkUpscaler(network.eval(), "n")(x)
    inside = slice(6, -6), slice(6, -6)
    assert np.allclose(found[inside], resized(x, scale)[inside], atol=1e-5)
    assert found.shape == (21 * scale, 18 * scale, 3)


@pytest.mark.parametrize(("fields", "kmacs"), [({}, 11.99), ({"scale": 4}, 11.75), ({"unshuffle": 1}, 43.09)])
def test_cost_is_what_the_reference_counts(fields: dict[str, int], kmacs: float) -> None:
    """Without the linear filter, which the reference's table does not have; and as hooks on the layers count it."""
    network = new_network({"preset": "sr-small"} | fields)
    scale, side = network.config.scale, 16
    assert network.cost().macs / 1000 == pytest.approx(kmacs + 3 * 49 / 1000, abs=0.01)
    counted = 0

    def count(layer: torch.nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    network(torch.rand(1, 3, side, side))
    assert counted / (side * scale) ** 2 == network.cost().macs
    assert network.cost().parameters == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 2), (13, 9)])
@pytest.mark.parametrize("fields", [{}, {"scale": 3, "unshuffle": 2}, {"scale": 4, "unshuffle": 1}])
def test_any_size_is_enlarged(height: int, width: int, fields: dict[str, int]) -> None:
    network = network_of(**fields)
    found = network(torch.rand(2, 3, height, width))
    assert found.shape == (2, 3, network.config.scale * height, network.config.scale * width)


def test_folding_changes_nothing_but_the_form() -> None:
    network, x = network_of(), torch.rand(1, 3, 9, 8)
    plain = set(network.state_dict())
    network.expand()
    assert set(network.state_dict()) - plain
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    before = network(x)
    network.fold()
    assert set(network.state_dict()) == plain
    assert torch.allclose(network(x), before, atol=1e-6)


def test_calibration_lowers_the_error_and_keeps_plain_areas() -> None:
    network = new_network(TINY)
    large = torch.stack([torch.from_numpy(picture_of(48, 48)), torch.rand(48, 48, 3)]).permute(0, 3, 1, 2)
    small = torch.stack([
        torch.from_numpy(to_float(reduced((255 * x.permute(1, 2, 0).numpy()).astype(np.uint8), 2))).permute(2, 0, 1)
        for x in large
    ])  # fmt: skip
    before = (network(small) - large).square().mean()
    network.calibrate(small, large)
    assert (network(small) - large).square().mean() < 0.97 * before
    assert torch.allclose(network(torch.full((1, 3, 9, 9), 0.3)), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"scale": 3}, {"scale": 2, "depth": 4, "filter_side": 15}])
def test_tiles_are_the_whole_picture(fields: dict[str, int]) -> None:
    network, x = network_of(**fields), picture_of(45, 62)
    whole = NetworkUpscaler(network, "n", tile=0)(x)
    for tile in (7, 16, 45):
        assert np.abs(NetworkUpscaler(network, "n", tile=tile)(x) - whole).max() < 1e-5
    network.halo -= network.grid  # no smaller halo does
    assert np.abs(NetworkUpscaler(network, "n", tile=16)(x) - whole).max() > 1e-5


def test_tiles_are_even_where_the_grid_is() -> None:
    seen = []

    def enlarge(x: np.ndarray) -> np.ndarray:
        seen.append((round(float(x[0, 0, 0])), round(float(x[0, 0, 1])), *x.shape[:2]))
        return x.repeat(2, 0).repeat(2, 1)

    x = np.stack(np.meshgrid(np.arange(23), np.arange(17), indexing="ij"), 2).astype(np.float32)
    assert np.array_equal(in_tiles(enlarge, x, 2, 7, 3, grid=2), x.repeat(2, 0).repeat(2, 1))
    assert len(seen) == 9
    assert all(top % 2 == left % 2 == 0 and max(sides) <= 8 + 2 * 4 for top, left, *sides in seen)


@pytest.mark.parametrize(("height", "width", "tile"), [(70, 33, 16), (129, 20, 32), (65, 64, 64), (40, 41, 1)])
def test_tiles_without_a_halo_overlap_and_fade(height: int, width: int, tile: int) -> None:
    seen = []

    def enlarge(x: np.ndarray) -> np.ndarray:
        seen.append((int(x[0, 0, 0]), int(x[0, 0, 1]), *x.shape[:2]))
        return x.repeat(3, 0).repeat(3, 1)

    x = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), 2).astype(np.float32)
    found = in_tiles(enlarge, x, 3, tile, None, grid=4)
    assert np.allclose(found, x.repeat(3, 0).repeat(3, 1), atol=1e-3)
    assert len(seen) > 1 and all(top % 4 == left % 4 == 0 for top, left, *_ in seen)
    assert all(max(sides) <= max(tile, 16) for _, _, *sides in seen)

    def numbered(x: np.ndarray) -> np.ndarray:  # a picture of its own for each tile
        return np.full((3 * len(x), 3 * x.shape[1], 1), float(x[0, 0, 0] + 7 * x[0, 0, 1]), np.float32)

    steps = np.abs(np.diff(in_tiles(numbered, x, 3, tile, None, grid=4)[..., 0], axis=0))
    assert steps.max() <= max(tile, 16) / 12 + 1e-3  # no jump: a step is what fading over at least 12 samples takes


def test_gray_is_the_mean_of_what_the_network_makes_of_it() -> None:
    upscaler, x = NetworkUpscaler(network_of(), "n"), picture_of(8, 9)[..., :1]
    assert upscaler(x).shape == (16, 18, 1)
    assert np.allclose(upscaler(x)[..., 0], upscaler(x.repeat(3, 2)).mean(2), atol=1e-6)


# -- model files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed models: two versions for scale 2, one for 4."""
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tmp_path))
    for name, fields in {"tiny-x2-1": {}, "tiny-x2-2": {"seed": 2}, "tiny-x4-1": {"scale": 4}}.items():
        write_network(network_of(**fields), tmp_path / f"{name}.safetensors", {"steps": 3}, False)
    return tmp_path


def test_a_model_file_is_the_network(folder: Path) -> None:
    x = picture_of(12, 14)
    found = find_upscaler(str(folder / "tiny-x2-1.safetensors"), 2)
    assert np.array_equal(found(x), NetworkUpscaler(network_of(), "n")(x))
    header = read_sr_header(folder / "tiny-x2-1.safetensors")
    assert header.config == any_config(TINY)
    assert header.record == {"steps": 3}
    with safe_open(folder / "tiny-x2-1.safetensors", "numpy") as file:
        assert all(name.startswith("network.") for name in file.keys())  # noqa: SIM118 (not a dict)


def test_models_are_found_by_name_scale_and_version(folder: Path) -> None:
    for name, scale, file in (
        ("tiny", 2, "tiny-x2-2"), ("tiny", 4, "tiny-x4-1"), ("tiny-x2", 2, "tiny-x2-2"), ("tiny-x2-1", 2, "tiny-x2-1"),
    ):  # fmt: skip
        assert find_sr_model(name, scale).path == folder / f"{file}.safetensors"
    with pytest.raises(
        ModelNotFoundError, match="no model named 'tiny' for scale 3; installed: tiny-x2-1, tiny-x2-2, tiny-x4-1"
    ):
        find_sr_model("tiny", 3)
    with pytest.raises(OptionError, match="tiny-x2 enlarges by 2, not by 4"):
        find_sr_model("tiny-x2", 4)
    with pytest.raises(ModelNotFoundError, match="no model named 'other'"):
        find_sr_model("other", 2)


def test_codec_and_upscaler_are_not_taken_for_each_other(folder: Path, tiny_path: Path) -> None:
    assert not {"tiny-x2-1", "tiny-x4-1"} & set(installed_models())
    path = folder / "tiny-x2-1.safetensors"
    for read in (read_header, load_model, find_model):
        with pytest.raises(ModelFileError, match=r"a model that enlarges pictures \(sr-small\), not one that codes"):
            read(path)
    for load in (read_sr_header, load_network):
        with pytest.raises(ModelFileError, match=r"a model that codes \(lite\), not one that enlarges"):
            load(tiny_path)
    with pytest.raises(OptionError, match="unknown preset 'sr-small'"):
        build_model("sr-small")
    with pytest.raises(OptionError, match="unknown preset 'lite'"):
        new_network({"preset": "lite"})
    assert not set(preset_names()) & set(preset_names("sr"))


def _edited(path: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a model file with a valid id."""
    header = {"format": 1, "id": identity(config, tensors), "config": config, "record": {}}
    save_file(tensors, path, {"dcae": json.dumps(header)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"channels": 4096}, "channels must be in 1..512"),
        ({"channels": 512, "depth": 64}, "more weights than the"),
        ({"channels": 16}, "size mismatch"),
        ({"depth": 3}, "tensors too many or too few"),
        ({"depth": -1}, "depth must be in 1"),
        ({"scale": 64}, "scale must be in 1..8"),
        ({"filter_side": 4}, "filter_side must be odd"),
        ({"channels": 2.5}, "must be of type int"),
        ({"odd": 1}, "unknown fields"),
    ],
)
def test_a_hostile_model_file_is_refused(folder: Path, config: dict[str, Any], message: str) -> None:
    path = folder / "tiny-x2-1.safetensors"
    _edited(path, any_config(TINY).to_dict() | config, load_file(path))
    with pytest.raises(ModelFileError, match=message):
        load_network(path)


def test_a_damaged_model_file_is_refused(folder: Path) -> None:
    path = folder / "tiny-x2-1.safetensors"
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    for place in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :])
        try:
            found = load_network(path)
        except DCAEError:
            continue
        # Only what decides nothing, the record, may be another one.
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network_of().parameters(), strict=True))
    path.write_bytes(whole[:-9])
    with pytest.raises(ModelFileError):
        load_network(path)


def test_weights_of_another_type_are_refused_and_samples_that_are_not_finite(folder: Path) -> None:
    path = folder / "tiny-x2-1.safetensors"
    tensors = load_file(path)
    _edited(path, any_config(TINY).to_dict(), tensors | {"network.head.weight": np.ones((8, 12, 3, 3), np.int8)})
    with pytest.raises(ModelFileError, match="does not fit its configuration"):
        load_network(path)
    _edited(path, any_config(TINY).to_dict(), tensors | {"network.tail.bias": np.full(48, np.inf, np.float32)})
    with pytest.raises(ModelFileError, match="not finite"):
        find_upscaler(str(path), 2)(picture_of(8, 8))


def test_weights_that_are_not_finite_or_do_not_fit_are_not_exported(tmp_path: Path) -> None:
    network = network_of()
    network.expand()
    weights = network.state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        export_network(TINY | {"channels": 9}, weights, tmp_path / "a.safetensors", {}, True)
    weights["tail.bias"][0] = torch.nan
    with pytest.raises(ModelFileError, match=r"not finite: tail\.bias"):
        export_network(TINY, weights, tmp_path / "a.safetensors", {}, True)
    assert not list(tmp_path.iterdir())


def test_they_are_listed(folder: Path) -> None:
    done = CliRunner().invoke(main, ["models"])
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert lines["tiny-x4-1"].endswith("  enlarges by 4") and "sr-small" in lines["tiny-x4-1"]
    assert "quality 1..8" in lines[LITE]
    done = CliRunner().invoke(main, ["info", str(folder / "tiny-x4-1.safetensors")])
    assert done.exit_code == 0, done.output
    assert '"scale": 4' in done.output and '"steps": 3' in done.output and "lambdas" not in done.output


def test_eval_sr_measures_models(folder: Path, tmp_path: Path) -> None:
    synthetic_picture(40, 32, 1).save(tmp_path / "a.png")
    path = folder / "tiny-x2-1.safetensors"
    words = ["eval", "sr", str(tmp_path), "--models", f"bicubic,tiny,tiny-x2-2,{path}"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[1:]] == ["bicubic", "tiny-x2-2", str(path)]
    parameters = {line.split()[-2] for line in done.output.splitlines()[2:]}
    assert parameters == {str(network_of().cost().parameters)}
