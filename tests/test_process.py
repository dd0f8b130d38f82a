"""What a program around the codec may have set: rounding, threads and forks, autocast, default types and devices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import synthetic_picture

from dcae.codec.codec import Codec
from dcae.errors import OptionError
from dcae.models.modelfile import CodingModel
from dcae.runtime.process import rounds_to_nearest
from dcae.runtime.torch_engine import ones

_ROUNDING = """
import ctypes, ctypes.util, sys
import torch
from PIL import Image
from dcae.codec.codec import Codec
from dcae.errors import DCAEError
math = ctypes.CDLL(ctypes.util.find_library("m"))
if not hasattr(math, "fesetround"):
    sys.exit("no fesetround to be found")
torch.set_num_threads(2)
codec = Codec(sys.argv[1], engine=sys.argv[2])
picture = Image.linear_gradient("L").convert("RGB")
data, modes = codec.encode(picture, 4), 0
for mode in (0x400, 0x800, 0xC00, 0x400000, 0x800000, 0xC00000):  # of x86 and of ARM; down, up and towards zero
    before = 1 / 3, -1 / 3, 1 / 10
    if math.fesetround(mode):
        continue
    for work in (lambda: codec.encode(picture, 4), lambda: codec.decode(data)):
        try:
            work()
        except DCAEError as error:
            print(error)
    math.fesetround(0)
    modes += 1
assert codec.encode(picture, 4) == data
print(modes, "modes")
"""


@pytest.mark.skipif(os.name != "posix", reason="the C library's functions by their names")
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_other_rounding_modes_are_refused(tiny_path: Path, tmp_path: Path, engine: str) -> None:
    """They would write files that nobody can decode."""
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    command = [sys.executable, "-c", _ROUNDING, str(tiny_path), engine]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    if done.stderr.strip() == "no fesetround to be found":
        pytest.skip("no fesetround to be found")
    assert done.returncode == 0, done.stderr
    *said, modes = done.stdout.splitlines()
    if modes == "0 modes":
        pytest.skip("a processor that always rounds to nearest, or whose modes have other numbers")
    assert len(said) == 2 * int(modes.split()[0])
    assert all(line.startswith("this process does not round floating-point numbers to nearest") for line in said)


@pytest.mark.parametrize("wrong", ["add", "div", "round"])
def test_any_operation_that_rounds_otherwise_shows(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    assert rounds_to_nearest(*ones(64))
    name = {"add": "__add__", "div": "__truediv__", "round": "round"}[wrong]
    right = getattr(torch.Tensor, name)

    def off(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
        if wrong == "round":
            return x.trunc()
        return torch.nextafter(right(x, *arguments), torch.zeros_like(x))

    monkeypatch.setattr(torch.Tensor, name, off)
    assert not rounds_to_nearest(*ones(64))


_FORK = """
import os, sys
import torch
from PIL import Image
from dcae.codec.codec import Codec
from dcae.errors import DCAEError
torch.set_num_threads(2)
codec = Codec(sys.argv[1], engine="torch")
picture = Image.linear_gradient("L").convert("RGB")
data = codec.encode(picture, 4)
for threads in (2, 1):
    child = os.fork()
    if not child:
        torch.set_num_threads(threads) if threads == 1 else None
        try:
            print(codec.encode(picture, 4) == data, flush=True)
        except DCAEError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_forked_processes_are_refused_instead_of_waiting_for_ever(tiny_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FORK, str(tiny_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=300)  # not for speed: what hangs shall end
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    refused, worked = said.splitlines()
    assert "forked" in refused and 'get_context("spawn")' in refused
    assert worked == "True"


@pytest.fixture(params=["float16", "bfloat16", "float64", "device", "autocast"])
def surroundings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Settings of torch that hold everywhere."""
    if request.param == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            yield
    elif request.param == "device":
        with torch.device("meta"):
            yield
    else:
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, request.param))
        yield
        torch.set_default_dtype(before)


_PICTURE = synthetic_picture(200, 130)


@pytest.fixture(scope="module")
def expected(tiny_path: Path) -> tuple[bytes, bytes]:
    """A file at a quality that few bits do not hold, and its pixels, with torch as it comes."""
    codec = Codec(tiny_path, engine="torch")
    data = codec.encode(_PICTURE, 3.7)
    return data, codec.decode(data).tobytes()


def test_settings_of_torch_change_nothing(
    tiny_path: Path, tiny_model: CodingModel, expected: tuple[bytes, bytes], surroundings: None
) -> None:
    for codec in (Codec(tiny_path, engine="torch"), Codec(tiny_model)):
        assert codec.encode(_PICTURE, 3.7) == expected[0]
        assert codec.decode(expected[0]).tobytes() == expected[1]
        assert codec.decode_latents(expected[0]).y_hat.dtype == np.float32


def test_a_device_without_numbers(tiny_path: Path) -> None:
    with pytest.raises(OptionError, match="device meta holds no numbers"):
        Codec(tiny_path, "meta")
