"""What the service and its workers say to each other; plain data, that travels between processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = ("encode", "decode", "upscale", "compare")
"""What clients can ask for."""


@dataclass(frozen=True)
class Task:
    """What a worker is to do."""

    kind: str
    source: str
    """File with the request's body."""
    folder: str
    """Where files go."""
    options: dict[str, Any]
    """As the request had them."""


@dataclass(frozen=True)
class Stop:
    """A worker is to leave the task that it is at; nobody wants it any more."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it can load before there is work."""


@dataclass(frozen=True)
class Told:
    """How far a worker is."""

    progress: float
    """0 to 1."""
    stage: str


@dataclass(frozen=True)
class Result:
    """What came of a task: a file of its folder, or an object for JSON."""

    name: str = ""
    media_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the answer."""
    value: Any = None
    files: dict[str, str] = field(default_factory=dict)
    """Further files of its folder, which `value` names, with their media types."""


@dataclass(frozen=True)
class Failed:
    """Why nothing came of it."""

    status: int
    """Of HTTP."""
    code: str
    sentence: str
