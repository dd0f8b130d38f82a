"""File to file: what `downscale` and `upscale` do with one picture, in whichever process.

Heavy imports happen inside.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dcae.codec.filecoders import Coded, FileCoder, limit_of_pillow
from dcae.codec.pictures.preparation import AS_IT_IS, Preparation
from dcae.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dcae.codec.pictures.picture import Picture
    from dcae.sr.upscalers import Upscaler


@dataclass(frozen=True)
class FileScaler(FileCoder):
    """Pictures to pictures of another size."""

    scale: int = field(kw_only=True)
    kind: str = field(kw_only=True)
    """Pillow's name of the type that is written."""
    picture_quality: int | None = field(default=None, kw_only=True)
    """Of lossy types; None for the default."""
    depth: int | None = field(default=None, kw_only=True)
    """Bits of a sample; None for those that the picture came with."""
    preparation: Preparation = field(default=AS_IT_IS, kw_only=True)

    def open(self) -> None:
        """Nothing to load."""

    @abstractmethod
    def scaled(self, picture: Picture) -> Picture:
        """The picture in its new size."""

    def largest(self) -> int:
        """Largest number of pixels, padded to multiples of 64, of a source."""
        return self._limit()

    def code(self, source: str | bytes, output: str) -> Coded:
        from dcae.codec.pictures.preparing import prepare
        from dcae.codec.pictures.writing import picture_file

        with limit_of_pillow(self.largest()):
            picture = prepare(source, self.preparation, self.largest())
        found = self.scaled(picture)
        try:
            data = picture_file(found, self.kind, self.depth, self.picture_quality)
        except OptionError as error:
            raise OptionError(f"{output}: {error.what}", error.advice) from error
        return Coded(data, f"{picture.width}x{picture.height} -> {found.width}x{found.height}, {len(data)} bytes")


@dataclass(frozen=True)
class FileDownscaler(FileScaler):
    """Pictures to their reductions by a kernel, of the protocol's rounding; sides are cropped to multiples."""

    kernel: str = field(default="bicubic", kw_only=True)

    def scaled(self, picture: Picture) -> Picture:
        from dcae.sr.protocol.resize import reduced

        def small(samples: NDArray) -> NDArray:
            return reduced(samples, self.scale, self.kernel)

        alpha = None if picture.alpha is None else small(picture.alpha[..., None])[..., 0]
        return replace(picture, pixels=small(picture.pixels), alpha=alpha)


@dataclass(frozen=True)
class FileUpscaler(FileScaler):
    """Pictures to their enlargements. Alpha is enlarged by bicubic interpolation, whatever enlarges the pixels."""

    model: str = field(kw_only=True)
    """Name or path, as of :func:`dcae.sr.find.find_upscaler`."""
    tile: int | None = field(default=None, kw_only=True)
    """Side of a tile in pixels of the small picture; 0: the picture as a whole; None: what memory has room for."""
    memory: int | None = field(default=None, kw_only=True)
    """Bytes that tiles may take; None: half of what is free, shared with the other processes."""

    def open(self) -> None:
        self._upscaler()

    def _upscaler(self) -> Upscaler:
        from dcae.sr.find import find_upscaler
        from dcae.sr.memory import Limits

        limits = Limits(self.memory, self.sharing)
        return find_upscaler(self.model, self.scale, self.device, self.tile, limits)

    def largest(self) -> int:
        return self.max_pixels or self._limit() // self.scale**2

    def scaled(self, picture: Picture) -> Picture:
        from dcae.codec.enlarging import enlarged

        return enlarged(picture, self._upscaler())
