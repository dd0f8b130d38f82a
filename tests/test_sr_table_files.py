"""Table files and published tables: what is written is read back, what is odd is refused before it costs memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fuzz.structure import ModelParts
from lut_golden import SMALL, golden_case, table_tensors
from numpy.typing import NDArray
from PIL import Image

from dcae.cli import main
from dcae.errors import ModelFileError, OptionError
from dcae.models.header import read_any_header
from dcae.models.modelfile import write_tensors
from dcae.resize import to_float, to_samples
from dcae.sr.find import find_upscaler
from dcae.sr.models import find_sr_model
from dcae.sr.networks.config import SmallConfig
from dcae.sr.tables.config import PUBLISHED, TableConfig, published_config
from dcae.sr.tables.engine import TableEngine
from dcae.sr.tables.importer import import_tables
from dcae.sr.tables.layout import coarse_nodes, near_diagonal, tensor_layouts
from dcae.sr.tables.tablefile import read_tables, write_tables

TINY = TableConfig(scale=2, stages=("pass", "up"), units=("s",), interval=7, sampler=2, residual=True)


def tensors_of(config: TableConfig, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Tables of anything, samplers that see one pixel."""
    rng, found = np.random.default_rng(seed), {}
    for name, (dtype, shape) in tensor_layouts(config).items():
        found[name] = rng.integers(-100, 100, shape).astype(dtype)
        if not name.startswith("tables."):
            found[name] = np.zeros(shape, dtype)
            found[name].reshape(len(found[name]), -1)[:, 0] = 1 << 24 if "samplers" in name else 1 << 22
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    config, path = published_config(name, 2), tmp_path / "tables.safetensors"
    tensors = tensors_of(config)
    written = write_tables(path, config, tensors, {"trained": "never"})
    header, found = read_tables(path)
    assert header == written and read_any_header(path).config == config
    assert find_sr_model(str(path), 2).config == config
    assert header.config == config and header.record == {"trained": "never"}
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(found[key], value)
    with pytest.raises(OptionError, match="exists already"):
        write_tables(path, config, tensors, {}, force=False)


def test_the_id_is_that_of_configuration_and_tensors(tmp_path: Path) -> None:
    tensors = tensors_of(TINY)
    ids = [write_tables(tmp_path / "a", TINY, tensors, {"n": k}).id for k in range(2)]
    tensors["tables.stage1.channel0.unit0"][0, 0] += 1
    ids.append(write_tables(tmp_path / "a", TINY, tensors, {}).id)
    other = replace(TINY, padding="reflect")
    ids.append(write_tables(tmp_path / "a", other, tensors, {}).id)
    assert ids[0] == ids[1] and len(set(ids)) == 3


def test_tensors_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    tensors = tensors_of(TINY)
    odd: list[dict[str, Any]] = [
        tensors | {"more": np.zeros(1)}, {k: v for k, v in tensors.items() if "samplers" not in k},
        {k: v.astype(np.int16) for k, v in tensors.items()},
        tensors | {"samplers.stage1.channel0.unit0": np.zeros((4, 2, 2), np.int32)},
    ]  # fmt: skip
    for case in odd:
        with pytest.raises(ModelFileError):
            write_tables(tmp_path / "a", TINY, case, {})
    assert not list(tmp_path.iterdir())


def _file(change: Callable[[ModelParts], None], tmp_path: Path, fresh_id: bool = True) -> Path:
    path = tmp_path / "odd.safetensors"
    write_tables(path, TINY, tensors_of(TINY), {})
    parts = ModelParts(path.read_bytes())
    change(parts)
    if fresh_id:
        parts.set_id()
    path.write_bytes(parts.write())
    return path


UP = "tables.stage2.channel0.unit0"


