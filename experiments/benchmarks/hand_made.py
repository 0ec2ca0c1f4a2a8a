"""The searched network against hand-made ones of the same measured latency.

For each family of spaces and each limit on the latency: the best subnet that the default
search on search-validation accuracy finds under the limit, in a supernet trained with the default
recipe and with a cost model calibrated on this machine; and ResNet, MobileNet and ViT at their
published proportions, all widths scaled until they take as long (`experiments.baselines`).

Both sides get the same images, epochs, recipe and tuning: each network is trained alone once for
every learning rate, and the rate is judged on search-validation. The subnet stands there twice,
with the weights inherited from the supernet, whose rate is not tuned, and trained alone like the
others. All are exported, verified and timed in one shuffled round-robin. The test split is read
once, for what has been chosen.

A hand-made network takes part if one of its sizes is at most 1.1 times as slow as the subnet.
Each comes as usual for images of 32 pixels and with maps halved from the start (`--reductions`);
the second is faster, and wider at equal latency.

Calibration, search, sizes and trainings are kept in `--folder`: an interrupted benchmark goes on.
With the defaults there are up to a hundred short trainings a family.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.baselines import HAND_MADE, REDUCTIONS
from experiments.benchmarks.hand_made_comparison import Comparison
from experiments.benchmarks.harness import benchmark_main, show
from experiments.console import say
from experiments.datasets import DATASETS
from experiments.spaces import SPACES
from supernet import intra_op_threads

RATES = (1.0, 0.5, 2.0)
"""Learning rates as factors of the recipe's; the default comes first and wins a tie."""

FRACTIONS = (0.25, 0.5, 0.75)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compares each family and prints a table of it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    figures: dict[str, Any] = {
        "budget": {name: getattr(arguments, name) for name in ("dataset", "images", "epochs")},
        "families": {},
    }
    with intra_op_threads(1):
        for family in arguments.families:
            found = figures["families"][family] = Comparison(family, arguments).run()
            _show(family, found)
    return figures


def _show(family: str, found: Sequence[Mapping[str, Any]]) -> None:
    for at in found:
        show(
            f"{family}, limit {at['limit_ms']:.4g} ms, {at['test_images']} test images, machine "
            f"{at['drift']:.2f} times as slow as when it was calibrated",
            ["network", "weights", "rate", "parameters", "MMACs", "ms", "to subnet",
             "validation, %", "test, % and 95 % interval"],
            [_cells(record) for record in at["networks"]],
        )  # fmt: skip
        if at["too_slow"]:
            names = [f"{s['network']} ({s['latency_ratio']:.2f}x)" for s in at["too_slow"]]
            say(f"too slow in every size: {', '.join(names)}\n")


def _cells(record: Mapping[str, Any]) -> list[str]:
    low, high = record["test_interval_95"]
    rate = record["learning_rate"]
    return [
        record["network"],
        record["weights"],
        "" if rate is None else f"{rate:g}",
        f"{record['parameters']:,}",
        f"{record['macs'] / 1e6:.2f}",
        f"{record['latency_ms']:.4f}",
        f"{record['latency_ratio']:.2f}x",
        f"{100 * record['validation_accuracy']:.2f}",
        f"{100 * record['test_accuracy']:.2f} [{100 * low:.2f}, {100 * high:.2f}]",
    ]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("runs/hand_made"))
    parser.add_argument("--families", nargs="+", default=["hybrid"], choices=SPACES)
    parser.add_argument("--dataset", default="fashion-mnist", choices=DATASETS)
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hand-made", nargs="+", default=list(HAND_MADE), choices=HAND_MADE)
    parser.add_argument("--reductions", nargs="+", type=int, default=list(REDUCTIONS),
                        choices=REDUCTIONS, help="2: maps halved from the start")  # fmt: skip
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES),
                        help="learning rates, as factors of the recipe's")  # fmt: skip
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS),
                        help="limits, from the fastest (0) to the slowest (1)")  # fmt: skip
    parser.add_argument("--limits-ms", nargs="+", type=float, help="limits, instead of fractions")
    parser.add_argument("--evaluations", type=int, default=100, help="of each search")
    parser.add_argument("--calibration-networks", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=1, help="when networks are timed")
    parser.add_argument("--seed", type=int, default=0, help="of the supernet and the search")
    parser.add_argument("--alone-seed", type=int, default=100, help="of networks trained alone")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side")


if __name__ == "__main__":
    benchmark_main("hand_made", run, _arguments)
