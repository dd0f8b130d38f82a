"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import TINY_LOOP, write_tiny_model

from dcae.models.modelfile import CodingModel, load_model

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Reference material that lies beside a checkout here, and is not part of the repository."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material; skips the test where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference material at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_path: Path) -> CodingModel:
    """A tiny model, loaded."""
    return load_model(tiny_path)


@pytest.fixture(scope="session")
def looped_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model with a closed loop."""
    path = tmp_path_factory.mktemp("models") / "looped.safetensors"
    write_tiny_model(path, fields=TINY_LOOP)
    return path


@pytest.fixture(scope="session")
def looped_model(looped_path: Path) -> CodingModel:
    """A tiny model with a closed loop, loaded."""
    return load_model(looped_path)
