"""Headers of model files, whose format `modelfile.py` describes; reading them imports no NumPy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcae.errors import DCAEError, ModelFileError
from dcae.networks.config import DCAEConfig, NetworkConfig
from dcae.networks.registry import any_config

FORMAT = 1
ID_BYTES = 8
"""Length of the id inside a `.dcae` file; the model file has the whole hash."""
MAX_HEADER = 1 << 22
"""Largest number of bytes of a model file's header, JSON and all tensors' names; `lite` has 40 thousand."""
MAX_BRACKETS = 1 << 17
"""Largest number of lists and objects in the JSON header; reading millions of empty ones takes many seconds."""
MAX_DEPTH = 32
"""Levels of a record, its values included; Python's JSON reads deeper ones than it writes."""


@dataclass(frozen=True)
class AnyHeader:
    """Header of a model file, whatever its network is for; reading it imports no torch."""

    path: Path
    id: str
    """SHA-256, in hex, of everything that decides what the model makes of a picture."""
    config: NetworkConfig
    record: dict[str, Any]
    """How it was trained: data, patches seen, hardware, date, loss."""

    @property
    def short_id(self) -> bytes:
        """The id as stored in a `.dcae` file."""
        return bytes.fromhex(self.id)[:ID_BYTES]


@dataclass(frozen=True)
class ModelHeader(AnyHeader):
    """Header of the file of a model that codes."""

    config: DCAEConfig


def read_header(path: Path) -> ModelHeader:
    """The header of the file of a model that codes.

    Raises:
        ModelFileError: as of :func:`read_any_header`, or a model that does not code.
    """
    return coding_header(read_any_header(path))


def coding_header(header: AnyHeader) -> ModelHeader:
    """The header as that of a model that codes.

    Raises:
        ModelFileError: it is for something else.
    """
    if not isinstance(header.config, DCAEConfig):
        raise ModelFileError(
            f"{header.path}: a model that enlarges pictures ({header.config.preset}), not one that codes; use it with "
            "dcae upscale"
        )
    return ModelHeader(header.path, header.id, header.config, header.record)


def read_any_header(path: Path) -> AnyHeader:
    """The header of a model file.

    Raises:
        ModelFileError: no such file, not a model file of ours, cut short, or a newer format.
    """
    text = safetensors_header(path)
    try:
        tensors = json.loads(text)
        metadata = tensors.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("odd metadata")
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        if 8 + len(text) + end != path.stat().st_size:
            raise ValueError("its tensors are not all there")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(path, error) from error
    return parse_header(path, metadata)[0]


def safetensors_header(path: Path) -> bytes:
    """The JSON that a safetensors file begins with.

    Raises:
        ModelFileError: no such file, or a header that is too large to be one of a model's.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a file")  # a pipe would block
        with open(path, "rb") as file:
            if (size := int.from_bytes(file.read(8), "little")) > MAX_HEADER:
                raise OSError(f"its header has {size} bytes, the limit is {MAX_HEADER}")
            text = file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS:
        raise ModelFileError(
            f"{path}: a header or record of more than {MAX_BRACKETS} lists and objects; get the model file again"
        )
    return text


def unreadable(path: Path, error: Exception) -> ModelFileError:
    """The error for a file that is no safetensors file."""
    reason = (str(error).splitlines() or ["damaged"])[0]
    return ModelFileError(f"{path}: not a readable model file ({reason})")


def parse_header(path: Path, metadata: dict[str, str]) -> tuple[AnyHeader, dict[str, Any]]:
    """The header, and its configuration as stored: a field that a later version adds must not change the id.

    Args:
        metadata: of the safetensors file.

    Raises:
        ModelFileError: none of ours, damaged, or of a newer format.
    """
    if "dcae" not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not a DCAE model (no `dcae` header)")
    text = metadata["dcae"]
    try:
        header = json.loads(text)
        if header["format"] != FORMAT:
            found = f"{header['format']!s:.20}"
            raise ModelFileError(f"{path}: model format {found}, this version reads {FORMAT}; update dcae")
        identity, record = header["id"], header["record"]
        config = any_config(header["config"])
        if not re.fullmatch("[0-9a-f]{64}", identity) or not isinstance(record, dict) or _too_deep(record):
            raise ValueError("bad id or record")
    except ModelFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DCAEError) as error:
        raise ModelFileError(f"{path}: damaged model header ({error})") from error
    return AnyHeader(path, identity, config, record), header["config"]


def _too_deep(record: dict[str, Any]) -> bool:
    level: list[Any] = [record]
    for _ in range(MAX_DEPTH):
        level = [v for c in level if isinstance(c, dict | list) for v in (c.values() if isinstance(c, dict) else c)]
    return bool(level)
