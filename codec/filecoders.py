"""File to file: what `encode` and `decode` do with one file, in whichever process. Heavy imports happen inside.

A coder is made of plain settings, so that it can be sent to other processes, and loads its model when it is first used.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dcae.codec.batch import Job
from dcae.codec.container import read_container
from dcae.codec.pictures.preparation import AS_IT_IS, Preparation
from dcae.codec.targets import AUTO_DIVISOR, Asked
from dcae.codec.tuning import TUNES
from dcae.errors import DCAEError, MissingDependencyError, OptionError, PictureWarning, naming
from dcae.files import read_bytes, write_bytes
from dcae.upscalers import UPSCALER, check_upscaler, find_upscaler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dcae.codec.codec import Codec


class Coded(NamedTuple):
    """Result of one file."""

    data: bytes
    said: str
    """What a line about it says beside names and time."""


class Done(NamedTuple):
    """A file that was written."""

    size: int
    """Bytes."""
    said: str
    """What its line says after the output's name."""


@dataclass(frozen=True)
class FileCoder(ABC):
    """What both directions share: the engine, and how files are read and written."""

    device: str
    engine: str
    max_pixels: int | None
    """None: what is affordable."""
    sharing: int = field(default=1, kw_only=True)
    """Processes that share the memory."""
    force: bool = field(default=False, kw_only=True)
    """Overwrite outputs."""

    def check(self) -> None:  # noqa: B027 (some have nothing to refuse)
        """Refuse settings that no file can be made with, as far as that is known without loading anything.

        Raises:
            DCAEError: they are.
        """

    @abstractmethod
    def open(self) -> None:
        """Load what can be loaded before a file is there.

        Raises:
            DCAEError: model or engine cannot be used, for any file.
        """

    @abstractmethod
    def code(self, source: str | bytes, output: str) -> Coded:
        """The output of a source, a path or the file's bytes; `output` is named in messages."""

    def __call__(self, job: Job) -> Done:
        """Make one file.

        Raises:
            DCAEError: it cannot be made; there is no output then.
        """
        started = time.perf_counter()
        with _naming(job.source), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", PictureWarning)
            coded = self.code(read_bytes("-") if job.source == "-" else job.source, job.output)
        write_bytes(job.output, coded.data, self.force)
        said = "; ".join([f"{coded.said}, {time.perf_counter() - started:.2f} s", *(str(w.message) for w in caught)])
        return Done(len(coded.data), said)

    def _codec(self, model: Path) -> Codec:
        return loaded_codec(model, self.device, self.engine, self._limit())

    def _limit(self) -> int:
        """Largest number of pixels, padded."""
        return self.max_pixels or _usual_limit(self.sharing)


