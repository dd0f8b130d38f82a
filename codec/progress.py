"""Progress of a batch on stderr: a bar on a terminal, else a line for each file, and a summary."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

from dcae.codec.workers import Outcome
from dcae.errors import naming, one_line

_NAMED_AGAIN = 20
"""Failures that the summary of a batch repeats, which on a terminal may have scrolled away."""


class Progress:
    """Says what becomes of the files of a batch.

    Args:
        verb: past participle of what is done with a file, for the summary.
        total: files to do.
        skipped: files that are not to be done.
        quiet: say nothing but errors.
    """

    def __init__(self, verb: str, total: int, skipped: int, quiet: bool) -> None:
        self.verb, self.total, self.skipped, self.quiet = verb, total, skipped, quiet
        self.done = self.size = 0
        self.failed: list[str] = []
        self.started = time.perf_counter()
        self.bar = None
        if total and not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="file", file=sys.stderr, dynamic_ncols=True, smoothing=0.1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def take(self, outcome: Outcome) -> None:
        """Count an outcome and say its line."""
        if outcome.done is not None:
            self.done += 1
            self.size += outcome.done.size
            if not self.quiet:
                self.say(f"{outcome.job.source} -> {outcome.job.output}: {outcome.done.said}")
        else:
            named = naming(outcome.job.source, outcome.error)
            self.failed.append(named)
            self.say(f"dcae: {named}")
        if self.bar is not None:
            self.bar.update()

    def say(self, line: str) -> None:
        """A line, above the bar if there is one."""
        if self.bar is None:
            click.echo(one_line(line), err=True)
        else:
            self.bar.write(one_line(line), file=sys.stderr)

    def summary(self) -> None:
        """What became of all."""
        if self.failed and self.bar is not None:
            click.echo("failed:", err=True)
            for named in self.failed[:_NAMED_AGAIN]:
                click.echo(f"  {one_line(named)}", err=True)
            if len(self.failed) > _NAMED_AGAIN:
                click.echo(f"  and {len(self.failed) - _NAMED_AGAIN} more", err=True)
        if self.quiet:
            return
        seconds = time.perf_counter() - self.started
        counts = [f"{self.done} {self.verb}", f"{len(self.failed)} failed"]
        if self.skipped:
            counts.insert(1, f"{self.skipped} skipped")
        rate = f", {self.done / seconds:.2f} files/s" if self.done else ""
        click.echo(f"{', '.join(counts)}; {self.size} bytes, {seconds:.1f} s{rate}", err=True)
