"""Differentiable search over a trained supernet: learns how probable each value should be.

Every step draws a few architectures by the current probabilities, asks what they are worth on one
batch of validation images, and moves the logits of all choices by Adam along the gradient of

    E[reward(a)] - weight E[cost(a)] + bonus (entropy)        cost = latency / reference
    E[reward(a) cost(a)^(-exponent)] + bonus (entropy)        likewise, as in ProxylessNAS's
                                                              search by REINFORCE

No weights are trained: they are those of the supernet. What costs nothing to evaluate is taken
from many samples, or exactly (`ExpectedSum`). A penalty never guarantees a limit; a strategy that
samples the distribution keeps it (`strategies.FromDistribution`).

Deviations from the paper: the weights stay as they are, since the supernet is trained already;
the baseline is that of the step's other samples; choices may depend on each other.

Reference:
    Cai et al., ProxylessNAS: direct neural architecture search on target task and hardware,
    ICLR 2019, arXiv 1812.00332; Adam without momentum as in its code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from records import BadInputError, generator
from search_spaces import Genes, SearchSpace
from supernet.choice_distribution import ChoiceDistribution, Matrix, Vector
from supernet.choice_gradient import (
    Cost,
    checked_costs,
    cost_gradient,
    entropy_gradient,
    reward_gradient,
)
from supernet.choice_reward import SupernetReward
from supernet.data import ImageData
from supernet.supernet import Supernet


class Reward(Protocol):
    """What architectures are worth, to be maximised; noisy, but the same for the same step."""

    def __call__(self, genes: Genes, step: int) -> Vector:
        """An array of length `n` for an `n x d` array; NaN where it is not known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRecipe:
    """How a distribution is learned.

    Attributes:
        steps: How many.
        samples: Architectures whose reward is asked for in a step, 2 or more.
        learning_rate: By about how much a logit moves in a step.
        entropy_weight: The weight of the entropy, in the reward's unit by nat. With 0 the
            probabilities may settle on one architecture too early.
        cost_weight: What a cost of one reference is worth, in the reward's unit.
        cost_exponent: The other form: the reward is divided by this power of the cost (the
            paper has 0.07 to 0.1).
        cost_samples: Samples for the gradient of a cost whose expectation is not known.
        second_moment: With which Adam forgets squared gradients.

    Raises:
        BadInputError: Numbers out of range, or a weight and an exponent.
    """

    steps: int = 300
    samples: int = 4
    learning_rate: float = 0.03
    entropy_weight: float = 0.0005
    cost_weight: float = 0.0
    cost_exponent: float = 0.0
    cost_samples: int = 256
    second_moment: float = 0.999

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("samples", 2), ("cost_samples", 2)):
            if (number := getattr(self, name)) < least:
                raise BadInputError(f"{name} must be at least {least}, got {number}")
        for name in ("entropy_weight", "cost_weight", "cost_exponent"):
            if not 0 <= (value := getattr(self, name)) < np.inf:
                raise BadInputError(f"{name} must be at least 0, got {value}")
        if not 0 < self.learning_rate < np.inf or not 0 <= self.second_moment < 1:
            raise BadInputError(
                "learning_rate must be above 0 and second_moment within 0 and 1, got "
                f"{self.learning_rate} and {self.second_moment}"
            )
        if self.cost_weight and self.cost_exponent:
            raise BadInputError(
                "a cost counts by its weight or by its exponent, not both; got "
                f"{self.cost_weight} and {self.cost_exponent}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceStep:
    """What one step saw.

    Attributes:
        step: Its number, from 0.
        reward: The mean reward of its samples, without the cost; NaN if none was finite.
        cost: The expected cost, or its mean over samples; NaN where no cost counts.
        entropy: Of the architectures, in nats, before the step.
    """

    step: int
    reward: float
    cost: float
    entropy: float


class ChoiceLearner:
    """Learns a distribution step by step, from the uniform one.

    Args:
        space: The space.
        reward: What architectures are worth: `SupernetReward`, or any function.
        cost: What they cost, by a reference; needed where the recipe lets it count.
        recipe: How to learn.
        seed: The same seed and the same rewards give the same distribution.

    Raises:
        BadInputError: A recipe in which a cost counts, and none given.
    """

    def __init__(
        self,
        space: SearchSpace,
        reward: Reward,
        *,
        cost: Cost | None = None,
        recipe: ChoiceRecipe | None = None,
        seed: int = 0,
    ) -> None:
        self.recipe = recipe or ChoiceRecipe()
        if cost is None and (self.recipe.cost_weight or self.recipe.cost_exponent):
            raise BadInputError("the recipe has a weight for a cost, but no cost was given")
        self.space = space
        self.reward = reward
        self.cost = cost
        self.steps = 0
        self.rng = generator(seed, "supernet", "choices")
        self._logits: Matrix = np.zeros_like(ChoiceDistribution.uniform(space).table)
        self._squares: Matrix = np.zeros_like(self._logits)
        width = self._logits.shape[1]
        self._absent = np.arange(width) >= space.gene_space.sizes[:, None]

    @property
    def distribution(self) -> ChoiceDistribution:
        """The probabilities as they are now."""
        logits = np.where(self._absent, -np.inf, self._logits)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return ChoiceDistribution.from_table(self.space, shares)

    def run(self, on_step: Callable[[ChoiceStep], None] | None = None) -> ChoiceDistribution:
        """Takes the steps that are left of the recipe's."""
        while self.steps < self.recipe.steps:
            done = self.step()
            if on_step is not None:
                on_step(done)
        return self.distribution

    def step(self) -> ChoiceStep:
        """Takes one step.

        Raises:
            BadInputError: A reward or cost that is not one number for each architecture, a cost
                that is not finite, or a reward below 0 where it is divided by a power of the cost.
        """
        recipe, now = self.recipe, self.distribution
        genes = now.sample(recipe.samples, self.rng)
        rewards = np.asarray(self.reward(genes, self.steps), np.float64)
        if rewards.shape != (len(genes),):
            raise BadInputError(
                f"a reward gives a number for each of {len(genes)} architectures, got shape "
                f"{rewards.shape}"
            )
        worth, cost = self._worth(genes, rewards)
        gradient = reward_gradient(now, genes, worth)
        if recipe.entropy_weight:
            gradient += recipe.entropy_weight * entropy_gradient(now, genes)
        if self.cost is not None and recipe.cost_weight:
            cost, slope = cost_gradient(now, self.cost, recipe.cost_samples, self.rng)
            gradient -= recipe.cost_weight * slope
        self._ascend(gradient)
        finite = rewards[np.isfinite(rewards)]
        mean = float(finite.mean()) if len(finite) else float("nan")
        return ChoiceStep(step=self.steps - 1, reward=mean, cost=cost, entropy=now.entropy)

    def _worth(self, genes: Genes, rewards: Vector) -> tuple[Vector, float]:
        """The rewards, divided by the power of the cost where it has one; and the mean cost."""
        exponent = self.recipe.cost_exponent
        if self.cost is None or exponent == 0:
            return rewards, float("nan")
        costs = checked_costs(self.cost, genes)
        if (rewards < 0).any() or (costs <= 0).any():
            raise BadInputError(
                "only a reward of at least 0 can be divided by a power of a positive cost; got "
                f"rewards {rewards.tolist()} and costs {costs.tolist()}: use cost_weight"
            )
        return rewards / costs**exponent, float(costs.mean())

    def _ascend(self, gradient: Matrix) -> None:
        """A step of Adam without momentum: what has no gradient stays."""
        self.steps += 1
        beta = self.recipe.second_moment
        self._squares = beta * self._squares + (1 - beta) * gradient**2
        scale = np.sqrt(self._squares / (1 - beta**self.steps))
        self._logits += self.recipe.learning_rate * gradient / (scale + 1e-8)

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON-ready values."""
        return {
            "space_hash": self.space.hash,
            "steps": self.steps,
            "rng": self.rng.bit_generator.state,
            "logits": self._logits.tolist(),
            "squares": self._squares.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues exactly where a learner, made with the same arguments, had come to.

        Raises:
            BadInputError: The state is of another space.
        """
        if state.get("space_hash") != self.space.hash:
            raise BadInputError("this state is of a learner over another space")
        self.steps = int(state["steps"])
        self.rng.bit_generator.state = state["rng"]
        self._logits = np.array(state["logits"], np.float64)
        self._squares = np.array(state["squares"], np.float64)


def learn_distribution(
    supernet: Supernet,
    data: ImageData,
    *,
    cost: Cost | None = None,
    recipe: ChoiceRecipe | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> ChoiceDistribution:
    """Learns a distribution over the subnets of a trained supernet, by their accuracy.

    Args:
        supernet: The trained supernet; it is not changed.
        data: Its images for validation are used.
        cost: What architectures cost, by a reference.
        recipe: How to learn.
        seed: See `ChoiceLearner`.
        batch_size: Images in a step.

    Raises:
        BadInputError: Data that do not fit the space; see also `ChoiceLearner`.
    """
    reward = SupernetReward(supernet, data, batch_size=batch_size, seed=seed)
    learner = ChoiceLearner(supernet.space, reward, cost=cost, recipe=recipe, seed=seed)
    return learner.run()
