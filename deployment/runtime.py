"""Opening a file in onnxruntime, with every setting explicit."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from records import BadInputError, CorruptFileError

PROVIDER = "CPUExecutionProvider"


def session_options(
    threads: int = 1, optimised_path: str | Path | None = None
) -> ort.SessionOptions:
    """The options with which files are run and timed.

    The highest optimisation level; `threads` inside an operator, one operator at a time. Threads
    do not spin between runs: with several files open, spinning makes each read two to three times
    too slow.

    Args:
        threads: Threads inside an operator.
        optimised_path: Where onnxruntime saves the optimised graph, if at all.
    """
    if threads < 1:
        raise BadInputError(f"threads must be >= 1, got {threads}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
        options.log_severity_level = 4  # it warns that the graph is for this machine alone
    return options


def open_session(
    model: bytes | str | Path, threads: int = 1, optimised_path: str | Path | None = None
) -> ort.InferenceSession:
    """Opens a serialised model or a file on the CPU.

    Raises:
        CorruptFileError: onnxruntime refuses it.
    """
    source = str(model) if isinstance(model, Path) else model
    options = session_options(threads, optimised_path)
    try:
        return ort.InferenceSession(source, options, providers=[PROVIDER])
    except Exception as error:  # onnxruntime raises its own classes, all of them plain exceptions
        name = "the model" if isinstance(model, bytes) else str(model)
        raise CorruptFileError(f"onnxruntime cannot open {name}: {error}") from error
