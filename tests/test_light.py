"""The plain install, `pip install .`: codes pictures and reads files without torch, and says what is missing.

In an environment without extras these tests are run as they are; elsewhere they hide what extras bring from processes
of their own. `.ci/run` does both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_picture
from PIL import Image

from dcae import extras
from dcae.codec.codec import Codec
from dcae.errors import MissingDependencyError
from dcae.extras import installed, missing, require_training

GOLDEN = Path(__file__).with_name("golden")
_HIDING = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None  # importing it raises
sys.argv[0] = "dcae"
"""
_COMMAND = f"{_HIDING}from dcae.cli import main; main()"
HIDDEN = "torch,compressai,onnx,matplotlib,jinja2,bjontegaard,pytorch_msssim,tensorboard,scipy"


def _run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, HIDDEN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.dcae")))
def test_golden_files(name: str) -> None:
    """Check values over all symbols and latents are compared by decoding; pixels are within a level."""
    codec = Codec(GOLDEN / "tiny.safetensors")
    assert type(codec.engine).__name__ == "OnnxEngine"
    found = np.asarray(codec.decode((GOLDEN / f"{name}.dcae").read_bytes()), int)
    with Image.open(GOLDEN / f"{name}.png") as expected:
        difference = np.abs(found - np.asarray(expected, int))
    assert difference.max() <= 1 and difference.mean() < 0.05


def test_command_line(tmp_path: Path) -> None:
    """With the default model: encode, decode, info, models, compare."""
    synthetic_picture(140, 75).save(tmp_path / "a.png")
    for arguments in (
        ["--help"],
        ["models"],
        ["encode", "a.png", "-q", "6"],
        ["encode", "a.png", "-q", "6", "--effort", "0", "-o", "plain.dcae"],
        ["info", "a.dcae"],
        ["decode", "a.dcae", "-o", "b.png"],
        ["encode", "a.png", "-q", "1", "--scale", "1/2", "-o", "half.dcae"],
        ["encode", "a.png", "-q", "1", "--scale", "auto", "-o", "auto.dcae"],
        ["decode", "half.dcae", "-o", "half.png", "--scale", "2"],
        ["upscale", "b.png", "-o", "c.png", "--scale", "2", "--model", "tables"],
        ["downscale", "a.png", "-o", "small.png", "--scale", "2"],
        ["upscale", "small.png", "-o", "large.png"],
        ["train", "--task", "tables", "--write-config", "tables.toml"],
        ["eval", "sr", "."],
    ):
        done = _run(tmp_path, _COMMAND, *arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.dcae").stat().st_size < (tmp_path / "plain.dcae").stat().st_size
    done = _run(tmp_path, _COMMAND, "eval", "compare", "a.png", "b.png")
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"PSNR +(\d+\.\d+) dB\nMS-SSIM +none \(a side is below 161 pixels\)\n", done.stdout)
    assert found and float(found[1]) > 25, done.stdout


_TRAIN = ["train", "--lambda", "0.01", "--data", "."]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*_TRAIN, "-o", "run"], "training needs torch and compressai, which are not installed: .* 'dcae.train.'"),
        (["train", "--task", "sr", "--data", ".", "-o", "run"], "training needs torch and tensorboard, .*"),
        (["export", "run", "-o", "m.safetensors"], "training needs torch, .*"),
        (["import-upscaler", "a.pth.tar", "-o", "m.safetensors"], "checkpoints need torch, .* 'dcae.torch.'"),
        (["import-checkpoint", "a.pth.tar", "-o", "m.safetensors"], "training needs torch and compressai, .*"),
        (["encode", "a.png", "--engine", "torch"], "the engine torch needs torch, .* pip install 'dcae.torch.'"),
        (["encode", "a.png", "--device", "cuda"], "this model or device needs torch, .* pip install 'dcae.torch.'"),
        (["eval", "rd", ".", "-o", "r"], "a report needs bjontegaard, matplotlib and jinja2, .* 'dcae.eval.'"),
        (["eval", "speed", ".", "-o", "r"], "a speed report needs torch and matplotlib, .* 'dcae.eval.'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    synthetic_picture(8, 8).save(tmp_path / "a.png")
    (tmp_path / "a.pth.tar").write_bytes(b"")
    done = _run(tmp_path, _COMMAND, *arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"dcae: {said}\n", done.stderr), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.pth.tar"}


_PYTHON = f"""{_HIDING}
import dcae
from dcae.models.installed import find_model
from dcae.models.modelfile import load_model
for call in (
    dcae.build_model,
    lambda: load_model(find_model("lite").path),
    lambda: dcae.Codec(engine="torch"),
    lambda: dcae.encode("a.png", device="cuda"),
):
    try:
        call()
    except dcae.DCAEError as error:
        print(type(error).__name__, error)
"""


def test_python_says_so_too(tmp_path: Path) -> None:
    done = _run(tmp_path, _PYTHON)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.fullmatch(
            r"MissingDependencyError .* torch, which is not installed: pip install 'dcae\[torch\]'", line
        )


def test_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing("a picture needs", "dev", "PIL", "numpy") == ""
    assert installed("numpy") and not installed("no_such_package")
    assert missing("it needs", "eval", "numpy", "no_such_package") == (
        "it needs no-such-package, which is not installed: pip install 'dcae[eval]'"
    )
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    for wheels, end in (
        (True, r"'dcae\[train\]'$"),
        (False, r"'dcae\[train\]' \(compressai has wheels for .*3\.12\)$"),
    ):
        monkeypatch.setattr(extras, "COMPRESSAI_HAS_WHEELS", wheels)
        with pytest.raises(MissingDependencyError, match=end):
            require_training()


def test_the_plain_install_is_small_and_extras_are_declared() -> None:
    """Requirements that no extra guards bring no framework; every extra that a sentence may name exists."""
    wanted = metadata.requires("dcae") or []
    plain = {re.split(r"[^\w-]", line)[0] for line in wanted if "extra ==" not in line}
    small = {"numpy", "pillow", "click", "constriction", "safetensors", "tqdm", "pypng", "tifffile"}
    assert plain == small | {"onnxruntime"}
    assert {"torch", "train", "eval", "rivals", "dev"} <= set(metadata.metadata("dcae").get_all("Provides-Extra") or ())
