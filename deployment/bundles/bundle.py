"""The bundle: the folder that a chosen subnet becomes.

It holds `model.onnx`; `bundle.json` with everything that is known about it; `README.md`, the same
for people; `verify.py` and `benchmark.py`, which check and time it wherever onnxruntime and numpy
are; `samples.npz`, inputs with torch's answers for the former; and the network in torch in
`subnet/`. Every file's hash is on the record. A bundle is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch

from deployment.bundles.card import model_card
from deployment.bundles.cold_start import measure_cold_start
from deployment.bundles.deployed import Deployed
from deployment.bundles.file_answers import Tested, judge_file, with_batch
from deployment.bundles.format import FORMAT, RECORD, check_bundle, hashes_of, read_record, sealed
from deployment.bundles.input import Interface, as_taken
from deployment.bundles.making import Made, runnable_here, time_file, unselected_variant
from deployment.bundles.record import describe_target
from deployment.bundles.samples import Samples, make_samples
from deployment.emission.preprocessing import Preprocessing
from deployment.proofs.verify import Agreement
from deployment.quantisation.quantised import MODES
from deployment.runners.runner import LocalRunner, Runner
from deployment.runners.timing import Timing
from deployment.runtime import open_session
from deployment.runtimes.beside import Beside
from deployment.selection.results import Selection
from deployment.session_settings import SessionSettings
from deployment.target_file import Quantised
from deployment.variant import Variant
from hardware_profiles import Target
from records import new_folder, unknown_name, write_bytes, write_json, write_text
from supernet import Split, Subnet

__all__ = ["FORMAT", "Bundle", "deploy", "describe_target", "load_model"]

SCRIPTS = ("verify.py", "benchmark.py")

COLD_STARTS = 3
"""New processes that the cold start is measured in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was written or opened.

    Attributes:
        folder: Where it is.
        record: What `bundle.json` holds.
        agreement: How far the file in exact forms and fp32 is from torch.
        timing: Raw timings on the target; None without a runner.
        quantised: How far the file is from torch where it is not exact; None where it is.
    """

    folder: Path
    record: Mapping[str, Any]
    agreement: Agreement
    timing: Timing | None
    quantised: Quantised | None = None

    @staticmethod
    def open(folder: str | Path, *, check: bool = True) -> Bundle:
        """The bundle in a folder.

        Args:
            folder: Where it is.
            check: Whether every file is compared with its recorded hash.

        Raises:
            MissingFileError: There is no bundle, or it lacks files.
            CorruptFileError: Altered files, or a bundle of another version.
        """
        record = read_record(folder)
        if check:
            check_bundle(folder, record)
        measured, found = record["measured"], record["quantised"]
        timing = None
        if measured["latency_ms"] is not None:
            preempted = measured["preempted"]
            timing = Timing(
                samples_ms=tuple(measured["samples_ms"]),
                rounds=measured["rounds"],
                preempted=float("nan") if preempted is None else preempted,
            )
        return Bundle(
            folder=Path(folder),
            record=record,
            agreement=Agreement(**record["agreement"]),
            timing=timing,
            quantised=None if found is None else Quantised(**found),
        )

    @property
    def model_path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def latency_ms(self) -> float | None:
        """The measured latency, if there is one."""
        return None if self.timing is None else self.timing.latency_ms

    @property
    def settings(self) -> SessionSettings:
        """How the file is to be opened."""
        return SessionSettings(**self.record["variant"]["settings"])

    @property
    def inside(self) -> Preprocessing | None:
        """The preprocessing that the file does itself; None where it takes tensors."""
        value = self.record["input"]["preprocessing"]
        return None if value is None else Preprocessing.from_json(value)

    def timed_file(self) -> bytes:
        """The file for the target's batch, as it is timed."""
        return with_batch(self.model_path.read_bytes(), self.record["target"]["batch_size"])

    def session(self) -> ort.InferenceSession:
        """The file, opened as recorded; by the processor where the provider is not here."""
        threads = self.record["target"]["threads"]
        return open_session(self.model_path, threads, runnable_here(self.settings))


