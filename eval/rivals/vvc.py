"""VVC (H.266) through the ffmpeg of imageio-ffmpeg: libvvenc writes it, ffmpeg's own decoder reads it."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from dcae.errors import DCAEError, FileFormatError, OptionError, PictureError
from dcae.eval.rivals.base import Rival, threads
from dcae.extras import missing

_INSTALL = "pip install 'dcae[rivals]' (a binary of ffmpeg under the GPL)"
_MIN_SIDE = 16
# Both ways name the BT.709 matrix and the full range themselves: what ffmpeg would assume otherwise differs between
# raw RGB and the stream, and a wrong guess costs decibels. zscale and Lanczos, because the chroma of ffmpeg's default
# scaler loses 0.04 dB.
_TO_YUV = "zscale=matrix=709:range=full:filter=lanczos,format=yuv420p10le"
_TO_RGB = "zscale=matrixin=709:rangein=full:matrix=gbr:range=full:filter=lanczos,format=gbrp,format=rgb24"


@dataclass(frozen=True)
class VvcRival(Rival):
    """One intra picture; the quality is libvvenc's QP from 0 to 63, smaller for more bytes.

    Encoder and decoder are processes of their own, whose start counts in the time that they take.
    """

    preset: str
    """libvvenc's: "faster", "fast", "medium", "slow", "slower"."""

    @property
    def missing(self) -> str:
        if sentence := missing("VVC needs", "rivals", "imageio_ffmpeg"):
            return f"{sentence} (a binary of ffmpeg under the GPL)"
        try:
            return "" if _has_vvc() else f"VVC needs an ffmpeg with libvvenc and zscale; {_INSTALL}"
        except (DCAEError, RuntimeError) as error:
            return f"VVC needs an ffmpeg that runs ({error}); {_INSTALL}"

    @property
    def in_process(self) -> bool:
        return False

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """A raw VVC stream.

        Raises:
            PictureError: a side is odd, which 4:2:0 has no pixels for, or below 16 pixels.
            OptionError: the QP is outside 0 to 63.
            DCAEError: ffmpeg failed.
        """
        width, height = image.size
        if width % 2 or height % 2 or min(width, height) < _MIN_SIDE:
            raise PictureError(f"{width}x{height}: VVC codes even sides from {_MIN_SIDE} pixels here")
        qp = round(quality)
        if not 0 <= qp <= 63:
            raise OptionError(f"QP {qp} is outside 0 to 63")
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-", "-vf", _TO_YUV]
        coder = ["-c:v", "libvvenc", "-preset", self.preset, "-qp", str(qp), "-qpa", "0"]
        coder += ["-vvenc-params", "range=full", "-threads", str(threads())]
        return _ffmpeg([*source, *coder, "-f", "vvc", "-"], image.convert("RGB").tobytes()).stdout

    def decode(self, data: bytes) -> Image.Image:
        """The first picture of a raw VVC stream.

        Raises:
            FileFormatError: there is none.
            DCAEError: ffmpeg failed.
        """
        source = ["-threads", str(threads()), "-f", "vvc", "-i", "-", "-vf", _TO_RGB, "-frames:v", "1"]
        # PPM rather than raw pixels, so that the size is what the stream says.
        found = _ffmpeg([*source, "-c:v", "ppm", "-f", "image2pipe", "-"], data).stdout
        header = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", found)
        if not header:
            raise FileFormatError("ffmpeg decoded no picture from the VVC stream")
        size = int(header[1]), int(header[2])
        return Image.frombytes("RGB", size, found[header.end() :])


def make_vvc(preset: str, variant_of: str = "") -> VvcRival:
    """VVC by a preset of libvvenc."""
    return VvcRival(
        "VVC" if preset == "medium" else f"VVC {preset}",
        f"ffmpeg (libvvenc), preset {preset}, no perceptual QP, 4:2:0, 10 bits, a raw stream without container",
        (47, 42, 37, 32, 27, 22),
        preset,
        family="VVC",
        effort=preset,
        variant_of=variant_of,
    )


@cache
def _has_vvc() -> bool:
    encoders, filters = (_ffmpeg([listing]).stdout for listing in ("-encoders", "-filters"))
    return b"libvvenc" in encoders and b"zscale" in filters


def _ffmpeg(arguments: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "error", *arguments]
    try:
        result = _run(command, data)
    except OSError as error:
        raise DCAEError(f"{command[0]}: cannot be run ({error.strerror or error})") from error
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise DCAEError(f"ffmpeg failed ({lines[-1] if lines else f'exit code {result.returncode}'})")
    return result


def _run(command: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    """`subprocess.run` of a program that does not outlive this process.

    SIGINT and SIGTERM, which by their default end this process at once and leave the program to itself, do so only
    after it has been killed. Their handler raises nothing: an exception out of a signal can come while the program is
    being started, when nobody has its number yet, or where it is ignored.
    """
    process: subprocess.Popen[bytes] | None = None
    caught: list[int] = []

    def handler(number: int, frame: object) -> None:
        caught.append(number)
        if process is not None:
            process.kill()

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        numbers = []
    before: dict[int, Any] = {}
    try:
        for asked in numbers:
            before[asked] = signal.signal(asked, handler)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if caught:
            process.kill()
        try:
            output, errors = process.communicate(data)
        finally:
            process.kill()  # nothing, once it has ended
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        if caught:
            signal.raise_signal(caught[0])
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
