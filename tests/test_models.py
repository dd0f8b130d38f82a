"""Model files, how they are found, and what is imported when."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import TINY, synthetic_picture, write_tiny_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dcae.cli import main
from dcae.codec.api import decode
from dcae.codec.codec import Codec
from dcae.entropy.tables import Tables
from dcae.errors import DCAEError, ModelFileError, ModelNotFoundError
from dcae.models.installed import find_model, find_model_by_id, installed_models
from dcae.models.modelfile import CodingModel, load_model, read_header, write_model


def _contents(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and the parsed header."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["dcae"])  # noqa: SIM118


@pytest.fixture
def edited(tiny_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the tiny model with header fields and tensors replaced (None: left out)."""

    def write(header: dict[str, Any] | None = None, tensors: dict[str, Tensor | None] | None = None) -> Path:
        old_tensors, old_header = _contents(tiny_path)
        path = tmp_path / "edited.safetensors"
        kept = {name: value for name, value in (old_tensors | (tensors or {})).items() if value is not None}
        save_file(kept, path, metadata={"dcae": json.dumps(old_header | (header or {}))})
        return path

    return write


def _rewritten(model: CodingModel, path: Path, **changes: Any) -> Path:
    """The tiny model written anew, with a right id."""
    parts: dict[str, Any] = {
        "weights": model.network.state_dict(),
        "tables_y": model.tables_y,
        "tables_z": model.tables_z,
        "z_median": model.z_median.reshape(-1),
        "record": {},
        "exact": {n.removeprefix("exact."): v for n, v in _contents(model.header.path)[0].items() if "exact." in n},
    }
    write_model(path, model.header.config, **(parts | changes))
    return path


# -- contents -------------------------------------------------------------------------------------------------