def _set(name: str, value: Any) -> Callable[[ModelParts], None]:
    return lambda parts: parts.header["config"].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("scale", 10**9), "scale must be in 1..8"),
        (_set("scale", 1e300), "scale must be like 2"),
        (_set("interval", 0), "entries"),
        (_set("units", ["s"] * 10**4), "number of units"),
        (_set("stages", ["pass", "up", "up"]), "only `up`"),
        (_set("stages", [["up"]]), "must be like"),
        (_set("sampler", 5), "samplers.* is int32"),
        (_set("scale", 3), r"is int8 \(81, 4\), its configuration says"),
        (_set("depth", 3), "unknown fields of preset tables"),
        (lambda parts: parts.header.__setitem__("config", []), "damaged model header"),
        (_set("stages", ["up"] * 10**5), "number of stages"),
        (lambda parts: parts.header.__setitem__("format", 2), "model format 2"),
        (lambda parts: parts.tensors.pop(UP), "1 tensors too many or too few"),
        (lambda parts: parts.tensors.__setitem__("more", ["F32", [0], b""]), "1 tensors too many or too few"),
        (lambda parts: parts.tensors[UP].__setitem__(0, "U8"), "is U8"),
        (lambda parts: parts.tensors[UP].__setitem__(1, [4, 81]), r"is int8 \(4, 81\)"),
        (lambda parts: parts.tensors[UP].__setitem__(1, [1] * 40 + [81, 4]), "is int8"),
        (lambda parts: parts.tensors.__setitem__(UP, ["I8", [0, 2**62], b""]), "is int8"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(change: Callable[[ModelParts], None], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=said) as raised:
        read_tables(_file(change, tmp_path))
    assert "\n" not in str(raised.value)


def test_weights_that_are_no_shares_are_refused(tmp_path: Path) -> None:
    def weights(name: str, value: int) -> Callable[[ModelParts], None]:
        def change(parts: ModelParts) -> None:
            kind, shape, data = parts.tensors[name]
            parts.tensors[name] = [kind, shape, struct.pack("<i", value) + data[4:]]

        return change

    sampler, share = "samplers.stage1.channel0.unit0", "residuals.stage2.channel0.unit0"
    for name, value in ((sampler, 0), (sampler, -1), (sampler, 2**31 - 1), (share, -1), (share, (1 << 24) + 1)):
        with pytest.raises(ModelFileError, match="no shares"):
            read_tables(_file(weights(name, value), tmp_path))
    read_tables(_file(weights(share, 1 << 24), tmp_path))


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = _file(lambda parts: None, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelFileError, match="do not match the model id"):
        read_tables(path)
    for cut in (0, 7, 100, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelFileError):
            read_tables(path)
    with pytest.raises(ModelFileError):
        read_tables(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="damaged model header"):
        read_tables(_file(lambda parts: parts.header.pop("id"), tmp_path, fresh_id=False))


def test_other_models_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, SmallConfig(), {"network.a": np.zeros(1, np.float32)}, {})
    with pytest.raises(ModelFileError, match=r"a model \(sr-small\), but not one of tables"):
        read_tables(path)


@pytest.mark.parametrize("colours", [1, 3])
def test_tables_are_upscalers(colours: int, tmp_path: Path) -> None:
    config = published_config("mulut-dfc", 3)
    path, tensors = tmp_path / "t.safetensors", tensors_of(config)
    write_tables(path, config, tensors, {})
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, colours), np.uint8)
    wanted = TableEngine(config, tensors)(pixels)
    for tile in (None, 0, 7):
        upscaler = find_upscaler(str(path), 3, tile=tile)
        np.testing.assert_array_equal(to_samples(upscaler(to_float(pixels))), wanted)
    # 24 look-ups with five vertices each, 12 of them of one number and 12 of nine.
    assert upscaler.cost().macs == pytest.approx(3 * 12 * 5 * (1 + 9) / 9)
    assert upscaler.cost().parameters == 3 * 8368 * (1 + 9)


# -- published tables -------------------------------------------------------------------------------------------


def _published(case: str, folder: Path, start: int = 1) -> None:
    """The tables of a golden case as the published programs would have written them."""
    config, tensors = golden_case(f"synthetic/{case}")
    modes = "".join(config.units)
    first = f"LUT_ft_x{config.scale}_4bit_int8"
    side = config.scale
    for slot in config.slots():
        kind, name = config.stages[slot.stage - 1], f"tables.{slot.name}"
        place = f"s{slot.stage - 1 + start}"
        if config.kept:
            place += "_channel" if kind == "mix" else f"c{slot.channel}_{modes[slot.unit]}"
        else:
            place += f"_{modes[slot.unit]}"
        if len(config.stages) == 1:
            variant, interval = case.split("_")[1], config.interval
            table = tensors[name].reshape(-1, 1, side, side)
            np.save(folder / f"Model_{variant}_x{side}_{interval}bit_int8.npy", table)
            continue
        for part, ending in (("", ""), ("_compress1", ".diagonal"), ("_compress2", ".coarse")):
            if (value := tensors.get(name + ending)) is not None:
                np.save(folder / f"{first}_{place}{part}.npy", value)


@pytest.mark.parametrize(
    ("case", "start"),
    [
        ("srlut_S_x2_interval4", 1), ("srlut_S_x3_interval6", 1), ("srlut_V_x2_interval0", 1), ("mulut_sdy_x2", 1),
        ("mulut_s_x3", 0), ("spf_dfc_s_x2", 1),
    ],
)  # fmt: skip
def test_published_tables_import(case: str, start: int, tmp_path: Path) -> None:
    _published(case, tmp_path, start)
    config, tensors, files = import_tables(tmp_path)
    wanted, expected = golden_case(f"synthetic/{case}")
    assert config == wanted and len(files) == len(list(tmp_path.iterdir()))
    path = tmp_path / "imported.safetensors"
    write_tables(path, config, tensors, {"imported_from": files})
    header, stored = read_tables(path)
    for name, value in expected.items():
        np.testing.assert_array_equal(stored[name], value)
    golden = np.load(SMALL)
    picture = golden["picture_small" if "spf" in case else "picture"]
    np.testing.assert_array_equal(
        TableEngine(header.config, stored)(picture)[::5], golden[f"synthetic/{case}"]
    )  # fmt: skip


