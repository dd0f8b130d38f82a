"""Model files of strangers: nothing in them makes loading allocate, hang, or end in anything but our error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fuzz.structure import ModelParts
from helpers import TINY

from dcae.cli import main
from dcae.errors import ModelFileError, OptionError
from dcae.eval.memory import peak_mib, reset_peak
from dcae.models.header import MAX_BRACKETS, MAX_DEPTH, MAX_HEADER
from dcae.models.modelfile import CodingModel, load_model, read_header
from dcae.networks.config import MAX_CHANNELS
from dcae.networks.lite.config import LiteConfig
from dcae.networks.paper.config import PaperConfig
from dcae.networks.registry import config_from_dict


@pytest.fixture
def written(tiny_path: Path, tmp_path: Path) -> Callable[[Callable[[ModelParts], Any]], Path]:
    """A function that writes the tiny model after a change, with the right id."""

    def write(change: Callable[[ModelParts], Any]) -> Path:
        parts = ModelParts(tiny_path.read_bytes())
        change(parts)
        parts.set_id()
        path = tmp_path / "changed.safetensors"
        path.write_bytes(parts.write())
        return path

    return write


Written = Callable[[Callable[[ModelParts], Any]], Path]


def _set(parts: ModelParts, name: str, values: Any, kind: str) -> None:
    parts.tensors[name][2] = np.broadcast_to(np.array(values, kind), parts.tensors[name][1]).tobytes()


def test_the_tool_writes_the_same_model(written: Written, tiny_model: CodingModel) -> None:
    assert load_model(written(lambda parts: None)).header.id == tiny_model.header.id


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [10**9, 32]},
        {"widths": [16, -32]},
        {"widths": [16.0, 32]},
        {"widths": [True, 32]},
        {"widths": 16},
        {"hyper_channels": 10**9},
        {"hyper_channels": 0},
        {"hyper_channels": "16"},
        {"hyper_channels": None},
        {"dictionary_entries": 0},
        {"dictionary_entries": MAX_CHANNELS + 1},
        {"window": 17},
        {"window": 10**6},
        {"layers": ["C" * 65, "S"]},
        {"layers": [["C"], "S"]},
        {"slices": [1] * 5000, "latent_channels": 5000},
        {"slices": "88", "latent_channels": 16},
        {"slices": [8.9, 24]},
        {"lambdas": [10**400]},
        {"lambdas": [True]},
        {"lambdas": ["0.1"]},
        {"lambdas": []},
        {"expansions": [64, 64], "widths": [4096, 4096]},
        {"preset": ["lite"]},
        {"preset": "lite\x1b[2J"},
        {"dictionary_entries": 4096, "dictionary_width": 4096, "head_channels": 1},
    ],
    ids=str,
)
def test_configurations_that_no_network_has(change: dict[str, Any]) -> None:
    config = LiteConfig(**TINY).to_dict()
    config_from_dict(config)
    with pytest.raises(OptionError):
        config_from_dict(config | change)


def test_presets_are_far_from_the_limits() -> None:
    LiteConfig(widths=(512, 1024), expansions=(4, 4), context_width=512)
    PaperConfig(dictionary_entries=512)
    with pytest.raises(OptionError, match="80 numbers per pixel, the limit is 64"):
        PaperConfig(dictionary_entries=1024)


def test_weights_that_are_not_in_the_file_are_not_allocated(written: Written) -> None:
    """Sizes that a configuration may have, in a file that has nothing of that size."""
    huge = {"widths": [1024, 4096], "layers": ["C" * 60, "C" * 60], "expansions": [1, 1]}
    tiny = LiteConfig(**TINY).to_dict()
    for config in (tiny | huge, tiny | {"hyper_width": 4096}, PaperConfig(hyper_channels=16).to_dict()):
        path = written(lambda parts, config=config: parts.header.update(config=config))
        reset_peak()
        before = peak_mib()
        with pytest.raises(ModelFileError, match=r"more weights than the \d+ numbers in the file"):
            load_model(path)
        if before is not None:
            assert (peak_mib() or 0) - before < 32


@pytest.mark.parametrize("name", ["x", "z_median", "exact.value_shift", "tables.y.lengths", "network.dictionary"])
@pytest.mark.parametrize(
    "shape",
    [[1] * 9, [1] * 33, [1] * 65, [0] * 33, [0, 2**62], [2**62, 0], [0, 2**63], [2**64 - 1, 0], [0, 2**40 + 1]],
    ids=lambda shape: f"{len(shape)} of {max(shape)}",
)
def test_shapes_that_no_array_has(written: Written, name: str, shape: list[int]) -> None:
    """NumPy and torch refuse them with errors of their own, even where they hold nothing."""

    def change(parts: ModelParts) -> None:
        kind = parts.tensors.get(name, ["F32"])[0]
        size = np.dtype({"I32": "i4", "I8": "i1", "F16": "f2"}.get(kind, "f4")).itemsize
        parts.tensors[name] = [kind, shape, bytes(0 if 0 in shape else size)]

    with pytest.raises(ModelFileError, match=r"tensor .* which no model has") as found:
        load_model(written(change))
    assert "\n" not in str(found.value)


def test_names_are_compared_before_torch_searches_them(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its search goes through all names once for every module: seconds for a header of a few megabytes."""
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: pytest.fail("torch has been asked"))

    def many(parts: ModelParts) -> None:
        parts.tensors |= {f"network.g_a.{k}": ["F32", [0], b""] for k in range(1000)}

    with pytest.raises(ModelFileError, match=r"1000 tensors too many or too few, among them 'g_a\.0'"):
        load_model(written(many))


