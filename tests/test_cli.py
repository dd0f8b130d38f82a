"""The command `dcae`, as processes where stdin, stdout or the exit matter, else in this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import screen, synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.models.modelfile import CodingModel

Dcae = Callable[..., Result]


@pytest.fixture
def dcae(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dcae:
    """Runs the command in an empty folder, with the tiny model found under the name `tiny`."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))

    def run(*arguments: str, data: bytes | None = None) -> Result:
        return CliRunner().invoke(main, list(arguments), input=data)

    return run


@pytest.fixture
def photo(dcae: Dcae) -> Image.Image:
    """A picture that lies as photo.png in the working folder."""
    picture = synthetic_picture(40, 30)
    picture.save("photo.png")
    return picture


@pytest.fixture
def file(photo: Image.Image, tiny_model: CodingModel) -> bytes:
    """The same as photo.dcae."""
    data = Codec(tiny_model).encode(photo, 3.5)
    Path("photo.dcae").write_bytes(data)
    return data


def _assert_fails(result: Result, message: str) -> None:
    """One line on stderr that says why, exit code 1, nothing on stdout, no other exception."""
    assert result.exit_code == 1, result.output
    assert result.exc_info is not None
    assert result.exc_info[0] is SystemExit
    assert result.stdout == ""
    assert result.stderr.startswith("dcae: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")


def _here() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def test_encode_and_decode_with_derived_names(dcae: Dcae, photo: Image.Image, tiny_model: CodingModel) -> None:
    result = dcae("encode", "photo.png", "--model", "tiny", "-q", "3.5", "--effort", "0")
    assert result.exit_code == 0, result.output
    data = Path("photo.dcae").read_bytes()
    assert data == Codec(tiny_model).encode(photo, 3.5)
    assert result.stderr.startswith(f"photo.dcae: {len(data)} bytes, {8 * len(data) / 1200:.4f} bpp, ")
    Path("photo.png").unlink()
    assert dcae("decode", "photo.dcae").exit_code == 0
    assert Image.open("photo.png").tobytes() == Codec(tiny_model).decode(data).tobytes()
    assert _here() == {"photo.png", "photo.dcae"}


def test_names_are_derived_beside_the_source(dcae: Dcae, photo: Image.Image) -> None:
    Path("a.b").mkdir()
    photo.save("a.b/c.d.jpg")
    assert dcae("encode", "a.b/c.d.jpg", "--model", "tiny").exit_code == 0
    assert dcae("decode", "a.b/c.d.dcae").exit_code == 0
    assert _here() == {"photo.png", "a.b", "a.b/c.d.jpg", "a.b/c.d.dcae", "a.b/c.d.png"}


