"""What a worker does with pictures and files, with models that stay loaded. Heavy imports happen inside."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.errors import DCAEError, FileFormatError, OptionError, PictureError
from dcae.runtime.progress import watching
from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Result, Task, Told
from dcae.serve.service.teller import Teller

if TYPE_CHECKING:
    from dcae.codec.filecoders import FileEncoder
    from dcae.models.header import ModelHeader


class TooLargeError(PictureError):
    """A picture has more pixels than the service takes."""


class OtherFileError(DCAEError):
    """A body is no file of the kind that is asked for."""


class Coder:
    """What does tasks.

    Args:
        send: is told of progress.
    """

    def __init__(self, settings: Settings, send: Callable[[Told], None]) -> None:
        self.settings, self.send = settings, send

    def encoder(self, model: str | None, quality: float | None, target: Any, effort: int | None) -> FileEncoder:
        """What encodes with a model, by name."""
        from dcae.codec.effort import effort_or_default
        from dcae.codec.filecoders import FileEncoder
        from dcae.codec.targets import Asked

        header = self.model(model)
        if target is None:
            header.config.lambda_of(header.config.default_quality if quality is None else quality)
        options = {"portable": False, "effort": effort_or_default(effort, header.config), "fallback": True}
        asked = Asked(quality, target)
        return FileEncoder("cpu", "auto", self.settings.max_pixels, header.path, asked, options=options)

    def model(self, name: str | None) -> ModelHeader:
        """The installed model of a name, the service's for None."""
        from dcae.models.installed import find_model

        return find_model(name or self.settings.model)

    def encode(self, task: Task, data: bytes) -> Result:
        """A picture's `.dcae` file."""
        options = task.options
        target = target_of(options)
        check_picture(data, self.settings.max_pixels)
        encoder = self.encoder(options["model"], options["quality"], target, options["effort"])
        began = time.perf_counter()
        with watching(Teller(self.send, "encoding", 0, 1, searching=target is not None)):
            coded = encoder.code(data, "the picture").data
        seconds = time.perf_counter() - began
        Path(task.folder, "result").write_bytes(coded)
        return Result("result", "image/x-dcae", file_headers(coded, seconds))

    def decode(self, task: Task, data: bytes) -> Result:
        """A `.dcae` file's picture."""
        from dcae.codec.container import SIGNATURE
        from dcae.codec.filecoders import FileDecoder
        from dcae.codec.output import check_quality, picture_type

        options = task.options
        if not data.startswith(SIGNATURE):
            raise OtherFileError("the body is no .dcae file")
        check_file(data, self.settings.max_pixels)
        kind = picture_type(options["format"], options["format"])
        quality = options["picture_quality"]
        check_quality(kind, quality)
        decoder = FileDecoder(
            "cpu", "auto", self.settings.max_pixels, None, kind, quality, background=options["background"]
        )
        began = time.perf_counter()
        with watching(Teller(self.send, "decoding", 0, 1)):
            written = decoder.code(data, "the picture").data
        seconds = time.perf_counter() - began
        Path(task.folder, "result").write_bytes(written)
        return Result("result", f"image/{kind.lower()}", file_headers(data, seconds))

    def upscale(self, task: Task, data: bytes) -> Result:
        """An enlarged picture, as PNG."""
        from dcae.sr.files import FileUpscaler
        from dcae.sr.find import look_up

        scale, limit = task.options["scale"], self.settings.max_pixels // task.options["scale"] ** 2
        check_picture(data, limit)
        model = look_up(task.options["model"], scale).reference
        scaler = FileUpscaler("cpu", "auto", limit, scale=scale, kind="PNG", model=model)
        self.send(Told(0.0, "enlarging"))
        began = time.perf_counter()
        written = scaler.code(data, "the picture").data
        seconds = time.perf_counter() - began
        Path(task.folder, "result").write_bytes(written)
        return Result("result", "image/png", {"X-DCAE-Seconds": f"{seconds:.3f}"})

    def web_model(self, task: Task, data: bytes) -> Result:
        """The model for browsers; of the service itself."""
        from dcae.serve.web_model import web_model

        Path(task.folder, "result").write_bytes(web_model(self.model(task.options["model"]).path))
        return Result("result", "application/octet-stream")

    def example(self, task: Task, data: bytes) -> Result:
        """An example picture, which takes a moment to draw."""
        from dcae.serve.examples import example_png

        Path(task.folder, "result").write_bytes(example_png(task.options["name"], task.options["width"]))
        return Result("result", "image/png")


def target_of(options: dict[str, Any]) -> Any:
    """The target that a request names; None without one.

    Raises:
        OptionError: a quality beside it, or several.
    """
    from dcae.codec.targets import Target

    wanted = [options.get(name) for name in ("target_size", "target_bpp", "target_psnr")]
    if all(value is None for value in wanted):
        return None
    if options["quality"] is not None:
        raise OptionError("give a quality or a target, not both")
    return Target(*wanted)


def check_picture(data: bytes, max_pixels: int) -> None:
    """Refuse a picture that is too large before any of it is decoded, and what is none.

    Raises:
        TooLargeError, OtherFileError: it is.
    """
    from PIL import Image, UnidentifiedImageError

    from dcae.codec.limits import check_size
    from dcae.codec.pictures.heif import register_heif

    register_heif()
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
    except UnidentifiedImageError as error:
        raise OtherFileError("the body is no picture that Pillow can read") from error
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the picture's pixels are more than the limit of {max_pixels}") from error
    except Exception:  # the codec has a sentence about what is damaged
        return
    check_size(*size, 64, max_pixels, TooLargeError)


def check_file(data: bytes, max_pixels: int) -> None:
    """Refuse a `.dcae` file of a picture that is too large; one that is damaged is left to the decoder.

    Raises:
        TooLargeError: it is.
    """
    from dcae.codec.container import read_container
    from dcae.codec.limits import check_size

    try:
        size = read_container(data).size  # that it is shown at, which the header alone does not say
    except FileFormatError:
        return
    check_size(*size, 64, max_pixels, TooLargeError)


def file_headers(data: bytes, seconds: float) -> dict[str, str]:
    """Headers about a `.dcae` file."""
    from dcae.codec.describe import file_info

    info = file_info(data)
    return {
        "X-DCAE-Width": str(info.width),
        "X-DCAE-Height": str(info.height),
        "X-DCAE-Bpp": f"{info.bpp:.4f}",
        "X-DCAE-Quality": "lossless" if info.lossless else "avif" if info.avif else f"{info.quality:g}",
        "X-DCAE-Model": info.model_name or info.model or "",
        "X-DCAE-Seconds": f"{seconds:.3f}",
    }
