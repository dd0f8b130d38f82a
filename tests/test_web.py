"""The decoder for browsers under Node.js, against the decoder of this package; and the models that it loads."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import synthetic_picture
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load
from web_cases import LACKING, NODE, Cases, altered, coder_cases, environment, flipped, hostile, truncated

from dcae.cli import main
from dcae.codec.container import read_container
from dcae.errors import OptionError
from dcae.models.installed import find_model
from dcae.runtime.onnx.engine import OnnxEngine
from dcae.serve import web_model as exported
from dcae.serve.web_folder import MODULES, RUNTIME, write_web_folder

GOLDEN = Path(__file__).with_name("golden")
TINY = GOLDEN / "tiny.safetensors"
LARGE = "large"


def _run(script: str, cases: Path) -> None:
    """A file of tests in JavaScript."""
    if NODE is None or LACKING:
        pytest.skip(LACKING or "no node")
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip("v\n").split(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20")
    path = Path(__file__).with_name("web") / script
    done = subprocess.run([NODE, "--test", str(path)], capture_output=True, text=True, env=environment(cases))
    failed = [part for part in done.stdout.split("\n# Subtest: ") if "\nnot ok" in part]
    assert done.returncode == 0, "\n".join(failed[:5])[:10000] + done.stderr[-2000:]
    assert "\n# fail 0\n" in done.stdout and "\n# pass 0\n" not in done.stdout


def _golden() -> Iterator[tuple[str, bytes]]:
    for path in sorted(GOLDEN.glob("*.dcae")):
        yield path.stem, path.read_bytes()


def test_golden_files(tmp_path: Path) -> None:
    """To the symbols and latents that golden.json has, and pixels within one level."""
    cases = Cases(tmp_path, [TINY])
    recorded = json.loads((GOLDEN / "golden.json").read_text())["files"]
    for name, data in _golden():
        cases.add(name, data, latents=True)
        assert cases.files[-1].keys() >= {"pixels", "symbols"}
        assert [cases.files[-1][key] for key in ("symbols", "latents")] == [
            recorded[name][key] for key in ("symbols", "latents")
        ]
    cases.write()
    _run("agrees.test.mjs", tmp_path)


@pytest.mark.slow
def test_damaged_and_hostile_files(tmp_path: Path) -> None:
    """Refused where the package refuses them, with the same sentence."""
    cases = Cases(tmp_path, [TINY])
    files = dict(_golden())
    for kind in (truncated, flipped, hostile):
        for name, data in kind(files["pixel"]):
            cases.add(name, data)
    for source, step in {"gray2": 3, "colour3": 11, "wide": 13}.items():
        for name, data in altered(files[source], step):
            cases.add(f"{source}: {name}", data)
    refused = [case for case in cases.files if "error" in case]
    assert {case["error"] for case in refused} >= {"FileFormatError", "SymbolMismatchError"}
    assert len(refused) > 0.95 * len(cases.files) > 2000
    cases.write()
    _run("agrees.test.mjs", tmp_path)


def test_pictures_that_were_coded_small(tmp_path: Path) -> None:
    """To their whole size, by bicubic interpolation."""
    cases = Cases(tmp_path, [TINY])
    codec = next(iter(cases.codecs.values()))
    for width, height in ((1, 1), (2, 3), (65, 40), (131, 67)):
        image = synthetic_picture(width, height)
        for kind in ("RGB", "L"):
            cases.add(f"{width}x{height} {kind}", codec.encode(image.convert(kind), 4, divisor=2))
            assert cases.files[-1]["width"] == width
    cases.write()
    _run("agrees.test.mjs", tmp_path)


def _write_parts(cases: Cases) -> None:
    """Cases for parts.test.mjs, with a file of which no network has a part."""
    model, codec = next(iter(cases.codecs.items()))
    stored = codec.encode(Image.new("RGB", (64, 64), "red"), 4, fallback=True)
    assert read_container(stored).stored
    text = base64.b64encode(stored).decode()
    cases.write(coder=coder_cases(), large=LARGE, largeModel=model, stored=text)


def test_parts(tmp_path: Path) -> None:
    cases = _large(tmp_path, TINY)
    _write_parts(cases)
    _run("parts.test.mjs", tmp_path)


def test_closed_loop(tmp_path: Path, looped_path: Path) -> None:
    """Skip latents and block means, in bands as well."""
    cases = _large(tmp_path, looped_path)
    codec = next(iter(cases.codecs.values()))
    for (width, height), quality in {(1, 1): 1, (17, 33): 2.5, (130, 65): 4.3, (257, 140): 8}.items():
        cases.add(f"{width}x{height}", codec.encode(synthetic_picture(width, height), quality), latents=True)
    _write_parts(cases)
    _run("agrees.test.mjs", tmp_path)
    _run("parts.test.mjs", tmp_path)


def _large(folder: Path, model: Path) -> Cases:
    """A case of several tiles and bands."""
    cases = Cases(folder, [model])
    codec = next(iter(cases.codecs.values()))
    cases.add(LARGE, codec.encode(synthetic_picture(1100, 600), 4), latents=True)
    return cases


@pytest.mark.slow
def test_shipped_model(tmp_path: Path, shared: Path) -> None:
    cases = Cases(tmp_path, [find_model("lite").path])
    codec = next(iter(cases.codecs.values()))
    for number, quality in {1: 8.0, 5: 4.0, 20: 1.5}.items():
        data = codec.encode((shared / f"data/kodak/kodim{number:02}.png").read_bytes(), quality)
        cases.add(f"kodim{number:02}", data, latents=True)
    cases.write()
    _run("agrees.test.mjs", tmp_path)


# -- models ---------------------------------------------------------------------------------------------------


def _stored(array: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """An array of a model for browsers, by the module's docstring."""
    kind = np.dtype(array["stored"])
    numbers = tensors[array["data"]].reshape(kind.itemsize, -1).T.copy().view(kind).reshape(-1)
    if "exponents" in array:
        powers = np.ldexp(1.0, tensors[array["exponents"]].view(np.int8))
        first, _, last = array["grid"]
        numbers = numbers.reshape(array["grid"]) * powers.reshape(first, 1, last)
    return numbers.astype(array["type"]).reshape(array["shape"])


