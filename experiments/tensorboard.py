"""Training watched in TensorBoard: losses, gradients, and the accuracy of a fixed set of subnets.

What is written (`tensorboard --logdir FOLDER` shows it):

- `loss/largest`, `loss/random`, `loss/smallest`: means over the members of that role; a member
  that was dropped does not count;
- `gradient/cosine`: between the gradients of the largest member and of the others, where
  `train(..., watch_gradients=True)` tells it;
- `learning_rate`, and `dropped`: members dropped since the start;
- `accuracy/01` and so on: the search-validation accuracy of a panel of subnets, from the smallest
  to the largest by MACs; the text `panel` says which they are. A panel whose curves lie close
  together while single losses fall is one whose subnets hold each other back.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from records import BadInputError, generator
from search_spaces import Genes, SearchSpace
from supernet import ImageData, Step, Supernet, SupernetEvaluator
from supernet.training import Ranks, check_data

if TYPE_CHECKING:
    from records import Measured

ROLES = ("largest", "random", "smallest")


class TensorBoardLog:
    """Writes what a training run tells to TensorBoard's event files: `train(..., on_step=log)`.

    The panel is measured on a copy of the weights, so training is the same with the log as
    without it, bit for bit; it only takes longer. In a run of several processes the first one
    writes. A run that is continued in the same folder replaces what it had written beyond its
    checkpoint.

    >>> with TensorBoardLog("runs/board", supernet, data) as log:  # doctest: +SKIP
    ...     train(supernet, data, on_step=log, watch_gradients=True)

    Args:
        folder: Where the event files are written.
        supernet: The supernet that is trained.
        data: `validation` gives the panel's accuracy, `train` its batch-norm statistics.
        panel: Subnets drawn for the panel, beside the largest and smallest.
        every: Steps between two measurements of the panel; the last step has one too. One takes
            as long as a search's evaluation of so many subnets, often some seconds.
        seed: Draws the panel.

    Raises:
        BadInputError: TensorBoard is not installed; a panel or period that cannot be; data that
            do not fit the space.
    """

    def __init__(
        self,
        folder: str | Path,
        supernet: Supernet,
        data: ImageData,
        *,
        panel: int = 5,
        every: int = 200,
        seed: int = 0,
    ) -> None:
        if panel < 0 or every < 1:
            raise BadInputError(f"panel must be >= 0 and every >= 1, got {panel} and {every}")
        self._writer_class = _summary_writer()
        self.folder = Path(folder)
        self.every = every
        self.panel = draw_panel(supernet.space, panel, seed)
        self._supernet = supernet
        self._data = data
        self._copy = Supernet(supernet.space)
        check_data(supernet.space, data)
        self._writer: Any = None

    def __call__(self, step: Step) -> None:
        """Writes a step's numbers, and the panel's accuracy where it is due."""
        if Ranks.current().rank != 0:
            return
        if self._writer is None:
            self._open(step.number)
        for name, value in scalars(step).items():
            self._writer.add_scalar(name, value, step.number)
        if step.number % self.every == 0 or step.number == step.total:
            for rank, measured in enumerate(self.measure(), start=1):
                self._writer.add_scalar(f"accuracy/{rank:02d}", measured.value, step.number)
            self._writer.flush()

    def measure(self) -> list[Measured]:
        """The accuracy of the panel's subnets with the supernet's present weights."""
        self._copy.load_state_dict(self._supernet.state_dict())
        # an evaluator belongs to one state of the weights: it remembers batch-norm statistics
        return list(SupernetEvaluator(self._copy, self._data).evaluate(self.panel))

    def close(self) -> None:
        """Writes what is not yet written; the log may go on afterwards."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, first_step: int) -> None:
        self._writer = self._writer_class(self.folder, purge_step=first_step)
        self._writer.add_text("panel", describe_panel(self._supernet.space, self.panel), 0)


def scalars(step: Step) -> dict[str, float]:
    """What is written of a step, by name; without what it does not tell."""
    found: dict[str, float] = {}
    for role in ROLES:
        losses = [
            loss
            for loss, its_role in zip(step.losses, step.roles, strict=True)
            if its_role == role and math.isfinite(loss)
        ]
        if losses:
            found[f"loss/{role}"] = float(np.mean(losses))
    if step.cosine is not None and math.isfinite(step.cosine):
        found["gradient/cosine"] = step.cosine
    return {**found, "learning_rate": step.learning_rate, "dropped": float(step.dropped)}


def draw_panel(space: SearchSpace, drawn: int, seed: int) -> Genes:
    """The largest, the smallest and some drawn architectures, each once, by ascending MACs.

    Args:
        space: The space; one with choices by name has several largest and smallest.
        drawn: How many to draw beside them; equal ones are dropped.
        seed: Draws them.
    """
    rows = np.concatenate(
        [
            space.extremes("smallest"),
            space.sample(drawn, generator(seed, "panel")),
            space.extremes("largest"),
        ]
    )
    distinct: Genes = np.unique(rows, axis=0)
    return distinct[np.argsort(space.layer_table(distinct).macs, kind="stable")]


def describe_panel(space: SearchSpace, panel: Genes) -> str:
    """The panel as a table in Markdown."""
    lines = ["| accuracy | MACs | parameters | choices |", "|---|---|---|---|"]
    for rank, (row, architecture) in enumerate(zip(panel, space.decode(panel), strict=True), 1):
        graph = space.graph(row)
        choices = ", ".join(f"{name}={value}" for name, value in architecture.items)
        lines.append(f"| {rank:02d} | {graph.macs:,} | {graph.parameters:,} | {choices} |")
    return "\n".join(lines)


def _summary_writer() -> Any:
    """The class that writes event files.

    Raises:
        BadInputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInputError(
            f"TensorBoard is not installed ({error}): install it with 'pip install tensorboard'"
        ) from error
    return SummaryWriter
