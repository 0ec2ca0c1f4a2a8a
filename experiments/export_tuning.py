"""Fine-tuning of the network that is exported: what `hwnas export --fine-tune` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.console import console, say
from experiments.export import INHERITED
from experiments.finished_run import FinishedRun
from records import BadInputError
from supernet import FineTuned, Int8Scheme, Step, Subnet, accuracy, fine_tune


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions:
    """How the picked network is fine-tuned.

    Attributes:
        epochs: Passes over the training images; 0 for not at all.
        distil: Whether it learns from the largest subnet beside the labels.
        quantisation_aware: Whether it learns to be rounded as its static int8 file.

    Raises:
        BadInputError: Fewer passes than none, or options for no pass.
    """

    epochs: int = 0
    distil: bool = False
    quantisation_aware: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise BadInputError(f"--fine-tune must be >= 0, got {self.epochs}")
        if not self.epochs and (self.distil or self.quantisation_aware):
            raise BadInputError("--distil and --quantisation-aware belong to --fine-tune EPOCHS")


def tuned(
    subnet: Subnet, run: FinishedRun, options: TuningOptions, fp32_blocks: Sequence[str] = ()
) -> FineTuned | None:
    """The network after fine-tuning on the run's training images; None where none is asked for.

    Args:
        subnet: The picked network.
        run: Its run.
        options: How.
        fp32_blocks: Blocks that its file leaves in fp32, so that they learn no rounding.
    """
    if not options.epochs:
        return None
    teacher = largest_subnet(run) if options.distil else None
    with console.status("fine-tuning") as status:

        def show(step: Step) -> None:
            if step.number % 10 == 0:
                status.update(f"fine-tuning: step {step.number} of {step.total}")

        found = fine_tune(
            subnet,
            run.data,
            options.epochs,
            teacher=teacher,
            quantised=(
                Int8Scheme(fp32_blocks=tuple(fp32_blocks)) if options.quantisation_aware else None
            ),
            seed=run.config.seed,
            on_step=show,
        )
    say(f"  {in_words(found)}")
    return found


def largest_subnet(run: FinishedRun) -> Subnet:
    """The most accurate, on search-validation, of the space's largest networks."""
    evaluator = run.supernet.evaluator(run.data)
    rows = run.supernet.space.extremes("largest")
    networks = [evaluator.subnet(run.supernet.space.graph(row)) for row in rows]
    return max(networks, key=lambda network: accuracy(network, run.data.validation))


def in_words(found: FineTuned | None) -> str:
    """What was done to the weights, as a sentence without its end."""
    if found is None:
        return INHERITED
    record = found.record
    passes = "1 pass" if record.epochs == 1 else f"{record.epochs} passes"
    how = "" if record.teacher is None else ", with the predictions of the largest subnet"
    rounded = "" if record.quantised is None else ", rounded as its static int8 file"
    return (
        f"inherited from a supernet, then fine-tuned for {passes} over the training "
        f"images{how}{rounded}: {record.accuracy_before:.2%} before, {record.accuracy_after:.2%} "
        f"after (search-validation; the weights after pass {record.kept_epoch} were best)"
    )
