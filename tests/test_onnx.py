"""ONNX Runtime as the second engine: the same files, symbols and latents as torch, and nearly the same pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TINY, TINY_LOOP, synthetic_picture
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from dcae.codec.codec import Codec
from dcae.codec.latents import Decoded
from dcae.errors import ModelFileError, OptionError
from dcae.models.modelfile import CodingModel
from dcae.models.stored import identity, read_model
from dcae.networks import onnx_file
from dcae.networks.lite.shapes import weight_shapes
from dcae.networks.registry import build_model

pytest.importorskip("torch", reason="needs torch, which pip install '.[dev]' brings")

GOLDEN = Path(__file__).with_name("golden")
LAYERS: dict[str, Any] = {"layers": ("CS", "SSC"), "expansions": (2, 1), "window": 4}


def _same(a: Decoded, b: Decoded) -> bool:
    return (
        np.array_equal(a.z, b.z)
        and all(np.array_equal(x, y) for x, y in zip(a.y, b.y, strict=True))
        and np.array_equal(a.y_hat, b.y_hat)
    )


def _levels(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


@pytest.fixture(scope="module", params=["plain", "looped"])
def codecs(request: pytest.FixtureRequest, tiny_path: Path, looped_path: Path) -> tuple[Codec, Codec]:
    path = tiny_path if request.param == "plain" else looped_path
    return Codec(path, engine="torch"), Codec(path, engine="onnx")


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.dcae")))
def test_golden_files(name: str) -> None:
    """Their check values, over symbols and latents, are verified by decoding."""
    torch_, onnx = (_golden(engine) for engine in ("torch", "onnx"))
    data = (GOLDEN / f"{name}.dcae").read_bytes()
    assert _same(torch_.decode_latents(data), onnx.decode_latents(data))
    with Image.open(GOLDEN / f"{name}.png") as expected:
        assert _levels(onnx.decode(data), expected) <= 1


_loaded: dict[str, Codec] = {}


def _golden(engine: str) -> Codec:
    if engine not in _loaded:
        _loaded[engine] = Codec(GOLDEN / "tiny.safetensors", engine=engine)
    return _loaded[engine]


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (130, 65), (257, 140)])
@pytest.mark.parametrize("quality", [1, 2.5, 8])
def test_each_decodes_what_the_other_encodes(
    codecs: tuple[Codec, Codec], size: tuple[int, int], quality: float
) -> None:
    picture = synthetic_picture(*size)
    for encoder in codecs:
        data = encoder.encode(picture, quality)
        assert _same(*(codec.decode_latents(data) for codec in codecs))
        first, second = (codec.decode(data) for codec in codecs)
        assert _levels(first, second) <= 1


def test_transforms_agree(codecs: tuple[Codec, Codec]) -> None:
    """In both directions, beyond the rounding to symbols."""
    x = np.random.default_rng(1).random((1, 3, 192, 128), np.float32)
    a, b = (codec.engine for codec in codecs)
    y = a.analysis(x, 3.3)
    np.testing.assert_allclose(b.analysis(x, 3.3), y, rtol=1e-3, atol=1e-4 * float(np.abs(y).max()))
    z = a.hyper_analysis(y, 3.3)
    np.testing.assert_allclose(b.hyper_analysis(y, 3.3), z, rtol=1e-3, atol=1e-4 * float(np.abs(z).max()))
    if a.closed_loop:
        base = a.base_synthesis(y, 3.3)
        skip = a.skip_latents(x, base, 3.3)
        np.testing.assert_allclose(b.skip_latents(x, base, 3.3), skip, rtol=1e-3, atol=1e-3)
        shown = a.add_skip(base, skip, 3.3)
        np.testing.assert_allclose(b.add_skip(base, skip, 3.3), shown, atol=1e-4)
        means = a.block_means(x, shown, 3.3)
        np.testing.assert_allclose(b.block_means(x, shown, 3.3), means, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(b.add_means(shown, means, 3.3), a.add_means(shown, means, 3.3), atol=1e-4)


@pytest.mark.parametrize("fields", [TINY, TINY_LOOP, TINY | LAYERS, {}])
def test_shapes_are_those_of_the_network(fields: dict[str, Any]) -> None:
    network = build_model("lite", entropy_models=False, **fields)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert weight_shapes(network.config) == shapes  # type: ignore[arg-type]


def test_graphs_hold_nothing_of_the_model(tiny_path: Path) -> None:
    """So that they can be made once for a configuration."""
    from dcae.networks.lite.graphs import base_synthesis

    stored = read_model(tiny_path)
    weights = {name: value.astype(np.float32) for name, value in stored.weights.items()}
    other = {name: np.float32(2) * value for name, value in weights.items()}
    config: Any = stored.header.config
    assert base_synthesis(config, weights).serialised == base_synthesis(config, other).serialised


@pytest.mark.parametrize("path", ["tiny_path", "looped_path"])
def test_graphs_are_what_the_package_onnx_writes(path: str, request: pytest.FixtureRequest) -> None:
    """Every graph, read by it, has no field that it does not know, and is written by it as the same bytes."""
    onnx = pytest.importorskip("onnx", reason="needs onnx, which pip install '.[dev]' brings")
    from dcae.runtime.onnx import exact

    codec = Codec(request.getfixturevalue(path), engine="onnx")
    engine: Any = codec.engine
    names = set(engine.graphs.__all__) - {"weight_shapes"}
    if not engine.closed_loop:
        names -= {"skip_latents", "add_skip"}
    graphs = [getattr(engine.graphs, name)(engine.config, engine.weights) for name in sorted(names)]
    graphs += [exact.hyper_synthesis(engine.source), exact.slice_prior(engine.source, 1)]
    graphs += [exact.latent_residual(engine.source, 0), exact.extend_context(engine.source, 0)]
    operators = set()
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = onnx_file.IR_VERSION, {"": onnx_file.OPSET}
    for graph in graphs:
        read = onnx.ModelProto.FromString(graph.serialised)
        read.DiscardUnknownFields()
        assert read.SerializeToString(deterministic=True) == graph.serialised
        for node in read.graph.node:
            operators.add(node.op_type)
            onnx.checker.check_node(node, context)
        declared = {tensor.name: tensor for tensor in read.graph.initializer if tensor.external_data}
        assert declared.keys() == graph.weights.keys()
        for name, array in graph.weights.items():
            assert tuple(declared[name].dims) == array.shape
            assert onnx.helper.tensor_dtype_to_np_dtype(declared[name].data_type) == array.dtype
    assert {"Conv", "MatMul", "Clip", "Cast", "LayerNormalization", "Resize"} <= operators


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it raises
from dcae.cli import main
main()
"""