def test_round_trip(tiny_path: Path, tiny_model: CodingModel, tmp_path: Path) -> None:
    header = read_header(tiny_path)
    assert header == tiny_model.header
    assert header.config.to_dict() | TINY == header.config.to_dict()
    assert header.record == {"data": "none", "patches": 0}
    assert header.short_id == bytes.fromhex(header.id[:16])

    again = load_model(_rewritten(tiny_model, tmp_path / "again.safetensors"))
    weights = again.network.state_dict()
    assert weights.keys() == tiny_model.network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in tiny_model.network.state_dict().items())
    assert torch.equal(again.z_median, tiny_model.z_median)
    for found, expected in ((again.tables_y, tiny_model.tables_y), (again.tables_z, tiny_model.tables_z)):
        for part in ("frequencies", "lengths", "offsets"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_large_weights_are_stored_in_half_precision_and_used_in_single(tmp_path: Path) -> None:
    pytest.importorskip("compressai")
    from dcae.models.export import export_model
    from dcae.networks.registry import build_model

    network = build_model("lite", **(TINY | {"dictionary_entries": 1024}))
    for half, kind in ((True, torch.float16), (False, torch.float32)):
        path = tmp_path / f"{half}.safetensors"
        export_model(network, path, {}, half=half)
        tensors, _ = _contents(path)
        assert tensors["network.dictionary"].dtype == kind
        assert tensors["network.gain_y.log_gain"].dtype == torch.float32
        loaded = load_model(path).network.state_dict()
        # The dictionary lies on the grid of exact arithmetic, which both kinds hold.
        torch.testing.assert_close(loaded["dictionary"], network.state_dict()["dictionary"], rtol=0, atol=2**-8)
        assert torch.equal(loaded["dictionary"], tensors["network.dictionary"].float())
        assert all(value.dtype == torch.float32 for value in loaded.values() if value.is_floating_point())


def test_weights_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    pytest.importorskip("compressai")
    from dcae.models.export import export_model
    from dcae.networks.registry import build_model

    network = build_model("lite", **(TINY | {"dictionary_entries": 1024}))
    for value in (float("nan"), 1e5):  # too large for float16
        with torch.no_grad():
            network.get_parameter("dictionary")[3, 3] = value
        with pytest.raises(ModelFileError, match="dictionary"):
            export_model(network, tmp_path / "bad.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_id_depends_on_what_decides_decoding_and_nothing_else(tiny_path: Path, edited: Callable[..., Path]) -> None:
    original = load_model(tiny_path)
    tensors, header = _contents(tiny_path)
    assert any(name.startswith("network.entropy_bottleneck.") for name in tensors)
    harmless = {name: value + 1 for name, value in tensors.items() if ".entropy_bottleneck." in name}
    same = load_model(edited({"record": {"note": "other"}}, harmless))
    assert same.header.id == original.header.id
    for name in ("network.dictionary", "network.gain_y.log_gain", "tables.y.offsets", "tables.z.offsets", "z_median"):
        with pytest.raises(ModelFileError, match="do not match the model id"):
            load_model(edited(tensors={name: tensors[name] + 1}))
    lambdas = [2 * v for v in header["config"]["lambdas"]]
    with pytest.raises(ModelFileError, match="do not match the model id"):
        load_model(edited({"config": header["config"] | {"lambdas": lambdas}}))


def _id_of_the_document(path: Path, header: dict[str, Any]) -> str:
    """The id as docs/format.md defines it, from the bytes of the file."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {k: v for k, v in json.loads(data[8:begin]).items() if k != "__metadata__"}
    digest = hashlib.sha256(json.dumps(header["config"], sort_keys=True).encode())
    for name, entry in sorted(tensors.items()):
        if not name.startswith(("network.entropy_bottleneck.", "network.gaussian_conditional.")):
            kind = {"F16": "float16", "F32": "float32", "I32": "int32", "I16": "int16", "I8": "int8"}[entry["dtype"]]
            digest.update(json.dumps([name, kind, entry["shape"]]).encode())
            digest.update(data[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]])
    return digest.hexdigest()


def test_id_is_that_of_the_document(tiny_path: Path) -> None:
    header = _contents(tiny_path)[1]
    assert header["id"] == _id_of_the_document(tiny_path, header)


def test_fields_that_a_later_version_adds_do_not_change_the_id(tiny_path: Path, edited: Callable[..., Path]) -> None:
    """A file written before `window` was a field of the configuration would load as one with its default."""
    header = _contents(tiny_path)[1]
    del header["config"]["window"]
    loaded = load_model(edited(header | {"id": _id_of_the_document(tiny_path, header)}))
    assert loaded.header.id != read_header(tiny_path).id
    assert loaded.header.config == read_header(tiny_path).config


# -- damage ---------------------------------------------------------------------------------------------------


def test_changed_bytes_anywhere(tiny_path: Path, tiny_model: CodingModel, tmp_path: Path) -> None:
    """Every damage is an error, but for what coding does not use: the record, and the densities for training."""
    good = tiny_path.read_bytes()
    tensors_begin = 8 + int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(0)
    positions = [*range(16), *rng.integers(0, tensors_begin, 120), *rng.integers(tensors_begin, len(good), 60)]
    path = tmp_path / "damaged.safetensors"
    refused = 0
    for position in positions:
        data = bytearray(good)
        data[position] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            model = load_model(path)
        except ModelFileError:
            refused += 1
            continue
        assert model.header.id == tiny_model.header.id
        assert model.header.config == tiny_model.header.config
        weights = model.network.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in tiny_model.network.state_dict().items())
    assert refused > 0.8 * len(positions)


def test_truncated(tiny_path: Path, tmp_path: Path) -> None:
    good = tiny_path.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in (0, 1, 7, 8, 9, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        for read in (read_header, load_model):
            with pytest.raises(ModelFileError, match="not a readable model file"):
                read(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ModelFileError, match="not a DCAE model"):
        read_header(path)
    save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="not a DCAE model"):
        load_model(path)
    for source in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(ModelFileError, match="not a readable model file"):
            load_model(source)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": 2}, "model format 2, this version reads 1"),
        ({"format": "1"}, "model format 1, this version"),
        ({"id": "00" * 31}, "damaged model header"),
        ({"id": "xy" * 32}, "damaged model header"),
        ({"id": None}, "damaged model header"),
        ({"record": []}, "damaged model header"),
        ({"config": []}, "damaged model header"),
        ({"config": {"preset": "unknown"}}, "damaged model header .*unknown preset"),
        ({"config": {"preset": "lite", "colour": 1}}, "damaged model header .*unknown fields"),
        ({"config": {"preset": "lite", "slices": [1, 2]}}, "damaged model header .*add up"),
    ],
)
def test_headers_that_are_not_understood(edited: Callable[..., Path], header: dict[str, Any], message: str) -> None:
    path = edited(header)
    for read in (read_header, load_model):
        with pytest.raises(ModelFileError, match=message):
            read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000])
def test_header_that_is_no_header(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"dcae": text})
    with pytest.raises(ModelFileError, match="damaged model header"):
        read_header(path)


def test_type_that_numpy_does_not_have(tiny_path: Path, edited: Callable[..., Path]) -> None:
    name = "network.dictionary"
    with pytest.raises(ModelFileError, match="not a readable model file"):
        load_model(edited(tensors={name: _contents(tiny_path)[0][name].bfloat16()}))


def _one_row(*frequencies: int) -> Tables:
    return Tables(np.array(frequencies, np.int32), np.array([len(frequencies)], np.int32), np.zeros(1, np.int32))


def test_contents_that_do_not_fit_the_configuration(tiny_model: CodingModel, tmp_path: Path) -> None:
    """With a right id, as of a program that wrote nonsense."""
    path = tmp_path / "m.safetensors"
    weights = dict(tiny_model.network.state_dict())
    missing = {name: value for name, value in weights.items() if name != "dictionary"}
    table = _one_row(1, 2, (1 << 24) - 3)
    for changes, message in (
        ({"weights": missing}, "does not fit its configuration"),
        ({"weights": weights | {"dictionary": torch.ones(2, 2)}}, "does not fit its configuration"),
        ({"weights": weights | {"more": torch.ones(2, 2)}}, "does not fit its configuration"),
        ({"z_median": torch.zeros(3)}, "does not fit its configuration"),
        ({"tables_z": table}, "1 probability tables for z instead of 16"),
        ({"tables_y": table}, "1 probability tables for y instead of 64"),
    ):
        with pytest.raises(ModelFileError, match=message):
            load_model(_rewritten(tiny_model, path, **changes))
    for part, value in (("frequencies", [1, 2, 3]), ("lengths", [2] * 16), ("offsets", [0.5] * 16)):
        tables = _one_row(1, 2, (1 << 24) - 3)
        object.__setattr__(tables, part, np.array(value, np.float32 if part == "offsets" else np.int32))
        with pytest.raises(ModelFileError, match="probability table"):
            load_model(_rewritten(tiny_model, path, tables_z=tables))


def test_a_failed_write_leaves_the_old_file(tiny_model: CodingModel, tmp_path: Path) -> None:
    path = _rewritten(tiny_model, tmp_path / "m.safetensors")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        _rewritten(tiny_model, path, record={"not": {"json"}})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -- finding --------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders on DCAE_MODEL_PATH; the second has a model `one` of its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "one.safetensors").write_bytes(tiny_path.read_bytes())
    (first / "broken.safetensors").write_bytes(b"nonsense")
    write_tiny_model(second / "one.safetensors", seed=3)
    (second / "two.safetensors").write_bytes((second / "one.safetensors").read_bytes())
    monkeypatch.setenv("DCAE_MODEL_PATH", os.pathsep.join([str(first), "", str(second), str(tmp_path / "missing")]))
    return first, second


def test_models_on_the_path(folders: tuple[Path, Path], tiny_model: CodingModel) -> None:
    first, second = folders
    found = {name: header for name, header in installed_models().items() if header.path.parent in folders}
    assert found.keys() == {"one", "two"}
    assert found["one"].path == first / "one.safetensors"
    assert find_model("two").path == second / "two.safetensors"
    for number in (2, 9, 10):
        shutil.copy(first / "one.safetensors", second / f"one-{number}.safetensors")
        shutil.copy(first / "one.safetensors", second / f"new-{number}.safetensors")
    assert find_model("one").path == first / "one.safetensors"  # a name as it is comes first
    assert find_model("new").path == second / "new-10.safetensors"
    assert find_model("new-9").path == second / "new-9.safetensors"
    assert find_model_by_id(tiny_model.header.short_id).path == first / "one.safetensors"
    assert Codec("one").header.id == tiny_model.header.id


def test_models_that_are_not_there(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model named 'three'; installed: .*one"):
        find_model("three")
    with pytest.raises(ModelNotFoundError, match="no such model file"):
        find_model(folders[0] / "three.safetensors")
    with pytest.raises(ModelNotFoundError, match="0123456789abcdef"):
        find_model_by_id(bytes.fromhex("0123456789abcdef"))
    with pytest.raises(ModelFileError, match="not a readable model file"):
        find_model(folders[0] / "broken.safetensors")
    with pytest.raises(ModelNotFoundError) as caught:
        Codec("broken")
    # Paths are in the part of the message that a service keeps from its clients.
    assert str(folders[0]) not in caught.value.what and str(folders[0] / "broken.safetensors") in caught.value.advice


def test_functions_find_the_model_a_file_names(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import dcae

    picture = synthetic_picture(5, 6)
    data = dcae.encode(picture, 2, model="two")
    assert dcae.decode(data).tobytes() == dcae.decode(data, model=folders[1] / "two.safetensors").tobytes()
    with pytest.raises(ModelNotFoundError, match="written with model"):
        dcae.decode(data, model="one")
    monkeypatch.delenv("DCAE_MODEL_PATH")
    with pytest.raises(ModelNotFoundError, match="not installed"):
        dcae.decode(data)


def test_a_model_file_is_installed_by_command(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, file, other = tmp_path / "own" / "models", tmp_path / "old-1.safetensors", tmp_path / "b" / "old-1.safetensors"
    monkeypatch.setattr("dcae.models.installed.own_folder", lambda: own)
    monkeypatch.delenv("DCAE_MODEL_PATH", raising=False)
    file.write_bytes(tiny_path.read_bytes())
    data = Codec(tiny_path).encode(synthetic_picture(5, 6), 2)
    with pytest.raises(ModelNotFoundError, match=r"not installed; .* or install it with `dcae models --install FILE`"):
        decode(data)
    for _ in range(2):  # what is there already is left
        done = CliRunner().invoke(main, ["models", "--install", str(file)])
        assert done.exit_code == 0 and any(line.startswith("old-1 ") for line in done.output.splitlines())
    assert [path.name for path in own.iterdir()] == ["old-1.safetensors"]
    assert decode(data).size == (5, 6) and find_model("old").path.parent == own
    other.parent.mkdir()
    write_tiny_model(other, seed=3)
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    for path, said in (
        (other, "is another model of this name; rename the file"),
        (tmp_path / "broken.safetensors", "not a readable model file"),
        (tmp_path / "none.safetensors", "no such model file"),
        (tmp_path / "model.pt", "model files end in .safetensors"),
    ):
        done = CliRunner().invoke(main, ["models", "--install", str(path)])
        assert done.exit_code == 1 and said in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in own.iterdir()] == ["old-1.safetensors"]
    monkeypatch.setattr("dcae.models.installed.own_folder", lambda: file / "models")
    done = CliRunner().invoke(main, ["models", "--install", str(tiny_path)])
    assert done.exit_code == 1 and "Not a directory" in done.stderr


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "archive").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_models_that_left_the_package_still_code(path: Path) -> None:
    codec = Codec(path)
    assert re.fullmatch(r".*-\d+", path.stem) and path.stem not in installed_models()
    picture = synthetic_picture(70, 50)
    error = np.asarray(codec.decode(codec.encode(picture, 8)), float) - np.asarray(picture, float)
    assert (error**2).mean() < 100


def test_device_that_is_not_there(tiny_model: CodingModel) -> None:
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(DCAEError, match="not available"):
            Codec(tiny_model, device)


# -- imports --------------------------------------------------------------------------------------------------


def test_light_commands_do_not_import_torch(tiny_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.dcae"
    file.write_bytes(Codec(tiny_path).encode(synthetic_picture(3, 3)))
    commands = (
        ["--help"],
        ["encode", "--help"],
        ["--version"],
        ["info", str(file)],
        ["info", str(tiny_path)],
        ["models"],
    )
    code = f"""
import sys
from pathlib import Path
from dcae.cli import main
from dcae.models.modelfile import read_header
read_header(Path({str(tiny_path)!r}))
for arguments in {commands}:
    assert main(arguments, standalone_mode=False) in (0, None)
print([name for name in ("click", "torch", "compressai", "constriction") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['click']"


def test_looking_for_a_model_imports_no_other_kind_of_configuration() -> None:
    code = """
import sys
from dcae.models.installed import find_model, find_model_by_id
assert find_model_by_id(find_model("lite").short_id) == find_model("lite")
print([name for name in sys.modules if name.startswith("dcae.sr")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_damaged_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of being told to be missing."""
    (tmp_path / "mine-7.safetensors").write_bytes(b"truncated")
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"mine-7\.safetensors: "):
        find_model("mine")
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0 and result.stderr.startswith("dcae: ") and "mine-7.safetensors" in result.stderr
