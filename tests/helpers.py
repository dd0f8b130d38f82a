"""What several test files make: a tiny model, pictures, a reader of pages."""

from __future__ import annotations

import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dcae.entropy.symbol_coding import SymbolCoding
from dcae.entropy.tables import Tables
from dcae.entropy.y_coding import YCoding
from dcae.entropy.z_coding import ZCoding
from dcae.models.installed import find_model

if TYPE_CHECKING:
    from dcae.train.config import TrainConfig

LITE = find_model("lite").path.stem
"""Name of the newest `lite` of the package, with its version."""

TINY: dict[str, Any] = {
    "widths": (16, 32),
    "layers": ("C", "S"),
    "expansions": (1, 1),
    "head_channels": 16,
    "hyper_width": 16,
    "hyper_channels": 16,
    "latent_channels": 32,
    "slices": (8, 24),
    "context_width": 16,
    "dictionary_width": 16,
    "dictionary_entries": 8,
    "residual_width": 8,
}
"""A `lite` of some 60 k parameters with every part that the real one has."""

TINY_LOOP = TINY | {"latent_channels": 48, "slices": (32, 16), "skip_channels": 16}
"""The same with a closed loop."""


def synthetic_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Gradients and some noise, RGB."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin((x + k * y) / 17 + k) for k in (-1, 0, 1)]
    noise = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    return Image.fromarray((np.stack(channels, -1) + noise).clip(0, 255).astype(np.uint8))


def screen(mode: str = "RGB") -> Image.Image:
    """Lines of text on a page, and a photograph on it: (200, 160) pixels, most of which equal a neighbour."""
    page = Image.new("RGB", (200, 160), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, 200, 18), fill="navy")
    for k in range(8):
        pen.text((8, 24 + 12 * k), "A line of text, and more" + "." * k, fill=("black", "teal")[k % 2])
    page.paste(synthetic_picture(64, 48), (130, 100))
    return page.convert(mode)


def write_tiny_model(path: Path, seed: int = 1, fields: dict[str, Any] = TINY) -> None:
    """Export an untrained tiny model whose heads, zero at the start of training, predict something."""
    pytest.importorskip("compressai", reason="needs compressai, which pip install '.[dev]' brings")
    import torch

    from dcae.models.export import export_model
    from dcae.networks.registry import build_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model("lite", **fields)
        picture = torch.from_numpy(np.array(synthetic_picture(128, 128)))
        network.calibrate(picture.permute(2, 0, 1)[None] / 255)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                # Little for the transforms, whose cosine start makes a decoded picture resemble its source.
                weight.add_(
                    (0.005 if name.startswith(("g_a.", "g_s.", "left_over.")) else 0.05) * torch.randn_like(weight)
                )
    export_model(network, path, {"data": "none", "patches": 0})


def by_neighbours(tables_y: Tables, tables_z: Tables) -> tuple[Tables, Tables, SymbolCoding]:
    """Tables and coding for a model with one set of tables each: three quarters of z's channels predicted, and four
    sets, each shifted against the others so that a wrong one is noticed."""
    rng, channels = np.random.default_rng(6), len(tables_z.lengths)
    prediction = rng.integers(-64, 96, (channels, 3), np.int32)
    prediction[::4] = 0
    limits = np.array([4 * channels, 12 * channels], np.int32)
    z = ZCoding(prediction, rng.integers(0, 9, channels, np.int32), limits)
    y = YCoding(rng.integers(100, 600, 64, np.int32), np.array([40, 100], np.int32))

    def tiled(tables: Tables, sets: int) -> Tables:
        offsets = np.concatenate([tables.offsets - shift for shift in range(sets)])
        parts = np.tile(tables.frequencies, sets), np.tile(tables.lengths, sets), offsets
        return Tables(*(part.astype(np.int32) for part in parts))

    return tiled(tables_y, y.sets), tiled(tables_z, z.sets), SymbolCoding(y, z)


def training_settings(data: Path, **changes: Any) -> TrainConfig:
    """Settings of a run of seconds."""
    from dcae.train.config import TrainConfig

    values: dict[str, Any] = {
        "network": TINY,
        "steps": 12,
        "batch": 4,
        "patch": 64,
        "warmup": 4,
        "precision": "float32",
        "validation_pictures": 1,
        "reference": "",
        "table_pictures": 0,
    }
    return TrainConfig.from_dict({"data": str(data)} | values | changes)


def assert_same(a: Any, b: Any) -> None:
    """Parts of two checkpoints are the same, bit for bit."""
    import torch

    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def icc_profile(space: bytes, gamma: float) -> bytes:
    """An ICC profile, version 2: sRGB's primaries ("RGB ") or none ("GRAY"), and a power law."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    white = xyz(0.9642, 1.0, 0.8249)
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79), b"wtpt": white}
    if space == b"RGB ":
        primaries = {b"r": (0.4361, 0.2225, 0.0139), b"g": (0.3851, 0.7169, 0.0971), b"b": (0.1431, 0.0606, 0.7141)}
        for letter, values in primaries.items():
            tags |= {letter + b"XYZ": xyz(*values), letter + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (header + white[8:]).ljust(128, b"\0") + table + body


class Page(HTMLParser):
    """A page of a report: elements that are open, addresses that it names, and rows of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.rows += tag == "tr"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
