"""Memory of a network's tensors, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class _Live(TorchFunctionMode):
    """Counts the bytes of tensors that functions make, while they live; a dispatch mode would see what functions make
    for themselves, too, but imports torch's compiler, which takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor) and (storage := each.untyped_storage())._cdata not in given:
                self._live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return found


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes of tensors that live at once while something runs, beside those that were there before it."""
    with _Live() as live:
        run()
    return live.peak
