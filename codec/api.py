"""The two functions most people need; each keeps the models it has used loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image

from dcae.codec.codec import Codec
from dcae.codec.container import read_file_header
from dcae.codec.limits import MAX_PIXELS
from dcae.models.installed import DEFAULT_MODEL, find_model, find_model_by_id


@lru_cache(maxsize=2)
def _codec(path: Path, identity: str, device: str, max_pixels: int, engine: str) -> Codec:
    return Codec(path, device, max_pixels, engine)


def encode(
    image: Image.Image | str | Path | bytes,
    quality: float | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    portable: bool = False,
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
) -> bytes:
    """A picture as the bytes of a `.dcae` file; see :meth:`dcae.Codec.encode`."""
    header = find_model(model)
    return _codec(header.path, header.id, device, max_pixels, engine).encode(image, quality, portable)


def decode(
    data: bytes,
    *,
    model: str | Path | None = None,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
) -> Image.Image:
    """The picture of a `.dcae` file; see :meth:`dcae.Codec.decode`.

    Args:
        model: name or path; by default the installed model that the file names.
        max_pixels: largest number of pixels, padded to multiples of 64; raise it if you trust the file.
        engine: as :class:`dcae.Codec` has it.
    """
    header = find_model(model) if model is not None else find_model_by_id(read_file_header(data).model)
    return _codec(header.path, header.id, device, max_pixels, engine).decode(data)
