"""Training of table networks: the network is its tables at the nodes, and what trains is what look-up does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcae.errors import OptionError
from dcae.resize import to_samples
from dcae.sr.protocol.scores import scores
from dcae.sr.tables.config import PUBLISHED, Slot, TableConfig, UnitConfig, published_config
from dcae.sr.tables.engine import TableEngine
from dcae.sr.tables.export import empty_tables, exported, tables_as_network
from dcae.sr.tables.interpolation import interpolated
from dcae.sr.tables.layout import grid, table_set
from dcae.sr.tables.network import TableNetwork, key, untrained_network
from dcae.sr.tables.settings import TableSettings
from dcae.sr.tables.simplex import Simplex
from dcae.sr.tables.tablefile import read_tables, write_tables
from dcae.sr.tables.task import TableTask
from dcae.sr.tables.units import NetworkUnit, Sampler, TableUnit
from dcae.sr.tables.upscaler import TableUpscaler
from dcae.train.config import effective_config
from dcae.train.export import export_checkpoint
from dcae.train.loop import train
from dcae.train.processes import Group

UNIT = UnitConfig(features=5, layers=2, bound="clamp", copies=True)


def _network(name: str, **settings: Any) -> TableNetwork:
    """A network of random weights that does more than to copy."""
    torch.manual_seed(1)
    network = untrained_network(published_config(name, 2, **settings), UNIT)
    with torch.no_grad():
        for parameter in network.shares.values():
            parameter.uniform_(0, 1)
        for unit in network.units.values():
            assert isinstance(unit, NetworkUnit)
            unit.last.weight.normal_(std=0.2)
    return network


def _pictures(seed: int = 0) -> Tensor:
    """(3, 20, 22): a smooth one, noise, and one of extremes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:20, 0:22]
    smooth = 128 + 100 * np.sin(rows / 5) * np.cos(columns / 4)
    return torch.from_numpy(np.stack([smooth, rng.integers(0, 256, (20, 22)), rng.choice([0, 255], (20, 22))])).round()


