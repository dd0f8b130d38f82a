"""Cases for the decoder in JavaScript: files, and what this package makes of them, for `tests/web/*.test.mjs`.

A folder with `cases.json` and what it names. Every file of `files` comes with either its picture or the error that it
is refused with, both by the Python decoder: the decoders shall agree, whatever the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import reference_decoder as reference
from numpy.typing import ArrayLike, NDArray
from test_range_coder import _arrays, _coded, _split, _tables

from dcae.codec.codec import Codec
from dcae.codec.coder import SymbolTables
from dcae.entropy.tables import Tables
from dcae.errors import DCAEError
from dcae.serve.web_folder import MODULES, RUNTIME
from dcae.serve.web_model import web_model

MAX_PIXELS = 16 << 20
"""Limit of the decoder in JavaScript."""
NODE = shutil.which("node")
DIST = Path(
    os.environ.get("ONNXRUNTIME_WEB") or Path(__file__).parents[1] / "serve/web/node_modules/onnxruntime-web/dist"
)
"""Folder of ONNX Runtime for browsers, which `npm install` in `serve/web` brings."""
LACKING = "" if all((DIST / name).is_file() for name in RUNTIME) else f"no onnxruntime-web in {DIST}: npm install it"
"""Why nothing can be decoded in JavaScript here; "" if it can."""
_SIGNATURE = reference.SIGNATURE


def environment(cases: Path) -> dict[str, str]:
    """Of a process of Node.js that imports `tests/web/support.mjs`."""
    found = {"DCAE_WEB_CASES": cases, "DCAE_WEB_MODULES": MODULES, "DCAE_WEB_RUNTIME": DIST}
    return {**os.environ, **{name: str(path) for name, path in found.items()}}


class Cases:
    """A folder of cases for the models of some codecs."""

    def __init__(self, folder: Path, models: Iterable[Path]) -> None:
        self.folder, self.files = folder, list[dict[str, Any]]()
        self.codecs: dict[str, Codec] = {}
        for path in models:
            codec = Codec(path, engine="onnx", max_pixels=MAX_PIXELS)
            self.codecs[codec.header.short_id.hex()] = codec
            (folder / f"{codec.header.short_id.hex()}.dcaeweb").write_bytes(web_model(path))

    def add(self, name: str, data: bytes, latents: bool = False) -> None:
        """A file and what becomes of it.

        Args:
            latents: with digests of its symbols and latents.
        """
        case: dict[str, Any] = {"name": name, "data": base64.b64encode(data).decode()}
        codec = next(
            (codec for codec in self.codecs.values() if codec.header.short_id in data), next(iter(self.codecs.values()))
        )
        try:
            picture = codec.decode_picture(data)
        except DCAEError as error:
            case |= {"error": type(error).__name__, "message": _comparable(str(error))}
        else:
            pixels = np.repeat(picture.at_depth(8).pixels, 3 // picture.pixels.shape[2], 2)
            case["pixels"] = f"{len(self.files)}.rgb"
            case |= {"width": picture.width, "height": picture.height}
            (self.folder / case["pixels"]).write_bytes(pixels.tobytes())
        if latents:
            found = codec.decode_latents(data)
            case["symbols"] = digest([found.z, *found.y])
            case["latents"] = digest([found.y_hat * codec.engine.latent_grid])
        self.files.append(case)

    def write(self, **others: Any) -> None:
        """Write `cases.json`."""
        (self.folder / "cases.json").write_text(json.dumps({"files": self.files, "maxPixels": MAX_PIXELS, **others}))


def digest(arrays: Iterable[ArrayLike]) -> str:
    """SHA-256 of arrays as `tests/golden/golden.json` has it."""
    return hashlib.sha256(b"".join(np.asarray(a, "<i4").tobytes() for a in arrays)).hexdigest()


def _comparable(message: str) -> str | None:
    """A message as the decoder in JavaScript has it; None where other libraries than ours have a say in it."""
    if re.search(r"cannot be (expanded|read)|\\x|was written with model", message):
        return None
    return message.replace("max_pixels (--max-pixels)", "maxPixels")


def section(letter: str, payload: bytes) -> bytes:
    """A section with a right CRC, whatever else is wrong with it."""
    length, rest = b"", len(payload)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    body = letter.encode("latin-1") + length + bytes([rest]) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def file_of(sections: Iterable[tuple[str, bytes]], version: int = 1) -> bytes:
    """A file of these sections."""
    return _SIGNATURE + bytes([version]) + b"".join(section(*one) for one in sections)


def truncated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every beginning of a file, and it with something behind it."""
    for length in range(len(data)):
        yield f"the first {length} bytes", data[:length]
    yield "a byte more", data + b"\0"


