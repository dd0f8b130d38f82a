"""Batches by Ray, on this machine: nothing lost and nothing twice, also when processes are killed in the middle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from coders_for_batches import Copying, written_jobs
from helpers import synthetic_picture

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.errors import DCAEError
from dcae.models.modelfile import CodingModel

ray = pytest.importorskip("ray", reason="Ray is not installed")

from dcae.codec.cluster import existing, outcomes, sources_of  # noqa: E402

pytestmark = pytest.mark.slow
COPYING = Copying("cpu", "auto", None)


@pytest.fixture(scope="module", autouse=True)
def cluster(tiny_path: Path) -> Iterator[None]:
    """A Ray of two processes on this machine, which import what the tests do, and know the tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed_processes_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    """One dies each time it comes to a file, and takes no other file along."""
    names = {f"n{k}": "fine" for k in range(8)}
    jobs = written_jobs(tmp_path, **names, once="die once", always="die always", refused="refuse")
    found = {Path(o.job.source).name: o for o in outcomes(COPYING, jobs, 2)}
    assert set(found) == {*names, "once", "always", "refused"}
    assert {name for name, outcome in found.items() if not outcome.done} == {"always", "refused"}
    assert "was lost, 3 times" in found["always"].error and "refused" in found["refused"].error
    assert existing(jobs) == {job.output for job in jobs[:9]}
    for name in names:
        lines = (tmp_path / f"{name}.runs").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1, "coded once"


def test_what_is_there_is_not_coded_again(tmp_path: Path) -> None:
    jobs = written_jobs(tmp_path, a="fine", b="fine")
    Path(jobs[0].output).write_bytes(b"precious")
    assert all(outcome.done for outcome in outcomes(COPYING, jobs, 2))
    assert Path(jobs[0].output).read_bytes() == b"precious"


def test_a_model_that_cannot_be_loaded_ends_the_batch(tmp_path: Path) -> None:
    with pytest.raises(DCAEError, match="no such device"):
        list(outcomes(Copying("cpu", "auto", None, loads=False), written_jobs(tmp_path, a="fine"), 2))


def test_urls_are_listed(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b ü%20#.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    url = tmp_path.as_uri()
    suffixes = frozenset({".png", ".jpg"})
    assert [source.name for source in sources_of((url,), suffixes, False)] == ["a.png"]
    found = sources_of((url, f"{url}/notes.txt"), suffixes, True)
    assert [(s.path, s.name) for s in found] == [
        (f"{url}/a.png", "a.png"),
        (f"{url}/sub/b%20%C3%BC%2520%23.JPG", "sub/b ü%20#.JPG"),
        (f"{url}/notes.txt", "notes.txt"),
    ]
    for wrong in (f"{url}/missing", "nonsense://a/b"):
        with pytest.raises(DCAEError, match=wrong.rpartition("/")[0]):
            sources_of((wrong,), suffixes, True)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_command_line(
    scheme: str, tmp_path: Path, tiny_path: Path, tiny_model: CodingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    names = ("a.png", "sub/a ü%20#.jpg")
    for k, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        synthetic_picture(30 + k, 20).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"nothing")
    folder = f"{scheme}{tmp_path}/" if scheme else ""
    batch = ["-r", "--effort", "0", "--runner", "ray", "--jobs", "2", "--manifest", "lines.jsonl"]
    arguments = ["encode", f"{folder}in", "-o", f"{folder}out", "--model", "tiny", *batch]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1, done.output
    assert done.stderr.splitlines()[-1].startswith("2 encoded, 1 failed; ")
    lines = {
        line["source"].rpartition("/")[2]: line
        for line in map(json.loads, Path("lines.jsonl").read_text().splitlines())
    }
    assert len(lines) == 3 and "not a picture" in lines["broken.png"]["error"]
    for name in names:
        data = (tmp_path / "out" / f"{name}.dcae").read_bytes()
        assert data == Codec(tiny_model).encode(tmp_path / "in" / name)
        assert len(data) in [line["bytes"] for line in lines.values()]
    again = CliRunner().invoke(main, [*arguments, "--skip-existing"])
    assert again.stderr.splitlines()[-1].startswith("0 encoded, 2 skipped, 1 failed; ")
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1 and "2 of 3 outputs exist already" in refused.stderr
    back = CliRunner().invoke(main, ["decode", f"{folder}out", "-o", f"{folder}back", *batch])
    assert back.exit_code == 0, back.output
    assert (tmp_path / "back" / "sub" / "a ü%20#.jpg.png").exists()
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
