"""`hwnas export`: one network of a finished run as a bundle, with the fastest kernels.

The network is picked from the front of a target; its file is the fastest of many that are timed
there and keep the accuracy; that file is verified, timed and run on the test images. Where it is
slower than the limit that the run was given, the next network of the front that should keep it
takes its place, until one keeps it when measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deployment import Bundle, Timing, deploy
from deployment.bundles.input import Interface
from deployment.bundles.making import made_files, time_file
from deployment.bundles.record import limits_kept
from deployment.emission.emit import image_shape
from deployment.providers import provider
from deployment.runtimes.beside import BUNDLE_FILE, Beside, time_beside
from deployment.runtimes.by_name import runtime
from deployment.runtimes.onnx_runtime import OnnxRuntimeNetwork
from deployment.selection.candidates import provider_of
from deployment.selection.results import Selection
from deployment.selection.select import select_kernels
from deployment.selection.table import COLUMNS, selection_rows
from experiments.console import console, say, show_table
from experiments.data_source import data_source
from experiments.export import CALIBRATION_IMAGES
from experiments.export_tuning import TuningOptions, in_words, tuned
from experiments.finished_run import FinishedRun, find_target, open_finished, pick
from experiments.precision_option import check_export, in_fp32, precisions
from experiments.run_folder import check_writable
from hardware_profiles import Target
from latency_models import CostModel, MeasuredCostModel
from records import BadInputError, ExistingRunError, HwnasError
from search_spaces import WithBlockPrecision
from strategies import Front, FrontPoint
from supernet import FineTuned, Subnet

ATTEMPTS = 6
"""Networks that are tried at most until one keeps the limit on the latency when measured."""

LATENCY = "latency_ms"


class LimitError(HwnasError, ValueError):
    """No network of the front keeps the limit when measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What `hwnas export` is asked to do.

    Attributes:
        run: The folder of a finished search or quickstart.
        target: The run's target; None where it has one.
        pick: "knee", "fastest", "most-accurate", or a place in the front.
        out: The bundle's folder, new; None is `exports/TARGET-PICK` in the run's.
        max_accuracy_loss: The accuracy that a file may lose against fp32, as a share.
        numerics: Which numbers are allowed (`deployment.select_kernels`); None for what is right
            for the target.
        seconds: How long selecting kernels may take.
        takes_pixels: Whether the file does its preprocessing itself.
        any_batch: Whether it takes any number of images.
        keeps_pick: Whether the picked network is exported even if it is slower than the limit.
        tuning: How the network is fine-tuned first.
        beside: Other runtimes, by name, that are timed with the file on this machine.
    """

    run: Path
    target: str | None = None
    pick: str = "knee"
    out: Path | None = None
    max_accuracy_loss: float = 0.005
    numerics: Sequence[str] | None = None
    seconds: float = 60.0
    takes_pixels: bool = False
    any_batch: bool = False
    keeps_pick: bool = False
    tuning: TuningOptions = field(default_factory=TuningOptions)
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.beside:
            _ = runtime(name)  # or it is an error that lists the known ones
        if not 0 <= self.max_accuracy_loss <= 1:
            raise BadInputError(
                "--max-accuracy-loss must be a share from 0 to 1 (0.005 is half a point), got "
                f"{self.max_accuracy_loss:g}"
            )
        if not 0 < self.seconds < float("inf"):
            raise BadInputError(f"--seconds must be a positive number, got {self.seconds:g}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A network of the front with its file, selected and timed.

    Attributes:
        point: Its place in the front.
        subnet: The network.
        selection: What selecting kernels found.
        timing: Of the very file that is shipped; None without a runner.
        tuned: What fine-tuning gave; None where there was none.
    """

    point: FrontPoint
    subnet: Subnet
    selection: Selection
    timing: Timing | None
    tuned: FineTuned | None = None

    @property
    def slowest_ms(self) -> float:
        """The latency that is held against a limit: measured with its dispersion, or predicted."""
        if self.timing is None:
            return self.point.latency_ms
        dispersion = self.timing.dispersion_ms
        return self.timing.latency_ms + (0.0 if np.isnan(dispersion) else dispersion)


