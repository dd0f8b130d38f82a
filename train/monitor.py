"""What a run shows of itself: TensorBoard files, and a progress bar or plain lines in the terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import numpy as np

log = logging.getLogger(__name__)
_LINE_EVERY = 30.0
"""Seconds between plain lines."""


class Monitor:
    """TensorBoard (in `folder`/tensorboard) and the terminal. Used as a context manager.

    Args:
        step: where a continued run takes up; what was written after it is hidden by TensorBoard.
        quiet: show and write nothing (all processes but the first).
    """

    def __init__(self, folder: Path, step: int, quiet: bool = False) -> None:
        self.quiet = quiet
        self._text = ""
        self._last_line = time.monotonic()
        self._first_progress: tuple[float, float] | None = None
        self._bar: Any = None
        self._writer: Any = None
        if not quiet:
            from torch.utils.tensorboard import SummaryWriter

            with self._without_tensorboard_if_it_fails():
                self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
            if sys.stderr.isatty():
                self._bar = click.progressbar(
                    length=10_000,
                    label="training",
                    file=sys.stderr,
                    item_show_func=lambda _: self._text,
                    width=20,
                    show_eta=False,  # click's own would count what an earlier run did
                )

    def __enter__(self) -> Monitor:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)
        if self._writer is not None:
            with self._without_tensorboard_if_it_fails():
                self._writer.close()

    @contextmanager
    def _without_tensorboard_if_it_fails(self) -> Iterator[None]:
        """Curves are worth less than the run: a full disk must not end it before its checkpoint."""
        try:
            yield
        except OSError as error:
            log.warning("TensorBoard files cannot be written any more (%s)", error)
            self._writer = None

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Curves in TensorBoard."""
        if self._writer is not None:
            with self._without_tensorboard_if_it_fails():
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)

    def pictures(self, shown: list[np.ndarray], step: int) -> None:
        """(H, W, 3) uint8 each, in TensorBoard."""
        if self._writer is not None:
            with self._without_tensorboard_if_it_fails():
                for k, picture in enumerate(shown):
                    self._writer.add_image(f"reconstruction/{k}", picture, step, dataformats="HWC")
                self._writer.flush()

    def progress(self, share: float, text: str) -> None:
        """Where the run stands: the bar with its remaining time, or a line now and then."""
        if self.quiet:
            return
        now = time.monotonic()
        self._first_progress = self._first_progress or (share, now)
        self._text = f"{text}  {_remaining(*self._first_progress, share, now)} left"
        if self._bar is not None:
            self._bar.update(max(0, int(10_000 * min(share, 1.0)) - self._bar.pos))
        elif now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            log.info("%5.1f %%  %s", 100 * share, self._text)


def _remaining(share_then: float, then: float, share: float, now: float) -> str:
    if share <= share_then:
        return "unknown time"
    minutes = (now - then) * (1 - share) / (share - share_then) / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
