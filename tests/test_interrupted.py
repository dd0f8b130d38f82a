"""A killed process or a full disk leaves the old file or the new one, whatever is being written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import synthetic_picture
from PIL import Image

from dcae.codec.codec import Codec
from dcae.models.modelfile import CodingModel, load_model

if sys.platform == "win32":
    pytest.skip("signals and limits of POSIX", allow_module_level=True)

Run = Callable[[list[str], dict[str, str], str | None], dict[str, Path]]

OLD = b"what was there before"
_DRIVER = """
import json, os, resource, signal, sys
from pathlib import Path

import dcae.codec.codec
from dcae.cli import main
from dcae.errors import DCAEError
from dcae.models.modelfile import load_model, write_model

# One process for all that is tried, and a fork for each: importing torch takes the longest.

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def arm(moment):
    if moment == "before the rename":
        os.replace = die
    elif moment == "before the disk has it":
        os.fsync = die
    elif moment == "in the middle":
        opened = os.fdopen

        class Half:
            def __init__(self, *arguments, **options):
                self.file = opened(*arguments, **options)

            def write(self, data):
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                die()

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

        os.fdopen = Half
    elif moment == "disk full":  # no file can be made larger than this
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    elif moment == "stdout full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

def export():  # what `dcae export` and `dcae import-checkpoint` end in
    model = load_model(Path("tiny.safetensors"))
    from safetensors.torch import load_file
    stored = load_file("tiny.safetensors")
    exact = {name[6:]: value for name, value in stored.items() if name.startswith("exact.")}
    try:
        write_model(Path("target.safetensors"), model.header.config, model.network.state_dict(), model.tables_y,
                    model.tables_z, model.z_median, {}, exact)
    except DCAEError as error:
        sys.exit(f"dcae: {error}")

for folder, moment, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(f"../{Path(folder).name}.stderr", os.O_WRONLY | os.O_CREAT), 2)
        arm(moment)
        main(arguments) if arguments else export()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
KILLED = ("in the middle", "before the disk has it", "before the rename")
COMMANDS = {
    "encode": ["encode", "photo.png", "-o", "target.dcae", "--force", "--model", "./tiny.safetensors"],
    "decode": ["decode", "photo.dcae", "-o", "target.png", "--force", "--model", "./tiny.safetensors"],
    "export": [],
}
TARGETS = {"encode": "target.dcae", "decode": "target.png", "export": "target.safetensors"}


@pytest.fixture
def run(tiny_path: Path, tiny_model: CodingModel, tmp_path: Path) -> Run:
    """A function that runs a command once per name, each in a folder of its own, and returns the folders.

    It takes the arguments, name -> moment, and the file that is there already, but for names in "new". The exit code
    is in the file `NAME.code`, stderr in `NAME.stderr`.
    """
    picture = synthetic_picture(200, 130)
    coded = Codec(tiny_model).encode(picture, 8)

    def run_all(arguments: list[str], moments: dict[str, str], old: str | None) -> dict[str, Path]:
        folders = {}
        for name in moments:
            folders[name] = folder = tmp_path / name
            folder.mkdir()
            picture.save(folder / "photo.png")
            (folder / "photo.dcae").write_bytes(coded)
            (folder / "tiny.safetensors").write_bytes(tiny_path.read_bytes())
            if old is not None and not name.startswith("new"):
                (folder / old).write_bytes(OLD)
        jobs = [(str(folders[name]), moment, arguments) for name, moment in moments.items()]
        done = subprocess.run(
            [sys.executable, "-c", _DRIVER, json.dumps(jobs)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for name, code in zip(moments, done.stdout.split(), strict=True):
            (tmp_path / f"{name}.code").write_text(code)
        return folders

    return run_all


def _assert_whole(path: Path, tiny_model: CodingModel) -> None:
    if path.suffix == ".dcae":
        assert Codec(tiny_model).decode(path.read_bytes()).size == (200, 130)
    elif path.suffix == ".png":
        assert Image.open(path).convert("RGB").size == (200, 130)
    else:
        assert load_model(path).header.config == tiny_model.header.config


def _ended(folder: Path) -> tuple[int, str]:
    return int(folder.with_suffix(".code").read_text()), folder.with_suffix(".stderr").read_text()


def _is_one_line(stderr: str) -> bool:
    return stderr.startswith("dcae: ") and stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_killed_or_out_of_space(run: Run, tiny_model: CodingModel, command: str) -> None:
    target = TARGETS[command]
    moments = {f"{kind} {moment}": moment for kind in ("old", "new") for moment in (*KILLED, "disk full")}
    folders = run(COMMANDS[command], moments | {"old never": "never"}, target)
    usual = {"photo.png", "photo.dcae", "tiny.safetensors"}
    for name, moment in moments.items():
        left = {path.name for path in folders[name].iterdir()} - usual
        if name.startswith("old"):
            assert (folders[name] / target).read_bytes() == OLD
            left.remove(target)
        code, stderr = _ended(folders[name])
        if moment == "disk full":
            assert code == 1
            assert _is_one_line(stderr), stderr
            assert f"{target}: cannot be written (" in stderr
            assert left == set()
        else:
            assert code == -signal.SIGKILL, stderr
            # What it was writing is there, under a name of its own that no command would take for a result.
            assert len(left) == 1 and left.pop().startswith(f".{target}.")
    assert _ended(folders["old never"])[0] == 0
    _assert_whole(folders["old never"] / target, tiny_model)
    assert {path.name for path in folders["old never"].iterdir()} == {*usual, target}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
@pytest.mark.slow
def test_full_disk_behind_standard_output(run: Run) -> None:
    folders = run(["encode", "photo.png", "-o", "-", "--model", "./tiny.safetensors"], {"out": "stdout full"}, None)
    code, stderr = _ended(folders["out"])
    assert code == 1
    assert _is_one_line(stderr), stderr
    assert "No space left" in stderr
