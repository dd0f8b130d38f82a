"""Which size a picture is coded at: the one that is asked for, or the one that measures better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dcae.codec.container import stored_as
from dcae.codec.enlarging import enlarged, enlargement_of, reduced
from dcae.codec.pictures.picture import Picture
from dcae.codec.targets import (
    AUTO_DIVISOR,
    Asked,
    Found,
    Target,
    UnreachableError,
    encode_to_target,
    psnr_of,
    without_search,
)
from dcae.codec.tuning import TUNES, tune_for
from dcae.errors import OptionError
from dcae.upscalers import UPSCALER, find_upscaler

if TYPE_CHECKING:
    from dcae.codec.codec import Codec

HOPELESS = 0.5
"""dB that a small picture may lack at equal bytes before both have been searched for better latents, and still be
tried with it."""


def encode_as_asked(codec: Codec, picture: Picture, asked: Asked, options: Mapping[str, Any]) -> Found:
    """The `.dcae` file of a picture.

    Args:
        options: further arguments of :meth:`dcae.Codec.encode`; `upscaler` among them.

    Raises:
        OptionError: a quality or target that the model does not reach; a choice of size when tuned for another measure
            than PSNR, or what enlarges none that files can name.
        DCAEError: as :meth:`dcae.Codec.encode`.
    """
    tune = tune_for(options.get("tune"), options.get("effort", 0), codec.config)
    if asked.divisor is None and tune != TUNES[0]:
        raise OptionError(f"scale auto compares PSNR, which tune={tune} does not look at; give scale 1 or 1/2")
    if asked.divisor is not None:
        return _encoded(codec, picture, asked.quality, asked.target, {**options, "divisor": asked.divisor})
    # What cannot enlarge is refused before the whole picture is coded.
    enlargement_of(picture, find_upscaler(options.get("upscaler", UPSCALER), AUTO_DIVISOR))
    return _Contest(codec, picture, asked, options).found()


def _encoded(
    codec: Codec, picture: Picture, quality: float | None, target: Target | None, options: Mapping[str, Any]
) -> Found:
    if target is not None:
        return encode_to_target(codec, picture, target, options)
    used = codec.config.default_quality if quality is None else quality
    return Found(codec.encode(picture, quality, **options), used, 1)


class _Contest:
    """A picture coded as it is and coded small: the better one at no more bytes, or the smaller one of those that
    reach a PSNR."""

    def __init__(self, codec: Codec, picture: Picture, asked: Asked, options: Mapping[str, Any]) -> None:
        self.codec, self.picture, self.asked, self.options = codec, picture, asked, options
        self.weights, self.original = options.get("roi"), picture.at_depth(8).pixels
        self.small_options = {**options, "divisor": AUTO_DIVISOR}

    def found(self) -> Found:
        """The winner; how often the picture was encoded counts both."""
        try:
            whole = _encoded(self.codec, self.picture, self.asked.quality, self.asked.target, self.options)
        except UnreachableError as error:
            if not error.fewer:
                raise
            assert self.asked.target is not None
            return encode_to_target(self.codec, self.picture, self.asked.target, self.small_options)
        small = None if stored_as(whole.data) else self._small(whole)
        if small is None:
            return whole
        return small._replace(encodings=small.encodings + whole.encodings)

    def _small(self, whole: Found) -> Found | None:
        """The file of the small picture, if it is better than that of the whole one."""
        goal = self._psnr(self.codec.decode_picture(whole.data))
        if self._at_best() <= goal:
            return None
        target = Target(size=len(whole.data))
        if self.asked.target is not None and self.asked.target.psnr is not None:
            target = self.asked.target
        encodings, start = 0, None
        if self.options.get("effort"):
            first = self._tried(Target(size=len(whole.data)), without_search(self.small_options))
            if first is None or self._psnr(self.codec.decode_picture(first.data)) < goal - HOPELESS:
                return None
            encodings, start = first.encodings, None if target.psnr else first.quality
        small = self._tried(target, self.small_options, start)
        if small is None:
            return None
        small = small._replace(encodings=small.encodings + encodings)
        if target.psnr is not None:
            return small if len(small.data) < len(whole.data) else None
        return small if self._psnr(self.codec.decode_picture(small.data)) > goal else None

    def _tried(self, target: Target, options: Mapping[str, Any], start: float | None = None) -> Found | None:
        """The file of the small picture that meets a target; of its highest quality if it needs not as many bytes;
        None if it does not meet it."""
        try:
            return encode_to_target(self.codec, self.picture, target, options, start)
        except UnreachableError as error:
            if target.psnr is not None or error.fewer:
                return None
            return _encoded(self.codec, self.picture, self.codec.config.qualities[1], None, options)

    def _at_best(self) -> float:
        """PSNR of the small picture enlarged if it were coded without loss: about the most that it can have."""
        upscaler = find_upscaler(self.options.get("upscaler", UPSCALER), AUTO_DIVISOR)
        small = Picture(reduced(self.original, AUTO_DIVISOR))
        return self._psnr(enlarged(small, upscaler))

    def _psnr(self, decoded: Picture) -> float:
        found = decoded.at_depth(8).pixels[: self.picture.height, : self.picture.width]
        return psnr_of(self.original, found, self.weights)
