"""README's commands, as printed and in order, but for those that take hours; and that none of those is mistyped.

Blocks after a marker `<!-- ci: NAME -->` are run: `install` and `test` by `.ci/run`, the others here, in the folder of
a newcomer who has made `photo.dcae` as the install block does.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import synthetic_picture
from PIL import Image

from dcae.cli import main

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(
    r"(?:<!-- ci: (\w+) -->\n)?```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
)
"""Marker or nothing, language, text."""
RUN = {marker: text for marker, _, text in BLOCKS if marker}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, a folder of pictures, and the checkout's `docs` and `tools`."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "pictures").mkdir()
    for name in ("docs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    synthetic_picture(200, 180, 1).save(folder / "photo.jpg", quality=95)
    synthetic_picture(192, 176, 2).save(folder / "pictures" / "one.png")
    return folder


def _run(folder: Path, *command: str) -> str:
    """What it prints. The environment is active, as the install block leaves it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_block_that_is_run_is_there() -> None:
    assert list(RUN) == ["install", "test", "use", "python", "exact"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_commands_in_order(newcomer: Path) -> None:
    encode = RUN["install"].splitlines()[-1]
    assert encode.startswith("dcae encode photo.jpg")
    printed = _run(newcomer, "sh", "-euc", "\n".join([encode, RUN["use"], RUN["exact"]]))
    with Image.open(newcomer / "decoded.png") as decoded:
        assert decoded.size == (200, 180)
    sizes = [(newcomer / f"{name}.dcae").stat().st_size for name in ("small", "photo", "better")]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert "<html" in (newcomer / "report" / "index.html").read_text(encoding="utf-8")[:1000]
    for words in ("lite", "PSNR", "MS-SSIM", "BD-rate of exact over float32"):
        assert words in printed
    _assert_exact(printed.splitlines())


def _assert_exact(lines: list[str]) -> None:
    """The sceptic's script: processes whose libraries are held to other instructions, threads and algorithms have come
    to the same parameters; it alone knows which instructions this processor lacks."""
    first, last = lines.index("3 files"), lines.index("the same")
    variants = lines[first + 1 : last]
    hashes = [line.split()[-1] for line in variants if "left out" not in line]
    assert len(variants) == 11 and len(hashes) >= 8
    assert len(set(hashes)) == 1 and len(hashes[0]) == 64


@pytest.mark.slow
def test_python(newcomer: Path) -> None:
    pytest.importorskip("compressai", reason="the networks for training need compressai")
    _run(newcomer, sys.executable, "-c", RUN["python"] + "print(picture.size, codec, network.config)")


def _commands() -> list[str]:
    return [line for _, language, text in BLOCKS if language == "sh" for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("line", _commands())
def test_commands_are_not_mistyped(line: str) -> None:
    """Options and arguments are known, scripts are there."""
    words = shlex.split(line, comments=True)
    if "dcae" in words:
        arguments = words[words.index("dcae") + 1 :]
        arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
        # All options are parsed before the one for help takes effect.
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output
    elif words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).is_file()
    assert "../" not in line, "what lies beside the checkout here is not there for others"