CASES: list[tuple[str, dict[str, Any]]] = [
    ("srlut-s", {"order": "sorted", "interval": 5}), ("srlut-s", {"interval": 6}), ("srlut-f", {"interval": 5}),
    ("srlut-v", {"interval": 4}), ("mulut", {"interval": 6}), ("mulut", {"interval": 6, "rounding": "each"}),
    ("mulut-dfc", {"interval": 5, "coarse": 6}), ("spflut", {"interval": 6}),
    ("spflut-dfc", {"interval": 5, "coarse": 7}), ("mulut-autolut", {"interval": 6, "sampler": 3}),
    ("mulut-autolut", {"interval": 6, "sampler": 2, "rounding": "once"}),
    ("spf-light", {"interval": 5, "coarse": 6, "sampler": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_tables_as_a_network_enlarge_as_look_up_does(name: str, settings: dict[str, Any]) -> None:
    config = published_config(name, 2, **settings)
    if name == "srlut-f":
        assert config.inputs == 3
    tensors = exported(_network(name, **settings))
    pictures = _pictures().float()
    with torch.no_grad():
        found = tables_as_network(config, tensors)(pictures)
    wanted = TableEngine(config, tensors)(pictures.permute(1, 2, 0).numpy().astype(np.uint8)).transpose(2, 0, 1)
    if config.sampler:  # means are formed in float32 here
        assert np.abs(found.numpy() - wanted).max() <= 1
        assert (found.numpy() != wanted).mean() < 2e-3
    else:
        np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_export_gives_what_the_network_says_at_every_node(name: str, settings: dict[str, Any]) -> None:
    network = _network(name, **settings)
    tensors, config = exported(network), network.config
    for slot in config.slots():
        mixing = config.stages[slot.stage - 1] == "mix"
        levels = torch.from_numpy(grid(config.interval, config.kept if mixing else config.inputs)).float()
        with torch.no_grad():
            said = network.units[key(slot)](levels.T).T.numpy()
        assert len(np.unique(said)) > 10  # there is something to compare
        tables = table_set(tensors, slot)
        if tables.full is not None:
            np.testing.assert_array_equal(tables.full, said)
        else:
            assert tables.diagonal is not None and tables.coarse is not None
            by_node = {tuple(node): row for node, row in zip(levels.int().tolist(), said, strict=True)}
            coarse = grid(config.coarse, 4)
            np.testing.assert_array_equal(tables.coarse, [by_node[tuple(node)] for node in coarse.tolist()])
            steps = np.stack(np.unravel_index(np.arange(len(levels)), (2 ** (8 - config.interval) + 1,) * 4))
            near = (abs(steps[1:] - steps[:1]) <= config.diagonal).all(0)
            np.testing.assert_array_equal(tables.diagonal, said[near])


def test_network_and_tables_agree_where_pixels_are_nodes() -> None:
    """Pictures of nodes alone, one stage: no interpolation is left between the two."""
    network = _network("srlut-s", order="sorted")
    nodes = np.append(np.arange(0, 241, 16), 255)
    pictures = torch.from_numpy(np.random.default_rng(0).choice(nodes[:-1], (2, 9, 8))).float()
    found = TableEngine(network.config, exported(network))(pictures.permute(1, 2, 0).numpy().astype(np.uint8))
    with torch.no_grad():
        np.testing.assert_array_equal(found.transpose(2, 0, 1), network(pictures).numpy())


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("name", ["srlut-s", "mulut", "spflut"])
def test_a_network_that_copies_starts_as_repetition(name: str, scale: int) -> None:
    torch.manual_seed(0)
    unit = replace(UNIT, features=3)
    network = untrained_network(published_config(name, scale), unit)
    with torch.no_grad():
        for each in network.units.values():
            assert isinstance(each, NetworkUnit)
            each.last.weight.zero_()
        pictures = _pictures().float().clamp(1, 254)
        repeated = pictures.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        assert (network(pictures) - repeated).abs().max() <= 2  # quarters of a pixel are rounded in a table


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("geometry", [(4, 4, 0, 0), (3, 5, 0, 0), (2, 2, 0, 0), (4, 5, 6, 64)])
def test_gradients_of_look_up_are_its_slopes(geometry: tuple[int, int, int, int], bits: int) -> None:
    """Where a pixel may move a little without leaving its simplex: interpolation is linear there."""
    inputs, interval, coarse, reach = geometry
    simplex = Simplex(inputs, interval, coarse, reach, bits)
    entries = simplex.entries + (5**inputs if coarse else 0)
    rng = np.random.default_rng(3)
    table = torch.from_numpy(rng.normal(size=(entries, 2))).requires_grad_()
    # Fractions that differ by several grey levels, and are as far from nodes.
    bases = rng.integers(0, 2 ** (8 - interval), (inputs, 50)) * 2**interval
    part = 2**interval / (inputs + 1)
    order = np.stack([rng.permutation(inputs) + 1 for _ in range(50)], 1)
    steps = 0.25 if bits else 1.0
    values = torch.from_numpy(np.floor((bases + order * part) / steps) * steps).requires_grad_()
    if interval == 2 and not bits:
        steps = 0.0  # no room to move
    weights = torch.from_numpy(rng.normal(size=(50, 2)))
    total = (interpolated(values, table, simplex, bits) * weights).sum()
    by_value, by_table = torch.autograd.grad(total, (values, table))
    with torch.no_grad():
        # Linear in the table: the slope along any direction is exact.
        direction = torch.from_numpy(rng.normal(size=tuple(table.shape)))
        moved = (interpolated(values, table + direction, simplex, bits) * weights).sum()
        torch.testing.assert_close(moved - total, (by_table * direction).sum())
        for k in range(inputs) if steps else ():
            there = values.detach().clone()
            there[k] += steps
            slope = ((interpolated(there, table, simplex, bits) * weights).sum(1)
                     - (interpolated(values, table, simplex, bits) * weights).sum(1)) / steps  # fmt: skip
            torch.testing.assert_close(by_value[k], slope)


def test_samplers_find_means_of_windows_that_turn() -> None:
    torch.manual_seed(0)
    sampler = Sampler(3, 4)
    picture = torch.rand(2, 7, 8)
    padded = torch.nn.functional.pad(picture[None], (2, 2, 2, 2), "replicate")[0]
    for turns in range(4):
        turned = torch.rot90(picture, turns, (1, 2))
        outside = torch.nn.functional.pad(turned[None], (0, 2, 0, 2), "replicate")[0]
        wanted = torch.nn.functional.conv2d(outside[:, None], sampler.weights()).transpose(0, 1)
        torch.testing.assert_close(sampler(padded, turns), torch.rot90(wanted, -turns, (2, 3)))


def test_tuning_moves_every_kind_of_parameter() -> None:
    config = published_config("spf-light", 2, interval=5, coarse=6, sampler=2)
    network = tables_as_network(config, exported(_network("spf-light", interval=5, coarse=6, sampler=2)))
    pictures = _pictures().float()
    (network(pictures) / 255).square().mean().backward()
    still = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]  # type: ignore[union-attr]
    # Later maps are too smooth here to be far from the diagonal.
    assert not [name for name in still if "coarse" not in name or "stage1" in name]


def _settings(folder: Path, **settings: Any) -> TableSettings:
    values: dict[str, Any] = {
        "data": str(folder), "steps": 60, "patch": (64,), "batch": (4,), "learning_rate": 3e-3, "downscale": 0.0,
        "precision": "float32", "ema": 0.0, "validation_pictures": 2, "validate_every": 100.0, "warmup": 5,
        "network": {
            "units": ["s"], "interval": 5, "unit": {"features": 8, "layers": 1, "bound": "clamp", "copies": True},
        },
    }  # fmt: skip
    return TableSettings.from_dict(values | settings)


def test_training_export_and_tuning_are_one_chain(training_pictures: Path, tmp_path: Path) -> None:
    run = train(_settings(training_pictures), tmp_path / "run")
    first = export_checkpoint(run, tmp_path / "first.safetensors", {})
    assert isinstance(first.config, TableConfig) and first.config.units == ("s",)
    assert first.record["steps"] == 60 and "tuned_from" not in first.record
    assert first.record["log"][-1]["gain"] > -1  # repetition alone is at -3

    tuned = train(
        _settings(training_pictures, init=str(first.path), steps=40, learning_rate=1e-3), tmp_path / "tuned"
    )  # fmt: skip
    second = export_checkpoint(tuned, tmp_path / "second.safetensors", {})
    assert second.id != first.id and second.config == first.config
    assert second.record["tuned_from"] == first.id
    assert second.record["log"][-1]["gain"] > first.record["log"][-1]["gain"] - 0.3
    header, tensors = read_tables(second.path)
    assert all(isinstance(unit, TableUnit) for unit in tables_as_network(header.config, tensors).units.values())
    with pytest.raises(OptionError, match="tables of another kind"):
        TableTask(_settings(training_pictures, init=str(first.path), method="spflut"), Group(0, 1, "cpu"), None)
    # A checkpoint goes on without the file that it began with.
    first.path.unlink()
    longer = _settings(training_pictures, init=str(first.path), steps=41, learning_rate=1e-3)
    assert train(longer, tmp_path / "tuned", resume=True) == tuned


def test_validation_says_of_tables_what_look_up_gives(training_pictures: Path, tmp_path: Path) -> None:
    network = _network("mulut", units=("s",), interval=5)
    path = tmp_path / "t.safetensors"
    write_tables(path, network.config, exported(network), {})
    task = TableTask(_settings(training_pictures, init=str(path)), Group(0, 1, "cpu"), None)
    try:
        said = task.validate(lambda: False)
    finally:
        task.close()
    upscaler = TableUpscaler(*read_tables(path), "tables", None)
    assert said is not None
    psnrs = [
        scores(large, to_samples(upscaler(small)), 2).psnr_y
        for large, small in zip(task._validator.large, task._validator.small, strict=True)
    ]
    assert said.row["psnr_y"] == pytest.approx(np.mean(psnrs), abs=1e-4)


def test_the_recipe_of_the_docs_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "sr-tables.md").read_text(encoding="utf-8")
    recipe = tmp_path / "mulut.toml"
    recipe.write_text(text.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    settings = effective_config(str(recipe), {}, None, TableSettings)
    assert settings.tables() == published_config("mulut", 2)
    assert settings.unit() == UnitConfig(16, 2, True, "clamp", True) and settings.batch == (8,)


def test_settings_that_do_not_fit_are_refused(training_pictures: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"method": "lut"}, {"network": {"depth": 2}}, {"network": {"unit": {"features": 0}}}, {"network": {"unit": 3}},
        {"scale": 9}, {"network": {"unit": {"width": 2}}}, {"network": {"unit": {"features": "many"}}},
        {"network": {"scale": 3}}, {"scale": 3}, {"patch": (8,)}, {"network": {"unit": {"bound": "none"}}},
    ]  # fmt: skip
    for values in odd:
        with pytest.raises(OptionError):
            _settings(training_pictures, **values)
    with pytest.raises(OptionError, match="no training pictures"):
        TableTask(TableSettings(), Group(0, 1, "cpu"), None)


def test_empty_tables_are_a_network(tmp_path: Path) -> None:
    for name in PUBLISHED:
        config = published_config(name, 2)
        write_tables(tmp_path / "empty.safetensors", config, empty_tables(config), {})


def test_slots_name_every_unit_once() -> None:
    config = TableConfig(scale=2, stages=("split", "keep", "up"), units=("s", "d"))
    assert [slot.name for slot in config.slots()][-1] == Slot(3, 1, 1).name == "stage3.channel1.unit1"
    assert len({slot.name for slot in config.slots()}) == 2 + 2 + 4
