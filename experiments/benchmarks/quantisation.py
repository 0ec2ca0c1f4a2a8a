"""What int8 costs and gains on this machine: fp32, dynamic, static and mixed files of fronts.

For digits the supernet of the quickstart's space is trained as the quickstart trains it; for
Fashion-MNIST the supernets are those that `supernet_quality` keeps, one for each family, or are
trained for one pass. The front of each is searched by accuracy against modelled latency, and
networks are taken at even distances along it. Of each four files are made: in fp32; dynamic int8;
static int8, with scales from 256 training images; and mixed, static with the blocks in fp32 that
keep the accuracy within 0.1 points on the search-validation split (`most_sensitive`).

Accuracies are those of the test split with 95 % Wilson intervals, agreement is the share of test
images with the class that fp32 predicts, and latencies, of one image on one thread, come from one
round-robin over all files. Beside it: what each block's rounding does to the logits, how long
files take to be made when scales are found once and when each file finds its own, and how well the
latency of mixed files is predicted where the precision of each stage is a gene.

Supernets and measured accuracies are kept under `--folder`. With the defaults it took just under
thirty minutes on two cores that were busy with other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from deployment import LocalRunner, Quantiser, block_errors, emit, most_sensitive, open_session
from deployment.emission.graph_writer import INPUT
from deployment.intervals import wilson_interval
from deployment.quantisation.accuracy import IMAGES
from deployment.quantisation.block_errors import BlockErrors
from deployment.quantisation.quantised import OPERATORS
from experiments.benchmarks.deployment_networks import trained_supernet
from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.kept_accuracies import CachedEvaluator
from experiments.config import EPOCHS
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from hardware_profiles import Target, device, local_target
from latency_models import RooflineCostModel, calibrate
from search_spaces import SearchSpace, WithBlockPrecision
from strategies import Problem, search
from supernet import ImageData, Split, Subnet, Supernet, load_supernet, save_supernet, train
from supernet.threads import intra_op_threads

FRONTS = ("digits", "cnn", "vit", "hybrid")
"""Digits in the quickstart's space, then Fashion-MNIST in the space of each family."""

FILES = ("fp32", "dynamic", "static", "mixed")
LARGEST_LOSS = 0.001
"""Of accuracy on the search-validation split, for mixed files."""

PROFILE = "core-i9-9900k"
"""The device whose data sheet the fronts are made with."""

TRAIN_IMAGES = 20_000
BATCH_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of a front with its files.

    Attributes:
        name: The front and the place on it.
        subnet: The network.
        files: For each of `FILES` the file for one image a run.
        fp32_blocks: Blocks that the mixed file leaves in fp32.
        errors: What rounding each block does.
        answers: For each of `FILES` the predicted classes of the test images.
    """

    name: str
    subnet: Subnet
    files: dict[str, bytes]
    fp32_blocks: tuple[str, ...]
    errors: BlockErrors
    answers: dict[str, npt.NDArray[np.int64]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which fronts, how much of them, and where supernets are kept."""
    parser.add_argument("--fronts", nargs="+", choices=FRONTS, default=list(FRONTS))
    parser.add_argument("--points", type=int, default=3, help="networks of each front")
    parser.add_argument("--evaluations", type=int, default=40, help="of each search")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--costs", type=int, default=60, help="mixed networks to time; 0 for none")
    parser.add_argument("--costs-s", type=float, default=25.0, help="seconds for timing them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/quantisation"))
    parser.add_argument("--supernets", type=Path, default=Path("runs/supernet_quality"))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Makes and measures the files of every front and prints the tables."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    networks: list[Network] = []
    labels: dict[str, npt.NDArray[np.int64]] = {}
    figures: dict[str, Any] = {"making": {}, "costs": {}}
    for front in arguments.fronts:
        data, supernet = _supernet(front, arguments)
        test = Split(*(x[: arguments.test_images] for x in (data.test.images, data.test.labels)))
        for place, subnet in enumerate(_front(front, data, supernet, arguments)):
            network = _network(f"{front} {place}", subnet, data, test)
            networks.append(network)
            labels[network.name] = test.labels.numpy()
        figures["making"][front] = _making(networks[-1].subnet, data)
        if arguments.costs:
            figures["costs"][front] = _costs(supernet.space, arguments)
    figures["networks"] = _measured(networks, labels, arguments.seed)
    figures["block_errors"] = {n.name: n.errors.to_json() for n in networks}
    figures["means"] = _means(figures["networks"])
    _show(figures)
    return figures


def _supernet(front: str, arguments: argparse.Namespace) -> tuple[ImageData, Supernet]:
    """The data of a front and its trained supernet."""
    if front != "digits":
        data = load_dataset("fashion-mnist", train_images=TRAIN_IMAGES)
        supernet, _ = trained_supernet(front, arguments.folder, arguments.supernets, data)
        return data, supernet
    data = load_dataset("digits")
    path = arguments.folder / f"digits-supernet-{arguments.seed}.safetensors"
    if not path.exists():
        supernet = Supernet(make_space("hybrid", data), seed=arguments.seed)
        train(supernet, data, epochs=EPOCHS["digits", "hybrid"], seed=arguments.seed)
        save_supernet(supernet, path)
    return data, load_supernet(path)