def export(options: ExportOptions) -> Bundle:
    """Exports a network of a finished run; prints what was tried and what came out.

    Raises:
        BadInputError: No finished run, another target, a place beyond the front.
        ExistingRunError: The bundle's folder holds something.
        LimitError: No network of the front keeps the limit when measured.
        VerificationError: A file that does not compute what torch does.
    """
    if options.out is not None:
        check_free(options.out)
    with console.status("putting the run together again"):
        run = open_finished(options.run)
    target = find_target(run, options.target)
    own = run.front.for_target(target)
    point = pick(own, options.pick)
    say_without_knee(own, options.pick)
    out = options.out or options.run / "exports" / f"{target}-{options.pick}"
    check_free(out)
    say(
        f"  {target}: {options.pick} is network {own.points.index(point)} of 0 to {len(own) - 1}, "
        f"{point.accuracy:.2%} on search-validation, predicted {point.latency_ms:.4g} ms"
    )
    if chosen_precisions := precisions(run.problem.space, point.architecture):
        say(f"  in fp32: {in_fp32(chosen_precisions)}, of {', '.join(chosen_precisions)}")
    exporter = Exporter(run, run.cost(target), options)
    chosen = exporter.within_limit(own, point)
    bundle = exporter.write(chosen, out, place=own.points.index(chosen.point))
    closing(bundle, chosen)
    return bundle


def say_without_knee(front: Front, choice: str) -> None:
    """Says that the fastest is taken where the knee was asked for and there is none."""
    if choice == "knee" and len(front) > 1 and not front.has_knee():
        say("  this front has no knee: the fastest was taken")


