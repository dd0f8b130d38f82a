"""Drawings and screens as AVIF, since networks that were trained on photographs are not the best coder for them: AVIF
has palettes, and copies of what was there before. Of the file the AV1 stream alone is kept."""

from __future__ import annotations

import io

import numpy as np
from PIL import AvifImagePlugin, Image

from dcae.codec.pictures.av1 import avif_of, still_of, stream_of
from dcae.codec.pictures.picture import Samples
from dcae.errors import FileFormatError, MissingDependencyError

SIDE, PIXELS = 16383, 1 << 27
"""Longest side and most pixels of a picture of which a file is made."""
_FLAT = 0.5
"""Share of pixels that equal a neighbour from which on a picture is a drawing: of our drawings and screens 80 to 100 %
do, of Kodak 5 to 31 %; among photographs those before plain backgrounds may, too."""
_SEEN = 1 << 20
"""Pixels that are looked at for it."""
_SPEED = 6
_TUNES = {"psnr": "psnr", "ms-ssim": "ssim"}


def is_drawn(pixels: Samples) -> bool:
    """Whether a picture (H, W, C) looks drawn, or like a screen: many pixels equal the left or the upper one."""
    if min(pixels.shape[:2]) < 2:
        return False
    step = max(pixels.shape[0] * pixels.shape[1] // _SEEN, 1)
    upper, lower = pixels[:-1:step], pixels[1::step]
    same = (lower[:, 1:] == lower[:, :-1]).all(2) | (lower[:, 1:] == upper[:, 1:]).all(2)
    return bool(same.mean() >= _FLAT)


def avif_quality(weight: float) -> int:
    """AVIF's quality, 0 to 100, with the lowest λ·D + R.

    Measured on ten drawings and screens at eight λ: 4 + 9.1·log2(λ / 0.0009) is within 2 % of the best for each.

    Args:
        weight: λ of squared errors, see `DCAEConfig.mse_lambda_of`.
    """
    return int(np.clip(round(4 + 9.1 * np.log2(weight / 0.0009)), 0, 99))  # 100 is another mode, of RGB


def can_write(pixels: Samples) -> bool:
    """Whether this Pillow makes AVIF files, and of such a picture (H, W, C)."""
    height, width = pixels.shape[:2]
    fits = pixels.dtype == np.uint8 and max(height, width) <= SIDE and height * width <= PIXELS
    return fits and AvifImagePlugin.SUPPORTED and bool(AvifImagePlugin.get_codec_version("aom"))


def avif_stream(pixels: Samples, quality: int, tune: str) -> bytes:
    """(H, W, 3) RGB or (H, W, 1) gray of 8 bits as the stream of an AVIF file, of full range and all colours.

    Args:
        quality: 0 to 99.
        tune: one of `dcae.codec.tuning.TUNES`.

    Returns:
        The stream; empty if the library writes files of another form.
    """
    gray = pixels.shape[2] == 1
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if gray else pixels).save(
        buffer,
        "AVIF",
        quality=quality,
        subsampling="4:0:0" if gray else "4:4:4",
        range="full",
        codec="aom",
        speed=_SPEED,
        max_threads=1,  # which decides how the picture is cut into tiles: the same file on every machine
        advanced={"tune": _TUNES[tune]},
    )
    try:
        return stream_of(buffer.getvalue())
    except ValueError:
        return b""


def avif_pixels(stream: bytes, width: int, height: int, channels: int, what: str) -> Samples:
    """Samples (H, W, C) of the stream of an AVIF file, uint8. Decoders differ by at most one level, in what they
    round when they make RGB of YCbCr.

    Args:
        what: its name, for messages.

    Raises:
        FileFormatError: not an AVIF picture of just this size, of 8 bits a sample, opaque, with this many channels.
        MissingDependencyError: a Pillow that was built without AVIF.
    """
    if not AvifImagePlugin.SUPPORTED:
        raise MissingDependencyError(
            "the file holds its picture as AVIF, which this build of Pillow does not read", "pip install 'pillow>=11.3'"
        )
    try:
        still = still_of(stream)  # before Pillow sees it, which would decode what has another size
        if (still.width, still.height, still.gray) != (width, height, channels == 1):
            raise FileFormatError(
                f"{what} is an AVIF picture of another size or kind ({still.width}x{still.height}); it is damaged"
            )
        image = AvifImagePlugin.AvifImageFile(io.BytesIO(avif_of(stream)))
        image.load()
        # Some versions of Pillow show gray as RGB.
        samples: Samples = np.asarray(image.getchannel("G") if channels == 1 and image.mode == "RGB" else image)
    except (MemoryError, FileFormatError):
        raise
    except Exception as error:  # a damaged file can make Pillow's readers raise almost anything
        raise FileFormatError(f"{what} cannot be read ({error}); the file is damaged") from error
    if samples.size != height * width * channels:
        raise FileFormatError(f"{what} is a picture of mode {image.mode}; the file is damaged")
    return samples.reshape(height, width, channels)
