"""A picture beside another codec's at equal bytes. Heavy imports happen inside."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.codec.pictures.preparation import Preparation
from dcae.errors import MissingDependencyError, OptionError
from dcae.runtime.progress import watching
from dcae.serve.service.coding import Coder, check_picture, target_of
from dcae.serve.service.offers import MEDIA_TYPES, RIVALS
from dcae.serve.service.tasks import Result, Task, Told
from dcae.serve.service.teller import Teller

if TYPE_CHECKING:
    from PIL import Image

    from dcae.codec.describe import FileInfo
    from dcae.eval.rivals import Rival

_QUALITIES = 1, 100
"""Of the rivals that Pillow writes. None is a mode without loss: at 100 AVIF has no more of it than that of YCbCr."""


class Coded(NamedTuple):
    """A picture through a codec."""

    data: bytes
    image: Image.Image
    encode_seconds: float
    decode_seconds: float


def compare(coder: Coder, task: Task, data: bytes) -> Result:
    """A picture by the model and by a rival whose file is at most as large; files of both, and how good they are.

    Transparency is put on white, samples are those of sRGB with 8 bits, and metadata is left out, so that all sides
    are shown alike and no bytes go to something else.
    """
    from dcae.codec.pictures.preparing import prepare
    from dcae.eval.rivals import RIVALS as KNOWN

    options, folder, limit = task.options, Path(task.folder), coder.settings.max_pixels
    label, suffix, known = RIVALS[options["rival"]]
    check_picture(data, limit)
    if not KNOWN[known].available:
        raise MissingDependencyError(f"this service has no {label}; /info names the rivals that it has")
    prepared = prepare(data, Preparation(background="white", strip=True), limit).at_depth(8)
    image = prepared.image().convert("RGB")
    ours, info = _ours(coder, task, image)
    coder.send(Told(0.7, f"searching {label}"))
    theirs, setting = _theirs(KNOWN[known], image, len(ours.data), coder, label)
    coder.send(Told(0.93, "measuring"))
    url = f"/jobs/{folder.name}/files"
    files = {"original.png": image, "dcae.png": ours.image, "rival.png": theirs.image}
    for name, side in files.items():
        side.save(folder / name, compress_level=1)
    (folder / "picture.dcae").write_bytes(ours.data)
    (folder / f"rival{suffix}").write_bytes(theirs.data)
    original = np.asarray(image)
    value = {
        "width": image.width,
        "height": image.height,
        "original": {"url": f"{url}/original.png"},
        "dcae": {
            "url": f"{url}/picture.dcae",
            "png_url": f"{url}/dcae.png",
            "quality": info.quality,
            "stored": info.stored,
            "effort": options["effort"],
            **_measured(original, ours),
        },
        "rival": {
            "name": options["rival"],
            "label": label,
            "url": f"{url}/rival{suffix}",
            "png_url": f"{url}/rival.png",
            "setting": setting,
            "settings": KNOWN[known].settings,
            "fits": len(theirs.data) <= len(ours.data),
            **_measured(original, theirs),
        },
    }
    types = dict.fromkeys(files, "image/png") | {"picture.dcae": "image/x-dcae", f"rival{suffix}": MEDIA_TYPES[suffix]}
    return Result(value=value, files=types)


def _ours(coder: Coder, task: Task, image: Image.Image) -> tuple[Coded, FileInfo]:
    """The picture by the model, and what its file says of itself."""
    from dcae.codec.describe import file_info
    from dcae.codec.filecoders import loaded_codec
    from dcae.codec.pictures.preparing import prepare
    from dcae.codec.targets import encode_to_target

    options = task.options
    target = target_of(options)
    encoder = coder.encoder(options["model"], options["quality"], target, options["effort"])
    codec = loaded_codec(encoder.model, "cpu", "auto", coder.settings.max_pixels)
    task.options["effort"] = encoder.options["effort"]
    began = time.perf_counter()
    with watching(Teller(coder.send, "encoding", 0.0, 0.6, searching=target is not None)):
        if target is None:
            data = codec.encode(image, options["quality"], **encoder.options)
        else:
            data = encode_to_target(codec, prepare(image), target, encoder.options).data
    between = time.perf_counter()
    with watching(Teller(coder.send, "decoding", 0.6, 0.7)):
        decoded = codec.decode_picture(data).image().convert("RGB")
    seconds = between - began, time.perf_counter() - between
    return Coded(data, decoded, *seconds), file_info(data)


def _theirs(rival: Rival, image: Image.Image, limit: int, coder: Coder, label: str) -> tuple[Coded, str]:
    """The picture by a rival, at the highest quality whose file has at most `limit` bytes, and what that is; at the
    lowest if even that has more."""
    low, high = _QUALITIES
    best, steps = (low, *_encoded(rival, image, low)), 1
    while low < high and len(best[1]) <= limit:
        middle = (low + high + 1) // 2
        data, seconds = _encoded(rival, image, middle)
        steps += 1
        coder.send(Told(0.7 + 0.2 * min(steps / 7, 1), f"searching {label}"))
        if len(data) <= limit:
            low, best = middle, (middle, data, seconds)
        else:
            high = middle - 1
    quality, data, seconds = best
    began = time.perf_counter()
    decoded = rival.decode(data).convert("RGB")
    return Coded(data, decoded, seconds, time.perf_counter() - began), f"quality {quality}"


def _encoded(rival: Rival, image: Image.Image, quality: int) -> tuple[bytes, float]:
    began = time.perf_counter()
    try:
        data = rival.encode(image, quality)
    except MemoryError:
        raise
    except Exception as error:  # a side that the format does not have makes Pillow's writers raise almost anything
        raise OptionError(
            f"{rival.label} cannot write this picture ({type(error).__name__}); choose another"
        ) from error
    return data, time.perf_counter() - began


def _measured(original: NDArray[np.uint8], coded: Coded) -> dict[str, Any]:
    """What is said of either side; no PSNR where nothing differs."""
    from dcae.eval.metrics import ms_ssim, psnr

    decoded = np.asarray(coded.image)
    decibels = psnr(original, decoded)
    return {
        "bytes": len(coded.data),
        "bpp": 8 * len(coded.data) / (original.shape[0] * original.shape[1]),
        "psnr": None if math.isinf(decibels) else decibels,
        "identical": math.isinf(decibels),
        "ms_ssim": ms_ssim(original, decoded),
        "encode_seconds": coded.encode_seconds,
        "decode_seconds": coded.decode_seconds,
    }
