"""The functions most people need; they keep the models they have used loaded."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.codec.codec import Codec
from dcae.codec.container import read_container
from dcae.codec.describe import FileInfo, file_info
from dcae.codec.effort import effort_or_default, roi_of
from dcae.codec.limits import MAX_PIXELS, check_limit
from dcae.codec.pictures.preparation import Preparation
from dcae.codec.pictures.preparing import PictureSource, prepare
from dcae.codec.scaling import encode_as_asked
from dcae.codec.sources import FileSource, as_bytes
from dcae.codec.stored import stored_picture
from dcae.codec.targets import Asked, Target, divisor_of
from dcae.codec.tuning import model_or_default, tune_for
from dcae.errors import OptionError
from dcae.models.header import ModelHeader
from dcae.models.installed import find_model, find_model_by_id
from dcae.runtime.engines import check_engine
from dcae.upscalers import UPSCALER

if TYPE_CHECKING:
    from PIL import Image


@lru_cache(maxsize=2)
def _codec(path: Path, identity: str, device: str, max_pixels: int, engine: str) -> Codec:
    return Codec(path, device, max_pixels, engine)


def _loaded(header: ModelHeader, device: str, max_pixels: int, engine: str) -> Codec:
    check_engine(engine, device)  # before they are looked up, which asks for more of them
    return _codec(header.path, header.id, device, check_limit(max_pixels), engine)


def _asked(
    quality: float | None, size: int | None, bpp: float | None, psnr: float | None, scale: str | float, upscaler: str
) -> Asked:
    target = None
    if any(value is not None for value in (size, bpp, psnr)):
        if quality is not None:
            raise OptionError("give a quality or a target, not both")
        target = Target(size, bpp, psnr)
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, Real)):
        raise OptionError(f"a quality is a number, got {quality!r:.40}")
    divisor = divisor_of(scale)
    if divisor == 1 and upscaler != UPSCALER:
        raise OptionError("an upscaler goes with a scale other than 1")
    return Asked(quality, target, divisor)


def encode(
    picture: PictureSource,
    quality: float | None = None,
    *,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    portable: bool = False,
    effort: int | None = None,
    fallback: bool = True,
    frame: int | None = None,
    background: str | None = None,
    strip: bool = False,
    to_srgb: bool = False,
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
    roi: PictureSource | None = None,
    tune: str | None = None,
    scale: str | float = 1,
    upscaler: str = UPSCALER,
) -> bytes:
    """A picture as the bytes of a `.dcae` file.

    Args:
        picture: path, bytes or file object of a picture file, Pillow picture, or array (H, W[, C]) of uint8 or
            uint16.
        quality: 1 (smallest file) to 8 with the default model, any number between; by default 4.
        target_size: instead of a quality: bytes that the file may have at most; if a model codes it at most 1 % fewer.
        target_bpp: likewise in bits per pixel.
        target_psnr: instead of a quality: dB that the decoded picture has at least.
        model: an installed model's name or a model file; by default `lite`, and with tune="ms-ssim" `lite-msssim`.
        effort: 0 to 4, how long to search for a file of fewer bytes for its quality; 2 by default, and 0 with models
            of `paper`.
        device, engine, portable, fallback: as :class:`dcae.Codec` and its `encode` have them; the last is on here.
        frame, background, strip, to_srgb: what is made of the picture before it is coded, as
            :class:`dcae.codec.pictures.preparation.Preparation` has it.
        max_pixels: largest number of pixels, padded to multiples of 64.
        roi: gray picture of the same size, by which the search counts errors: white as without it, black not at all.
        tune: what is lowered beside the bytes, "psnr" or "ms-ssim"; by default what the model was trained for.
        scale: "1/2" codes the picture at half its size, for very small files; decoding enlarges it. "auto" does so
            where the result has more PSNR at no more bytes, or reaches a target that is out of reach otherwise.
        upscaler: name or path of the model that enlarges it.

    Raises:
        PictureError: unreadable, too large, or of a kind that is not coded.
        OptionError: a quality that the model does not cover, a target that is out of its reach, or several of these.
        DCAEError: as :class:`dcae.Codec`.
    """
    asked = _asked(quality, target_size, target_bpp, target_psnr, scale, upscaler)
    codec = _loaded(find_model(model_or_default(model, tune)), device, max_pixels, engine)
    header = codec.header
    prepared = prepare(picture, Preparation(frame, background, strip, to_srgb), codec.max_pixels)
    how_long = effort_or_default(effort, header.config)
    options: dict[str, Any] = {"portable": portable, "fallback": fallback, "effort": how_long, "upscaler": upscaler}
    options |= {"tune": tune_for(tune, how_long, header.config), "roi": None}
    if roi is not None:
        options["roi"] = roi_of(roi, codec.max_pixels)
    return encode_as_asked(codec, prepared, asked, options).data


def decode(
    file: FileSource,
    *,
    model: str | Path | None = None,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
    native: bool = False,
) -> Image.Image:
    """The picture of a `.dcae` file, with its metadata in `info`; see :meth:`dcae.Codec.decode`.

    Args:
        file: path, bytes or file object.
        model: name or path; by default the installed model that the file names.
        device, engine: as :class:`dcae.Codec` has them; of a file that holds another format, which neither decodes,
            their names alone are looked at.
        max_pixels: largest number of pixels, padded to multiples of 64; raise it if you trust the file.
        native: of a picture that was coded small, leave it as small as it is.

    Raises:
        FileFormatError: damaged, or larger than `max_pixels`.
        ModelNotFoundError: the file's model is not installed, or it was coded with another one than `model`.
        OptionError: a limit, device or engine that there is not.
    """
    data = as_bytes(file)
    container = read_container(data)
    chosen = None if model is None else find_model(model)
    if container.stored:
        check_engine(engine, device)
        return stored_picture(container, check_limit(max_pixels)).image()
    header = chosen or find_model_by_id(container.header.model)
    return _loaded(header, device, max_pixels, engine).decode(data, native)


def info(file: FileSource) -> FileInfo:
    """What a `.dcae` file says of itself, without decoding its picture.

    Args:
        file: path, bytes or file object.

    Raises:
        FileFormatError: damaged, truncated, or no `.dcae` file.
        DCAEError: it cannot be read.
    """
    return file_info(as_bytes(file))
