"""The optimiser, its learning rate, and the average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.training.recipe import Recipe


def make_optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, with weight decay on matrices and kernels only."""
    decayed = [p for name, p in module.named_parameters() if _is_decayed(name, p)]
    other = [p for name, p in module.named_parameters() if not _is_decayed(name, p)]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": other, "weight_decay": 0.0},
    ]
    # `foreach` saves calls; `fused` would mistake gradients whose memory is ordered otherwise
    # than their weights', as those of channels-last weights may be
    rate = recipe.learning_rate
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, foreach=True)
    return torch.optim.AdamW(groups, lr=rate, foreach=True)


def _is_decayed(name: str, parameter: Tensor) -> bool:
    spared = ("bias", "embedding", "factors")
    return parameter.ndim > 1 and "transforms" not in name and not name.endswith(spared)


def set_learning_rate(
    optimiser: torch.optim.Optimizer, recipe: Recipe, step: int, total: int
) -> float:
    """Linear warm-up, then the recipe's schedule; returns the rate."""
    warmup = max(1, round(recipe.warmup_share * total))
    if step < warmup:
        share = (step + 1) / warmup
    else:
        share = recipe.schedule.share((step - warmup) / max(1, total - warmup))
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * share
    return recipe.learning_rate * share


class MovingAverage:
    """An exponential moving average of a module's weights.

    The decay grows with the number of steps up to its value, so that the first weights, which
    were drawn at random, do not stay in the average (as in TensorFlow's implementation).

    References:
        Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = dict(module.named_parameters())
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            [self.weights[name] for name in self._parameters],
            list(self._parameters.values()),
            1 - decay,
        )

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Replaces the module's weights by their average."""
        for name, p in self._parameters.items():
            p.copy_(self.weights[name])
