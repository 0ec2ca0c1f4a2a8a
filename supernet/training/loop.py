"""The training loop: batches in, steps made, checkpoints written.

Everything random is derived from (seed, step), so that a run resumed from a checkpoint continues
as if it had not stopped, bit for bit. Step counts are fixed beforehand: the same seed gives the
same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from supernet.data import ImageData
from supernet.network import ElasticNetwork
from supernet.supernet import Supernet
from supernet.training.batches import BatchSource, check_data
from supernet.training.recipe import Recipe
from supernet.training.run import Options, Run, Step
from supernet.training.source import MemberSource, SpaceMembers


def train(
    supernet: Supernet,
    data: ImageData,
    *,
    epochs: int = 10,
    recipe: Recipe | None = None,
    seed: int = 0,
    teacher: nn.Module | None = None,
    teacher_weight: float = 1.0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    on_step: Callable[[Step], None] | None = None,
    device: str = "cpu",
    watch_gradients: bool = False,
    compiled: bool = False,
) -> Supernet:
    """Trains the supernet on the training split; returns it in eval mode, on the CPU.

    Under `join_ranks` several processes train together, see `supernet.training.parallel`.

    Args:
        supernet: The supernet, changed in place.
        data: Only `data.train` is read.
        epochs: Passes over the training images.
        recipe: How; the default suits small images.
        seed: Derives batches, augmentation and sampled networks.
        teacher: A frozen network from images to logits, put on the device and in eval mode;
            members without a teacher in the step learn its predictions beside the labels.
        teacher_weight: The weight of that loss.
        checkpoint: A file to continue from if it exists, and to write on the way and at the end:
            a path, or a URL that fsspec knows, such as `s3://bucket/run.safetensors`. The one
            before the last is kept beside it, as `run.previous.safetensors`.
        checkpoint_every: Steps between two checkpoints.
        on_step: Called after every step, in every process.
        device: Where the network is trained: `cpu`, `cuda`, `cuda:1`.
        watch_gradients: Whether every step tells the cosine between the gradients of the largest
            member and of the others, which costs a copy of them.
        compiled: Whether the largest and smallest networks run through `torch.compile`, which
            takes minutes at the start and needs a C++ compiler on CPUs.

    Raises:
        BadInputError: Data that do not fit the space; a checkpoint of another run.
        TrainingError: Many steps in a row went wrong, also from weights that were good before.
    """
    check_data(supernet.space, data)
    recipe = recipe or Recipe()
    options = Options(
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step, device=device,
        watch_gradients=watch_gradients, compiled=compiled, teacher=teacher,
        teacher_weight=teacher_weight,
    )  # fmt: skip
    members = SpaceMembers(supernet, recipe, seed)
    train_network(
        supernet, members, data, epochs=epochs, recipe=recipe, seed=seed, options=options
    )
    return supernet


def train_network(
    network: ElasticNetwork,
    members: MemberSource,
    data: ImageData,
    *,
    epochs: int,
    recipe: Recipe,
    seed: int,
    options: Options,
) -> None:
    """The loop under `train` and `train_alone`; the arguments are theirs."""
    run = Run(network, members, data, recipe, seed, epochs, options)
    batches = BatchSource(data, recipe, seed, options.device)
    first = run.resume()
    with run.stepper() as stepper:
        for step in range(first, run.total):
            images, targets = batches.batch(step)
            if members.before_step(step, run.total, run.optimiser, run.average):
                run.guard.keep()
            drawn = members.draw(step, run.total, images, targets)
            outcome, rate = run.step(stepper, drawn, images, targets, step)
            members.observe(drawn, outcome.kept_losses)
            run.save(step + 1)
            if options.on_step is not None:
                options.on_step(
                    Step(
                        number=step + 1,
                        total=run.total,
                        losses=outcome.losses,
                        roles=tuple(member.role for member in drawn),
                        dropped=run.guard.dropped,
                        cosine=outcome.cosine,
                        learning_rate=rate,
                    )
                )
    run.finish()