class Exporter:
    """Makes files of the networks of one target of a run.

    Args:
        run: The run.
        cost: The cost model of the target, whose runner times files.
        options: What is asked for.

    Raises:
        BadInputError: Other runtimes for a target that is not this machine, or another file than
            the search chose where it chose the precision of each stage.
    """

    def __init__(self, run: FinishedRun, cost: CostModel, options: ExportOptions) -> None:
        self.run, self.cost, self.options = run, cost, options
        check_export(cost.space, options.numerics, any_batch=options.any_batch)
        if options.beside and not cost.target.is_local:
            raise BadInputError(
                f"--beside times runtimes on this machine, and {cost.target_name} is another one"
            )
        self.interface = Interface(
            class_names=run.data.class_names,
            normalisation=run.data.normalisation,
            takes_pixels=options.takes_pixels,
            any_batch=options.any_batch,
        )
        self.scaling = run.data.train.images[:CALIBRATION_IMAGES]

    @property
    def limits(self) -> dict[str, float]:
        """The target's limits by metric."""
        name = self.cost.target_name
        return {c.metric: c.limit for c in self.run.problem.constraints if c.target == name}

    def within_limit(self, front: Front, point: FrontPoint) -> Candidate:
        """The picked network, or the best one that keeps the limit when measured.

        Raises:
            LimitError: None does, of those that were tried.
        """
        limit = self.limits.get(LATENCY)
        tried: list[Candidate] = []
        while True:
            found = self.made(point)
            tried.append(found)
            keeps = limit is None or found.slowest_ms <= limit
            if keeps or self.options.keeps_pick:
                return found
            assert limit is not None
            following = next_within(front, tried, limit)
            say(
                f"  measured {found.slowest_ms:.4g} ms, more than the limit of {limit:g} ms"
                + ("" if following is None else ": trying the next network that should keep it")
            )
            if following is None or len(tried) >= ATTEMPTS:
                best = min(tried, key=lambda one: one.slowest_ms)
                raise LimitError(
                    f"none of {len(tried)} networks keeps latency_ms <= {limit:g} on "
                    f"{self.cost.target_name!r} when measured: the fastest takes "
                    f"{best.slowest_ms:.4g} ms (predicted {best.point.latency_ms:.4g}). Is the "
                    "machine busy? Export again when it is quiet, search again with a lower "
                    "limit, or take it as it is with --keep-pick"
                )
            point = following

    def made(self, point: FrontPoint) -> Candidate:
        """Selects the file of a network and times what would be shipped."""
        target, runner = self.cost.target, self.cost.runner
        subnet: Subnet = self.run.problem.accuracy.subnet(point.architecture)
        kept = self.cost.fp32_blocks(subnet, point.architecture)
        in_use = self.in_use(point)
        better = tuned(subnet, self.run, self.options.tuning, kept)
        if better is not None:
            subnet = better.subnet
        with console.status("selecting kernels") as status:
            selection = select_kernels(
                subnet,
                in_use,
                runner=runner,
                validation=self.run.data.validation,
                calibration_images=self.scaling,
                largest_loss=self.options.max_accuracy_loss,
                seconds=self.options.seconds,
                seed=self.run.config.seed,
                numerics=self._numerics(in_use),
                on_step=lambda text: status.update(f"selecting kernels: {text}"),
                quantisation=self.cost.quantisation,
                fp32_blocks=kept,
                preprocessing=self.interface.inside(image_shape(subnet)),
            )
        timing = None
        if runner is not None:
            variant = selection.chosen.variant
            files = made_files(
                subnet, variant, target, self.interface, self.scaling, selection=selection
            )
            with console.status("timing the file"):
                timing = time_file(
                    files.timed, variant.settings, target, runner, seed=self.run.config.seed
                )
        return Candidate(
            point=point, subnet=subnet, selection=selection, timing=timing, tuned=better
        )

    def in_use(self, point: FrontPoint) -> Target:
        """The target; one in fp32 where the search chose that for every stage of the network."""
        space, target = self.cost.space, self.cost.target
        genes = np.array(point.genes, np.int16)
        if isinstance(space, WithBlockPrecision) and space.is_fp32(genes)[0]:
            return replace(target, precision="fp32")
        return target

    def _numerics(self, in_use: Target) -> Sequence[str] | None:
        """Those allowed; static int8 has a fixed batch, and chosen precisions are kept."""
        space = self.cost.space
        if isinstance(space, WithBlockPrecision):
            return (space.quantisation if in_use.precision == "int8" else "fp32",)
        if self.options.numerics is not None or not self.options.any_batch:
            return self.options.numerics
        if self.cost.target.precision == "int8":
            return ("dynamic",)
        taken = provider(provider_of(self.cost.target)).ways
        return tuple(way for way in ("fp32", "fp16", "dynamic") if way in taken)

    def beside(self, chosen: Candidate) -> list[Beside]:
        """The other runtimes that are asked for, timed in turns with the file, here."""
        target, names = self.cost.target, self.options.beside
        if not names:
            return []
        variant = chosen.selection.chosen.variant
        tensors_in = made_files(
            chosen.subnet, variant, target, Interface(), self.scaling, selection=chosen.selection
        ).data
        file = OnnxRuntimeNetwork(BUNDLE_FILE, tensors_in, target.threads, variant.settings)
        with console.status(f"timing {', '.join(names)} beside the file"):
            return time_beside(
                chosen.subnet,
                names,
                file=file,
                batch_size=target.batch_size,
                threads=target.threads,
                images=self.run.data.validation.images[:128].numpy(),
                calibration=self.scaling.numpy(),
                seed=self.run.config.seed,
            )

    def write(self, chosen: Candidate, out: Path, *, place: int) -> Bundle:
        """Verifies the file, runs it on the test images, and writes the bundle."""
        run, point, cost = self.run, chosen.point, self.cost
        genes = np.array(point.genes, np.int16)
        before = cost.without(genes) if isinstance(cost, MeasuredCostModel) else cost
        beside = self.beside(chosen)
        with console.status("verifying and writing the bundle"):
            return deploy(
                chosen.subnet,
                out,
                target=cost.target,
                architecture=point.architecture.to_json(),
                space=cost.space.to_json(),
                predicted=before.record(genes[None]),
                facts=self._facts(chosen, place),
                runner=cost.runner,
                timing=chosen.timing,
                images=run.data.validation.images[:128],
                seed=run.config.seed,
                calibration_images=self.scaling,
                selection=chosen.selection,
                interface=self.interface,
                test=run.data.test,
                beside=beside,
            )

    def _facts(self, chosen: Candidate, place: int) -> dict[str, Any]:
        run, point = self.run, chosen.point
        record = None if chosen.tuned is None else chosen.tuned.record
        return {
            "title": f"{self.options.pick}, network {place} of the front",
            "kind": "searched",
            "pick": self.options.pick,
            "place": place,
            "genes": list(point.genes),
            "run": run.folder.resolve().name,
            "dataset": run.data.name,
            "source": data_source(run.config),
            "limits": self.limits,
            "validation_accuracy": record.accuracy_after if record else point.accuracy,
            "validation_images": len(run.data.validation),
            "supernet_weights_hash": run.supernet.weights_hash(),
            "training": in_words(chosen.tuned),
            "fine_tuning": record.to_json() if record else None,
        }


