"""Pieces of files that are too large to travel whole, with an index by which they are put together and checked."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MIB = 2**20
INDEX = ".index.json"
"""Suffix of the names of indices."""


class KitError(Exception):
    """What went wrong, in one line that says what to do."""


def write_pieces(data: bytes, folder: Path, name: str, most: int, step: int = 0, kind: str = "file") -> list[Path]:
    """Write `data` as NAME.000, NAME.001, ... of at most `most` bytes each, and NAME.index.json after them.

    Returns:
        The paths, the index last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces, paths = [], []
    for k, start in enumerate(range(0, max(len(data), 1), most)):
        piece = data[start : start + most]
        paths.append(folder / f"{name}.{k:03}")
        _write(paths[-1], piece)
        pieces.append({"file": paths[-1].name, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()})
    index = {"name": name, "kind": kind, "step": step, "bytes": len(data), "pieces": pieces}
    index["sha256"] = hashlib.sha256(data).hexdigest()
    paths.append(folder / f"{name}{INDEX}")
    _write(paths[-1], json.dumps(index, indent=1).encode())
    return paths


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def read_index(path: Path) -> dict[str, Any]:
    """The index of some pieces.

    Raises:
        KitError: not an index.
    """
    try:
        index = json.loads(path.read_text())
        for piece in index["pieces"]:
            if Path(piece["file"]).name != piece["file"]:
                raise ValueError(piece["file"])
        return dict(index)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path}: not an index of pieces ({error})") from error


def join_pieces(index: dict[str, Any], folders: list[Path]) -> bytes:
    """The file that an index describes.

    Args:
        folders: where its pieces lie; they may be spread over several.

    Raises:
        KitError: a piece that is missing or damaged.
    """
    data = b""
    for piece in index["pieces"]:
        found = [f / piece["file"] for f in folders if (f / piece["file"]).is_file()]
        good = [p for p in map(Path.read_bytes, found) if hashlib.sha256(p).hexdigest() == piece["sha256"]]
        if not good:
            state = "damaged" if found else "missing"
            raise KitError(f"{piece['file']} of {index['name']} is {state}; fetch it again")
        data += good[0]
    if hashlib.sha256(data).hexdigest() != index["sha256"]:
        raise KitError(f"{index['name']}: the pieces do not make the file; fetch index and pieces again")
    return data


def newest_whole(folders: list[Path]) -> tuple[dict[str, Any], bytes]:
    """The file of the highest step all of whose pieces are there, since a call may end while some are written.

    Raises:
        KitError: none.
    """
    everywhere = sorted({p.parent for f in folders for p in f.rglob("*") if p.is_file()})
    indices = [read_index(p) for f in folders for p in sorted(f.rglob(f"*{INDEX}"))]
    problems = [f"no *{INDEX}"]
    for index in sorted(indices, key=lambda i: i["step"], reverse=True):
        try:
            return index, join_pieces(index, everywhere)
        except KitError as error:
            problems = [str(error)]
    raise KitError(f"nothing whole in {', '.join(map(str, folders))}: {problems[-1]}")
