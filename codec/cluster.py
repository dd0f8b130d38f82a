"""Batches on many machines, by Ray Data (`--runner ray`): actors that load the model once, files in, files out.

File systems are PyArrow's business; where actors run, and what is done again after a machine was lost, is Ray's. A file
is written whole or not at all, and one whose output is there already is not coded again: whatever Ray repeats, nothing
is lost and nothing is done twice.
"""

from __future__ import annotations

import logging
import os
import posixpath
import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dcae.codec.batch import Job, Source, is_url, make_folders, work_list
from dcae.codec.filecoders import Done, FileCoder
from dcae.codec.workers import Outcome, attempt
from dcae.errors import DCAEError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_RETRIES = 2
"""How often Ray repeats what was lost with its process or machine."""
_OF_URLS = "%/:?=&@+,;~!$'()*[]"
"""What a URL may hold beside letters and digits; whatever else someone writes into one is meant as it is."""
_BLOCKS = 10_000
"""Pieces of work at most. A file that kills its process takes those of its piece along, which is why each has one."""


def check_ray() -> None:
    """Raises:
    MissingDependencyError: Ray is not installed.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise MissingDependencyError("--runner ray needs Ray, which is not installed: pip install 'dcae[ray]'")


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)


def _opened(path: str) -> tuple[FileSystem, str]:
    """File system and path of a URL or a local path.

    Raises:
        OptionError: there is no such file system, or it needs what is not given.
    """
    from pyarrow import ArrowException, fs

    try:
        return fs.FileSystem.from_uri(quote(path, safe=_OF_URLS) if is_url(path) else os.path.abspath(path))
    except (ArrowException, OSError, ValueError) as error:
        raise OptionError(f"{path}: {error}") from error


def sources_of(paths: tuple[str, ...], suffixes: frozenset[str], recursive: bool) -> list[Source]:
    """The files that are meant by local paths, as :func:`work_list` has it, and by URLs of files and of folders."""
    local = tuple(path for path in paths if not is_url(path))
    found = work_list(local, suffixes, recursive).sources if local else []
    for url in dict.fromkeys(paths):
        if is_url(url):
            found += _listed(url, suffixes, recursive)
    return [*{source.path: source for source in found}.values()]


def _listed(url: str, suffixes: frozenset[str], recursive: bool) -> Iterator[Source]:
    from pyarrow import fs

    system, path = _opened(url)
    scheme = url[: url.index("://")]
    try:
        kind = system.get_file_info(path).type
        if kind == fs.FileType.File:
            yield Source(url, posixpath.basename(path))
            return
        entries = system.get_file_info(fs.FileSelector(path, recursive=recursive))
    except OSError as error:
        raise OptionError(f"{url}: {error}") from error
    for entry in sorted(entries, key=lambda entry: entry.path):
        name = posixpath.relpath(entry.path, path)
        if any(part.startswith(".") for part in name.split("/")):  # as in local folders
            continue
        if entry.type == fs.FileType.File and posixpath.splitext(name)[1].lower() in suffixes:
            yield Source(f"{scheme}://{quote(entry.path)}", name)


class _Actor:
    """What runs on the machines: a coder that has loaded its model."""

    def __init__(self, coder: FileCoder) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a library is imported that reads it
        self.coder = coder
        coder.open()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The outcome of a job, in plain types."""
        job = Job(row["source"], row["output"])
        outcome = attempt(partial(_code, self.coder), job)
        written, said = outcome.done or (0, "")
        return {"number": row["number"], "bytes": written, "said": said, "error": outcome.error}


def existing(jobs: Sequence[Job]) -> set[str]:
    """Those of the outputs that exist."""
    return {job.output for job in jobs if _size(job.output) is not None}


def _size(output: str) -> int | None:
    """Bytes of an output; None if it does not exist."""
    from pyarrow import fs

    system, path = _opened(output)
    info = system.get_file_info(path)
    return None if info.type == fs.FileType.NotFound else int(info.size or 0)


def _code(coder: FileCoder, job: Job) -> Done:
    """Make one file; what is not this machine's is brought here, and taken away when it is whole."""
    if not coder.force and (size := _size(job.output)) is not None:
        return Done(size, f"{size} bytes, made before a process was lost")
    if not is_url(job.source) and not is_url(job.output):
        make_folders([job])
        return coder(job)
    from pyarrow import fs

    with TemporaryDirectory(prefix="dcae-") as folder:
        here = Job(*(os.path.join(folder, f"{k}-{posixpath.basename(path)}") for k, path in enumerate(job)))
        system, path = _opened(job.source)
        fs.copy_files(path, here.source, source_filesystem=system, destination_filesystem=fs.LocalFileSystem())
        try:
            done = coder(here)
        except DCAEError as error:
            named = str(error).replace(here.source, job.source).replace(here.output, job.output)
            raise type(error)(named) from error
        _take_away(here.output, job.output)
    return done


def _take_away(here: str, output: str) -> None:
    """Copy a file to where it shall be."""
    from pyarrow import fs

    system, path = _opened(output)
    folder, name = posixpath.split(path)
    # Object stores show an object when it is whole; elsewhere, renaming does that.
    whole = system.type_name in ("s3", "gcs", "abfs")
    copy = path if whole else f"{folder}/.{name[:32]}.{secrets.token_hex(8)}"
    if not whole:
        system.create_dir(folder)
    fs.copy_files(here, copy, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system)
    if not whole:
        system.move(copy, path)


def outcomes(coder: FileCoder, jobs: Sequence[Job], actors: int) -> Iterator[Outcome]:
    """The outcome of every job, as they come.

    Args:
        actors: processes of one core, and of one GPU if the coder's device is one; 0 for one for each core.

    Raises:
        DCAEError: Ray cannot be reached, or no actor can be started.
    """
    missing = dict(enumerate(jobs))
    for row in _results(coder, jobs, actors) if jobs else ():
        if job := missing.pop(row["number"], None):
            yield Outcome(job, None if row["error"] else Done(int(row["bytes"]), row["said"]), row["error"])
    for job in missing.values():
        yield Outcome(job, None, f"its process or machine was lost, {_RETRIES + 1} times (out of memory?)")


def _results(coder: FileCoder, jobs: Sequence[Job], actors: int) -> Iterator[dict[str, Any]]:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # what killed its process again and again is a failure of that file alone
    cores = int(ray.cluster_resources().get("CPU", 1))
    # Paths as every process finds them, whatever its working directory.
    rows = [{"number": n} | {key: _absolute(path) for key, path in job._asdict().items()} for n, job in enumerate(jobs)]
    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # which Ray sets up anew for every run, and writes between our lines
    try:
        yield from (
            ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS))
            .map(
                _Actor,
                fn_constructor_args=(coder,),
                compute=ray.data.ActorPoolStrategy(size=min(actors or cores, len(rows))),
                num_cpus=1,
                num_gpus=int(coder.device.startswith("cuda")),
                max_restarts=-1,
                max_task_retries=_RETRIES,
            )
            .iter_rows()
        )
    except ray.exceptions.RayError as error:
        raise DCAEError(f"Ray: {str(error).strip().splitlines()[-1]}") from error
    finally:
        logging.disable(before)
