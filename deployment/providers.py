"""Execution providers: where onnxruntime runs a file, by short name, with their options.

The options are those of onnxruntime's own documentation (docs/execution-providers of
microsoft/onnxruntime), with a few left out that name files of one machine alone. `defaults` are
written out even where they are the provider's own, so that a bundle says all that it was run with;
where the provider's own would compute in fewer bits than the file has (TF32 on NVIDIA's cards,
fp16 on Qualcomm's), they are switched off, because how a file is opened must not change what it
computes.

No provider but the processor's is in onnxruntime's plain package, so a provider is checked where
it is present (`check_provider`) and labelled "never run" where nothing was run with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort

from records import BadInputError, HwnasError, unknown_name

CPU_RUNTIME = "CPUExecutionProvider"

FLAG = ("0", "1")


class ProviderError(HwnasError, RuntimeError):
    """A provider that is not there, does not start, or refuses an operator of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One way of onnxruntime to run a file.

    Attributes:
        name: Short name.
        runtime_name: What onnxruntime calls it.
        package: Where it comes from.
        ways: The ways to compute that it takes (`deployment.numerics.WAYS`), fastest last where
            that is known of the kind of device.
        options: Its options, each with the values that are allowed; empty for any text.
        defaults: Options that are always written out.
        runtime_operators: Whether it runs onnxruntime's own operators, such as packed attention.
        is_set_from_python: Whether its options reach it from Python.
        note: What else one must know.
    """

    name: str
    runtime_name: str
    package: str
    ways: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    runtime_operators: bool = False
    is_set_from_python: bool = True
    note: str = ""

    @property
    def is_present(self) -> bool:
        """Whether the installed onnxruntime has it."""
        return self.runtime_name in ort.get_available_providers()

    def with_defaults(self, options: Mapping[str, str], threads: int = 1) -> dict[str, str]:
        """All options that a session is opened with.

        Args:
            options: What is said.
            threads: Those of the target, for a provider that has threads of its own.
        """
        found = {**self.defaults, **options}
        if self.name == "xnnpack":
            found.setdefault("intra_op_num_threads", str(threads))
        if self.name == "openvino" and found["device_type"] == "CPU":
            config = {"CPU": {"INFERENCE_NUM_THREADS": str(threads)}}
            found.setdefault("load_config", json.dumps(config))
        return found

    def check_options(self, options: Mapping[str, str]) -> None:
        """Refuses options that it does not have.

        Raises:
            UnknownNameError: No option of this provider.
            BadInputError: A value that the option does not take.
        """
        for key, value in options.items():
            if key not in self.options:
                raise unknown_name(f"option of provider {self.name}", key, self.options)
            allowed = self.options[key]
            if not isinstance(value, str) or (allowed and value not in allowed):
                wanted = ", ".join(allowed) or "text"
                raise BadInputError(
                    f"option {key} of provider {self.name} must be one of {wanted}, got {value!r}"
                    if allowed
                    else f"option {key} of provider {self.name} must be text, got {value!r}"
                )


_CPU = Provider(
    name="cpu",
    runtime_name=CPU_RUNTIME,
    package="onnxruntime",
    ways=("fp32", "dynamic", "static"),
    runtime_operators=True,
)

_CUDA = Provider(
    name="cuda",
    runtime_name="CUDAExecutionProvider",
    package="onnxruntime-gpu",
    ways=("fp32", "fp16"),
    options={
        "device_id": (),
        "gpu_mem_limit": (),
        "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
        "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
        "do_copy_in_default_stream": FLAG,
        "cudnn_conv_use_max_workspace": FLAG,
        "enable_skip_layer_norm_strict_mode": FLAG,
        "prefer_nhwc": FLAG,
        "use_tf32": FLAG,
    },
    defaults={
        "device_id": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "use_tf32": "0",
    },
    runtime_operators=True,
    note="use_tf32=1 multiplies fp32 with 10 bits of mantissa: faster, and no longer fp32.",
)

_TENSORRT = Provider(
    name="tensorrt",
    runtime_name="TensorrtExecutionProvider",
    package="onnxruntime-gpu, with TensorRT installed",
    ways=("fp32", "static"),
    options={
        "device_id": (),
        "trt_max_workspace_size": (),
        "trt_max_partition_iterations": (),
        "trt_min_subgraph_size": (),
        "trt_fp16_enable": FLAG,
        "trt_int8_enable": FLAG,
        "trt_dla_enable": FLAG,
        "trt_dla_core": (),
        "trt_engine_cache_enable": FLAG,
        "trt_engine_cache_path": (),
        "trt_context_memory_sharing_enable": FLAG,
        "trt_layer_norm_fp32_fallback": FLAG,
        "trt_timing_cache_enable": FLAG,
        "trt_build_heuristics_enable": FLAG,
        "trt_sparsity_enable": FLAG,
        "trt_builder_optimization_level": (),
        "trt_auxiliary_streams": (),
    },
    defaults={"device_id": "0", "trt_fp16_enable": "0"},
    note=(
        "It builds an engine when the file is opened, for seconds or minutes. What it does not "
        "take runs on CUDA. trt_fp16_enable=1 computes a file of fp32 in fp16; a static int8 file "
        "needs trt_int8_enable=1."
    ),
)

_COREML = Provider(
    name="coreml",
    runtime_name="CoreMLExecutionProvider",
    package="onnxruntime on macOS; onnxruntime-objc or onnxruntime-c on iOS",
    ways=("fp32",),
    options={
        "ModelFormat": ("MLProgram", "NeuralNetwork"),
        "MLComputeUnits": ("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"),
        "RequireStaticInputShapes": FLAG,
        "EnableOnSubgraphs": FLAG,
        "SpecializationStrategy": ("Default", "FastPrediction"),
        "AllowLowPrecisionAccumulationOnGPU": FLAG,
        "ModelCacheDirectory": (),
    },
    defaults={
        "ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1",
        "AllowLowPrecisionAccumulationOnGPU": "0",
    },
    note="The neural engine computes in fp16 whatever the file says.",
)  # fmt: skip

_NNAPI = Provider(
    name="nnapi",
    runtime_name="NnapiExecutionProvider",
    package="onnxruntime-android",
    ways=("fp32", "static"),
    options={
        "NNAPI_FLAG_USE_FP16": FLAG,
        "NNAPI_FLAG_USE_NCHW": FLAG,
        "NNAPI_FLAG_CPU_DISABLED": FLAG,
        "NNAPI_FLAG_CPU_ONLY": FLAG,
    },
    defaults={"NNAPI_FLAG_USE_FP16": "0"},
    is_set_from_python=False,
    note="Its options are flags of the C, C++ and Java interfaces; Python sets none.",
)

_QNN = Provider(
    name="qnn",
    runtime_name="QNNExecutionProvider",
    package="onnxruntime-qnn",
    ways=("fp32", "static"),
    options={
        "backend_path": (),
        "htp_performance_mode": (
            "burst", "balanced", "default", "high_performance", "high_power_saver",
            "low_balanced", "low_power_saver", "power_saver", "sustained_high_performance",
        ),
        "htp_graph_finalization_optimization_mode": ("0", "1", "2", "3"),
        "qnn_context_priority": ("low", "normal", "normal_high", "high"),
        "rpc_control_latency": (),
        "vtcm_mb": (),
        "soc_model": (),
        "htp_arch": (),
        "device_id": (),
        "enable_htp_fp16_precision": FLAG,
        "offload_graph_io_quantization": FLAG,
    },
    defaults={"backend_path": "libQnnHtp.so", "enable_htp_fp16_precision": "0"},
    note=(
        "The HTP backend runs quantised files; fp32 needs backend_path=libQnnCpu.so, or "
        "enable_htp_fp16_precision=1, which computes in fp16. On Windows the libraries are "
        "QnnHtp.dll and QnnCpu.dll."
    ),
)  # fmt: skip

_XNNPACK = Provider(
    name="xnnpack",
    runtime_name="XnnpackExecutionProvider",
    package="onnxruntime-android, onnxruntime-objc, or a build with --use_xnnpack",
    ways=("fp32", "static"),
    options={"intra_op_num_threads": ()},
    note=(
        "It has threads of its own, as many as the target's unless intra_op_num_threads says "
        "other; its documentation advises 1 for the session's. What it does not take runs on the "
        "processor."
    ),
)

_OPENVINO = Provider(
    name="openvino",
    runtime_name="OpenVINOExecutionProvider",
    package="onnxruntime-openvino",
    ways=("fp32", "static"),
    options={
        "device_type": (),
        "load_config": (),
        "disable_dynamic_shapes": ("True", "False"),
        "reshape_input": (),
        "layout": (),
        "precision": ("FP32", "FP16", "ACCURACY"),
        "num_of_threads": (),
        "num_streams": (),
        "cache_dir": (),
        "enable_qdq_optimizer": ("True", "False"),
    },
    defaults={"device_type": "CPU"},
    runtime_operators=True,
    note=(
        "On the processor it has as many threads as the target unless load_config says other. "
        "precision, num_of_threads, num_streams, cache_dir and enable_qdq_optimizer are keys of "
        "load_config since onnxruntime 1.23."
    ),
)

PROVIDERS: dict[str, Provider] = {
    one.name: one for one in (_CPU, _CUDA, _TENSORRT, _COREML, _NNAPI, _QNN, _XNNPACK, _OPENVINO)
}
"""All that are known, by short name."""

FALLS_BACK = {"tensorrt": ("cuda",), "xnnpack": ("cpu",), "nnapi": ("cpu",)}
"""What runs the operators that a provider does not take, as its documentation advises. Any other
provider must take the whole file, or the file is refused."""


def provider(name: str) -> Provider:
    """A provider by its short name.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if name not in PROVIDERS:
        raise unknown_name("provider", name, PROVIDERS)
    return PROVIDERS[name]