def deploy(
    subnet: Subnet,
    folder: str | Path,
    *,
    target: Target,
    architecture: Mapping[str, Any],
    space: Mapping[str, Any],
    predicted: Mapping[str, Any],
    facts: Mapping[str, Any],
    runner: Runner | None,
    timing: Timing | None = None,
    images: torch.Tensor | None = None,
    seed: int = 0,
    quantisation: str = "static",
    calibration_images: torch.Tensor | None = None,
    fp32_blocks: Sequence[str] = (),
    selection: Selection | None = None,
    interface: Interface | None = None,
    test: Split | None = None,
    cold_starts: int = COLD_STARTS,
    beside: Sequence[Beside] = (),
) -> Bundle:
    """Emits, verifies and times a subnet, and writes its bundle, whole or not at all.

    The file is the selected variant, or, without a selection, the default one: in int8 where the
    target's precision is. What is not exact is compared with torch beside the exact file that it
    comes from.

    Args:
        subnet: The network in eval mode.
        folder: A folder that is new or empty.
        target: What it is for.
        architecture: The choices, JSON-ready.
        space: The search space, JSON-ready.
        predicted: Costs as predicted before this measurement, JSON-ready.
        facts: Whatever else belongs on the record, JSON-ready: `title`, `dataset`, `limits` by
            metric, accuracies ...
        runner: Times the file on the target; None writes "costs only".
        timing: A timing of the very same file taken already, together with others.
        images: Real images for the comparison with torch, on which nothing was trained; a few are
            stored in the bundle.
        seed: Derives random inputs.
        quantisation: How an int8 file is made without a selection, "dynamic" or "static".
        calibration_images: Training images that set the scales of the static way.
        fp32_blocks: Blocks of an int8 file that stay in fp32, without a selection.
        selection: What selecting kernels found for this subnet and target. Its file is shipped
            where it takes its images as the interface says; otherwise one is made of its variant.
        interface: Whether the file takes pixels or any batch, and what the classes are called.
        test: Images and labels that nothing was chosen by; the file is run on all of them.
        cold_starts: New processes that the cold start is measured in, where the target is this
            machine; 0 leaves it out.
        beside: What other runtimes take for the same network here, timed with the file
            (`deployment.runtimes.time_beside`).

    Raises:
        VerificationError: The file differs from torch by more than rounding explains, or a file
            that is not exact by more than `deployment.target_file` allows.
        BadInputError: Static int8 without calibration images, or for any batch.
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    if quantisation not in MODES:
        raise unknown_name("quantisation", quantisation, MODES)
    interface = interface or Interface()
    if selection is None:
        variant = unselected_variant(subnet, target, quantisation, fp32_blocks)
    else:
        variant = selection.chosen.variant
    if interface.any_batch:
        variant = replace(variant, chunk=None)
    made = Made.of(
        subnet, variant, target, interface, calibration_images,
        images=images, seed=seed, selection=selection,
    )  # fmt: skip
    if timing is None and runner is not None:
        timing = time_file(made.timed, variant.settings, target, runner, seed=seed)
    tested, samples = _run(subnet, made, variant, target, images=images, test=test, seed=seed)
    deployed = Deployed(
        subnet=subnet, target=target, variant=variant, interface=interface, made=made,
        runner=runner, timing=timing, selection=selection, tested=tested, samples=samples,
        beside=beside, seed=seed,
    )  # fmt: skip
    record = deployed.record(
        architecture=architecture, space=space, predicted=predicted, facts=facts
    )
    processes = cold_starts if isinstance(runner, LocalRunner) and deployed.is_here else 0
    folder = Path(folder)
    with new_folder(folder) as new:
        _write(new, record, deployed, processes)
    return Bundle(
        folder=folder,
        record=record,
        agreement=made.agreement,
        timing=timing,
        quantised=made.quantised,
    )


def load_model(bundle: str | Path) -> onnx.ModelProto:
    """The ONNX model of a bundle's folder."""
    return onnx.load(Path(bundle) / "model.onnx")


def _run(
    subnet: Subnet,
    made: Made,
    variant: Variant,
    target: Target,
    *,
    images: torch.Tensor | None,
    test: Split | None,
    seed: int,
) -> tuple[Tested | None, Samples]:
    """Runs the file on all test images, and on inputs that the bundle is to hold."""
    session = open_session(made.data, target.threads, runnable_here(variant.settings))
    tested = None
    if test is not None:
        tested = judge_file(subnet, session, test, as_taken(test.images.numpy(), made.inside))
    return tested, make_samples(
        subnet, session, real=images, inside=made.inside, is_exact=variant.is_exact, seed=seed
    )


def _write(new: Path, record: dict[str, Any], deployed: Deployed, cold_starts: int) -> None:
    """Fills a new folder; the record gets what is known only then."""
    write_bytes(new / "model.onnx", deployed.made.data)
    write_bytes(new / "samples.npz", deployed.samples.npz())
    deployed.subnet.save(new / "subnet")
    own = Path(__file__).with_name("scripts")
    for name in SCRIPTS:
        write_bytes(new / name, (own / name).read_bytes())
    if cold_starts:
        write_json(new / RECORD, record)  # for the script that starts it
        cold = measure_cold_start(new, cold_starts)
        record["cold_start"] = None if cold is None else cold.to_json()
    write_text(new / "README.md", model_card(record))
    record["files"] = hashes_of(new)
    record["seal"] = sealed(record)
    write_json(new / RECORD, record)
