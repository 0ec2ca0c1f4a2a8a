"""`hwnas explain`: where the time of a network goes on a device, kernel by kernel.

The kernels are the nodes of the graph that onnxruntime optimises on this machine. On this machine
their shares are measured by its profiler. Writing down when each node begins and ends takes time
too, most of all where nodes are small, so that the profiler's times add up to more than a run
takes. The total is therefore timed from end to end without it, and shared out among the kernels in
proportion to the profiler's times. For another device times are predicted from its profile,

    time = launch + max(2 MACs / peak, bytes / bandwidth)

the cache-aware roofline (Williams et al., CACM 2009; Ilic et al., 2014): tensors come from the
nearest memory level that holds what the kernel reads and writes, as the kernel before has just
written it; weights from the nearest that holds the weights of the whole network, as all of them
are read once a run. The same sum is the device's ceiling, which measured times are set against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from deployment import LocalRunner
from deployment.node_profile import NodeProfile, profile_nodes
from hardware_profiles import PRECISIONS, Target, device, local_profile
from latency_models.ceiling import BYTES_PER_VALUE, held_by
from latency_models.pipeline import PipelineCost, encoded_image, measure_pipeline
from records import BadInputError, MissingFileError

BOUNDS = ("compute", "memory", "launch")

ROUNDS, MIN_SECONDS = 15, 0.5
"""How often, and over how long at least, the total is timed."""

TINY_GAP = 50.0
"""A kernel so far above its ceiling is bound by what it takes to be started, not by its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedKernel:
    """One kernel.

    Attributes:
        name: Of the node.
        operator: Of the node.
        shape: What it writes, as text.
        ms: Its share of the measured total, or predicted.
        share: Of the sum of all kernels.
        compute_ms: Its arithmetic at the device's peak.
        memory_ms: Its bytes at the bandwidth of the levels that hold them.
        launch_ms: Starting it; 0 where the profile does not tell.
        bound: Which of the three is largest.
        gap: Time over ceiling; None where nothing is known of the ceiling.
    """

    name: str
    operator: str
    shape: str
    ms: float
    share: float
    compute_ms: float
    memory_ms: float
    launch_ms: float
    bound: str
    gap: float | None

    @property
    def ceiling_ms(self) -> float:
        """The least time that the device's numbers allow."""
        return self.launch_ms + max(self.compute_ms, self.memory_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All kernels of a network on a target.

    Attributes:
        model: The file.
        target: The target's name.
        source: Whether the times are measured or predicted, in words.
        kernels: In the order in which they run; their times add up to the total.
        profiled_ms: What the profiler's own times add up to; None where they are predicted.
        pipeline: What is done to the images before, on this machine; None if not asked for.
        side: The side that images are resized to.
    """

    model: str
    target: str
    source: str
    kernels: tuple[ExplainedKernel, ...]
    profiled_ms: float | None = None
    pipeline: PipelineCost | None = None
    side: int | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the times are measured; predicted ones are the ceiling itself."""
        return self.source.startswith("measured")

    @property
    def total_ms(self) -> float:
        """A run from end to end without the profiler, or the sum of what is predicted."""
        return sum(kernel.ms for kernel in self.kernels)

    @property
    def bound_ms(self) -> dict[str, float]:
        """The time of the kernels that each bound holds back."""
        return {b: sum(k.ms for k in self.kernels if k.bound == b) for b in BOUNDS}

    def pipeline_parts(self) -> list[tuple[str, float]]:
        """Each step from the image's file to the logits, in ms."""
        if self.pipeline is None:
            return []
        steps = [(name.removesuffix("_ms"), ms) for name, ms in asdict(self.pipeline).items()]
        return [*steps, ("network", self.total_ms)]


def explain_file(
    model: Path,
    target_name: str = "local",
    *,
    threads: int = 1,
    precision: str = "fp32",
    runs: int = 20,
    image: str | None = None,
) -> Explanation:
    """Explains an ONNX file or a bundle's folder on a target.

    Args:
        model: The file, or a folder that holds `model.onnx`.
        target_name: A device, the path of a profile, or "local".
        threads: Of one inference.
        precision: That the kernels are assumed to run in, on another device.
        runs: How often the file is run for its times, or its shapes.
        image: A file or a size such as 640x480: also time what is done to an image before.

    Raises:
        MissingFileError: There is no such file.
        BadInputError: A target that cannot be used so, an image that is none.
    """
    path = model / "model.onnx" if model.is_dir() else model
    if not path.is_file():
        raise MissingFileError(f"there is no model {path}: give an ONNX file or a bundle's folder")
    data = path.read_bytes()
    is_local = target_name == "local"
    if is_local and precision in PRECISIONS and precision != "fp32":
        raise BadInputError(
            f"on this machine a file is timed as it was written: leave out precision={precision}, "
            "and quantise the file instead (deployment.quantise)"
        )
    profile = local_profile() if is_local else device(target_name)
    runtime = "onnxruntime"
    if profile.runtimes and runtime not in profile.runtimes:
        runtime = next(iter(profile.runtimes))
    nodes = profile_nodes(path, threads if is_local else 1, runs if is_local else 1)
    target = Target(
        profile=profile,
        runtime=runtime,
        threads=threads,
        precision=precision,
        batch_size=max(1, nodes[0].inputs[0][0] if nodes[0].inputs else 1),
    )
    total_ms = _end_to_end_ms(data, threads) if is_local else None
    kernels = explained(nodes, target, total_ms=total_ms)
    source = (
        "measured from end to end without the profiler, the least of the runs, and shared out in "
        "proportion to the profiler's times"
        if is_local
        else "predicted: the roofline of the device's profile, a lower bound; "
        f"{profile.share_read:.0%} of its numbers read or measured"
    )
    found = Explanation(
        model=str(path),
        target=target.name,
        source=source,
        kernels=kernels,
        profiled_ms=sum(node.ms for node in nodes) if is_local else None,
    )
    return found if image is None else _with_pipeline(found, nodes, image)


def _end_to_end_ms(data: bytes, threads: int) -> float:
    """What a run takes without the profiler."""
    runner = LocalRunner()
    (timing,) = runner.time([data], threads=threads, rounds=ROUNDS, min_seconds=MIN_SECONDS)
    return timing.latency_ms


def explained(
    nodes: Sequence[NodeProfile], target: Target, *, total_ms: float | None = None
) -> tuple[ExplainedKernel, ...]:
    """Sets every node against the target's ceiling.

    Args:
        nodes: The nodes with their profiled times.
        target: The target.
        total_ms: The measured total, shared out in proportion to the nodes' times; None takes the
            ceiling itself as each node's time.
    """
    factor = BYTES_PER_VALUE[target.precision] / 4
    weights = factor * sum(node.weight_bytes for node in nodes)
    launch = target.profile.kernel_launch_us
    launch_ms = launch.value / 1e3 if launch else 0.0
    per_macs = 2.0 / (target.peak_gflops().value * 1e6)
    parts = []
    for node in nodes:
        moved = factor * (node.read_bytes + node.write_bytes)
        compute = node.macs * per_macs
        memory = _moving_ms(target, moved, moved)
        memory += _moving_ms(target, factor * node.weight_bytes, weights)
        parts.append((compute, memory, launch_ms))
    if total_ms is None:
        times = [launch + max(compute, memory) for compute, memory, launch in parts]
    else:
        profiled = sum(node.ms for node in nodes)
        shares = [node.ms / profiled if profiled else 1 / len(nodes) for node in nodes]
        times = [total_ms * share for share in shares]
    total = sum(times) or 1.0
    return tuple(
        ExplainedKernel(
            name=_short(node.name),
            operator=node.operator,
            shape=" ".join("x".join(map(str, shape)) for shape in node.outputs[:1]),
            ms=ms,
            share=ms / total,
            compute_ms=compute,
            memory_ms=memory,
            launch_ms=launch,
            bound=_bound(ms, compute, memory, launch),
            gap=ms / ceiling if (ceiling := launch + max(compute, memory)) > 0 else None,
        )
        for node, ms, (compute, memory, launch) in zip(nodes, times, parts, strict=True)
    )


def _bound(ms: float, compute: float, memory: float, launch: float) -> str:
    work = max(compute, memory)
    if launch > work or work <= 0 or ms > TINY_GAP * (launch + work):
        return "launch"
    return "compute" if compute >= memory else "memory"


def _moving_ms(target: Target, moved: float, working_set: float) -> float:
    """Time to move bytes from the nearest level that holds the working set; 0 where unknown."""
    for level, here in held_by(target.profile, np.array([working_set])):
        if here[0]:
            bandwidth = target.bandwidth(level)
            return 0.0 if bandwidth is None else moved / (bandwidth.value * 1e6)
    return 0.0


def _short(name: str) -> str:
    return name.removesuffix("_nchwc").removesuffix("/QuickGeluFusion/").rstrip("/") or name


def _with_pipeline(found: Explanation, nodes: Sequence[NodeProfile], image: str) -> Explanation:
    """Adds what is done to an image before the network, for the side of its input."""
    shape = next((s for node in nodes for s in node.inputs if len(s) == 4), None)
    if shape is None or shape[1] not in (1, 3):
        raise BadInputError(f"the network's first input is no image: {shape}")
    cost = measure_pipeline(encoded_image(image), shape[-1], channels=shape[1])
    return replace(found, pipeline=cost, side=shape[-1])
