"""Stages of coding a picture, and who watches them: the seam by which time is measured without timers in the codec."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

LOAD, TRANSFORM, ENTROPY, CODING, WRITE = "load", "transform", "entropy model", "coding", "write"
SEARCH = "search"
"""Reading a picture or a container; analysis and synthesis; what decides probabilities; symbols and their streams;
writing a container; search for better latents. A stage may lie inside another, which it is then no part of."""

Observer = Callable[[str], AbstractContextManager[object]]
"""Called with a stage, gives a context that is entered for as long as the stage lasts."""


def unobserved(stage: str) -> AbstractContextManager[object]:
    """The observer that does nothing."""
    return nullcontext()
