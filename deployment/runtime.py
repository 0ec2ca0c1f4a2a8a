"""Opening a file in onnxruntime, with every setting explicit."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from deployment.providers import (
    CPU_RUNTIME,
    ProviderError,
    check_provider,
    must_take_all,
    session_providers,
)
from deployment.session_settings import SessionSettings
from records import BadInputError, CorruptFileError

PROVIDER = CPU_RUNTIME

SPINNING = "session.intra_op.allow_spinning"
NO_FALLBACK = "session.disable_cpu_ep_fallback"

DEFAULT_SETTINGS = SessionSettings()

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def session_options(
    threads: int = 1,
    settings: SessionSettings | None = None,
    optimised_path: str | Path | None = None,
) -> ort.SessionOptions:
    """The options with which files are run and timed.

    By default the highest optimisation level; `threads` inside an operator, one operator at a
    time. Threads do not spin between runs: with several files open, spinning makes each read two
    to three times too slow.

    Args:
        threads: Threads inside an operator, where the settings leave them to the target.
        settings: What differs from the defaults.
        optimised_path: Where onnxruntime saves the optimised graph, if at all.
    """
    if threads < 1:
        raise BadInputError(f"threads must be >= 1, got {threads}")
    how = settings or DEFAULT_SETTINGS
    options = ort.SessionOptions()
    options.intra_op_num_threads = how.threads_of(threads)
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[how.optimisation]
    options.enable_cpu_mem_arena = how.arena
    options.enable_mem_pattern = how.memory_pattern
    options.add_session_config_entry(SPINNING, "1" if how.spinning else "0")
    if must_take_all(how.provider):
        options.add_session_config_entry(NO_FALLBACK, "1")
    options.log_severity_level = 3
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
        options.log_severity_level = 4  # it warns that the graph is for this machine alone
    return options


def check_opens(data: bytes, what: str) -> None:
    """Opens a serialised model before a profiled session does.

    With the profiler on, onnxruntime writes to the terminal where it refuses a model.

    Args:
        data: The serialised model.
        what: What the error calls it.

    Raises:
        CorruptFileError: onnxruntime refuses it.
    """
    options = session_options(settings=SessionSettings(optimisation="disabled"))
    try:
        ort.InferenceSession(data, options, providers=[PROVIDER])
    except Exception as error:  # its own classes, all of them plain exceptions
        raise CorruptFileError(f"onnxruntime cannot open {what}: {error}") from error


def open_session(
    model: bytes | str | Path,
    threads: int = 1,
    settings: SessionSettings | None = None,
    optimised_path: str | Path | None = None,
) -> ort.InferenceSession:
    """Opens a serialised model or a file.

    Args:
        model: The model, or where it is.
        threads: Threads inside an operator, where the settings leave them to the target.
        settings: How it is opened; on the processor with `DEFAULT_SETTINGS` unless told.
        optimised_path: Where onnxruntime saves the optimised graph, if at all.

    Raises:
        CorruptFileError: onnxruntime refuses it.
        ProviderError: The provider is not there, does not start, or refuses an operator; names
            the providers that there are, or the operators.
    """
    source = str(model) if isinstance(model, Path) else model
    how = settings or DEFAULT_SETTINGS
    options = session_options(threads, settings, optimised_path)
    name = "the model" if isinstance(model, bytes) else str(model)
    runtime_name = check_provider(how.provider).runtime_name
    own_threads = how.threads_of(threads)
    providers = session_providers(how.provider, how.provider_options, own_threads)
    try:
        session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime raises its own classes, all of them plain exceptions
        if must_take_all(how.provider):
            raise _refused(source, how, name, error) from error
        raise CorruptFileError(f"onnxruntime cannot open {name}: {error}") from error
    if runtime_name not in session.get_providers():  # a library of it is missing: only logged
        raise ProviderError(
            f"provider {how.provider!r} does not start here: its libraries or its device are "
            f"missing; onnxruntime would use {', '.join(session.get_providers())} instead"
        )
    return session


def random_input(entry: Any, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Values for an input of a session: normal ones, or pixels where it takes bytes.

    Raises:
        BadInputError: Its shape is not fixed, or it takes something else.
    """
    if not all(isinstance(size, int) for size in entry.shape):
        raise BadInputError(f"the input's shape must be fixed to be timed, got {entry.shape}")
    if entry.type == "tensor(uint8)":
        pixels: npt.NDArray[np.uint8] = rng.integers(0, 256, entry.shape, dtype=np.uint8)
        return pixels
    if entry.type not in INPUT_TYPES:
        known = ", ".join([*INPUT_TYPES, "tensor(uint8)"])
        raise BadInputError(f"the input must be one of {known} to be timed, got {entry.type}")
    values: npt.NDArray[Any] = rng.standard_normal(entry.shape).astype(INPUT_TYPES[entry.type])
    return values


def operators_left(model: bytes | str, settings: SessionSettings) -> dict[str, int]:
    """Operators of a file that its provider leaves to the processor, and how many nodes each.

    It runs the file once, with the processor for what the provider does not take, and reads who
    ran what from onnxruntime's profile.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        providers = session_providers(settings.provider, settings.provider_options)
        session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
        entry = session.get_inputs()[0]
        session.run(None, {entry.name: random_input(entry, np.random.default_rng(0))})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [event["args"] for event in events if event.get("cat") == "Node"]
    return dict(Counter(a["op_name"] for a in ran if a.get("provider") == CPU_RUNTIME))


def _refused(
    source: bytes | str, how: SessionSettings, name: str, error: Exception
) -> ProviderError | CorruptFileError:
    """The error for a file that does not open with a provider that must take all of it."""
    try:
        left = operators_left(source, how)
    except Exception:  # it does not open with the processor's help either
        left = {}
    if left:
        which = ", ".join(f"{operator} ({count})" for operator, count in sorted(left.items()))
        return ProviderError(
            f"provider {how.provider!r} refuses operators of {name}: {which}. Choose other forms "
            "for them (deployment.emission.forms), or another provider"
        )
    return CorruptFileError(
        f"onnxruntime cannot open {name} with provider {how.provider!r}: {error}"
    )
