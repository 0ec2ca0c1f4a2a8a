"""What targets with limits of their own mean for a strategy that ranks networks.

A network that one target allows and another does not has one latency that counts and one that
does not. To strategies that only rank what they are told, the latter is given as one no better
than the slowest of interest, so that it wins nothing there; a network that no target allows ranks
by its violation, and its latencies stay as they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import Genes
from strategies.problem import Problem
from strategies.protocols import Floats

Marks = npt.NDArray[np.bool_]


def allowances(problem: Problem, genes: Genes, violations: Floats) -> Marks:
    """Which targets rows count for, an `n x targets` array.

    Args:
        problem: The targets and their limits.
        genes: An `n x d` array.
        violations: What was told of them; a row that misses anything counts for no target.
    """
    kept = np.repeat((violations <= 0)[:, None], len(problem.targets), axis=1)
    return kept & problem.allows(genes) if problem.is_apart and len(genes) else kept


def ranked_objectives(objectives: Floats, allowed: Marks, slowest: Floats) -> Floats:
    """Objectives to rank by: a latency that does not count is not below the slowest.

    Args:
        objectives: An `n x (1 + targets)` array of errors and latencies.
        allowed: Which targets allow which rows, an `n x targets` array.
        slowest: For each target the latency up to which networks are of interest.
    """
    useless = ~allowed & np.asarray(allowed.any(axis=1))[:, None]
    latency = np.where(useless, np.maximum(objectives[:, 1:], slowest), objectives[:, 1:])
    return np.column_stack([objectives[:, 0], latency])
