"""Parameters of requests: declared once, by which requests are checked and the API is described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Of an installed model: no path."""
Positive = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
Colour = Annotated[str, Field(pattern=r"^(#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,30})$")]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Coding(_Options):
    quality: Annotated[
        float | None,
        Field(ge=0, le=100, allow_inf_nan=False, description="1 (smallest file) to 8; by default 4"),
    ] = None
    effort: Annotated[int | None, Field(ge=0, le=4, description="how long to search for a smaller file")] = None
    target_size: Annotated[
        int | None, Field(gt=0, le=1 << 40, description="instead of a quality: bytes of the file, at most")
    ] = None
    model: Annotated[Name | None, Field(description="an installed model's name, as /info has them")] = None


class EncodeOptions(_Coding):
    """Of `POST /encode`."""

    target_bpp: Annotated[Positive | None, Field(description="instead of a quality: bits per pixel, at most")] = None
    target_psnr: Annotated[Positive | None, Field(description="instead of a quality: dB, at least")] = None


class DecodeOptions(_Options):
    """Of `POST /decode`."""

    format: Annotated[Literal["png", "jpg", "webp"], Field(description="type of the picture")] = "png"
    picture_quality: Annotated[int | None, Field(ge=1, le=100, description="of JPEG and WebP; by default 95")] = None
    background: Annotated[Colour | None, Field(description="colour to put under transparent pixels")] = None


class UpscaleOptions(_Options):
    """Of `POST /upscale`."""

    scale: Annotated[int, Field(ge=2, le=4, description="factor on both sides")] = 2
    model: Annotated[
        Name | None, Field(description="one of /info's upscale_models; by default tables, else bicubic")
    ] = None


class CompareOptions(_Coding):
    """Of `POST /compare`."""

    rival: Annotated[Literal["avif", "jpeg", "webp"], Field(description="what to compare with")] = "avif"


class JobOptions(EncodeOptions, DecodeOptions, UpscaleOptions, CompareOptions):
    """Of `POST /jobs`: what is to be done, and what that takes."""

    kind: Annotated[
        Literal["encode", "decode", "upscale", "compare"],
        Field(description="the others are as of the request of that name"),
    ]

    def chosen(self) -> dict[str, Any]:
        """The options of this kind of job.

        Raises:
            RequestValidationError: some are given that it does not have.
        """
        given = self.model_dump(exclude_unset=True, exclude={"kind"})
        try:
            return OPTIONS[self.kind].model_validate(given).model_dump()
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


OPTIONS: dict[str, type[_Options]] = {
    "encode": EncodeOptions,
    "decode": DecodeOptions,
    "upscale": UpscaleOptions,
    "compare": CompareOptions,
}
