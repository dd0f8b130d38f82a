"""Running of graphs by ONNX Runtime."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from dcae.networks.graph import BuiltGraph


class Runner:
    """A graph with its weights, loaded by ONNX Runtime.

    Args:
        optimise: rewrite it for speed. The transforms then take a tenth less, and half as long again to load; the
            entropy model gains nothing.
        plan: plan which values share memory when it is loaded, which takes the square of the number of operators;
            otherwise it is shared when the graph runs.
    """

    def __init__(self, graph: BuiltGraph, optimise: bool = False, plan: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_ENABLE_BASIC
        options.log_severity_level = 4  # what goes wrong comes as an exception
        options.intra_op_num_threads = number_of_threads()
        options.inter_op_num_threads = 1
        # Every graph has threads of its own, which otherwise would keep the cores busy when they wait.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # One arena for all graphs, which keeps as much memory as a band takes; each of its own would keep that too.
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False
        options.enable_mem_reuse = plan
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), values)
        self._kept = values, graph.weights  # the session reads them where they are
        self._session = onnxruntime.InferenceSession(graph.serialised, options, providers=["CPUExecutionProvider"])
        self.inputs: list[str] = [value.name for value in self._session.get_inputs()]
        self.outputs: list[str] = [value.name.removeprefix("out.") for value in self._session.get_outputs()]

    def __call__(self, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs, in their order.

        Raises:
            MemoryError: it does not suffice.
        """
        try:
            found: list[NDArray[Any]] = self._session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's own family is not public
            if any(words in str(error) for words in ("allocate memory", "bad_alloc", "bad allocation")):
                raise MemoryError("ONNX Runtime could not allocate memory") from error
            raise
        return found


@cache
def _share_arena() -> None:
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # Grown by powers of two: regions as small as what is asked for are soon split into pieces that nothing fits in.
    arena = onnxruntime.OrtArenaCfg({"max_mem": 0, "arena_extend_strategy": 0})
    with suppress(Exception):  # the process has one already, which does as well
        onnxruntime.create_and_register_allocator(memory, arena)


def number_of_threads() -> int:
    """Threads that a graph is run by: as torch has them, the environment's OMP_NUM_THREADS, or all cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
