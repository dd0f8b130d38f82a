"""Files are written whole, never over another one unasked, and what they replace keeps its place and permissions."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import TINY, synthetic_picture

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.errors import DCAEError, OptionError
from dcae.files import check_output, replacing, write_bytes
from dcae.models.modelfile import CodingModel

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")


@pytest.fixture(params=["links", "no links"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("system")
def test_a_file_made_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write() -> None:
        with replacing(path, force=False) as file:
            file.write(b"late")
            path.write_bytes(b"first")

    with pytest.raises(OptionError, match="a: exists already; use --force"):
        write()
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("system")
def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    def write(number: int) -> int | None:
        try:
            write_bytes(str(tmp_path / "a"), bytes([number]), force=False)
        except OptionError:
            return None
        return number

    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            done = [number for number in pool.map(write, range(4)) if number is not None]
        assert (tmp_path / "a").read_bytes() == bytes(done)
        assert os.listdir(tmp_path) == ["a"]
        (tmp_path / "a").unlink()


def test_encode_keeps_what_came_into_being_while_it_worked(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_picture(20, 10).save(tmp_path / "a.png")
    encode = Codec.encode

    def slow(*arguments: Any, **options: Any) -> bytes:
        (tmp_path / "a.dcae").write_bytes(b"precious")
        return encode(*arguments, **options)

    monkeypatch.setattr(Codec, "encode", slow)
    result = CliRunner().invoke(main, ["encode", str(tmp_path / "a.png"), "--model", str(tiny_path)])
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert (tmp_path / "a.dcae").read_bytes() == b"precious"


def test_export_keeps_what_came_into_being_while_it_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("compressai")
    import dcae.train.export as export
    from dcae.networks.registry import build_model

    network, output = build_model("lite", **TINY), tmp_path / "m.safetensors"
    state = {"step": 1, "patches": 1, "seconds": 1.0, "skipped": 0, "log": []}
    saved = {"config": network.config.to_dict(), "average": network.state_dict(), "state": state, "train": {}}

    def slow(path: Path) -> dict[str, object]:
        output.write_bytes(b"precious")
        return saved | {"date": "today"}

    monkeypatch.setattr(export, "load_checkpoint", slow)
    command = ["export", str(tmp_path / "run.pt"), "-o", str(output)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1 and "exists already" in result.stderr
    assert output.read_bytes() == b"precious"
    assert CliRunner().invoke(main, [*command, "--force"]).exit_code == 0
    assert output.stat().st_size > 10_000


@posix
def test_a_link_to_nothing_exists(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to("missing")
    with pytest.raises(OptionError, match="exists already"):
        check_output(str(path), force=False)
    with pytest.raises(OptionError, match="exists already"):
        write_bytes(str(path), b"new", force=False)
    assert os.listdir(tmp_path) == ["link"] and path.is_symlink()
    check_output(str(path), force=True)
    write_bytes(str(path), b"new", force=True)
    assert path.is_symlink() and (tmp_path / "missing").read_bytes() == b"new"


@posix
def test_links_are_written_through(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to(folder / "a")
    (tmp_path / "link to it").symlink_to("link")
    write_bytes(str(tmp_path / "link to it"), b"new", force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link to it").is_symlink()
    assert (folder / "a").read_bytes() == b"new"
    assert os.listdir(folder) == ["a"]


@posix
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("missing/c")
    for name, message in (("a", "leads to itself"), ("c", "no such folder")):
        with pytest.raises(DCAEError, match=message):
            check_output(str(tmp_path / name), force=True)
    with pytest.raises(DCAEError, match="leads to itself"):
        write_bytes(str(tmp_path / "a"), b"new", force=True)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o444])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_bytes(str(path), b"new", force=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)


@posix
@pytest.mark.parametrize("force", [False, True])
def test_new_files_have_the_permissions_that_the_umask_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Without changing the umask to learn it, which is the whole process's and would be seen by other threads."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
            write_bytes(str(tmp_path / "a"), b"new", force)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@posix
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("encode {picture} -o - >&-", "standard output is closed"),
        ("decode {file} -o - >&-", "standard output is closed"),
        ("encode - -o new.dcae <&-", "standard input is closed"),
        ("decode - -o new.png <&-", "standard input is closed"),
        ("info - <&-", "standard input is closed"),
    ],
)
def test_closed_standard_streams(
    tiny_model: CodingModel, tiny_path: Path, tmp_path: Path, command: str, message: str
) -> None:
    picture = synthetic_picture(20, 10)
    picture.save(tmp_path / "a.png")
    (tmp_path / "a.dcae").write_bytes(Codec(tiny_model).encode(picture))
    tool = f"'{sys.executable}' -m dcae "
    if not command.startswith("info"):
        command += f" --model '{tiny_path}'"
    done = subprocess.run(
        ["sh", "-c", tool + command.format(picture="a.png", file="a.dcae")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dcae: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.dcae", "a.png"]


@posix
@pytest.mark.parametrize("prepare", [Path.mkdir, lambda path: os.mkfifo(path)], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(tmp_path / "a")
    with pytest.raises(OptionError, match="exists already"):
        write_bytes(str(tmp_path / "a"), b"new", force=False)
    assert not (tmp_path / "a").is_file()