@pytest.mark.parametrize("name", ["tiny_path", "looped_path", "lite"])
def test_models_lose_nothing(name: str, request: pytest.FixtureRequest) -> None:
    """Graphs and weights are those of the engine, bit for bit; the file is the same each time."""
    path = find_model("lite").path if name == "lite" else request.getfixturevalue(name)
    data = exported.web_model(path)
    if name != "lite":  # which takes its time
        assert data == exported.web_model(path)
    raw = gzip.decompress(data)
    length = int.from_bytes(raw[:8], "little")
    about = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["dcae-web"])
    tensors = load(raw)
    engine = OnnxEngine(path)
    assert about["id"] == engine.header.id
    graphs = exported._graphs(engine)
    assert about["graphs"].keys() == graphs.keys()
    for graph, stored in about["graphs"].items():
        assert tensors[stored["graph"]].tobytes() == graphs[graph].serialised
        arrays = [_stored(array, tensors) for array in stored["weights"]]
        for array, expected in zip(arrays, graphs[graph].weights.values(), strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
    for table, expected in exported._tables(engine).items():
        np.testing.assert_array_equal(_stored(about["tables"][table], tensors), expected)
    assert len(data) < path.stat().st_size / 2


@pytest.mark.parametrize("fixture", ["tiny_path", "looped_path"])
def test_the_decoder_gives_every_graph_what_it_takes(fixture: str, request: pytest.FixtureRequest) -> None:
    """Seen without ONNX Runtime for browsers, whose lack skips what decodes."""
    engine = OnnxEngine(request.getfixturevalue(fixture))
    said = "".join(path.read_text() for path in MODULES.glob("*.js"))
    tables = exported._tables(engine)
    for name, graph in exported._graphs(engine).items():
        by_name = tables if name == "base_synthesis" else {}  # alone takes its tables as they are called
        assert re.search(rf"\b{name.partition('.')[0]}\b", said), name
        given = {each for each in graph.inputs if each.startswith("kept.") or each in by_name}
        lacking = [each for each in graph.inputs if each not in given and not re.search(rf"\b{each}\b", said)]
        assert not lacking, f"{name} takes {lacking}"


def test_the_folder_of_a_page(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in RUNTIME:
        (dist / name).write_text(name)
    folder = tmp_path / "site" / "dcae"
    command = ["export-web", "-o", str(folder), "--model", str(TINY), "--runtime", str(dist)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    modules = {path.name for path in MODULES.glob("*.js")}
    assert {"dcae.js", "dcae-img.js", "dcae-worker.js"} <= modules
    assert {path.name for path in folder.iterdir()} == {*modules, *RUNTIME, "6899f2b85092469e.dcaeweb"}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "--force" in done.output
    done = CliRunner().invoke(main, [*command, "--force"])
    assert done.exit_code == 0 and {path: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(OptionError, match="dist of it"):
        write_web_folder(tmp_path / "other", TINY, tmp_path)
    assert not (tmp_path / "other").exists()


def test_the_size_that_is_said_is_that_of_the_modules() -> None:
    document = (Path(__file__).parents[1] / "docs/web/README.md").read_text()
    said = re.search(r"modules of the decoder \| some ([\d,]+) \| ([\d,]+) \|", document)
    assert said
    modules = [path.read_bytes() for path in MODULES.glob("*.js")]
    sizes = sum(map(len, modules)), sum(len(gzip.compress(module, 9)) for module in modules)
    assert [int(number.replace(",", "")) for number in said.groups()] == pytest.approx(sizes, rel=0.03)


def test_the_folder_is_looked_at_before_the_model_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcae.serve.web_model.web_model", None)  # building would be an error
    (tmp_path / "dcae.js").write_text("mine")
    with pytest.raises(OptionError, match="exists already; use --force"):
        write_web_folder(tmp_path, TINY)
    with pytest.raises(OptionError, match=r"dcae.js: not a folder .*; name another, or a new one"):
        write_web_folder(tmp_path / "dcae.js", TINY)
    with pytest.raises(OptionError, match=r"cannot be made a folder, .*; name another, or a new one"):
        write_web_folder(tmp_path / "dcae.js" / "below", TINY)


@pytest.mark.parametrize("folder", [MODULES, MODULES.parent / "page"], ids=["web", "page"])
def test_modules_are_short_and_import_what_is_there(folder: Path) -> None:
    paths = [path for path in folder.iterdir() if path.suffix in (".js", ".css", ".html")]
    assert len(paths) > 5
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 320, f"{path}: split it"
        assert max(map(len, text.splitlines())) <= 120, path
        for line in text.splitlines():
            if line.startswith(("import ", "export *")):
                name = line.split(" from ")[-1].strip('";')
                assert name.startswith("./") and (folder / name).is_file(), line
