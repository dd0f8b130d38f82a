"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Reference material that lies beside a checkout here, and is not part of the repository."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material; skips the test where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference material at {SHARED}")
    return SHARED
