"""Fixtures that several test files use."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_LOOP, write_tiny_model, z_by_neighbours
from PIL import Image
from service import Service, served

from dcae.extras import installed
from dcae.models.modelfile import CodingModel, load_model, with_tables
from dcae.models.stored import read_model

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Reference material that lies beside a checkout here, and is not part of the repository."""


EXTRAS = ("torch", "compressai", "matplotlib", "bjontegaard", "jinja2")
"""Packages whose absence leaves out a whole file of tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Tests in several processes (`pytest -n 2`), and what they start, have a thread each, unless the environment says
    otherwise: libraries read it when they are loaded, and these processes are started after this."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In an install without extras, files of tests that import what these bring are skipped, and say so."""
    report = yield
    found = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if found and found[1] in EXTRAS and not installed(found[1]):
        reason = f"Skipped: needs {found[1]}, which pip install '.[dev]' brings"
        report.outcome, report.longrepr = "skipped", (str(collector.path), 1, reason)
    return report


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working directory outside the checkout, whose folder `dcae/` processes that tests start would import instead of
    the installed package."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts this process and those that it starts, as in the foreground of a terminal: what a script starts
    in the background (`pytest &`) ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits."""
    limits = "--max-bytes=1000000", "--max-pixels=400000", "--body-seconds=10", "--queue=2", "--workers=1"
    with served(tmp_path_factory.mktemp("service"), *limits) as found:
        yield found


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material; skips the test where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference material at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model; where none can be made, for lack of compressai, the one of the golden files."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    if installed("compressai"):
        write_tiny_model(path)
    else:
        shutil.copy(Path(__file__).with_name("golden") / path.name, path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_path: Path) -> CodingModel:
    """A tiny model, loaded."""
    pytest.importorskip("torch", reason="needs torch, which pip install '.[dev]' brings")
    return load_model(tiny_path)


@pytest.fixture(scope="session")
def training_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth pictures with edges, and files that must be skipped."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for k in range(6):
        rows, columns = np.mgrid[0:160, 0:192] / 30.0
        waves = np.stack([np.sin(rows * (1 + k) + c) * np.cos(columns - c) for c in range(3)], -1)
        waves += (columns > 1 + 0.7 * k)[..., None]
        pixels = np.clip(110 + 60 * waves + rng.normal(0, 3, waves.shape), 0, 255).astype(np.uint8)
        (folder / "sub").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "sub" / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (16, 16)).save(folder / "tiny.png")
    return folder


@pytest.fixture(scope="session")
def looped_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model with a closed loop, in which neighbours have their say on z."""
    path = tmp_path_factory.mktemp("models") / "looped.safetensors"
    write_tiny_model(path, fields=TINY_LOOP)
    stored = read_model(path)
    with_tables(path, stored.tables_y, *z_by_neighbours(stored.tables_z), {}, path)
    return path


@pytest.fixture(scope="session")
def looped_model(looped_path: Path) -> CodingModel:
    """A tiny model with a closed loop, loaded; where it can be made, torch is there."""
    return load_model(looped_path)
