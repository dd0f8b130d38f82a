"""Runs of the commands `encode` and `decode`: one file to its output, or a batch into a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcae.codec import batch
from dcae.codec.batch import PICTURES, SUFFIX, Job, Source
from dcae.codec.options import cores
from dcae.errors import DCAEError, OptionError, one_line
from dcae.files import check_output

if TYPE_CHECKING:
    from dcae.codec.filecoders import Done, FileCoder
    from dcae.codec.workers import Outcome


@dataclass(frozen=True)
class Work:
    """What a command does with files."""

    done: str
    """Past participle of it."""
    suffixes: frozenset[str]
    """Of the files that it takes of a folder."""
    suffix: str
    """Of the output of one file whose output is not named."""
    rename: Callable[[str], str]
    """A file's name in a folder -> its output's."""
    coder: Callable[..., FileCoder]
    """Makes what does it, of the settings `force`, `sharing`, `device`, `engine` and `max_pixels`."""


def run(
    work: Work,
    paths: tuple[str, ...],
    output: str | None,
    *,
    recursive: bool,
    jobs: int,
    runner: str,
    force: bool,
    skip_existing: bool,
    manifest: Path | None,
    quiet: bool,
    verbose: bool,
    device: str,
    engine: str,
    max_pixels: int | None,
) -> None:
    """Do it. All that can be checked is checked before the first file.

    Raises:
        click.UsageError: options that do not go together.
        click.exceptions.Exit: with code 1, some files of a batch failed.
        DCAEError: nothing was done, or not the one file.
    """
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing exclude each other")

    def coder(sharing: int) -> FileCoder:
        return work.coder(force=force, sharing=sharing, device=device, engine=engine, max_pixels=max_pixels)

    if runner == "local" and (urls := [path for path in (*paths, output or "") if batch.is_url(path)]):
        raise OptionError(f"{urls[0]}: a URL, which --runner ray reads and writes")
    if runner == "local" and not batch.is_batch(paths, output):
        _one(work, paths[0], output, coder(1), force, skip_existing, manifest, quiet)
        return
    if output is None:
        raise click.UsageError("several files need a folder to go to: -o DIR")
    _check_folder(output)
    if runner == "ray":
        from dcae.codec import cluster

        cluster.check_ray()
        sources = cluster.sources_of(paths, work.suffixes, recursive)
        everything = batch.jobs_into(output, sources, work.rename)
        existing = set() if force else cluster.existing(everything)
    else:
        sources = _sources(work, paths, recursive, quiet, verbose)
        everything = batch.jobs_into(output, sources, work.rename)
        existing = set() if force else batch.existing(everything)
    if not sources:
        more = "" if recursive else " (folders in folders are looked into with -r)"
        raise OptionError(f"{' '.join(paths)}: nothing to do, no file of the right type{more}")
    todo = batch.unfinished(everything, existing, skip_existing)
    processes = max(min(jobs or cores(), len(todo)), 1)
    shared = coder(1 if runner == "ray" else processes)
    shared.check()  # before there are folders
    if runner == "ray":
        results = cluster.outcomes(shared, todo, jobs)
    else:
        from dcae.codec.picture_bar import picture_bar
        from dcae.codec.workers import outcomes

        batch.make_folders(todo)
        results = outcomes(shared, todo, processes, lambda source: picture_bar(source, quiet))
    _follow(work, results, len(todo), len(existing), manifest, quiet)


def _one(
    work: Work,
    source: str,
    output: str | None,
    coder: FileCoder,
    force: bool,
    skip_existing: bool,
    manifest: Path | None,
    quiet: bool,
) -> None:
    output = output or _derived(source, work.suffix)
    if skip_existing and output != "-" and batch.existing([Job(source, output)]):
        return
    from dcae.codec.picture_bar import picture_bar

    check_output(output, force)
    coder.check()
    with picture_bar(source, quiet):
        done = _written_down(coder, Job(source, output), manifest) if manifest else coder(Job(source, output))
    if not quiet:
        click.echo(one_line(f"{output}: {done.said}"), err=True)


def _written_down(coder: FileCoder, job: Job, manifest: Path) -> Done:
    from dcae.codec.workers import Outcome

    with _manifest(manifest) as write_down:
        try:
            done = coder(job)
        except DCAEError as error:
            write_down(Outcome(job, None, str(error)))
            raise
        write_down(Outcome(job, done))
    return done


@contextmanager
def _manifest(path: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """What writes an outcome down, if there is a manifest.

    Raises:
        OptionError: the manifest cannot be opened.
    """
    if path is None:
        yield lambda outcome: None
        return
    try:
        lines = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written ({error.strerror or error})") from error
    with lines:
        yield lambda outcome: print(json.dumps(outcome.as_dict()), file=lines)


def _derived(source: str, suffix: str) -> str:
    if source != "-" and not Path(source).name:
        raise OptionError(f"{source or 'an empty name'}: not a file")
    return "-" if source == "-" else str(Path(source).with_suffix(suffix))


def _check_folder(output: str) -> None:
    """Refuse an output that several files cannot go into."""
    if not batch.is_folder(output) and (output == "-" or Path(output).suffix.lower() in {SUFFIX, *PICTURES}):
        raise OptionError(f"{output}: several files need a folder to go to; a name of one that is new ends with /")
    if Path(output).exists() and not Path(output).is_dir():
        raise OptionError(f"{output}: not a folder, which several files need to go to")


def _sources(work: Work, paths: tuple[str, ...], recursive: bool, quiet: bool, verbose: bool) -> list[Source]:
    """The files, and a word about those of other types."""
    found = batch.work_list(paths, work.suffixes, recursive)
    if found.sources and found.left_out and not quiet:
        for path in found.left_out if verbose else ():
            click.echo(f"{one_line(path)}: left out, of another type", err=True)
        names = "" if verbose else " (-v names them)"
        files = "1 file of another type" if len(found.left_out) == 1 else f"{len(found.left_out)} files of other types"
        click.echo(f"{files} left out{names}", err=True)
    return found.sources


def _follow(
    work: Work, results: Iterator[Outcome], total: int, skipped: int, manifest: Path | None, quiet: bool
) -> None:
    """Say what becomes of the files of a batch, and write it down."""
    from dcae.codec.progress import Progress

    with ExitStack() as stack:
        write_down = stack.enter_context(_manifest(manifest))
        progress = stack.enter_context(Progress(work.done, total, skipped, quiet))
        for outcome in results:
            progress.take(outcome)
            write_down(outcome)
    progress.summary()
    if progress.failed:
        raise click.exceptions.Exit(1)