def test_published_samplers_import(tmp_path: Path) -> None:
    """Stages count from 0 there, units have numbers."""
    config = published_config("mulut-autolut", 2, sampler=3, units=("s", "s"), interval=6)
    for name, value in tensors_of(config).items():
        slot = re_slot(name)
        file = f"LUT_x2_6bit_int8_s{slot[0] - 1}_{slot[1]}"
        if name.startswith("tables."):
            np.save(tmp_path / f"{file}.npy", value)
        elif name.startswith("samplers."):
            raw = np.where(value == value.max(), 30, -30).astype(np.float32)[:, None]
            np.save(tmp_path / f"{file}_sampler.npy", raw)
        else:
            np.save(tmp_path / f"{file}_residual.npy", (value / 2**24).astype(np.float32).reshape(2, 2))
    found, tensors, _ = import_tables(tmp_path)
    assert found == config
    for name, value in tensors_of(config).items():
        np.testing.assert_array_equal(tensors[name], value)


def re_slot(name: str) -> tuple[int, int]:
    """Stage and unit of a tensor's name."""
    parts = name.split(".")
    return int(parts[1].removeprefix("stage")), int(parts[3].removeprefix("unit"))


def test_the_command_imports_tables(tmp_path: Path) -> None:
    (tmp_path / "luts").mkdir()
    _published("mulut_sdy_x2", tmp_path / "luts")
    output = tmp_path / "mulut-x2-1.safetensors"
    result = CliRunner().invoke(main, ["import-upscaler", str(tmp_path / "luts"), "-o", str(output)])
    assert result.exit_code == 0 and "tables x2, 6 files, 1252815 bytes" in result.output
    small = tmp_path / "small.png"
    Image.fromarray(np.load(SMALL)["picture"]).save(small)
    arguments = ["upscale", str(small), "-o", str(tmp_path / "large.png"), "--scale", "2", "--model", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "large.png"))[::5], np.load(SMALL)["synthetic/mulut_sdy_x2"]
    )  # fmt: skip
    result = CliRunner().invoke(main, ["import-upscaler", str(tmp_path / "none"), "-o", str(output), "--force"])
    assert result.exit_code == 1 and "Traceback" not in result.output


def test_one_file_says_which_network_is_meant(tmp_path: Path) -> None:
    _published("mulut_sdy_x2", tmp_path)
    _published("srlut_S_x2_interval4", tmp_path)
    with pytest.raises(ModelFileError, match="LUT_ft_x2_4bit, Model_S_x2_4bit; name one file"):
        import_tables(tmp_path)
    assert import_tables(tmp_path / "Model_S_x2_4bit_int8.npy")[0] == published_config("srlut-s", 2)
    assert import_tables(tmp_path / "LUT_ft_x2_4bit_int8_s1_s.npy")[0] == published_config("mulut", 2)


def test_the_index_of_compressed_tables_is_checked(tmp_path: Path) -> None:
    _published("spf_dfc_s_x2", tmp_path)
    config = golden_case("synthetic/spf_dfc_s_x2")[0]
    a, b, c, d = np.unravel_index(near_diagonal(config), (17,) * 4)
    index = np.zeros((17, 5, 5, 5), np.int64)
    index[a, b - a, c - a, d - a] = np.arange(1807)
    np.save(tmp_path / "ref2index_xyzt2i5.npy", index)
    assert import_tables(tmp_path)[0] == config
    np.save(tmp_path / "ref2index_xyzt2i5.npy", index[::-1])
    with pytest.raises(ModelFileError, match="another way to compress"):
        import_tables(tmp_path)


@pytest.mark.parametrize("what", ["missing", "pickle", "shape", "cut", "text", "huge", "float", "infinite"])
def test_odd_published_tables_are_refused(what: str, tmp_path: Path) -> None:
    _published("mulut_s_x3", tmp_path)
    path = tmp_path / "LUT_ft_x3_4bit_int8_s2_s.npy"
    if what == "missing":
        path.unlink()
    elif what == "pickle":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif what == "shape":
        np.save(path, np.load(path)[:-1])
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif what == "text":
        path.write_bytes(b"\x93NUMPY nonsense")
    elif what == "huge":
        header = "{'descr': '|i1', 'fortran_order': False, 'shape': (99999999999, 9), }".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    elif what == "float":
        np.save(path, np.load(path).astype(np.float32))
    else:
        np.save(path, np.full((83521, 9), np.nan, np.float32))
    with pytest.raises(ModelFileError):
        import_tables(tmp_path)
    with pytest.raises(ModelFileError):
        import_tables(tmp_path / "none")


def test_parts_of_tables_are_those_of_the_full_one() -> None:
    config = published_config("mulut-dfc", 2)
    full = np.random.default_rng(0).integers(-127, 128, (83521, 1), np.int8)
    parts = table_tensors(config, next(config.slots()), full)
    assert [len(part) for part in parts.values()] == [1807, 6561]
    assert coarse_nodes(config)[:3].tolist() == [0, 2, 4]
