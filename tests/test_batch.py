"""Batches: what is meant by paths, names, several processes of which some die, and going on where one stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from coders_for_batches import Copying, written_jobs
from helpers import synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.codec.batch import PICTURES, Job, Source, decoded_name, encoded_name, jobs_into, work_list
from dcae.codec.codec import Codec
from dcae.codec.filecoders import Done, _usual_limit
from dcae.codec.progress import Progress
from dcae.codec.workers import Outcome, outcomes
from dcae.errors import DCAEError, OptionError
from dcae.models.modelfile import CodingModel

Dcae = Callable[..., Result]
ALL = {"a.JPG.dcae", "a.png.dcae", "sub/a.png.dcae", "sub/deep/b.webp.dcae"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures that are called alike, in three layers, and what is no picture."""
    for k, name in enumerate(("a.png", "a.JPG", "sub/a.png", "sub/deep/b.webp")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        synthetic_picture(20 + k, 10, k).save(path)
    for name in ("notes.txt", ".hidden.png", "sub/.trash/c.png", "sub/a.dcae"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nothing")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dcae(here: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dcae:
    """Runs the command there, with the tiny model found by its id and under the name `tiny`."""
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def _files(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def _names(*paths: str, recursive: bool = False) -> list[str]:
    return [source.name for source in work_list(paths, PICTURES, recursive).sources]


@pytest.mark.parametrize(
    ("path", "recursive", "names"),
    [
        ("in", False, ["a.JPG", "a.png"]),
        ("in/", True, ["a.JPG", "a.png", "sub/a.png", "sub/deep/b.webp"]),
        ("in/notes.txt", False, ["notes.txt"]),
        ("in/a.*", False, ["a.JPG", "a.png"]),
        ("in/*/a.png", False, ["sub/a.png"]),
        ("in/**/*.png", False, ["a.png", "sub/a.png"]),
        ("in/su?", True, ["a.png", "deep/b.webp"]),
    ],
)
def test_which_files_are_meant(here: Path, path: str, recursive: bool, names: list[str]) -> None:
    assert _names(path, recursive=recursive) == names


def test_no_file_is_meant_twice(here: Path) -> None:
    assert _names("in/a.png", "in", "./in/../in/a.png", "in/*.png") == ["a.png", "a.JPG"]


def test_lists_name_a_path_in_each_line(here: Path) -> None:
    Path("list").write_text(f"in/a.png\r\nmissing.png\n\n./sub one/c.png\n{here}/in/sub/a.png\n../x/d.png\n", "utf-8")
    assert _names("@list") == ["in/a.png", "missing.png", os.path.join("sub one", "c.png"), "a.png", "d.png"]


def test_what_exists_under_a_special_name_is_a_file(here: Path) -> None:
    for name in ("@real", "[x].png", "*.jpg"):
        Path(name).write_bytes(b"a file that is called so")
        assert _names(name) == [name]


@pytest.mark.parametrize("path", ["missing", "in/*.tiff", "@missing", "-"])
def test_mistyped_paths_are_refused(here: Path, path: str) -> None:
    with pytest.raises(DCAEError, match=r"^(\S+): "):
        _names("in", path)


def test_what_is_left_out_is_known(here: Path) -> None:
    assert [Path(path).name for path in work_list(("in",), PICTURES, True).left_out] == ["notes.txt", "a.dcae"]


def test_names_are_kept_and_do_not_depend_on_other_files() -> None:
    assert encoded_name("sub/photo.jpg") == "sub/photo.jpg.dcae"
    assert decoded_name("sub/photo.jpg.DCAE", "webp") == "sub/photo.jpg.webp"
    assert decoded_name("x.bin", "png") == "x.bin.png"
    with pytest.raises(OptionError, match=r"1/a.png and 2/a.png would both become out.a.png.dcae"):
        jobs_into("out", [Source("1/a.png", "a.png"), Source("2/a.png", "a.png")], encoded_name)


def test_a_folder_and_back(dcae: Dcae, tiny_model: CodingModel) -> None:
    done = dcae("encode", "in", "-r", "-o", "out", "--model", "tiny", "-q", "3", "--effort", "0")
    assert done.exit_code == 0, done.output
    assert _files("out") == ALL
    for name in ALL:
        source = Path("in") / name.removesuffix(".dcae")
        assert (Path("out") / name).read_bytes() == Codec(tiny_model).encode(source, 3)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("2 files of other types left out")
    assert lines[1].startswith(f"{os.path.join('in', 'a.JPG')} -> {os.path.join('out', 'a.JPG.dcae')}: ")
    assert lines[-1].startswith("4 encoded, 0 failed; ") and lines[-1].endswith(" files/s")

    back = dcae("decode", "out", "-r", "-o", "back/", "--format", "jpg", "--quiet")
    assert (back.exit_code, back.output) == (0, "")
    assert _files("back") == {name.replace(".dcae", ".jpg") for name in ALL}
    with Image.open("back/sub/deep/b.webp.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (23, 10))


def test_failures_are_collected_and_the_rest_goes_on(dcae: Dcae) -> None:
    Path("in/b.png").write_bytes(b"no picture")
    Image.new("F", (2, 2), 0.5).save("in/c.tiff")
    Path("list").write_text("in/gone.png\nin/a.png\nin/b.png\nin/c.tiff\n", "utf-8")
    done = dcae("encode", "@list", "-o", "out", "--model", "tiny", "--manifest", "lines.jsonl")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    for line, name in zip((lines[0], *lines[2:4]), ("gone.png", "b.png", "c.tiff"), strict=True):
        assert line.startswith("dcae: ") and f"in/{name}" in line
    assert "in/a.png -> " in lines[1]
    assert lines[4].startswith("1 encoded, 3 failed; ")
    assert _files("out") == {"in/a.png.dcae"}
    found = [json.loads(line) for line in Path("lines.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["source"] for line in found] == Path("list").read_text("utf-8").splitlines()
    assert [line["bytes"] for line in found] == [None, Path("out/in/a.png.dcae").stat().st_size, None, None]
    assert [bool(line["error"]) for line in found] == [True, False, True, True]


def test_options_that_no_file_can_be_coded_with_are_refused_at_once(dcae: Dcae) -> None:
    for option in (["--background", "blurple"], ["-q", "9"]):
        done = dcae("encode", "in/a.png", "in/a.JPG", "-o", "out", "--model", "tiny", *option)
        assert done.exit_code == 1 and done.stderr.count("\n") == 1 and not Path("out").exists()
    done = dcae("decode", "in", "-o", "out", "--background", "blurple")
    assert done.exit_code == 1 and "no colour" in done.stderr


def test_files_with_short_names_are_named(dcae: Dcae) -> None:
    """A name that is in any sentence is not taken for named."""
    Path("e").write_bytes(b"none")
    assert dcae("decode", "e").stderr.startswith("dcae: e: not a .dcae file")
    assert dcae("info", "e").stderr.startswith("dcae: e: not a .dcae file")
    assert "dcae: e: not a .dcae file" in dcae("decode", "e", "-o", "out/").stderr
    assert dcae("encode", "./e").stderr == "dcae: ./e: not a picture that Pillow can read\n"


def test_a_manifest_of_one_file(dcae: Dcae) -> None:
    one = ["--model", "tiny", "--manifest", "lines.jsonl"]
    assert dcae("encode", "in/a.png", "-o", "a.dcae", *one).exit_code == 0
    assert dcae("encode", "in/missing.png", "-o", "b.dcae", *one).exit_code == 1
    first, second = (json.loads(line) for line in Path("lines.jsonl").read_text("utf-8").splitlines())
    assert (first["source"], first["output"], first["error"]) == ("in/a.png", "a.dcae", "")
    assert first["bytes"] == Path("a.dcae").stat().st_size
    assert second["bytes"] is None and "no such file" in second["error"]
    done = dcae("encode", "in/a.png", "-o", "c.dcae", "--model", "tiny", "--manifest", "no/lines.jsonl")
    assert (done.exit_code, done.stderr) == (1, "dcae: no/lines.jsonl: cannot be written (No such file or directory)\n")
    assert not Path("c.dcae").exists()


def test_a_batch_is_continued(dcae: Dcae) -> None:
    assert dcae("encode", "in/a.png", "-o", "out/", "--model", "tiny").exit_code == 0
    Path("out/a.JPG.dcae").write_bytes(b"precious")
    refused = dcae("encode", "in", "-r", "-o", "out", "--model", "tiny")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("dcae: 2 of 4 outputs exist already, out")
    assert _files("out") == {"a.JPG.dcae", "a.png.dcae"}
    done = dcae("encode", "in", "-r", "-o", "out", "--model", "tiny", "--skip-existing")
    assert done.exit_code == 0 and "2 encoded, 2 skipped, 0 failed" in done.stderr
    assert _files("out") == ALL
    assert Path("out/a.JPG.dcae").read_bytes() == b"precious"
    again = dcae("encode", "in", "-r", "-o", "out", "--skip-existing")
    assert again.exit_code == 0 and "0 encoded, 4 skipped, 0 failed" in again.stderr
    assert dcae("encode", "in", "-r", "-o", "out", "--model", "tiny", "--force").exit_code == 0
    assert Path("out/a.JPG.dcae").read_bytes() != b"precious"


def test_one_file_is_skipped_too(dcae: Dcae) -> None:
    Path("a.dcae").write_bytes(b"precious")
    done = dcae("encode", "in/a.png", "-o", "a.dcae", "--skip-existing")
    assert (done.exit_code, done.output) == (0, "")
    assert Path("a.dcae").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "in"], 2, "-o DIR"),
        (["encode", "in/a.png", "in/a.JPG"], 2, "-o DIR"),
        (["encode", "in", "-o", "-"], 1, "need a folder"),
        (["encode", "in", "-o", "new.dcae"], 1, "need a folder"),
        (["encode", "in", "-o", "in/notes.txt"], 1, "not a folder"),
        (["encode", "in", "-o", "in/notes.txt/"], 1, "not a folder"),
        (["encode", "in", "-o", "in/notes.txt/out"], 1, "cannot be made"),
        (["encode", "in", "in/sub", "-o", "out"], 1, "would both become"),
        (["encode", "in/sub/.trash", "-o", "out", "-q", "9"], 1, "quality 9 is outside 1..8"),
        (["encode", "in/notes.txt", "in/missing.png", "-o", "out"], 1, "in/missing.png: no such file or folder"),
        (["encode", "in", "-o", "out", "--skip-existing", "--force"], 2, "exclude each other"),
        (["encode", "in", "-o", "out", "--device", "nonsense"], 1, "not available"),
        (["encode", "s3://in", "-o", "out"], 1, "s3://in: a URL, which --runner ray reads"),
        (["encode", "in", "-o", "s3://out"], 1, "s3://out: a URL, which --runner ray reads"),
        (["decode", "in", "-o", "out"], 1, "nothing to do"),
        (["decode", "in/sub", "-o", "out", "--format", "psd"], 1, "no picture type that Pillow writes"),
        (["decode", "in/sub/a.dcae", "-o", "a.jpg", "--format", "webp"], 1, "another type"),
        (["decode", "in/sub", "-o", "out", "--picture-quality", "90"], 1, "PNG has no quality"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_checks_come_before_the_work(dcae: Dcae, arguments: list[str], code: int, message: str) -> None:
    before = _files(".")
    if arguments[0] == "encode":
        arguments = [*arguments, "--model", "tiny"]
    done = dcae(*arguments, "--quiet")
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert _files(".") == before


def test_info_of_many(dcae: Dcae, tiny_model: CodingModel) -> None:
    dcae("encode", "in", "-r", "-o", "out", "--model", "tiny", "--no-fallback")
    Path("out/broken.dcae").write_bytes(b"nothing")
    found = dcae("info", "out", "-r", "--json")
    assert found.exit_code == 1
    assert (
        found.stderr
        == f"dcae: {os.path.join('out', 'broken.dcae')}: not a .dcae file (or its first bytes are damaged)\n"
    )
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert {Path(row["file"]).relative_to("out").as_posix() for row in rows} == ALL
    sizes = {row["file"]: (row["width"], row["height"], row["mode"], row["quality"], row["model_name"]) for row in rows}
    assert sizes[os.path.join("out", "a.JPG.dcae")] == (21, 10, "RGB", 4.0, "tiny")
    text = dcae("info", "out/*.dcae").stdout
    assert text.count("picture:") == 2 and text.startswith(f"{os.path.join('out', 'a.JPG.dcae')}\nformat: ")


COPYING = Copying("cpu", "auto", None)


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_of_a_job_are_its_own(tmp_path: Path, processes: int) -> None:
    jobs = written_jobs(tmp_path, a="fine", b="refuse", c="bug", d="memory", e="fine")
    found = {Path(o.job.source).name: o for o in outcomes(COPYING, jobs, processes)}
    assert found["b"].error == f"{jobs[1].source}: refused\nin two lines"
    assert "please report it: ZeroDivisionError: a bug" in found["c"].error
    assert "not enough memory" in found["d"].error
    assert {name for name, outcome in found.items() if outcome.done} == {"a", "e"}
    assert {path.name for path in tmp_path.glob("*.out")} == {"a.out", "e.out"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_that_is_killed_is_replaced_and_its_file_tried_again(tmp_path: Path) -> None:
    names = {f"n{k}": "fine" for k in range(6)}
    jobs = written_jobs(tmp_path, first="die always", second="die once", **names)
    found = {Path(o.job.source).name: o for o in outcomes(COPYING, jobs, 2)}
    assert len(found) == 8
    assert [name for name, outcome in found.items() if not outcome.done] == ["first"]
    assert "its process was killed, 2 times" in found["first"].error
    assert {path.name for path in tmp_path.glob("*.out")} == {"second.out", *(f"{name}.out" for name in names)}


def test_each_process_has_one_thread_and_loads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = written_jobs(tmp_path, **{f"n{k}": "fine" for k in range(5)})
    assert all(outcome.done for outcome in outcomes(COPYING, jobs, 2))
    written = [Path(job.output).read_text(encoding="utf-8").split() for job in jobs]
    assert {threads for _, _, threads in written} == {"1"}
    processes = {process for _, process, _ in written}
    assert len(processes) <= 2 and str(os.getpid()) not in processes


@pytest.mark.parametrize("processes", [1, 2])
def test_a_model_that_cannot_be_loaded_ends_the_batch(tmp_path: Path, processes: int) -> None:
    jobs = written_jobs(tmp_path, a="fine", b="fine")
    with pytest.raises(DCAEError, match=r"^no such device$"):
        list(outcomes(Copying("cpu", "auto", None, loads=False), jobs, processes))
    assert not list(tmp_path.glob("*.out"))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_processes_that_die_while_loading_end_the_batch(tmp_path: Path) -> None:
    with pytest.raises(DCAEError, match="killed while it loaded the model"):
        list(outcomes(Copying("killed", "auto", None), written_jobs(tmp_path, a="fine", b="fine"), 2))


_RUN = """
import sys
from coders_for_batches import Copying
from dcae.codec.batch import Job
from dcae.codec.workers import outcomes
if __name__ == "__main__":
    jobs = [Job(path, path + ".out") for path in sys.argv[1:]]
    for outcome in outcomes(Copying("cpu", "auto", None), jobs, 2):
        print(outcome.job.source, flush=True)
"""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_terminal_has_a_bar_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("copied", 2, 0, quiet=False) as progress:
        progress.take(Outcome(Job("a", "a.out"), Done(5, "5 bytes")))
        progress.take(Outcome(Job("b\n\x1b[2J", "b.out"), None, "refused"))
    progress.summary()
    *lines, failed, again, summary, _ = screen.getvalue().replace("\r", "\n").split("\n")
    assert "a -> a.out: 5 bytes" in lines and "dcae: b \\x1b[2J: refused" in lines
    assert any("2/2 [" in line and "file" in line for line in lines)
    assert (failed, again) == ("failed:", "  b \\x1b[2J: refused")
    assert summary.startswith("1 copied, 1 failed; 5 bytes, ")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_batch_leaves_no_processes_behind(tmp_path: Path, how: signal.Signals) -> None:
    """They hold a model each, and would wait for work for ever."""
    jobs = written_jobs(tmp_path, a="fine", b="wait", c="wait", d="fine")
    (tmp_path / "run.py").write_text(_RUN, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(tmp_path / "run.py"), *(job.source for job in jobs)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as batch:
        while len(workers := [int(path.suffix[1:]) for path in tmp_path.glob("[bc].[0-9]*")]) < 2:
            assert batch.poll() is None
            time.sleep(0.02)
        assert all(map(_alive, workers))
        batch.send_signal(how)
        batch.wait()
        while any(map(_alive, workers)):  # would never end
            time.sleep(0.02)
    assert {path.name for path in tmp_path.glob("*.out")} == {"a.out"}


@pytest.mark.slow
def test_a_batch_of_several_processes_from_the_command_line(dcae: Dcae, here: Path, tiny_model: CodingModel) -> None:
    """Same bytes; `python -m dcae`, which started processes must not run once more."""
    command = [sys.executable, "-m", "dcae", "encode", "in", "-r", "-o", "out", "--model", "tiny", "--jobs", "2"]
    command += ["--effort", "0"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("4 encoded, 0 failed")
    for name in ALL:
        expected = Codec(tiny_model).encode(here / "in" / name.removesuffix(".dcae"), fallback=True)
        assert (here / "out" / name).read_bytes() == expected


def test_one_file_starts_nothing(dcae: Dcae, here: Path) -> None:
    code = """
import sys
from dcae.cli import main
main(["encode", "in/a.png", "--model", "tiny", "-o", "new.dcae"], standalone_mode=False)
main(["info", "new.dcae"], standalone_mode=False)
print([name for name in ("concurrent.futures.process", "dcae.codec.workers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_lists_with_zeros_are_refused_and_nothing_but_a_line_feed_ends_a_path(here: Path) -> None:
    Path("zeros").write_bytes(b"in/a.png\0in/b.png\0")
    with pytest.raises(DCAEError, match="a path in each line"):
        _names("@zeros")
    Path("odd").write_text("in/a\u2028b.png\n", "utf-8")
    assert _names("@odd") == ["in/a\u2028b.png"]


def test_a_process_that_is_killed_between_two_files_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is `submit` that says so, not the file before."""
    submit, broken = ProcessPoolExecutor.submit, []

    def once_broken(self: ProcessPoolExecutor, call: Callable[..., Any], *arguments: Any) -> Any:
        if arguments and not broken:
            broken.append(arguments)
            raise BrokenProcessPool
        return submit(self, call, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", once_broken)
    found = list(outcomes(COPYING, written_jobs(tmp_path, **{f"n{k}": "fine" for k in range(5)}), 2))
    assert broken and len(found) == 5 and all(outcome.done for outcome in found)


def test_free_memory_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another limit would be another codec, and its model loaded for every file."""
    left = iter(range(64 << 30, 0, -1 << 20))
    monkeypatch.setattr("dcae.codec.limits.free_memory", lambda: next(left))
    _usual_limit.cache_clear()
    try:
        assert COPYING._limit() == COPYING._limit()
    finally:
        _usual_limit.cache_clear()


@pytest.mark.parametrize(
    "words",
    [
        ["decode", "in", "-o", "new", "--scale", "3", "--upscaler", "nonsense"],
        ["decode", "in", "-o", "new", "--format", "jpg", "--depth", "16"],
        ["encode", "in", "-o", "new", "--scale", "1/2", "--upscaler", "nonsense"],
        ["encode", "in", "-o", "new", "--roi", "in/a.png", "--effort", "0"],
        ["decode", "in", "-o", "new", "--upscaler", "bicubic"],
        ["encode", "in", "-o", "new", "--upscaler", "bicubic"],
    ],
    ids=" ".join,
)
def test_settings_that_make_no_file_are_refused_before_there_are_folders(
    dcae: Dcae, here: Path, words: list[str]
) -> None:
    synthetic_picture(8, 8).save("in/a.png")
    Path("in/a.dcae").write_bytes(b"not looked at")
    done = dcae(*words)
    assert done.exit_code != 0 and "of 2 files" not in done.stderr and not Path("new").exists()
