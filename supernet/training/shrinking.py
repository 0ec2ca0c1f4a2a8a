"""Progressive shrinking: the space opens phase by phase, kernels first, then depths, then widths.

Cai et al., Once-for-All, ICLR 2020, arXiv 1908.09791, sec. 3.3. Choices that are not yet open stay
at their largest value; choices by name are open from the first phase on that opens anything, since
none of their values is largest.
Deviation: the teacher is the largest network of the same step, or a frozen one that is given to
`train` (as in the original), not always the latter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from records import BadInputError
from search_spaces import Choice, Genes, SearchSpace
from supernet.training.members import (
    Draw,
    Member,
    MemberSampler,
    check_count,
    check_share,
    take_turns,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of progressive shrinking.

    Attributes:
        share: Of all steps.
        opens: Patterns of the choices that open with it, as in a shell: `*.kernel`.
        sort_channels: Whether the channels are sorted by importance when it begins, so that
            narrower networks keep the important ones.
    """

    share: float
    opens: tuple[str, ...] = ()
    sort_channels: bool = False


PHASES = (
    Phase(share=0.3),
    Phase(share=0.2, opens=("*kernel*", "*patch*", "*resolution*", "*activation*", "*se")),
    Phase(share=0.25, opens=("*depth*",)),
    Phase(share=0.25, opens=("*",), sort_channels=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveShrinking(MemberSampler):
    """Networks of the part of the space that is open.

    Attributes:
        phases: In order; their shares add up to 1. While they open no choice of the space, the
            largest trains alone.
        subnets: Sampled networks a step.
        in_place: Whether the largest network trains along and teaches the others; without it they
            learn from the labels, and from the teacher that is given to `train`.
    """

    phases: tuple[Phase, ...] = PHASES
    subnets: int = 2
    in_place: bool = True

    def __post_init__(self) -> None:
        check_count("subnets", self.subnets, 1)
        for phase in self.phases:
            check_share("share of a phase", phase.share)
        total = sum(phase.share for phase in self.phases)
        if abs(total - 1) > 1e-6:
            raise BadInputError(f"the shares of the phases must add up to 1, got {total:g}")

    def phase(self, draw: Draw) -> int:
        """The number of the phase that a step belongs to."""
        return self._phase_at(draw.progress)

    def open_rows(self, draw: Draw, n: int) -> Genes:
        """Networks that differ from the largest in open choices only, `n` rows of genes."""
        genes = draw.space.gene_space.uniform(n, draw.rng("members"))
        for j, choice in enumerate(draw.space.choices):
            if not self._is_open(choice, self.phase(draw)):
                genes[:, j] = len(choice.values) - 1
        return draw.space.canonical(genes)

    def members(self, draw: Draw) -> list[Member]:
        top = draw.member(take_turns(draw, "largest"), "largest")
        patterns = self._patterns(self.phase(draw))
        if not any(_matches(choice, patterns) for choice in draw.space.choices):
            return [top]
        rows = self.open_rows(draw, self.subnets)
        if not self.in_place:
            return [draw.member(row, "random") for row in rows]
        return [top, *(draw.member(row, "random", (0,)) for row in rows)]

    def sorts_channels(self, draw: Draw) -> bool:
        """Whether a phase begins at this step for which channels are sorted."""
        begun = self.phases[self._phase_before(draw) + 1 : self.phase(draw) + 1]
        return any(phase.sort_channels for phase in begun)

    def trained_part(self, draw: Draw) -> SearchSpace | None:
        """The space as it was open before this step."""
        before = self._phase_before(draw)
        closed = [c for c in draw.space.choices if not self._is_open(c, before)]
        if len(closed) == len(draw.space.choices):
            return None
        try:
            return draw.space.restrict({c.name: c.values[-1:] for c in closed})
        except BadInputError:
            return draw.space  # cannot be restricted: keeps all widths as they are

    def _phase_at(self, progress: float) -> int:
        ends = np.cumsum([phase.share for phase in self.phases])
        return min(int(np.searchsorted(ends, progress, side="right")), len(ends) - 1)

    def _phase_before(self, draw: Draw) -> int:
        """The phase of the step before, -1 for none."""
        return -1 if draw.step == 0 else self._phase_at((draw.step - 1) / draw.total)

    def _patterns(self, phase: int) -> list[str]:
        return [pattern for p in self.phases[: phase + 1] for pattern in p.opens]

    def _is_open(self, choice: Choice, phase: int) -> bool:
        return choice.is_categorical or _matches(choice, self._patterns(phase))


def _matches(choice: Choice, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(choice.name, pattern) for pattern in patterns)