def _without_torch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT_TORCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_command_line_without_torch(tiny_path: Path, tmp_path: Path) -> None:
    synthetic_picture(40, 30).save(tmp_path / "a.png")
    model = str(tiny_path)
    for arguments in (
        ["--help"],
        ["models"],
        ["encode", "a.png", "--model", model],
        ["info", "a.dcae"],
        ["decode", "a.dcae", "-o", "b.png", "--model", model],
    ):
        done = _without_torch(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    expected = Codec(tiny_path, engine="torch").decode((tmp_path / "a.dcae").read_bytes())
    with Image.open(tmp_path / "b.png") as found:
        assert _levels(found, expected) <= 1
    done = _without_torch("encode", "a.png", "--force", "--engine", "torch", "--model", model, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "dcae: the engine torch needs torch, which is not installed: pip install 'dcae[torch]'\n"


def test_what_it_does_not_run(tiny_path: Path, tiny_model: CodingModel) -> None:
    with pytest.raises(OptionError, match="unknown engine 'jax'"):
        Codec(tiny_path, engine="jax")
    with pytest.raises(OptionError, match="runs on the cpu"):
        Codec(tiny_path, "cuda", engine="onnx")
    with pytest.raises(OptionError, match="loaded already"):
        Codec(tiny_model, engine="onnx")


def test_damaged_models_are_refused(tiny_path: Path, tmp_path: Path) -> None:
    stored = read_model(tiny_path)

    def damaged(name: str, value: Any) -> Path:
        with safe_open(tiny_path, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()} | {name: value}  # noqa: SIM118
            header = json.loads(file.metadata()["dcae"])
        header["id"] = identity(header["config"], tensors)
        path = tmp_path / "damaged.safetensors"
        save_file(tensors, path, {"dcae": json.dumps(header)})
        return path

    with pytest.raises(ModelFileError, match="does not fit its configuration"):
        Codec(damaged("network.more", np.ones(3, np.float32)), engine="onnx")
    with pytest.raises(ModelFileError, match="has shape"):
        Codec(damaged("network.dictionary", np.ones((2, 2), np.float32)), engine="onnx")
    weight = stored.weights["h_s.embed.weight"].astype(np.float32) + np.float32(1e-4)
    with pytest.raises(ModelFileError, match="not on their grid"):
        Codec(damaged("network.h_s.embed.weight", weight), engine="onnx")


_FORK = """
import os, sys
from PIL import Image
from dcae.codec.codec import Codec
from dcae.errors import DCAEError
codec = Codec(sys.argv[1], engine="onnx")
picture = Image.linear_gradient("L").convert("RGB")
data = codec.encode(picture, 4)
child = os.fork()
if not child:
    try:
        print(codec.encode(picture, 4) == data, flush=True)
    except DCAEError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.parametrize(("threads", "said"), [("2", "forked off"), ("1", "True")])
def test_forked_processes(tiny_path: Path, threads: str, said: str) -> None:
    """Refused where they would wait for ever."""
    command = [sys.executable, "-c", _FORK, str(tiny_path)]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as done:
        try:
            found, _ = done.communicate(timeout=300)  # not for speed: what hangs shall end
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, 9)
            raise
    assert said in found


@pytest.mark.parametrize("quality", [1.0, 4.7, 8.0])
def test_skip_latents_are_worth_the_same(looped_path: Path, quality: float) -> None:
    worth = [Codec(looped_path, engine=engine).engine.skip_worth(quality) for engine in ("torch", "onnx")]
    assert worth[0].shape == worth[1].shape == (1, 16, 1, 1)
    np.testing.assert_allclose(worth[0], worth[1], rtol=1e-4)
