"""HEIC through pillow-heif, a plugin of Pillow."""

from __future__ import annotations

from PIL import Image

from dcae.eval.rivals.base import threads
from dcae.eval.rivals.pillow import PillowRival
from dcae.extras import missing


class HeicRival(PillowRival):
    """HEIC by x265. It stores matrix and range of the colours in the file."""

    @property
    def missing(self) -> str:
        sentence = missing("HEIC needs", "rivals", "pillow_heif")
        return sentence and f"{sentence} (its wheels contain x265, which is GPL)"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        self._register()
        return super().encode(image, quality)

    def decode(self, data: bytes) -> Image.Image:
        self._register()
        return super().decode(data)

    @staticmethod
    def _register() -> None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        pillow_heif.options.DECODE_THREADS = threads()


def make_heic(subsampling: str, psnr: bool, variant_of: str = "") -> HeicRival:
    """HEIC with chroma `subsampling` "4:2:0" or "4:4:4", tuned for PSNR or as x265 comes.

    Variants, which show what settings gain, have every second quality of the ladder.
    """
    return HeicRival(
        " ".join(filter(None, ("HEIC", "" if subsampling == "4:2:0" else subsampling, "tune=psnr" if psnr else ""))),
        f"pillow-heif (x265), {subsampling}, {'tune=psnr' if psnr else 'the default tune'}",
        (1, 10, 22, 34, 46) if variant_of else (1, 5, 10, 16, 22, 28, 34, 40, 46, 52),
        "HEIF",
        {"chroma": subsampling.replace(":", "")} | ({"enc_params": {"tune": "psnr"}} if psnr else {}),
        variant_of=variant_of,
    )