def next_within(front: Front, tried: Sequence[Candidate], limit: float) -> FrontPoint | None:
    """The most accurate faster network that should keep the limit, by what was measured so far.

    Predictions are taken as wrong by as much as that of the last network that was tried; where
    that leaves none, it is the next faster one. None where there is none.

    Args:
        front: Of one target, fastest first.
        tried: Networks that did not keep it, the last one last.
        limit: In ms.
    """
    last = tried[-1]
    faster = [p for p in front if p.latency_ms < min(c.point.latency_ms for c in tried)]
    if not faster:
        return None
    wrong_by = last.slowest_ms / last.point.latency_ms
    within = [p for p in faster if p.latency_ms * wrong_by <= limit]
    return within[-1] if within else faster[0]


def check_free(out: Path) -> None:
    """Refuses a folder that holds something or cannot be made, before work is lost on it.

    Raises:
        ExistingRunError: It holds something.
        StorageError: It cannot be made or written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ExistingRunError(
            f"{out} holds something already and is never overwritten: choose another with --out"
        )
    check_writable(out)


def closing(bundle: Bundle, chosen: Candidate) -> None:
    """Prints what was tried and what came out."""
    record, selection = bundle.record, chosen.selection
    show_table(
        "What was tried", list(COLUMNS), selection_rows(selection), left=2, wrapped="outcome"
    )
    say(selection.statement)
    for note in selection.notes:
        say(f"  {note}")
    for line in outcome_lines(record):
        say(line)
    for one in record["beside"][1:]:
        ratio = "" if one["ratio"] is None else f", {one['ratio']:.2f} times the file's"
        latency = "" if one["latency_ms"] is None else f" {one['latency_ms']:.4g} ms{ratio}"
        say(f"beside: {one['runtime']} {one['version']}{latency} ({one['status']})")
    say(f"\nbundle: {bundle.folder}   check it anywhere: python {bundle.folder / 'verify.py'}")


def outcome_lines(record: Mapping[str, Any]) -> list[str]:
    """What a bundle promises, in lines: accuracy, latency, limits."""
    tested, measured, predicted = record["tested"], record["measured"], record["predicted"]
    low, high = tested["interval_95"]
    lines = [
        f"accuracy of the file: {100 * tested['accuracy']:.2f} % [{100 * low:.1f}, "
        f"{100 * high:.1f}] of {tested['images']} test images; the same class as torch for "
        f"{tested['top1_agreement']:.2%}"
    ]
    if measured["latency_ms"] is None:
        lines.append(
            f"latency: predicted {predicted['latency_ms']:.4g} ms; no runner reaches "
            f"{record['target']['name']}, so it was not timed"
        )
    else:
        lines.append(
            f"latency: measured {measured['latency_ms']:.4g} ms (least), p50 "
            f"{measured['p50_ms']:.4g}, p90 {measured['p90_ms']:.4g}, p99 "
            f"{measured['p99_ms']:.4g}; default forms were predicted to take "
            f"{predicted['latency_ms']:.4g}"
        )
    for one in limits_kept(record):
        kept = "kept" if one["is_kept"] else "NOT kept"
        value = "unknown" if one["value"] is None else f"{one['value']:.4g}"
        lines.append(f"limit {one['metric']} <= {one['limit']:g}: {kept} ({one['how']} {value})")
    return lines
