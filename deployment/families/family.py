"""A family: one folder with several networks of one supernet, of which each run picks one.

How much time there is changes while a device works: other programs run, the battery is low, more
objects are in the picture. Networks cut from one supernet differ in speed and share most of their
weights, so a folder can hold several at little more than the size of the largest (Yu et al.,
Slimmable Neural Networks, ICLR 2019, arXiv 1812.08928; switching at run time by the latency that
is left as in Xu et al., ApproxDet, SenSys 2020, arXiv 2010.10754).

The folder holds an ONNX file for each network, `weights.bin` with every tensor once
(`deployment.families.shared_weights`), `family.json`, and `selector.py`, which picks by the
latencies that were measured (`deployment.families.selector`; onnxruntime and numpy only).

Batch norms are kept apart from the convolutions in these files. Statistics belong to one network
alone, and folded into a kernel they would make it another one; apart they are small, and
onnxruntime folds them when it opens the file, so it runs the same kernels. Four networks of the
MnasNet space took 34.9 MB so, 49.4 MB with norms folded and 66.7 MB one by one. Networks that were
fine-tuned one by one have no weights in common.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from deployment.bundles.record import describe_target, measured_record
from deployment.emission.emit import emit
from deployment.emission.forms import Forms
from deployment.families import selector as family_selector
from deployment.families.selector import FORMAT
from deployment.families.shared_weights import share_weights
from deployment.proofs.verify import TOLERANCE, Agreement, VerificationError, verify
from deployment.runners.runner import Runner
from deployment.runtime import open_session
from hardware_profiles import Target
from records import (
    BadInputError,
    CorruptFileError,
    content_hash,
    file_hash,
    new_folder,
    read_json,
    versions,
    write_bytes,
    write_json,
)
from supernet import Subnet, reparameterise

WEIGHTS, RECORD, SCRIPT = "weights.bin", "family.json", "selector.py"

ROUNDS, MIN_SECONDS = 15, 1.0
"""Visits to each file while all are timed together, and over how long they are spread at least."""

MEASURING_S = 600
"""Longest time for measuring what switching takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilyMember:
    """One network of a family.

    Attributes:
        name: Its name, and that of its file.
        subnet: In eval mode.
        architecture: Its choices, JSON-ready.
        accuracy: On images that it was not trained on; None, for all networks, where it is not
            known: a slower one then counts as a better one.
        facts: Whatever else belongs on the record, JSON-ready.
    """

    name: str
    subnet: Subnet
    architecture: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A written family.

    Attributes:
        folder: Where it is.
        record: What `family.json` holds.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The networks, the fastest first."""
        return tuple(member["name"] for member in self.record["members"])


def deploy_family(
    members: Sequence[FamilyMember],
    folder: str | Path,
    *,
    target: Target,
    runner: Runner,
    images: torch.Tensor | None = None,
    forms: Forms | None = None,
    measure_switching: bool = True,
    seed: int = 0,
) -> Family:
    """Emits, verifies and times networks together, and writes their family, whole or not at all.

    Args:
        members: The networks, two or more, of one input and as many classes.
        folder: A folder that is new or empty.
        target: What they are for, in fp32.
        runner: Times them on the target, in one round-robin.
        images: Real images for the comparison with torch.
        forms: In which forms they are written; norms are kept apart unless told.
        measure_switching: Whether opening and switching are measured, on this machine.
        seed: Derives random inputs.

    Raises:
        BadInputError: Fewer than two networks, names that are no file names or not distinct,
            networks of different inputs, some with and some without accuracy, a target that is
            not in fp32.
        VerificationError: A file differs from torch.
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    _check(members, target)
    forms = forms or Forms(norms="kept")
    models = [emit(member.subnet, target.batch_size, member.name, forms) for member in members]
    agreements = [
        verify(member.subnet, model, images, seed=seed, threads=target.threads)
        for member, model in zip(members, models, strict=True)
    ]
    data = [model.SerializeToString() for model in models]
    timings = runner.time(
        data, threads=target.threads, rounds=ROUNDS, min_seconds=MIN_SECONDS, seed=seed
    )
    shared, weights = share_weights(models, WEIGHTS)
    entries = []
    for place, member in enumerate(members):
        sample = _sample(data[place], agreements[place], seed + place, target.threads)
        timed = measured_record(timings[place], runner)
        entries.append(_entry(member, models[place], agreements[place], timed, sample))
    record: dict[str, Any] = {
        "format": FORMAT,
        "target": describe_target(target),
        "members": sorted(entries, key=lambda entry: float(entry["latency_ms"])),
        "forms": forms.to_json(),
        "weights": {
            "bytes": weights.size,
            "bytes_apart": sum(map(_constant_bytes, models)),
            "tensors": len(weights.parts),
        },
        "seed": seed,
        "versions": versions(),
    }
    folder = Path(folder)
    with new_folder(folder) as new:
        for member, model in zip(members, shared, strict=True):
            write_bytes(new / f"{member.name}.onnx", model.SerializeToString())
        write_bytes(new / WEIGHTS, weights.data())
        write_bytes(new / SCRIPT, Path(family_selector.__file__).read_bytes())
        record["files"] = {entry.name: file_hash(entry) for entry in sorted(new.iterdir())}
        write_json(new / RECORD, record)
        check_family(new)
        record["switching"] = _switching(new) if measure_switching else None
        record["hash"] = content_hash(record)
        write_json(new / RECORD, record)
    return Family(folder=folder, record=record)


