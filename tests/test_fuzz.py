"""Replays the fuzzers' corpus, and some thousand inputs from a fixed seed, watching the memory of the process.

Everything but `DCAEError` that comes out of a target is a failure, and so is an input that takes minutes or memory
beyond what is stated here. `tests/fuzz/run.py` searches for more.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import numpy as np
import pytest
from fuzz import models, targets
from fuzz.run import CORPUS
from fuzz.structure import Choices, mutated

from dcae.eval.memory import peak_mib, reset_peak

RANDOM = {
    "reader": 2000,
    "container": 300,
    "golden": 150,
    "companions": 200,
    "symbols": 500,
    "latents": 25,
    "model": 150,
    "model_bytes": 60,
    "picture": 1500,
    "tables": 400,
    "published_tables": 300,
}
"""Inputs per target, about two seconds' worth."""
MEMORY_MIB = 256
"""What one input may add to the process. The pictures have at most 37 thousand pixels, the model 0.3 MB."""


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """End a test that hangs in a place where no signal handler of Python would run."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Libraries and model of every engine are there before memory is looked at."""
    for engine in targets.ENGINES:
        targets._codec(engine).decode(targets._golden_files()[0])


def _replay(target: str, data: bytes) -> None:
    before = peak_mib()
    try:
        targets.TARGETS[target](data)
    except BaseException as error:
        error.add_note(f"target {target}, input {data!r}") if hasattr(error, "add_note") else None
        raise
    after = peak_mib()
    if before is not None and after is not None:
        assert after - before < MEMORY_MIB, f"{after - before:.0f} MiB for an input of {target}: {data!r}"


def test_targets_have_a_corpus_and_it_is_small() -> None:
    assert RANDOM.keys() == targets.TARGETS.keys() == {folder.name for folder in CORPUS.iterdir()}
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert sum(path.stat().st_size for path in files) < 300_000


@pytest.mark.parametrize("target", RANDOM)
def test_corpus(target: str) -> None:
    reset_peak()
    for path in sorted((CORPUS / target).iterdir()):
        _replay(target, path.read_bytes())


@pytest.mark.parametrize("target", RANDOM)
@pytest.mark.slow
def test_random_inputs(target: str) -> None:
    reset_peak()
    generator = np.random.default_rng(0)
    seeds = {"reader": targets._golden_files, "model_bytes": models.small_models, "picture": targets.pictures}
    start = list(seeds[target]()) if target in seeds else []
    for k in range(RANDOM[target]):
        data = generator.bytes(int(generator.integers(0, 400)))
        _replay(target, mutated(start[k % len(start)], Choices(data)) if start else data)
