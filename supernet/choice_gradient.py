"""Gradients of what a distribution over choices is worth, by its logits.

With `p = softmax(logits)` for each choice, an architecture `a` has the probability of its active
choices, and

    d log p(a) / d logit[j, v] = active_j(a) (1[a_j = v] - p[j, v])

so that a choice that is not active takes no part. The gradient of an expected reward is estimated
from samples by REINFORCE (1), with the mean reward of the *other* samples of the step as baseline
(2): unbiased for any kind of choice, parallel branches or sizes. The gradient through binary gates
of ProxylessNAS (3) exists for parallel branches only, which is why it is not used here; its form
by REINFORCE (3, sec. 3.3.2) is.

References:
    1. Williams, Simple statistical gradient-following algorithms for connectionist reinforcement
       learning, Machine Learning 8, 1992.
    2. Kool et al., Buy 4 REINFORCE samples, get a baseline for free!, ICLR 2019 workshop.
    3. Cai et al., ProxylessNAS, ICLR 2019, arXiv 1812.00332.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from records import BadInputError
from search_spaces import Genes
from supernet.choice_distribution import ChoiceDistribution, Matrix, Vector


@runtime_checkable
class HasExpectation(Protocol):
    """A cost whose expectation is known; `ExpectedSum` is one."""

    def __call__(self, genes: Genes) -> Vector:
        """What architectures cost, an array of length `n`."""
        ...

    def expectation(self, probabilities: list[Vector]) -> tuple[float, list[Vector]]:
        """The expected cost, and for each choice its derivative by the probabilities."""
        ...


Cost: TypeAlias = Callable[[Genes], Vector] | HasExpectation
"""What architectures cost by a reference, an array of length `n` for an `n x d` array."""


def reward_gradient(distribution: ChoiceDistribution, genes: Genes, rewards: Vector) -> Matrix:
    """An unbiased estimate of the gradient of the expected reward.

    Args:
        distribution: From which the samples were drawn.
        genes: An `n x d` array of samples, independent of each other.
        rewards: An array of length `n`; a sample without a finite reward does not count.

    Returns:
        A `d x (most values)` array; 0 where fewer than two samples count.
    """
    kept = np.isfinite(rewards)
    n = int(kept.sum())
    table = distribution.table
    if n < 2:
        return np.zeros_like(table)
    genes, rewards = genes[kept], rewards[kept]
    advantages = (rewards - rewards.mean()) / (n - 1)  # n/(n-1) from the baseline, 1/n the mean
    weights = distribution.space.active(genes) * advantages[:, None]
    gradient: Matrix = -weights.sum(axis=0)[:, None] * table
    np.add.at(gradient, (np.arange(genes.shape[1])[None], genes), weights)
    return gradient


def cost_gradient(
    distribution: ChoiceDistribution, cost: Cost, samples: int, rng: np.random.Generator
) -> tuple[float, Matrix]:
    """The expected cost and its gradient: exact where the cost knows it, otherwise estimated.

    Args:
        distribution: The distribution.
        cost: The cost.
        samples: From how many samples, other than those of the reward, to estimate them.
        rng: The source of randomness.

    Raises:
        BadInputError: A cost that is not finite.
    """
    if isinstance(cost, HasExpectation):
        shares = distribution.arrays
        value, slopes = cost.expectation(shares)
        gradient = np.zeros_like(distribution.table)
        for row, share, slope in zip(gradient, shares, slopes, strict=True):
            row[: len(share)] = share * (slope - share @ slope)
        return value, gradient
    genes = distribution.sample(samples, rng)
    values = checked_costs(cost, genes)
    return float(values.mean()), reward_gradient(distribution, genes, values)


def checked_costs(cost: Cost, genes: Genes) -> Vector:
    """What some rows cost.

    Raises:
        BadInputError: Not one finite number for each row.
    """
    values = np.asarray(cost(genes), np.float64)
    if values.shape != (len(genes),) or not np.isfinite(values).all():
        raise BadInputError(
            f"a cost gives one finite number for each of {len(genes)} architectures, got shape "
            f"{values.shape} with {int((~np.isfinite(values)).sum())} that are not finite"
        )
    return values


def entropy_gradient(distribution: ChoiceDistribution, genes: Genes) -> Matrix:
    """The gradient of the sum of the choices' entropies, each by its active share of some samples.

    The share is taken as given: it is no part of the bonus to switch more choices on.

    Args:
        distribution: The distribution.
        genes: An `n x d` array of samples.
    """
    table = distribution.table
    logarithms = np.log(np.where(table > 0, table, 1.0))
    entropies = -(table * logarithms).sum(axis=1, keepdims=True)
    share = distribution.space.active(genes).mean(axis=0)[:, None]
    gradient: Matrix = -share * table * (logarithms + entropies)
    return gradient