def load_family(folder: str | Path) -> Family:
    """A family that was written.

    Raises:
        CorruptFileError: No family, one of another format, or one whose files were altered.
    """
    folder = Path(folder)
    try:
        record = read_json(folder / RECORD, kind="family")
        known = isinstance(record, dict) and record.get("format") == FORMAT
        stated = {k: v for k, v in record.items() if k != "hash"} if known else {}
        is_whole = known and content_hash(stated) == record.get("hash")
        if is_whole:
            for name, expected in record["files"].items():
                if file_hash(folder / name) != expected:
                    raise CorruptFileError(f"{folder / name} was altered: its hash has changed")
    except (BadInputError, OSError, AttributeError) as error:
        raise CorruptFileError(f"{folder} holds no whole family: {error}") from error
    if not known:
        raise CorruptFileError(f"{folder / RECORD} is no family of format {FORMAT}")
    if not is_whole:
        raise CorruptFileError(f"{folder / RECORD} was altered: its hash has changed")
    return Family(folder=folder, record=record)


def check_family(folder: str | Path) -> None:
    """Runs every network of a family and compares it with what it gave before it was written.

    Raises:
        CorruptFileError: There is none.
        VerificationError: Files that were altered, or a network that computes something else.
    """
    try:
        wrong = family_selector.check(str(folder))
    except family_selector.FamilyError as error:
        raise CorruptFileError(str(error)) from error
    if wrong:
        raise VerificationError("; ".join(wrong))


def _check(members: Sequence[FamilyMember], target: Target) -> None:
    """Refuses what makes no family."""
    if len(members) < 2:
        raise BadInputError(f"a family has two or more networks, got {len(members)}")
    names = [member.name for member in members]
    for name in names:
        if names.count(name) > 1 or not name.replace("-", "_").replace(".", "_").isidentifier():
            raise BadInputError(
                f"names of networks must be distinct, of letters, digits, '-', '_' and '.', and "
                f"begin with a letter, got {name!r}"
            )
    ends = set()
    for member in members:
        first, last = member.subnet.graph.layers[0], member.subnet.graph.layers[-1]
        ends.add((first.channels, first.height, first.width, last.channels))
    if len(ends) > 1:
        raise BadInputError(
            "networks of a family take the same images and tell the same classes, got channels, "
            f"height, width and classes {sorted(ends)}"
        )
    if len({member.accuracy is None for member in members}) > 1:
        raise BadInputError("the accuracy of all networks of a family must be known, or of none")
    if target.precision != "fp32":
        raise BadInputError(
            f"the networks of a family run in fp32, {target.name!r} in {target.precision}: scales "
            "of int8 belong to one network, which leaves nothing to share"
        )


def _entry(
    member: FamilyMember,
    model: onnx.ModelProto,
    agreement: Agreement,
    timed: Mapping[str, Any],
    sample: Mapping[str, Any],
) -> dict[str, Any]:
    """What the record says of one network."""
    graph = reparameterise(member.subnet).graph
    return {
        "name": member.name,
        "file": f"{member.name}.onnx",
        "architecture": dict(member.architecture),
        "accuracy": member.accuracy,
        "facts": dict(member.facts),
        "macs": graph.macs,
        "parameters": graph.parameters,
        "weight_bytes": _constant_bytes(model),
        "agreement": asdict(agreement),
        "latency_ms": timed["latency_ms"],
        "measured": dict(timed),
        "sample": dict(sample),
    }


def _sample(data: bytes, agreement: Agreement, seed: int, threads: int) -> dict[str, Any]:
    """A random batch by its seed, and what the file gives for it."""
    session = open_session(data, threads)
    entry = session.get_inputs()[0]
    images = np.random.RandomState(seed).standard_normal(entry.shape).astype(np.float32)
    (logits,) = session.run(None, {entry.name: images})
    return {
        "seed": seed,
        "logits": np.asarray(logits).tolist(),
        "tolerance": max(TOLERANCE, agreement.tolerance),
    }


def _switching(folder: Path) -> dict[str, Any]:
    """What the family's own script measures in a new process."""
    done = subprocess.run(
        [sys.executable, str(folder / SCRIPT), "--measure"],
        capture_output=True, text=True, timeout=MEASURING_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise VerificationError(f"{SCRIPT} --measure failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "source": "measured: this machine, in a new process"}


def _constant_bytes(model: onnx.ModelProto) -> int:
    return sum(onnx.numpy_helper.to_array(entry).nbytes for entry in model.graph.initializer)