def test_model_as_a_path(dcae: Dcae, photo: Image.Image, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DCAE_MODEL_PATH")
    assert dcae("encode", "photo.png", "--model", str(tiny_path), "-o", "a.dcae").exit_code == 0
    _assert_fails(dcae("decode", "a.dcae"), "not installed; pass its file with --model")
    assert dcae("decode", "a.dcae", "--model", str(tiny_path)).exit_code == 0
    assert Image.open("a.png").size == (40, 30)


def test_standard_input_and_output(dcae: Dcae, tiny_model: CodingModel) -> None:
    """Bytes alone on stdout, the report on stderr."""
    buffer = io.BytesIO()
    synthetic_picture(20, 10).save(buffer, "PNG")
    encoded = dcae("encode", "-", "--model", "tiny", "--effort", "0", data=buffer.getvalue())
    assert encoded.stdout_bytes == Codec(tiny_model).encode(buffer.getvalue())
    assert encoded.stderr.startswith(f"-: {len(encoded.stdout_bytes)} bytes, ")
    decoded = dcae("decode", "-", data=encoded.stdout_bytes)
    picture = Image.open(io.BytesIO(decoded.stdout_bytes))
    assert (picture.format, picture.size) == ("PNG", (20, 10))
    sizes = f"-: {len(decoded.stdout_bytes)} bytes, of {len(encoded.stdout_bytes)} bytes, "
    assert decoded.stderr.startswith(sizes)
    refused = dcae("encode", "-", "--model", "tiny", data=b"no picture")
    _assert_fails(refused, "not a picture that Pillow can read")
    assert refused.stderr.startswith("dcae: -: not a picture")
    assert _here() == set()


def test_process_with_pipes_imports_neither_torch_nor_training_nor_evaluation(dcae: Dcae, file: bytes) -> None:
    """Nor all of Pillow's types, for a PNG."""
    names = ("torch", "compressai", "tensorboard", "torchvision", "matplotlib", "pytorch_msssim", "scipy", "dcae.train")
    names += ("PIL.PdfImagePlugin",)
    code = f"""
import sys
from dcae.cli import main
main(["encode", "photo.png", "--model", "tiny", "-o", "new.dcae"], standalone_mode=False)
main(["decode", "-"], standalone_mode=False)
print([name for name in {names} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], input=file, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).size == (40, 30)
    assert Path("new.dcae").stat().st_size > 0
    reports = done.stderr.decode().splitlines()
    assert [line.split(":")[0] for line in reports[:2]] == ["new.dcae", "-"]
    assert reports[2:] == ["[]"]


def test_no_traceback_and_exit_code_in_a_process(tmp_path: Path) -> None:
    (tmp_path / "a.dcae").write_bytes(b"nonsense")
    command = [sys.executable, "-m", "dcae", "decode", "a.dcae"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "dcae: a.dcae: not a .dcae file (or its first bytes are damaged)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.dcae"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written(dcae: Dcae, file: bytes) -> None:
    _assert_fails(dcae("decode", "photo.dcae", "-o", "/dev/full", "--force"), "no picture type")
    _assert_fails(dcae("encode", "photo.png", "--model", "tiny", "-o", "/dev/full", "--force"), "cannot be written")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_reader_of_the_output_that_has_gone(tiny_path: Path) -> None:
    command = [sys.executable, "-m", "dcae", "info", str(tiny_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        message = process.stderr.read()
    assert process.returncode == 1
    assert message == b""


def test_nothing_is_overwritten_without_force(dcae: Dcae, file: bytes) -> None:
    Path("photo.png").write_bytes(b"precious")
    _assert_fails(dcae("decode", "photo.dcae"), "photo.png: exists already; use --force")
    assert Path("photo.png").read_bytes() == b"precious"
    assert dcae("decode", "photo.dcae", "--force").exit_code == 0
    assert Image.open("photo.png").size == (40, 30)

    Path("photo.dcae").write_bytes(b"precious")
    _assert_fails(dcae("encode", "photo.png", "--model", "tiny"), "photo.dcae: exists already; use --force")
    assert Path("photo.dcae").read_bytes() == b"precious"
    assert dcae("encode", "photo.png", "--model", "tiny", "--force").exit_code == 0
    assert read_container(Path("photo.dcae").read_bytes()).header.width == 40


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_permissions_of_any_other(dcae: Dcae, file: bytes, umask: int) -> None:
    """As the process's umask says, although it is written under another name first."""
    before = os.umask(umask)
    try:
        assert dcae("decode", "photo.dcae", "-o", "new.png").exit_code == 0
        assert dcae("encode", "photo.png", "--model", "tiny", "-o", "new.dcae").exit_code == 0
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    for name in ("new.png", "new.dcae"):
        assert Path(name).stat().st_mode & 0o7777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "missing.png"], "missing.png: no such file"),
        (["encode", "text.txt"], "text.txt: not a picture"),
        (["encode", "animated.gif"], "2 frames"),
        (["encode", ".", "-o", "new.dcae"], "new.dcae: several files need a folder to go to"),
        (["encode", "photo.png", "-o", "new.png"], "new.png: the name of a picture"),
        (["decode", ""], "an empty name: not a file"),
        (["decode", ".", "-o", "new.png"], "new.png: several files need a folder to go to"),
        (["encode", "photo.png", "-q", "9", "-o", "new.dcae"], "quality 9 is outside 1..8"),
        (["encode", "photo.png", "-q", "nan", "-o", "new.dcae"], "quality nan is outside 1..8"),
        (["encode", "photo.png", "-o", "missing/new.dcae"], "no such folder"),
        (["encode", "photo.png", "--device", "nonsense", "-o", "new.dcae"], "'nonsense' is not available"),
        (["encode", "photo.png", "--model", "other", "-o", "new.dcae"], "no model named 'other'"),
        (["encode", "photo.png", "--model", "./other", "-o", "new.dcae"], "no such model file"),
        (["encode", "photo.png", "--model", "text.safetensors", "-o", "new.dcae"], "no such model file"),
        (["decode", "missing.dcae"], "missing.dcae: No such file"),
        (["decode", "photo.png", "-o", "new.png"], "not a .dcae file"),
        (["decode", "cut.dcae"], "truncated or damaged"),
        (["decode", "flipped.dcae"], "fails its CRC-32"),
        (["decode", "photo.dcae", "-o", "new.xyz"], "no picture type that Pillow writes"),
        (["decode", "photo.dcae", "-o", "new"], "no picture type that Pillow writes"),
        (["decode", "photo.dcae", "-o", "new.psd"], "no picture type that Pillow writes"),
        (["decode", "photo.dcae", "-o", "missing/new.png"], "no such folder"),
        (["decode", "photo.dcae", "-o", "new.png", "--max-pixels", "1199"], "more than the limit of 1199"),
        (["info", "missing.dcae"], "missing.dcae: No such file"),
        (["info", "text.txt"], "not a .dcae file"),
        (["info", "cut.dcae"], "truncated or damaged"),
        (["info", "missing.safetensors"], "no such model file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_failures_are_one_line_and_leave_nothing(dcae: Dcae, file: bytes, arguments: list[str], message: str) -> None:
    Path("text.txt").write_text("text")
    Image.new("L", (2, 2)).save("animated.gif", save_all=True, append_images=[Image.new("L", (2, 2), 99)])
    Path("cut.dcae").write_bytes(file[:-1])
    Path("flipped.dcae").write_bytes(file[:60] + bytes([file[60] ^ 1]) + file[61:])
    before = _here()
    if arguments[0] == "encode" and "--model" not in arguments:
        arguments = [*arguments, "--model", "tiny"]
    _assert_fails(dcae(*arguments), message)
    assert _here() == before


def test_unwritable_folder_leaves_nothing(dcae: Dcae, file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so that the last step is made to fail instead of the folder."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "link", refuse)
    before = _here()
    for arguments in (
        ["encode", "photo.png", "--model", "tiny", "-o", "new.dcae"],
        ["decode", "photo.dcae", "--force"],
    ):
        _assert_fails(dcae(*arguments), "cannot be written (Permission denied)")
    assert _here() == before
    assert Path("photo.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_folder_without_permission(dcae: Dcae, file: bytes) -> None:
    Path("closed").mkdir(mode=0o500)
    _assert_fails(dcae("decode", "photo.dcae", "-o", "closed/a.png"), "cannot be written")
    assert list(Path("closed").iterdir()) == []


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory(dcae: Dcae, file: bytes, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Codec, "decode_picture", fail)
    _assert_fails(dcae("decode", "photo.dcae", "--force"), "not enough memory")


def test_errors_of_the_program_are_not_hidden(dcae: Dcae, file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Codec, "decode_picture", fail)
    assert isinstance(dcae("decode", "photo.dcae", "--force").exception, RuntimeError)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "webp", "bmp", "tiff", "ppm"])
def test_picture_type_follows_the_suffix(dcae: Dcae, file: bytes, suffix: str, tiny_model: CodingModel) -> None:
    assert dcae("decode", "photo.dcae", "-o", f"new.{suffix}").exit_code == 0
    picture = Image.open(f"new.{suffix}")
    expected = {"jpg": "JPEG", "tiff": "TIFF", "ppm": "PPM"}.get(suffix, suffix.upper())
    assert (picture.format, picture.size, picture.mode) == (expected, (40, 30), "RGB")
    difference = np.asarray(picture, float) - np.asarray(Codec(tiny_model).decode(file), float)
    assert np.abs(difference).mean() <= (12 if expected in ("JPEG", "WEBP") else 0)


def test_gray_pictures_stay_gray(dcae: Dcae, photo: Image.Image) -> None:
    photo.convert("L").save("gray.png")
    assert dcae("encode", "gray.png", "--model", "tiny").exit_code == 0
    for output in ("new.png", "new.jpg"):
        assert dcae("decode", "gray.dcae", "-o", output).exit_code == 0
        assert Image.open(output).mode == "L"
    assert "40 x 30, L" in dcae("info", "gray.dcae").stdout


def test_info_of_a_file(dcae: Dcae, file: bytes, tiny_model: CodingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(line.split(":", 1) for line in dcae("info", "photo.dcae").stdout.splitlines())
    container = read_container(file)
    short_id = tiny_model.header.id[:16]
    assert {name: value.strip() for name, value in rows.items()} == {
        "format": f"dcae version 1, {len(file)} bytes, {8 * len(file) / 1200:.4f} bpp",
        "picture": "40 x 30, RGB, 8 bits",
        "metadata": "none",
        "quality": "3.5",
        "model": f"{short_id} (tiny)",
        "numerics": "integer",
        "sections": f"z {len(container.z)} bytes, y {len(container.y)} bytes",
        "check": f"{container.header.check:08x}",
    }
    monkeypatch.delenv("DCAE_MODEL_PATH")
    assert f"{short_id} (not installed)" in dcae("info", "photo.dcae").stdout


def test_info_of_a_file_without_loss(dcae: Dcae) -> None:
    """What it does not have is null, instead of what lies in the bytes."""
    Image.fromarray(np.uint8(np.indices((30, 40)).sum(0))).save("ramp.png")
    assert dcae("encode", "ramp.png", "--model", "tiny").exit_code == 0
    found = json.loads(dcae("info", "ramp.dcae", "--json").stdout)
    assert found["lossless"] is True and (found["width"], found["height"]) == (40, 30)
    assert [found[name] for name in ("quality", "model", "model_name", "numerics")] == [None] * 4
    assert "stored:    without loss" in dcae("info", "ramp.dcae").stdout


def test_info_of_a_drawing(dcae: Dcae) -> None:
    screen().save("screen.png")
    done = dcae("encode", "screen.png", "--model", "tiny", "-q", "6")
    assert done.exit_code == 0 and "stored as AVIF" in done.stderr
    found = json.loads(dcae("info", "screen.dcae", "--json").stdout)
    assert (found["lossless"], found["avif"], found["quality"], found["model"]) == (False, True, None, None)
    assert "stored:    as AVIF" in dcae("info", "screen.dcae").stdout
    assert dcae("decode", "screen.dcae", "-o", "shown.png").exit_code == 0


def test_info_of_a_model(dcae: Dcae, tiny_path: Path, tiny_model: CodingModel) -> None:
    rows = dict(line.split(":", 1) for line in dcae("info", str(tiny_path)).stdout.splitlines())
    assert rows["id"].strip() == tiny_model.header.id
    assert len(rows["lambdas"].split()) == 8
    assert json.loads(rows["config"])["preset"] == "lite"
    assert json.loads(rows["record"]) == tiny_model.header.record


def test_models_lists_what_is_installed(dcae: Dcae, tiny_path: Path, tiny_model: CodingModel) -> None:
    (tiny_path.parent / "damaged.safetensors").write_bytes(b"nonsense")
    try:
        lines = [line for line in dcae("models").stdout.splitlines() if tiny_model.header.id[:16] in line]
        assert len(lines) == 1
        assert lines[0].startswith("tiny  ")
        assert "quality 1..8" in lines[0]
        assert "damaged" not in dcae("models").stdout
    finally:
        (tiny_path.parent / "damaged.safetensors").unlink()


def test_help_and_version(dcae: Dcae) -> None:
    from dcae import __version__

    assert dcae("--version").stdout == f"dcae, version {__version__}\n"
    text = dcae("-h").stdout
    assert all(name in text for name in ("encode", "decode", "info", "models", "train", "import-checkpoint", "export"))
    for arguments in (["encode"], ["nonsense"], ["encode", "a", "b"], ["decode", "a", "--nonsense"]):
        assert dcae(*arguments).exit_code == 2  # click's, with its usage lines


@pytest.mark.parametrize(
    "arguments", [["encode"], ["encode", "--nope", "x"], ["nothing"], ["encode", "a", "-q", "high"]]
)
def test_mistyped_command_line_is_one_line(arguments: list[str]) -> None:
    from click.testing import CliRunner

    from dcae.cli import main

    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("dcae: ")