def test_loading_draws_no_random_numbers(tiny_path: Path) -> None:
    state = torch.get_rng_state()
    load_model(tiny_path)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -32768.0])
def test_medians_out_of_range(written: Written, value: float) -> None:
    with pytest.raises(ModelFileError, match="medians"):
        load_model(written(lambda parts: _set(parts, "z_median", value, "f4")))


def test_largest_negative_gain(written: Written) -> None:
    """int32 has no absolute value of it."""
    with pytest.raises(ModelFileError, match="gain table is out of range"):
        load_model(written(lambda parts: _set(parts, "exact.gains", -(2**31), "i4")))


def test_headers_of_any_size_and_depth(tiny_path: Path, tmp_path: Path) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    path = tmp_path / "m.safetensors"
    for depth, fits in ((MAX_DEPTH - 2, True), (MAX_DEPTH - 1, False), (900, False)):
        value: Any = 0
        for _ in range(depth):
            value = [value]
        parts.header["record"] = {"deep": value}
        path.write_bytes(parts.write())
        if fits:
            assert json.dumps(read_header(path).record)
        else:
            with pytest.raises(ModelFileError, match="record"):
                read_header(path)
    parts.header["record"] = {"many": [[]] * MAX_BRACKETS}
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match="lists and objects"):
        read_header(path)
    parts.header["record"] = {"long": "x" * MAX_HEADER}
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match=f"the limit is {MAX_HEADER}"):
        read_header(path)


@pytest.mark.parametrize("identity", ["AB" * 32, "ab " * 32, " " + "ab" * 32, "ab" * 32 + "\n"])
def test_ids_are_written_in_one_way(tiny_path: Path, tmp_path: Path, identity: str) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    parts.header["id"] = identity
    path = tmp_path / "m.safetensors"
    path.write_bytes(parts.write())
    with pytest.raises(ModelFileError, match="id"):
        read_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in folders")
def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "pipe.safetensors"
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="not a file"):
        read_header(path)


def test_messages_do_nothing_to_a_terminal(tiny_path: Path, tmp_path: Path) -> None:
    parts = ModelParts(tiny_path.read_bytes())
    parts.header["format"] = "\x1b[2J\ud800\n\r\x9b" * 1000
    path = tmp_path / "m.safetensors"
    path.write_bytes(parts.write())
    result = CliRunner().invoke(main, ["info", str(path)])
    assert result.exit_code == 1
    assert result.stderr.endswith("\n") and result.stderr[:-1].isprintable() and len(result.stderr) < 1200