def flipped(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A file with each of its bits flipped."""
    for bit in range(8 * len(data)):
        yield f"bit {bit}", data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def altered(data: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    """A file with a bit flipped in every `step`th byte of the payloads and CRCs that fit; and with streams cut short,
    prolonged and exchanged."""
    sections = reference.read_sections(data)
    for k, (letter, payload) in enumerate(sections):
        for at in range(0, len(payload), 1 if letter == "H" else step):
            other = payload[:at] + bytes([payload[at] ^ 1 << (at * 5 + 3) % 8]) + payload[at + 1 :]
            yield f"byte {at} of {letter}", file_of([*sections[:k], (letter, other), *sections[k + 1 :]])
        if letter != "H":
            for other in (
                b"",
                payload[:-4],
                payload[:-1],
                payload + bytes(4),
                payload[4:],
                bytes(len(payload)),
                b"\xff" * len(payload),
            ):
                yield f"another {letter}", file_of([*sections[:k], (letter, other), *sections[k + 1 :]])


def hostile(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files whose sections and headers no encoder writes, made of a good one of version 1."""
    (_, header), z, y = reference.read_sections(data)
    good = header + b"\0"
    for name, other in {
        "a width of 0": b"\0" + header[1:],
        "a width of 2^24": b"\x80\x80\x80\x08" + header[1:],
        "a width of 2^24 - 1": b"\xff\xff\xff\x07" + header[1:],
        "35 bits of width": b"\xff\xff\xff\xff\x7f" + header[1:],
        "a superfluous byte of width": b"\x81\x00" + header[1:],
        "a width of 6 bytes": b"\x80\x80\x80\x80\x80\x01" + header[1:],
        "4095x4095": b"\xff\x1f\xff\x1f" + header[2:],
        "no header": b"",
        "a short header": header[:-1],
        "a long header": good,
    }.items():
        yield name, file_of([("H", other), z, y])
    for letters in (
        "ZHY",
        "YHZ",
        "HHZY",
        "HZZY",
        "HY",
        "HYZ",
        "HZYY",
        "HZ",
        "",
        "HZYx",
        "HAZY",
        "HZ\0Y",
        "HZ{Y",
        "HPY",
    ):
        parts = {"H": header, "Z": z[1], "Y": y[1]}
        yield f"sections {letters}", file_of([(letter, parts.get(letter, b"what")) for letter in letters])
    for letter in "ayz":
        yield f"an unknown section {letter}", file_of([("H", header), (letter, b"what"), (letter, b""), z, y])
    packed = zlib.compress(b"1234")
    for name, extra in {
        "contents": [("x", b"\x04" + packed)], "contents twice": [("e", b"\x04" + packed)] * 2,
        "less than declared": [("x", b"\x05" + packed)], "more than declared": [("x", b"\x03" + packed)],
        "something behind": [("i", b"\x04" + packed + b"5")], "cut": [("i", b"\x04" + packed[:-1])],
        "nonsense": [("i", b"\x04nonsense")], "nothing": [("i", b"\x00" + packed)], "empty": [("i", b"")],
        "too much": [("i", b"\x80\x80\x80\x08" + packed)],
        "a bomb": [("i", b"\x80\x80\x80\x02" + zlib.compress(bytes(40 << 20), 9))],
        "an empty alpha": [("A", b"")], "alpha of nonsense": [("A", b"nonsense" * 8)], "two": [("A", b"a")] * 2,
    }.items():  # fmt: skip
        yield f"version 2 with {name}", file_of([("H", good), *extra, z, y], 2)
    yield "both kinds of pictures", file_of([("H", good), z, ("P", b"what")], 2)
    yield "nonsense without loss", file_of([("H", good), ("P", b"nonsense" * 8)], 2)
    for version in (0, 3, 255):
        yield f"version {version}", data[:9] + bytes([version]) + data[10:]
    for name, text in {
        "nothing": b"",
        "text": b"a text\n",
        "its signature": data[:9],
        "more": b"\x89DCAE\n\x1a\n",
    }.items():
        yield f"a file of {name}", text
    yield "a file taken for text", data.decode("latin-1").encode("utf-8")


def coder_cases() -> list[dict[str, Any]]:
    """Streams for the range decoder alone: those of the encoder, excesses and all, and random ones, which the second
    decoder either refuses or reads."""
    cases = []
    for seed in range(3):
        tables = _tables(seed)
        arrays = _arrays(tables, seed, [1, 0, 700, 2, 0, 300])
        stream = _coded(SymbolTables(tables), arrays)
        cases.append(_coder_case(tables, stream, [rows for _, rows in arrays]))
        assert cases[-1]["symbols"] == [symbols.tolist() for symbols, _ in arrays]
        rng = np.random.default_rng(seed)
        for words in (0, 1, 2, 3, 8, 40):
            rows = [rng.integers(0, len(tables.lengths), 5 * words).astype(np.uint8)]
            cases.append(_coder_case(tables, rng.bytes(4 * words), rows))
        cases.append(_coder_case(tables, stream + bytes(4), [rows for _, rows in arrays]))
        cases.append(_coder_case(tables, b"\xff" * 40, [rows for _, rows in arrays]))
        cases.append(_coder_case(tables, b"\xff" * 8, [np.empty(0, np.uint8)]))
    return cases + _ends()


def _ends() -> list[dict[str, Any]]:
    """Streams on either side of each bound of the decoder."""
    total = 1 << 24
    rows = [[total // 4] * 4, [total - 3, 1, 1, 1], [5, 65600, total - 65606, 1]]
    tables = Tables(np.concatenate(rows).astype(np.int32), np.full(3, 4, np.int32), np.zeros(3, np.int32))
    scale = (reference.STATE - 1) >> 24

    def case(offset: int, *rows: int, more: bytes = b"") -> dict[str, Any]:
        """Of a decoder that begins with an offset: symbols 1 of these rows, which no excess follows."""
        words = np.array(divmod(offset, reference.WORD), "<u4").tobytes()
        found = _coder_case(tables, words + more, [np.array(rows, np.uint8)])
        assert found["symbols"] in (None, [[1] * len(rows)])
        return found

    # What may be left when all is read, and a word too many.
    cases = [case(total // 4 * scale + 2 * reference.WORD - 1 + beyond, 0) for beyond in (-2, -1, 0, 1)]
    cases.append(case(total // 4 * scale, 0, more=bytes(4)))
    assert [found["atEnd"] for found in cases] == [True, True, False, False, False]
    # Just so much range that no word is shifted in.
    cases.append(case((total - 3) * scale + (scale >> 24) * 5 + 7, 1, 2))
    assert cases[-1]["atEnd"]
    # An excess of 2^16, by what is left of a range when it is divided by 2^24.
    cases.append(case((2**38 - 1) * total, 0))
    assert cases[-1]["symbols"] is None
    return cases


def _coder_case(tables: Tables, stream: bytes, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    reader = reference.SymbolReader(stream, *_split(tables))
    case: dict[str, Any] = {"stream": base64.b64encode(stream).decode(), "rows": [rows.tolist() for rows in arrays]}
    case["tables"] = [a.tolist() for a in (tables.frequencies, tables.lengths, tables.offsets)]
    try:
        case["symbols"] = [reader.read(rows.tolist()) for rows in arrays]
        case["atEnd"] = reader.coder.at_end
    except AssertionError:
        case["symbols"] = None
    return case