def takers(way: str) -> str:
    """Short names of the providers that take files in some numbers, with commas."""
    return ", ".join(one.name for one in PROVIDERS.values() if way in one.ways)


def present_providers() -> tuple[str, ...]:
    """Short names of the providers that the installed onnxruntime has."""
    return tuple(one.name for one in PROVIDERS.values() if one.is_present)


def check_provider(name: str) -> Provider:
    """A provider that the installed onnxruntime has.

    Raises:
        UnknownNameError: There is none of this name.
        ProviderError: onnxruntime does not have it; names those that it has.
    """
    found = provider(name)
    if not found.is_present:
        raise ProviderError(
            f"the installed onnxruntime {ort.__version__} has no provider {name!r} "
            f"({found.runtime_name}); it has: {', '.join(present_providers())}. "
            f"{name!r} comes with: {found.package}"
        )
    return found


def session_providers(
    name: str, options: Mapping[str, str], threads: int = 1
) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session with their options, as onnxruntime takes them.

    The processor's is left out: a session has it in any case, and takes it by itself.

    Raises:
        UnknownNameError: A provider or an option that does not exist.
        BadInputError: A value that an option does not take.
    """
    first = provider(name)
    first.check_options(options)
    wanted = [(first, first.with_defaults(options, threads))]
    wanted += [(provider(n), dict(provider(n).defaults)) for n in FALLS_BACK.get(name, ())]
    return [
        (one.runtime_name, given if one.is_set_from_python else {})
        for one, given in wanted
        if one.name != "cpu" or one is first
    ]


def must_take_all(name: str) -> bool:
    """Whether a file with an operator that the provider refuses is refused itself."""
    return name != "cpu" and "cpu" not in FALLS_BACK.get(name, ())


def provider_record(
    name: str, options: Mapping[str, str], threads: int = 1, *, was_run: bool
) -> dict[str, Any]:
    """What a bundle says of the provider.

    Args:
        name: Short name.
        options: As chosen; the defaults are added.
        threads: Those of the target, for a provider that has threads of its own.
        was_run: Whether a file was timed with it.
    """
    one = provider(name)
    return {
        "name": name,
        "runtime_name": one.runtime_name,
        "options": one.with_defaults(options, threads),
        "falls_back_on": list(FALLS_BACK.get(name, ())),
        "state": "run" if was_run else "never run",
        "package": one.package,
        "note": one.note,
    }
