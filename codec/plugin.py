"""Plugin for Pillow: `Image.open` and `Image.save` for `.dcae` files."""

from __future__ import annotations

import os
import warnings
from typing import IO, Any, ClassVar

from PIL import Image, ImageFile

from dcae.codec.container import SIGNATURE, peek_header, read_container
from dcae.codec.fields import COLOURS
from dcae.codec.pictures.deep import is_deep
from dcae.codec.pictures.metadata import exif_of
from dcae.codec.stored import image_mode, metadata_of
from dcae.errors import DCAEError, FileFormatError, OptionError, PictureWarning

FORMAT, MIME_TYPE = "DCAE", "image/x-dcae"
_HEADER_BYTES = 1024
"""Read when a file is opened; more than a header needs."""
_SAVING = (
    "quality", "target_size", "target_bpp", "target_psnr", "model", "portable", "effort", "fallback", "background",
    "strip", "to_srgb", "scale", "upscaler", "tune",
)  # fmt: skip
"""Options of `Image.save` that :func:`dcae.encode` has; others are for other formats."""
_TOLD = ("exif", "xmp", "icc_profile")
"""Those that are metadata, as other formats take them."""


class PillowError(DCAEError, OSError):
    """A `.dcae` file cannot be read or written through Pillow, whose callers expect an OSError."""


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(SIGNATURE)


class DcaeImageFile(ImageFile.ImageFile):
    """A `.dcae` file opened by Pillow; decoded when its pixels are first asked for."""

    format = FORMAT
    format_description = "DCAE, a learned image codec"
    coding: ClassVar[dict[str, Any]] = {}
    """Arguments of `dcae.encode` and `dcae.decode`, from :func:`register_pillow`."""

    def _open(self) -> None:
        assert self.fp is not None
        try:
            start = self.fp.read(_HEADER_BYTES)
            header = peek_header(start)
            self._mode, self._size = COLOURS[header.colour], (header.width, header.height)
            if start[len(SIGNATURE)] > 1:  # what it is shown at, alpha and metadata lie behind
                container = read_container(start + self.fp.read())
                self._mode, self._size = image_mode(container), container.size
                self.info.update(metadata_of(container).info())
        except FileFormatError as error:  # not the SyntaxError that Pillow takes for another format's file
            raise self._error(error) from error
        self.tile = [ImageFile._Tile(FORMAT.lower(), (0, 0, *self._size))]

    def load(self) -> Image.core.PixelAccess | None:
        """Decode, if that has not been done.

        Raises:
            PillowError: the file is damaged, too large, or of a model that is not installed.
        """
        if self.tile:
            from dcae.codec.api import decode

            try:
                self.im = decode(self._contents(), **self.coding).im
            except DCAEError as error:
                raise self._error(error) from error
            self.tile = []
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Nothing: that a reader has it tells `ImageFile.Parser` to collect the whole file before it is opened."""

    def verify(self) -> None:
        """Check the file's length and check sums.

        Raises:
            PillowError: it is damaged.
        """
        try:
            read_container(self._contents())
        except DCAEError as error:
            raise self._error(error) from error
        finally:
            super().verify()

    def _error(self, error: DCAEError) -> PillowError:
        return PillowError(f"{os.fsdecode(self.filename) or 'the file'}: {error}")

    def _contents(self) -> bytes:
        if self.fp is None:
            raise FileFormatError("closed already")
        self.fp.seek(0)
        return self.fp.read()


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from dcae.codec.api import encode

    # Of several frames the one that is shown is saved, as for other formats of single pictures.
    if getattr(image, "n_frames", 1) > 1 or any(key in image.encoderinfo for key in _TOLD):
        image = _told(image)
    options = {name: image.encoderinfo[name] for name in _SAVING if name in image.encoderinfo}
    try:
        data = encode(image, **options, **DcaeImageFile.coding)
    except OptionError:  # a ValueError, as of other formats
        raise
    except DCAEError as error:
        raise PillowError(f"cannot write mode {image.mode} as DCAE: {error}") from error
    fp.write(data)


def _told(image: Image.Image) -> Image.Image:
    """The picture that is shown, with the metadata that `Image.save` was given in place of its own."""
    if is_deep(image):
        warnings.warn("16 bits a channel are saved as 8 when metadata are given", PictureWarning, stacklevel=3)
    copy = image.copy()  # which has turned a TIFF file upright, whose EXIF is not in `info`
    if image.format == "TIFF":
        copy.info["exif"] = exif_of(image)
    for key in _TOLD:
        if key in image.encoderinfo:
            given = image.encoderinfo[key]
            given = given.tobytes() if isinstance(given, Image.Exif) else given
            copy.info[key] = given.encode() if isinstance(given, str) else given or b""
    copy.encoderinfo = image.encoderinfo
    return copy


def register_pillow(**coding: Any) -> None:
    """Registration of the format `.dcae` with Pillow, which `import dcae.pillow` does as well.

    `Image.open` then knows size, mode and metadata without decoding; `image.save("x.dcae", quality=4)` takes the
    arguments of :func:`dcae.encode` that are named in `_SAVING`. Metadata of an opened picture is saved with it;
    `exif`, `xmp` and `icc_profile` are in its place, none if they are empty, and the picture is turned as `exif` says.

    Args:
        coding: `device`, `engine` and `max_pixels` of :func:`dcae.encode` and :func:`dcae.decode`, for all files.

    Raises:
        OptionError: other arguments.
    """
    if unknown := set(coding) - {"device", "engine", "max_pixels"}:
        raise OptionError(f"unknown: {', '.join(sorted(unknown))}; known: device, engine, max_pixels")
    DcaeImageFile.coding = coding
    Image.register_open(FORMAT, DcaeImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".dcae")
    Image.register_mime(FORMAT, MIME_TYPE)
