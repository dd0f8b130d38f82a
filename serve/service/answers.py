"""Answers in JSON, by which they are made and described."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Error(BaseModel):
    """Every answer of 400 and above."""

    error: str = Field(description="what was wrong, in a sentence")
    code: str = Field(description="short name of the reason")


class Accepted(BaseModel):
    """A job that was taken on."""

    id: str
    status_url: str
    events_url: str
    result_url: str


class Status(BaseModel):
    """A job's state."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1)
    stage: str = Field(description="what is being done, for people")
    position: int = Field(description="in the queue, from 1; 0 once it is worked on")
    error: str | None
    code: str | None


class Original(BaseModel):
    """The picture that was compared."""

    url: str = Field(description="a PNG")


class Side(BaseModel):
    """A picture through a codec."""

    url: str = Field(description="the codec's file")
    png_url: str = Field(description="what it decodes to")
    bytes: int
    bpp: float
    psnr: float | None = Field(description="dB over all samples of RGB; null if nothing differs")
    identical: bool
    ms_ssim: float | None = Field(description="null for pictures with a side below 161 pixels")
    encode_seconds: float
    decode_seconds: float


class Ours(Side):
    """The picture through the model."""

    quality: float | None = Field(description="null where no model coded it")
    stored: str = Field(description='"without loss" or "as AVIF" where no model coded it, else empty')
    effort: int


class Theirs(Side):
    """The picture through the rival."""

    name: str
    label: str
    setting: str = Field(description="the highest quality whose file has at most as many bytes")
    settings: str = Field(description="encoder and its options, for people")
    fits: bool = Field(description="false: even its smallest file has more bytes")


class Comparison(BaseModel):
    """A picture by the model and by a rival."""

    width: int
    height: int
    original: Original
    dcae: Ours
    rival: Theirs


class Limits(BaseModel):
    """Of a request."""

    bytes: int
    pixels: int = Field(description="padded to multiples of 64")
    seconds: float


class Choice(BaseModel):
    """A rival."""

    name: str
    label: str
    suffix: str


class Example(BaseModel):
    """A picture to try."""

    name: str
    title: str
    url: str


class Info(BaseModel):
    """What a service offers."""

    version: str
    default_model: str
    models: list[str]
    upscale_models: list[str]
    rivals: list[Choice]
    examples: list[Example]
    limits: Limits
    keys_required: bool
    web_decoder: bool = Field(description="whether the page can decode by itself")


class Health(BaseModel):
    """That a service takes work."""

    status: Literal["ok"]
    workers: int = Field(description="processes that are ready")
    queued: int
