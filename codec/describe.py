"""What `.dcae` files and model files say of themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dcae.codec.container import SIGNATURE, read_container
from dcae.codec.fields import COLOURS, DEPTHS, NUMERICS, QUALITY_STEPS
from dcae.models.header import read_any_header
from dcae.models.installed import model_read_by, models_read_by
from dcae.networks.config import DCAEConfig


@dataclass(frozen=True)
class FileInfo:
    """What a `.dcae` file says of itself."""

    version: int
    """Of the format."""
    bytes: int
    """Size of the file."""
    width: int
    """Pixels in a row."""
    height: int
    """Rows of pixels."""
    mode: str
    """Pillow's name of the colours: "RGB" or "L"."""
    depth: int
    """Bits of a sample."""
    alpha: bool
    """Whether it has transparent pixels."""
    lossless: bool
    """Whether it holds its picture without loss."""
    avif: bool
    """Whether it holds its picture as AVIF, in place of what a model coded."""
    metadata: dict[str, int]
    """Bytes of its EXIF, XMP and ICC profile, those that there are."""
    quality: float | None
    """1 (smallest file) to 8 with the default model; None if it holds its picture without loss or as AVIF, for which no
    model is needed."""
    model: str | None
    """First 16 digits of the id of the model that wrote it; None if none is needed."""
    model_name: str | None
    """Name of that model; None if it is not installed, and if none is needed."""
    numerics: str | None
    """Arithmetic of the entropy model: "integer", "float32" or "float64"; None without a model."""
    sections: dict[str, int]
    """Bytes of its sections."""
    check: str
    """Check value of the decoded symbols, or of samples without loss, in hexadecimal; of zeros with AVIF."""
    coded_size: tuple[int, int]
    """Width and height of what is coded; less than those of the picture if decoding enlarges it."""
    upscaler: str | None
    """First 16 digits of the id of the model that enlarges it; None if it is not enlarged."""
    upscaler_name: str | None
    """Name of that model; None if it is not installed, or none is needed."""

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return 8 * self.bytes / (self.width * self.height)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"bpp": self.bpp}

    def rows(self) -> dict[str, str]:
        """All of it, for people."""
        return {
            "format": f"dcae version {self.version}, {self.bytes} bytes, {self.bpp:.4f} bpp",
            "picture": f"{self.width} x {self.height}, {self.mode}{', alpha' if self.alpha else ''}, {self.depth} bits",
            "metadata": ", ".join(f"{name} {size} bytes" for name, size in self.metadata.items()) or "none",
            **({"stored": self.stored} if self.stored else self._coding()),
            **(self._enlarging() if self.upscaler else {}),
            "sections": ", ".join(f"{name} {size} bytes" for name, size in self.sections.items()),
            **({} if self.avif else {"check": self.check}),
        }

    @property
    def stored(self) -> str:
        """How its picture is stored if no model is needed for it: "without loss" or "as AVIF"; else ""."""
        return "without loss" if self.lossless else "as AVIF" if self.avif else ""

    def _coding(self) -> dict[str, str]:
        return {
            "quality": f"{self.quality or 0:g}",
            "model": f"{self.model} ({self.model_name or 'not installed'})",
            "numerics": self.numerics or "",
        }

    def _enlarging(self) -> dict[str, str]:
        width, height = self.coded_size
        named = f"{self.upscaler} ({self.upscaler_name or 'not installed'})"
        return {"coded at": f"{width} x {height}, enlarged by {named}"}


def file_info(data: bytes) -> FileInfo:
    """What a `.dcae` file says of itself.

    Raises:
        FileFormatError: damaged, truncated, or no `.dcae` file.
    """
    container = read_container(data)
    header = container.header
    metadata = {"EXIF": container.exif, "XMP": container.xmp, "ICC profile": container.icc}
    sections = {
        "z": container.z,
        "y": container.y,
        "picture": container.lossless or container.avif,
        "alpha": container.alpha,
    }
    coded = not container.stored
    enlargement = container.enlargement
    installed = models_read_by(read_any_header).items() if coded else ()

    def name_of(short_id: bytes | None) -> str | None:
        return next((name for name, model in installed if model.short_id == short_id), None)

    width, height = container.size
    return FileInfo(
        version=data[len(SIGNATURE)],
        bytes=len(data),
        width=width,
        height=height,
        mode=COLOURS[header.colour],
        depth=DEPTHS[header.depth],
        alpha=bool(container.alpha),
        lossless=bool(container.lossless),
        avif=bool(container.avif),
        metadata={name: len(data) for name, data in metadata.items() if data},
        quality=header.quality / QUALITY_STEPS if coded else None,
        model=header.model.hex() if coded else None,
        model_name=name_of(header.model),
        numerics=NUMERICS[header.numerics] if coded else None,
        sections={name: len(data) for name, data in sections.items() if data},
        check=f"{header.check:08x}",
        coded_size=(header.width, header.height),
        upscaler=enlargement.model.hex() if enlargement else None,
        upscaler_name=name_of(enlargement.model) if enlargement else None,
    )


def model_info(path: str) -> dict[str, Any]:
    """What a model file says of itself, for JSON.

    Raises:
        ModelNotFoundError, ModelFileError: no such file, or no model.
    """
    header = model_read_by(path, read_any_header)
    config = header.config
    rates = {"lambdas": list(config.lambdas)} if isinstance(config, DCAEConfig) else {}
    return {"id": header.id} | rates | {"config": config.to_dict(), "record": header.record}
