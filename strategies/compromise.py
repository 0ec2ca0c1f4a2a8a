"""Networks that are good on all targets at once: one model to keep for several devices.

Candidates are the evaluated networks that every target allows and that no other of these beats in
accuracy and on all targets. They need not lie on any target's front. How some are chosen is in
`strategies.compromise_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from records import BadInputError, unknown_name
from search_spaces import Architecture
from strategies.compromise_rules import Scaled, least_regret, most_volume
from strategies.problem import target_weights
from strategies.protocols import Floats

if TYPE_CHECKING:
    from strategies.front import Front, FrontPoint

Rule: TypeAlias = Callable[[Sequence[Scaled], Floats, int], tuple[int, ...]]

RULES: Mapping[str, Rule] = {"worst": least_regret, "hypervolume": most_volume}
"""How networks are chosen, by name; the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedNetwork:
    """One network on all targets.

    Attributes:
        architecture: The architecture.
        genes: Its row of genes.
        accuracy: As measured by the evaluator, a share in 0..1.
        points: The network on each target, with its costs there; `points[name].export(folder)`
            writes it for that target.
        behind: For each target, how much more accuracy its own front has at no more latency, as
            a share; 0 where the network is on that front.
    """

    architecture: Architecture
    genes: tuple[int, ...]
    accuracy: float
    points: Mapping[str, FrontPoint]
    behind: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """Networks for all targets, from the least accurate to the most accurate.

    Attributes:
        networks: The networks; `Compromise` can be indexed and iterated like them.
        rule: A name of `RULES`.
        weights: How much each target counted.
        regret: For each target, what is lost where one of these networks takes the place of the
            point of the target's front that they serve worst: a share of the front's range, in
            error or in log latency, whichever is more.
        hypervolume: For each target, the share of its front's hypervolume that they dominate.
    """

    networks: tuple[SharedNetwork, ...]
    rule: str
    weights: Mapping[str, float]
    regret: Mapping[str, float]
    hypervolume: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.networks)

    def __iter__(self) -> Iterator[SharedNetwork]:
        return iter(self.networks)

    def __getitem__(self, index: int) -> SharedNetwork:
        return self.networks[index]

    def __str__(self) -> str:
        """A line a network, with its latency on each target and what it is behind its front."""
        lines = [f"{len(self)} networks for {', '.join(self.weights)} (rule {self.rule!r})"]
        for i, network in enumerate(self.networks):
            where = "; ".join(
                f"{name} {point.latency_ms:.4g} ms, {100 * network.behind[name]:.2f} % behind"
                for name, point in network.points.items()
            )
            lines.append(f"{i}  {network.accuracy:.4f}  {where}")
        lost = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.regret.items())
        return "\n".join([*lines, f"largest loss against each target's own front: {lost}"])


def compromise(
    front: Front, n: int = 3, *, weights: Mapping[str, float] | None = None, rule: str = "worst"
) -> Compromise:
    """Chooses networks that are good on all targets; see `Front.compromise`."""
    problem = front.problem
    if n < 1:
        raise BadInputError(f"n must be at least 1, got {n}")
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    counts = target_weights(problem.targets, problem.weights if weights is None else weights)
    if not front.shared:
        raise BadInputError(
            "there is no compromise: nothing that was evaluated keeps the limits of all targets, "
            "or the front is of one of them, or was not made by pareto_front(...) or search(...)"
        )
    fronts = {name: _pairs(front.for_target(name).points) for name in problem.targets}
    scaled = [
        Scaled.of(own, _pairs([points[name] for points in front.shared]))
        for name, own in fronts.items()
    ]
    chosen = sorted(RULES[rule](scaled, counts, n), key=lambda i: _order(front.shared[i]))
    return Compromise(
        networks=tuple(_network(front.shared[i], fronts) for i in chosen),
        rule=rule,
        weights=dict(zip(problem.targets, counts.tolist(), strict=True)),
        regret={name: s.regret(chosen) for name, s in zip(problem.targets, scaled, strict=True)},
        hypervolume={
            name: s.share(chosen) for name, s in zip(problem.targets, scaled, strict=True)
        },
    )


def _pairs(points: Sequence[FrontPoint]) -> Floats:
    """(error, latency_ms) of each point, an `n x 2` array."""
    return np.array([(1 - p.accuracy, p.latency_ms) for p in points], np.float64)


def _order(points: Mapping[str, FrontPoint]) -> tuple[float, float]:
    """Where a network stands: by accuracy, then by latency on the first target."""
    first = next(iter(points.values()))
    return first.accuracy, first.latency_ms


def _network(points: Mapping[str, FrontPoint], fronts: Mapping[str, Floats]) -> SharedNetwork:
    first = next(iter(points.values()))
    behind = {}
    for name, point in points.items():
        no_slower = fronts[name][fronts[name][:, 1] <= point.latency_ms]
        behind[name] = float(max(0.0, 1 - point.accuracy - no_slower[:, 0].min()))
    return SharedNetwork(
        architecture=first.architecture,
        genes=first.genes,
        accuracy=first.accuracy,
        points=points,
        behind=behind,
    )