def _front(
    front: str, data: ImageData, supernet: Supernet, arguments: argparse.Namespace
) -> list[Subnet]:
    """Networks at even distances along the front of a search, the fastest first."""
    known = CachedEvaluator(
        supernet.evaluator(data), arguments.folder / f"{front}-accuracies.jsonl"
    )
    costs = RooflineCostModel(supernet.space, Target(profile=device(PROFILE)))
    found = search(
        Problem(supernet.space, accuracy=known, costs=[costs]),
        evaluations=arguments.evaluations,
        seed=arguments.seed,
    )
    points = sorted(found, key=lambda point: point.latency_ms)
    places = np.linspace(0, len(points) - 1, min(arguments.points, len(points))).round()
    return [known.subnet(points[int(place)].architecture) for place in np.unique(places)]


def _network(name: str, subnet: Subnet, data: ImageData, test: Split) -> Network:
    """Makes the files of a network and lets them predict the test images."""
    scaling = data.train.images[:IMAGES].numpy()
    validation = data.validation
    errors = block_errors(
        subnet, calibration_images=scaling, images=validation.images[:1024].numpy()
    )
    kept = most_sensitive(
        subnet, errors, validation, largest_loss=LARGEST_LOSS, calibration_images=scaling
    ).fp32_blocks

    def files(batch_size: int) -> dict[str, bytes]:
        fp32 = emit(subnet, batch_size).SerializeToString()
        static = Quantiser(fp32, mode="static", images=scaling)
        return {
            "fp32": fp32,
            "dynamic": Quantiser(fp32, mode="dynamic").file(),
            "static": static.file(),
            "mixed": static.file(kept),
        }

    images = test.images.numpy()
    return Network(
        name=name,
        subnet=subnet,
        files=files(1),
        fp32_blocks=kept,
        errors=errors,
        answers={kind: _classes(data, images) for kind, data in files(BATCH_SIZE).items()},
    )


