"""Work list of a batch: which files are meant, and what each is called in the folder of outputs.

An output's name follows from its source's alone, not from what else is in the batch: `photo.jpg` becomes
`photo.jpg.dcae`, so that it does not collide with `photo.png`, and a file that is there already is the right one when a
batch is continued.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from dcae.errors import OptionError
from dcae.files import PICTURE_SUFFIXES, read_bytes

SUFFIX = ".dcae"
PICTURES = PICTURE_SUFFIXES | {
    *(".avif", ".avifs", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpx", ".mpo", ".pbm"),
    *(".pgm", ".pnm", ".qoi", ".tga"),
}
"""What is encoded of a folder; a file of a type that cannot be read is named among the failures."""
_LIST = "@"


class Source(NamedTuple):
    """A file of the batch."""

    path: str
    name: str
    """Its path below the folder that was named, or its own name."""


class Job(NamedTuple):
    """One file to make."""

    source: str
    output: str


class WorkList(NamedTuple):
    """The files of a batch."""

    sources: list[Source]
    """In the order in which they were named, those of a folder by name; none twice."""
    left_out: list[str]
    """Files in the folders that are of another type."""


def is_batch(paths: tuple[str, ...], output: str | None) -> bool:
    """Whether outputs go into a folder: several paths, a folder, a pattern or a list, or an output that is a folder."""
    if len(paths) > 1 or (output is not None and is_folder(output)):
        return True
    return os.path.isdir(paths[0]) or _is_list(paths[0]) or _is_pattern(paths[0])


def is_url(path: str) -> bool:
    """Whether a path names a file system other than the machine's own."""
    return "://" in path


def is_folder(output: str) -> bool:
    """Whether an output is an existing folder, or is written like one."""
    return output != "-" and (os.path.isdir(output) or output.endswith(("/", os.sep)))


def _is_list(path: str) -> bool:
    return path.startswith(_LIST) and not os.path.lexists(path)


def _is_pattern(path: str) -> bool:
    return not os.path.lexists(path) and glob.has_magic(path)


def work_list(paths: tuple[str, ...], suffixes: frozenset[str], recursive: bool) -> WorkList:
    """The files that are meant by paths.

    Args:
        paths: files; folders, of which the files with these suffixes are taken; patterns with `*`, `?`, `[...]` and
            `**`; and `@FILE`, which names a path in each line (`@-`: stdin). What exists under such a name is a file.
        suffixes: in lower case.
        recursive: also take files in folders of the folders. What begins with a dot is left out.

    Raises:
        OptionError: a path, other than one of a list, that does not exist, or a pattern that nothing fits.
    """
    found: dict[str, Source] = {}
    left_out: list[str] = []
    for path in paths:
        for source in _meant(path, suffixes, recursive, left_out):
            found.setdefault(os.path.realpath(source.path), source)
    return WorkList(list(found.values()), left_out)


def _meant(path: str, suffixes: frozenset[str], recursive: bool, left_out: list[str]) -> Iterator[Source]:
    if path == "-":
        raise OptionError("-: standard input is one file, which needs an output of its own")
    if _is_list(path):
        for line in os.fsdecode(read_bytes(path[1:])).split("\n"):  # nothing else ends a path
            line = line.removesuffix("\r")
            if "\0" in line:
                raise OptionError(f"{path}: a list has a path in each line, not zeros between them")
            if line.strip():
                yield from _named(line, line, suffixes, recursive, left_out)
    elif _is_pattern(path):
        matches = sorted(glob.iglob(path, recursive=True))
        if not matches:
            raise OptionError(f"{path}: no file fits this pattern")
        fixed = _before_pattern(path)
        for match in matches:
            if not (os.path.isdir(match) and "**" in path):  # of `**` every folder below is a match, and its files
                yield from _named(match, os.path.relpath(match, fixed), suffixes, recursive, left_out)
    elif not os.path.exists(path):
        raise OptionError(f"{path}: no such file or folder")
    else:
        yield from _named(path, os.path.basename(path), suffixes, recursive, left_out)


def _before_pattern(path: str) -> str:
    """The folders of a pattern before its first with a wildcard."""
    parts = Path(path).parts
    first = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    return os.path.join(*parts[:first]) if first else os.curdir


def _named(path: str, name: str, suffixes: frozenset[str], recursive: bool, left_out: list[str]) -> Iterator[Source]:
    """The file, or the files of the folder, at `path`."""
    if not os.path.isdir(path):
        name = os.path.normpath(name)
        outside = os.path.isabs(name) or name.startswith(os.pardir)
        yield Source(path, os.path.basename(path) if outside else name)
        return

    def refuse(error: OSError) -> None:
        raise OptionError(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(path, onerror=refuse):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for file in sorted(name for name in files if not name.startswith(".")):
            inside = os.path.join(folder, file)
            if os.path.splitext(file)[1].lower() in suffixes:
                yield Source(inside, os.path.relpath(inside, path))
            else:
                left_out.append(inside)


def encoded_name(name: str) -> str:
    """`photo.jpg` -> `photo.jpg.dcae`."""
    return name + SUFFIX


def decoded_name(name: str, kind: str) -> str:
    """`photo.jpg.dcae` -> `photo.jpg.png`; `kind` is the suffix without its dot."""
    stem, suffix = os.path.splitext(name)
    return f"{stem if suffix.lower() == SUFFIX else name}.{kind}"


def jobs_into(folder: str, sources: list[Source], rename: Callable[[str], str]) -> list[Job]:
    """What is made of each source.

    Raises:
        OptionError: two sources would get the same name.
    """
    jobs: dict[str, Job] = {}
    for source in sources:
        name = rename(source.name)
        job = Job(source.path, os.path.join(folder, quote(name) if is_url(folder) else name))
        other = jobs.setdefault(job.output, job)
        if other is not job:
            beside = os.path.dirname(other.source) == os.path.dirname(job.source)
            what = "give each an output of its own" if beside else "name the folder that holds both, with -r"
            raise OptionError(f"{other.source} and {job.source} would both become {job.output}", what)
    return list(jobs.values())


def existing(jobs: list[Job]) -> set[str]:
    """Those of the outputs that exist; a symbolic link to nothing does."""
    return {job.output for job in jobs if os.path.lexists(job.output)}


def unfinished(jobs: list[Job], existing: set[str], skip_existing: bool) -> list[Job]:
    """The jobs whose output is not among those that exist.

    Raises:
        OptionError: some exist, and may not be skipped.
    """
    if existing and not skip_existing:
        first = next(job.output for job in jobs if job.output in existing)
        raise OptionError(
            f"{len(existing)} of {len(jobs)} outputs exist already, {first} for one",
            "use --skip-existing to go on with the others or --force to overwrite",
        )
    return [job for job in jobs if job.output not in existing]


def make_folders(jobs: list[Job]) -> None:
    """Make the folders that the outputs lie in.

    Raises:
        OptionError: one cannot be made.
    """
    for folder in sorted({os.path.dirname(job.output) for job in jobs}):
        try:
            os.makedirs(folder or os.curdir, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{folder}: cannot be made ({error.strerror or error})") from error
