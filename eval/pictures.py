"""The pictures to measure on: those of a folder, and pictures of other sizes that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dcae.codec.pictures.preparation import Preparation
from dcae.codec.pictures.preparing import prepare
from dcae.errors import DCAEError, OptionError, PictureError
from dcae.files import PICTURE_SUFFIXES


def load_pixels(path: Path) -> NDArray[np.uint8]:
    """Upright sRGB pixels (H, W, 3) uint8: what every codec gets and is compared with.

    Raises:
        PictureError: unreadable, or of a kind that is not coded.
    """
    picture = prepare(path, Preparation(strip=True))
    if picture.alpha is not None:
        raise PictureError(f"{path}: transparent pixels are not measured; flatten it first")
    pixels = picture.at_depth(8).pixels
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8, copy=True)


def pixel_count(path: Path) -> int:
    """Width times height of a picture file that :func:`load_pixels` reads."""
    with Image.open(path) as image:
        return image.width * image.height


def find_pictures(folder: Path, limit: int | None, progress: Callable[[str], None]) -> list[Path]:
    """The readable pictures directly in `folder`, by name; those that are not are named to `progress`.

    Args:
        limit: stop after this many.

    Raises:
        OptionError: no such folder.
        DCAEError: no readable picture in it.
    """
    if not folder.is_dir():
        raise OptionError(f"{folder}: no such folder of pictures")
    found: list[Path] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES):
        if limit is not None and len(found) >= limit:
            break
        try:
            path.name.encode()
            load_pixels(path)
        except UnicodeEncodeError:
            progress(f"{path.name!a}: skipped, rename it: its name is no valid text")
            continue
        except PictureError as error:
            progress(f"{path.name}: skipped, {error}")
            continue
        found.append(path)
    if not found:
        raise DCAEError(f"{folder}: no readable picture in it, nothing to measure")
    return found


def mosaic(paths: list[Path], width: int, height: int) -> Image.Image:
    """A picture of any size with the detail of real ones: unscaled pictures side by side, row by row.

    Portraits are turned by 90°, all are cropped to the smallest width and height among them, and every other time
    that the pictures are used up they are mirrored.

    Args:
        width, height: of the mosaic, in pixels.
    """
    tiles = []
    for path in paths:
        tile = Image.fromarray(load_pixels(path))
        tiles.append(tile if tile.width >= tile.height else tile.transpose(Image.Transpose.ROTATE_90))
    cell_width, cell_height = min(t.width for t in tiles), min(t.height for t in tiles)
    tiles = [t.crop((0, 0, cell_width, cell_height)) for t in tiles]
    tiles += [ImageOps.mirror(t) for t in tiles]
    canvas = Image.new("RGB", (width, height))
    places = [(x, y) for y in range(0, height, cell_height) for x in range(0, width, cell_width)]
    for k, place in enumerate(places):
        canvas.paste(tiles[k % len(tiles)], place)
    return canvas