@cache
def _usual_limit(sharing: int) -> int:
    """Largest number of padded pixels where nobody gives one. Free memory is looked at once: a codec has one limit."""
    from dcae.codec.limits import MAX_PIXELS, affordable_pixels

    return max(MAX_PIXELS, affordable_pixels() // sharing)


@lru_cache(maxsize=2)
def loaded_codec(model: Path, device: str, engine: str, max_pixels: int) -> Codec:
    """A codec as :class:`dcae.Codec` has it, that stays loaded; for processes that code one file after the other."""
    from dcae.codec.codec import Codec
    from dcae.runtime.process import keep_memory

    keep_memory()
    return Codec(model, device, max_pixels, engine)


@contextmanager
def limit_of_pillow(pixels: int) -> Iterator[None]:
    """Our own limit is Pillow's as well, which cannot be raised on the command line, and which alone heeds the sizes of
    pictures within icons. For a process that reads one file at a time."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except DCAEError as error:
        if isinstance(error, MissingDependencyError) or (what := naming(source, error.what)) == error.what:
            raise
        raise type(error)(what, error.advice) from error


@dataclass(frozen=True)
class FileEncoder(FileCoder):
    """Pictures to `.dcae` files."""

    model: Path
    """Model file."""
    asked: Asked
    preparation: Preparation = AS_IT_IS
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of :meth:`dcae.Codec.encode`."""

    def check(self) -> None:
        if self.asked.divisor != 1:
            check_upscaler(self.options.get("upscaler", UPSCALER), self.asked.divisor or AUTO_DIVISOR)
        if self.options.get("roi") is not None:
            from dcae.codec.effort import check_steered

            check_steered(self.options.get("effort", 0), self.options.get("tune") or TUNES[0])

    def mask(self, source: str) -> NDArray[np.uint8]:
        """The weights of the picture of `--roi`, within the limits of what is encoded; errors as of `roi_of`."""
        from dcae.codec.effort import roi_of

        with limit_of_pillow(self._limit()):
            return roi_of(source, self._limit())

    def open(self) -> None:
        self._codec(self.model)

    def code(self, source: str | bytes, output: str) -> Coded:
        from dcae.codec.pictures.preparing import prepare
        from dcae.codec.scaling import encode_as_asked

        with limit_of_pillow(self._limit()):
            picture = prepare(source, self.preparation, self._limit())  # before anything heavy is imported
        codec, said = self._codec(self.model), ""
        with warnings.catch_warnings():
            if self.asked.tries:
                warnings.simplefilter("ignore", PictureWarning)  # of files that were only tried
            data, quality, encodings = encode_as_asked(codec, picture, self.asked, self.options)
        container = read_container(data)
        if self.asked.tries:
            said = f", quality {quality:g} after {encodings} encodings"
        if container.stored:
            said += f", stored {container.stored}"
        if container.enlargement:
            said += f", coded at {container.header.width}x{container.header.height}"
        return Coded(data, f"{len(data)} bytes, {8 * len(data) / (picture.width * picture.height):.4f} bpp{said}")


@dataclass(frozen=True)
class FileDecoder(FileCoder):
    """`.dcae` files to pictures."""

    model: Path | None
    """Model file; None for the installed one that a file names."""
    kind: str
    """Pillow's name of the picture type."""
    picture_quality: int | None = None
    """Of lossy types; None for the default."""
    fit: int | None = None
    """Longest side in pixels, to which larger pictures are shrunk."""
    depth: int | None = None
    """Bits of a sample; None for those that the picture came with."""
    background: str | None = None
    """Colour to put under transparent pixels; None keeps them."""
    native: bool = False
    """Leave pictures that were coded small as small as they are."""
    scale: int = 1
    """Factor by which the picture is enlarged once it is decoded."""
    upscaler: str = UPSCALER
    """What enlarges it so."""

    def check(self) -> None:
        from dcae.codec.output import check_depth

        check_depth(self.kind, self.depth)
        if self.scale != 1:
            check_upscaler(self.upscaler, self.scale)

    def open(self) -> None:
        if self.model is not None:
            self._codec(self.model)

    def code(self, source: str | bytes, output: str) -> Coded:
        from dcae.codec.enlarging import enlarged
        from dcae.codec.limits import check_size
        from dcae.codec.pictures.preparing import flattened
        from dcae.codec.pictures.writing import picture_file
        from dcae.codec.stored import stored_picture
        from dcae.models.installed import find_model_by_id

        data = read_bytes(source) if isinstance(source, str) else source
        container = read_container(data)
        width, height = container.size
        if self.scale != 1:
            sides = (container.header.width, container.header.height) if self.native else container.size
            check_size(sides[0] * self.scale, sides[1] * self.scale, 64, self._limit(), OptionError)
        if container.stored:
            picture = stored_picture(container, self._limit())
        else:
            model = self.model or find_model_by_id(container.header.model).path
            picture = self._codec(model).decode_picture(data, self.native)
        if self.scale != 1:
            picture = enlarged(picture, find_upscaler(self.upscaler, self.scale, self.device))
        if self.background is not None:
            picture = flattened(picture, self.background)
        if self.fit is not None:
            picture = picture.shrunk(self.fit)
        try:
            written = picture_file(picture, self.kind, self.depth, self.picture_quality)
        except OptionError as error:
            raise OptionError(f"{output}: {error.what}", error.advice) from error
        return Coded(written, f"{len(written)} bytes, of {len(data)} bytes, {8 * len(data) / (width * height):.4f} bpp")