def _classes(data: bytes, images: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The classes that a file predicts."""
    session = open_session(data)
    name = session.get_inputs()[0].name
    whole = -(-len(images) // BATCH_SIZE) * BATCH_SIZE
    filled = np.concatenate([images, np.zeros((whole - len(images), *images.shape[1:]), "f4")])
    found = [
        session.run(None, {name: filled[start : start + BATCH_SIZE]})[0].argmax(1)
        for start in range(0, whole, BATCH_SIZE)
    ]
    return np.concatenate(found)[: len(images)]


def _measured(
    networks: Sequence[Network], labels: dict[str, npt.NDArray[np.int64]], seed: int
) -> dict[str, Any]:
    """Latencies of all files in one round-robin, accuracies and agreement of each."""
    models = [network.files[kind] for network in networks for kind in FILES]
    timings = iter(LocalRunner().time(models, threads=1, rounds=15, min_seconds=20.0, seed=seed))
    found: dict[str, Any] = {}
    for network in networks:
        truth, exact = labels[network.name], network.answers["fp32"]
        rows: dict[str, Any] = {}
        for kind in FILES:
            timing, answers = next(timings), network.answers[kind]
            share = float((answers == truth).mean())
            rows[kind] = {
                "latency_ms": timing.latency_ms,
                "dispersion_ms": timing.dispersion_ms,
                "test_accuracy": share,
                "interval_95": wilson_interval(share, len(truth)),
                "agreement": float((answers == exact).mean()),
                "bytes": len(network.files[kind]),
            }
        for row in rows.values():
            row["speed"] = rows["fp32"]["latency_ms"] / row["latency_ms"]
        rows["mixed"]["fp32_blocks"] = list(network.fp32_blocks)
        found[network.name] = {
            "parameters": network.subnet.graph.parameters,
            "macs": network.subnet.graph.macs,
            "blocks": len(network.errors.blocks),
            "files": rows,
        }
    return found


def _making(subnet: Subnet, data: ImageData) -> dict[str, float]:
    """Seconds for the files of all blocks alone: scales found once, for each, by onnxruntime."""
    fp32 = emit(subnet, BATCH_SIZE).SerializeToString()
    scaling = data.train.images[:IMAGES].numpy()

    def shared() -> None:
        quantiser = Quantiser(fp32, mode="static", images=scaling)
        for block in quantiser.blocks:
            quantiser.only(block)

    def apart() -> None:
        for block in Quantiser(fp32, mode="static", images=scaling).blocks:
            Quantiser(fp32, mode="static", images=scaling).only(block)

    def one() -> None:
        Quantiser(fp32, mode="static", images=scaling).file()

    def by_onnxruntime() -> None:
        _quantised_by_onnxruntime(fp32, scaling)

    return {
        "files": float(len(Quantiser(fp32, mode="static", images=scaling).blocks)),
        "one": _seconds(one),
        "onnxruntime": _seconds(by_onnxruntime),
        "shared": _seconds(shared),
        "apart": _seconds(apart),
    }


def _quantised_by_onnxruntime(fp32: bytes, scaling: npt.NDArray[np.float32]) -> None:
    """The same static file as ours by `quantize_static`, which finds the scales itself."""
    whole = len(scaling) // BATCH_SIZE
    batches = scaling[: whole * BATCH_SIZE].reshape(whole, BATCH_SIZE, *scaling.shape[1:])
    feeds = iter([{INPUT: batch} for batch in batches])

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(feeds, None)

    typed = SymbolicShapeInference.infer_shapes(onnx.load_from_string(fp32))
    helper.set_model_props(typed, {"onnx.quant.pre_process": "onnxruntime.quant"})  # no warning
    with tempfile.TemporaryDirectory() as folder:
        quantize_static(
            typed,
            Path(folder) / "int8.onnx",
            Reader(),
            op_types_to_quantize=list(OPERATORS["static"]),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def _seconds(function: Callable[[], None]) -> float:
    """Of the processor, on one thread, so that other programs do not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


def _costs(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, Any]:
    """How well the latency of mixed files is predicted, by networks left out of the fit."""
    found = {}
    for way in ("dynamic", "static"):
        mixed = WithBlockPrecision(base=space, quantisation=way)
        model = calibrate(
            mixed,
            local_target(precision="int8"),
            networks=arguments.costs,
            budget_s=arguments.costs_s,
        )
        found[way] = {
            "genes": len(mixed.blocks),
            "networks": len(model.genes),
            "mape": model.quality.mape,
            "spearman": model.quality.spearman,
        }
    return found


def _means(networks: dict[str, Any]) -> dict[str, Any]:
    """Over the networks of each front: geometric mean of the speeds, mean of what is lost."""
    fronts = list(dict.fromkeys(name.partition(" ")[0] for name in networks))
    found: dict[str, Any] = {}
    for front in fronts:
        mine = [n["files"] for name, n in networks.items() if name.partition(" ")[0] == front]
        found[front] = {
            kind: {
                "speed": float(np.exp(np.mean([np.log(files[kind]["speed"]) for files in mine]))),
                "points_lost": 100
                * float(
                    np.mean([f["fp32"]["test_accuracy"] - f[kind]["test_accuracy"] for f in mine])
                ),
                "agreement": float(np.mean([files[kind]["agreement"] for files in mine])),
            }
            for kind in FILES
        }
    return found


def _show(figures: dict[str, Any]) -> None:
    rows = []
    for name, network in figures["networks"].items():
        for kind, one in network["files"].items():
            low, high = (100 * x for x in one["interval_95"])
            kept = one.get("fp32_blocks")
            rows.append(
                [
                    name if kind == "fp32" else "",
                    kind if kept is None else f"mixed, {len(kept)} of {network['blocks']} in fp32",
                    f"{one['latency_ms']:.3f}",
                    f"{one['speed']:.2f}x",
                    f"{100 * one['test_accuracy']:.2f} %",
                    f"{low:.1f}-{high:.1f} %",
                    f"{100 * one['agreement']:.1f} %",
                    f"{one['bytes'] / 1024:.0f}",
                ]
            )
    show(
        "Files of networks on fronts, one image, one thread",
        ["network", "file", "ms", "speed", "test accuracy", "95 %", "as fp32", "KiB"],
        rows,
    )
    show(
        "Over each front: speed against fp32, points of test accuracy lost",
        ["front", *(f"{kind} {what}" for kind in FILES[1:] for what in ("speed", "lost"))],
        [
            [front, *(f"{one[k]['speed']:.2f}x" if what == "speed" else
                      f"{one[k]['points_lost']:.2f}" for k in FILES[1:]
                      for what in ("speed", "lost"))]
            for front, one in figures["means"].items()
        ],
    )  # fmt: skip
    show(
        "The blocks that move the logits most when they alone are in static int8",
        ["network", "all", "first", "second", "third"],
        [
            [name, f"{errors['together']['relative_error']:.1%}", *_worst(errors["blocks"])]
            for name, errors in figures["block_errors"].items()
        ],
    )
    show(
        "Processor seconds for static files of every block alone",
        ["front", "files", "one file", "by onnxruntime", "all, scales found once", "for each"],
        [
            [front, f"{m['files']:.0f}",
             *(f"{m[way]:.2f}" for way in ("one", "onnxruntime", "shared", "apart"))]
            for front, m in figures["making"].items()
        ],
    )  # fmt: skip
    show(
        "Latency of mixed files, the precision of each stage a gene: left-out error",
        ["front", "way", "genes of precision", "timed", "mean error", "Spearman"],
        [
            [front, way, c["genes"], c["networks"], f"{c['mape']:.2%}", f"{c['spearman']:.4f}"]
            for front, ways in figures["costs"].items()
            for way, c in ways.items()
        ],
    )


def _worst(blocks: Sequence[dict[str, Any]]) -> list[str]:
    """The three blocks that move the logits most."""
    ordered = sorted(blocks, key=lambda block: -block["relative_error"])
    return [f"{b['block']} {b['relative_error']:.1%}" for b in ordered[:3]]


if __name__ == "__main__":
    with intra_op_threads(1):
        benchmark_main("quantisation", run, add_arguments)
