"""The functions most people need; they keep the models they have used loaded."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from dcae.codec.codec import Codec
from dcae.codec.container import read_file_header
from dcae.codec.describe import FileInfo, file_info
from dcae.codec.limits import MAX_PIXELS
from dcae.codec.sources import FileSource, PictureSource, as_bytes, as_picture
from dcae.codec.targets import Target, encode_to_target
from dcae.errors import OptionError
from dcae.models.installed import DEFAULT_MODEL, find_model, find_model_by_id

if TYPE_CHECKING:
    from PIL import Image


@lru_cache(maxsize=2)
def _codec(path: Path, identity: str, device: str, max_pixels: int, engine: str) -> Codec:
    return Codec(path, device, max_pixels, engine)


def encode(
    picture: PictureSource,
    quality: float | None = None,
    *,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    model: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    portable: bool = False,
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
) -> bytes:
    """A picture as the bytes of a `.dcae` file.

    Args:
        picture: path, bytes or file object of a picture file, Pillow picture, or array (H, W[, C]) uint8.
        quality: 1 (smallest file) to 8 with the default model, any number between; by default 4.
        target_size: instead of a quality: bytes that the file may have at most; at most 1 % fewer are used.
        target_bpp: likewise in bits per pixel.
        target_psnr: instead of a quality: dB that the decoded picture has at least.
        model, device, engine: as :class:`dcae.Codec` has them.
        portable: as :meth:`dcae.Codec.encode` has it.
        max_pixels: largest number of pixels, padded to multiples of 64.

    Raises:
        PictureError: unreadable, too large, or of a kind that is not coded.
        OptionError: a quality that the model does not cover, a target that is out of its reach, or several of these.
        DCAEError: as :class:`dcae.Codec`.
    """
    target = None
    if any(value is not None for value in (target_size, target_bpp, target_psnr)):
        if quality is not None:
            raise OptionError("give a quality or a target, not both")
        target = Target(target_size, target_bpp, target_psnr)
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, Real)):
        raise OptionError(f"a quality is a number, got {quality!r:.40}")
    image = as_picture(picture)
    header = find_model(model)
    codec = _codec(header.path, header.id, device, max_pixels, engine)
    if target is None:
        return codec.encode(image, quality, portable)
    return encode_to_target(codec, image, target, {"portable": portable}).data


def decode(
    file: FileSource,
    *,
    model: str | Path | None = None,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
) -> Image.Image:
    """The picture of a `.dcae` file; see :meth:`dcae.Codec.decode`.

    Args:
        file: path, bytes or file object.
        model: name or path; by default the installed model that the file names.
        device, engine: as :class:`dcae.Codec` has them.
        max_pixels: largest number of pixels, padded to multiples of 64; raise it if you trust the file.
    """
    data = as_bytes(file)
    header = find_model(model) if model is not None else find_model_by_id(read_file_header(data).model)
    return _codec(header.path, header.id, device, max_pixels, engine).decode(data)


def info(file: FileSource) -> FileInfo:
    """What a `.dcae` file says of itself, without decoding its picture.

    Args:
        file: path, bytes or file object.

    Raises:
        FileFormatError: damaged, truncated, or no `.dcae` file.
        DCAEError: it cannot be read.
    """
    return file_info(as_bytes(file))
