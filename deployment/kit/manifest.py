"""The kit: a folder with networks and a script that times them on a machine without hwnas.

A kit is carried to a device by hand, or by a `CommandRunner`. It holds the networks as ONNX files,
`kit.json` with their hashes and genes, `measure.py`, and a `README.md` that says what to do. What
comes back is `results.json`, which `deployment.kit.results` reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deployment.kit import measure
from deployment.providers import must_take_all, session_providers
from deployment.session_settings import SessionSettings
from records import (
    BadInputError,
    content_hash,
    new_folder,
    versions,
    write_bytes,
    write_json,
    write_text,
)

PROBE_SIZE = 512
"""Side of the matrices whose product shows the arithmetic that a device reaches."""

README = """\
# Timing networks on your device

1. Copy this folder to the device. It needs Python 3.8 or newer and `pip install onnxruntime`.
2. Close what else runs there, and on a board set the clock governor to `performance` if you may.
3. Run `python3 measure.py --quick` for a first look, `python3 measure.py` for all of it
   ({rounds} rounds). Ctrl-C loses one round at most: the same command continues.
4. Bring `results.json` back.
5. There: `hwnas profile import results.json`, which says how good it is.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingProtocol:
    """How a kit is measured.

    Attributes:
        rounds: Visits to each network, at least.
        runs: Timed runs a visit.
        min_seconds: Over which the rounds are spread.
        sustained_s: How long one network then runs without a pause; 0 for not at all.
        seed: Derives the order.
    """

    rounds: int = 15
    runs: int = measure.RUNS
    min_seconds: float = 2.5
    sustained_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.runs < 1:
            raise BadInputError(f"rounds and runs must be >= 1, got {self.rounds} and {self.runs}")
        for name in ("min_seconds", "sustained_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise BadInputError(f"{name} must be >= 0 and finite, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KitModel:
    """A network of a kit.

    Attributes:
        data: The serialised ONNX model, its input of fixed shape.
        space: Its space, a place in the kit's list of spaces; None for a file from elsewhere.
        genes: Its genes there.
        macs: Its multiply-accumulates an image.
        settings: How it is opened; as the kit says, and the defaults, where None.
    """

    data: bytes
    space: int | None = None
    genes: tuple[int, ...] = ()
    macs: int = 0
    settings: SessionSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a kit's folder holds.

    Attributes:
        models: The networks.
        threads: Threads of a network.
        batch_size: Images a run.
        spaces: For each space its name, hash and definition, JSON-ready.
        protocol: How they are measured.
        probes: Whether arithmetic and memory are probed too, for a hardware profile.
    """

    models: Sequence[KitModel]
    threads: int = 1
    batch_size: int = 1
    spaces: Sequence[Mapping[str, Any]] = ()
    protocol: TimingProtocol = field(default_factory=TimingProtocol)
    probes: bool = True

    def __post_init__(self) -> None:
        if not self.models:
            raise BadInputError("a kit needs a network at least, got none")
        if self.threads < 1 or self.batch_size < 1:
            raise BadInputError(
                f"threads and batch_size must be >= 1, got {self.threads} and {self.batch_size}"
            )


def write_kit(kit: Kit, folder: str | Path) -> dict[str, Any]:
    """Writes a kit's folder, whole or not at all; returns its manifest.

    The network in the middle by multiply-accumulates becomes the reference, which is timed before
    and after every round; one whose threads spin only where all do.

    Args:
        kit: What it holds.
        folder: New, or an empty folder.

    Raises:
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    with new_folder(folder) as new:
        models = []
        for index, model in enumerate(kit.models):
            name = f"models/{index:03d}.onnx"
            write_bytes(new / name, model.data)
            models.append(_entry(model, name, kit.threads))
        manifest: dict[str, Any] = {
            "format": measure.FORMAT,
            "versions": versions(),
            "protocol": asdict(kit.protocol),
            "threads": kit.threads,
            "batch_size": kit.batch_size,
            "spaces": [dict(space) for space in kit.spaces],
            "models": models,
            "reference": models[_reference(kit)]["file"],
            "probes": list(_write_probes(new)) if kit.probes else [],
        }
        manifest["id"] = manifest_id(manifest)
        write_json(new / "kit.json", manifest)
        write_bytes(new / "measure.py", Path(measure.__file__).read_bytes())
        write_text(new / "README.md", README.format(rounds=kit.protocol.rounds))
    return manifest


def _entry(model: KitModel, file: str, threads: int) -> dict[str, Any]:
    """What the manifest says of a network; of its settings only where it has its own."""
    entry: dict[str, Any] = {
        "file": file,
        "sha256": _sha256(model.data),
        "space": model.space,
        "genes": list(model.genes),
        "macs": model.macs,
    }
    if model.settings is not None:
        entry["settings"] = opening(model.settings, threads)
    return entry


def opening(settings: SessionSettings, threads: int = 1) -> dict[str, Any]:
    """Settings as the script on the device takes them, with onnxruntime's names of providers.

    Args:
        settings: How a network is opened.
        threads: Those of the target, where the settings do not say.
    """
    own = settings.threads_of(threads)
    providers = session_providers(settings.provider, settings.provider_options, own)
    return {
        "optimisation": settings.optimisation,
        "threads": settings.threads,
        "spinning": settings.spinning,
        "arena": settings.arena,
        "memory_pattern": settings.memory_pattern,
        "providers": [[name, options] for name, options in providers],
        "must_take_all": must_take_all(settings.provider),
    }


def _reference(kit: Kit) -> int:
    """The place of the network in the middle, among those that stay open if there are any."""
    places = range(len(kit.models))
    each = [model.settings or SessionSettings() for model in kit.models]
    calm = [i for i in places if not each[i].must_be_alone(kit.threads)]
    order = sorted(calm or places, key=lambda i: kit.models[i].macs)
    return order[len(order) // 2]


def manifest_id(manifest: Mapping[str, Any]) -> str:
    """The hash of all that a manifest says but its own `id`."""
    return content_hash({key: value for key, value in manifest.items() if key != "id"})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_probes(folder: Path) -> Iterable[dict[str, Any]]:
    """Files whose time is known arithmetic, not networks."""
    data = matrix_product(PROBE_SIZE).SerializeToString()
    name = f"probes/matmul-{PROBE_SIZE}.onnx"
    write_bytes(folder / name, data)
    yield {"file": name, "sha256": _sha256(data), "flop": 2 * PROBE_SIZE**3}


def matrix_product(size: int) -> onnx.ModelProto:
    """A model that multiplies its `size x size` input by a fixed matrix of that size."""
    weight = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["product"])],
        "probe",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(weight, "right")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
