"""A synthetic accuracy of the networks of any space, to compare searches where no table can be.

It is made up: no network is trained, and what a search gains on it says how it copes with such a
structure, not how accurate real networks are. A seed draws one function,

    accuracy = low + (high - low) * (half stages + half capacity) + roughness * irregular

*Stages* (Dirichlet weights) have saturating returns, `(1 - e^-cx) / (1 - e^-c)`, in what they
hold: each layer counts by its kernel, expansion, heads and so on, each saturating, and less the
deeper in its stage it lies; widths and resolutions count likewise. *Capacity* saturates in log
MACs. Both grow with every ordered choice. *Irregular* is what does not: products of neighbouring
layers and stages, of the choices within a layer, kinds of blocks and of neighbouring blocks, a
small effect of every single value, and a loss where stages are unequally strong. It has mean 0 and
standard deviation 1 over random networks. Inactive genes have no effect.

A measurement has normal noise that is fixed by the network and the seed: measured again, a network
has the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from records import BadInputError, Measured, generator
from search_spaces import Architecture, Genes, SearchSpace
from strategies.known_rows import row_keys

Floats = npt.NDArray[np.float64]

_SAMPLE = 1024
_FADING = 0.8  # of a layer against the one before it in its stage
_UNEQUAL = 1.0  # the weight of stages' unequal strength against one product of neighbours
_SINGLE = 0.15  # and of one value's own effect


class SyntheticAccuracy:
    """An `Evaluator` whose accuracies are a function that a seed draws.

    Args:
        space: Any space. Choices are told apart by their names: `stage2.layer1.kernel` belongs to
            layer 1 of stage 2, `stage2.width` to the stage; `depth` counts by the layers alone.
        seed: Draws the function.
        low: The accuracy of the smallest networks, before what is irregular.
        high: That of the largest; a little less where kinds of blocks differ in what they reach.
        roughness: The standard deviation of the irregular part over random networks.
        noise: The standard deviation of measurements.

    Raises:
        BadInputError: Accuracies out of order, a negative roughness or noise.
    """

    metric = "accuracy"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        low: float = 0.70,
        high: float = 0.80,
        roughness: float = 0.003,
        noise: float = 0.002,
    ) -> None:
        if not 0 < low < high < 1 or roughness < 0 or noise < 0:
            raise BadInputError(
                "accuracies are 0 < low < high < 1, roughness and noise at least 0; got "
                f"{low}, {high}, {roughness}, {noise}"
            )
        self.space = space
        self.seed = seed
        self.low, self.high = low, high
        self.roughness, self.noise = roughness, noise
        self.weights_hash = f"synthetic-{seed}"
        self._read_choices()
        self._draw(generator(seed, "synthetic accuracy", space.name))

    def values(self, genes: Genes) -> Floats:
        """The accuracies without noise, an array of length `n`."""
        genes = self.space.canonical(genes)
        found = self.regular(genes) + self.roughness * self.irregular(genes)
        return np.asarray(np.clip(found, 0.0, 1.0))

    def measured(self, genes: Genes) -> Floats:
        """The accuracies with their noise."""
        genes = self.space.canonical(genes)
        found = self.values(genes) + self.noise * _normal(row_keys(genes), self.seed)
        return np.asarray(np.clip(found, 0.0, 1.0))

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Measures networks."""
        values = self.measured(genes).tolist()
        return [Measured(value=value, dispersion=self.noise) for value in values]

    def subnet(self, architecture: Architecture) -> Any:
        """There are no networks.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("a synthetic accuracy has no networks")

    # ---- the parts ---------------------------------------------------------------------------

    def regular(self, genes: Genes) -> Floats:
        """What grows with every ordered choice: stages and capacity, from `low` to `high`."""
        returns = self._returns(genes)
        log_macs = np.log(self.space.layer_table(genes).macs)
        capacity = _saturating((log_macs - self._macs[0]) / self._macs[1], self._bends["macs"])
        share = 0.5 * returns @ self._stage_weights + 0.5 * capacity
        return np.asarray(self.low + (self.high - self.low) * share)

    def irregular(self, genes: Genes) -> Floats:
        """What does not: mean 0 and standard deviation 1 over random networks."""
        return (self._irregular(genes) - self._centre) / self._spread

    def _returns(self, genes: Genes) -> Floats:
        """The saturating return of each stage, an `n x stages` array within 0 and 1."""
        least, span = self._strengths
        shares = (self._raw_strengths(genes) - least) / span
        return np.column_stack(
            [_saturating(shares[:, s], self._bends[name]) for s, name in enumerate(self._stages)]
        )

    def _raw_strengths(self, genes: Genes) -> Floats:
        effects = np.where(self._counts(genes), self._effects(genes), 0.0)
        active = self.space.active(genes)
        strengths = np.zeros((len(genes), len(self._stages)))
        for s, name in enumerate(self._stages):
            strengths[:, s] = effects[:, self._own[name]].sum(axis=1)
            for i, layer in enumerate(self._layers[name]):
                is_there = active[:, layer].any(axis=1)
                strengths[:, s] += _FADING**i * (is_there + effects[:, layer].sum(axis=1))
        return strengths

    def _effects(self, genes: Genes) -> Floats:
        return self._amounts * _saturating(self._levels(genes), self._choice_bends)

    def _levels(self, genes: Genes) -> Floats:
        """Where each gene is between its least and greatest value, in 0..1."""
        return genes / (self.space.gene_space.sizes - 1.0)

    def _counts(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Active genes of ordered choices."""
        return np.asarray(self.space.active(genes) & self._is_ordered)

    def _irregular(self, genes: Genes) -> Floats:
        active, counts, levels = self.space.active(genes), self._counts(genes), self._levels(genes)
        centred = np.where(counts, 2 * levels - 1, 0.0)
        found = np.zeros(len(genes))
        for first, second, amount in self._products:
            found += amount * _mean(centred, counts, first) * _mean(centred, counts, second)
        returns = self._returns(genes)
        for s in range(returns.shape[1] - 1):
            found += self._between[s] * (2 * returns[:, s] - 1) * (2 * returns[:, s + 1] - 1)
        found -= _UNEQUAL * returns.std(axis=1) / 0.3
        for j, table in enumerate(self._single):
            found += np.where(active[:, j], table[genes[:, j]], 0.0)
        for first_kind, second_kind, bonus in self._pairs_of_kinds:
            both = active[:, first_kind] & active[:, second_kind]
            found += np.where(both, bonus[genes[:, first_kind], genes[:, second_kind]], 0.0)
        return found

    # ---- making ------------------------------------------------------------------------------

    def _read_choices(self) -> None:
        """Sorts choices into stages and their layers, in the order in which they are declared."""
        choices = self.space.choices
        self._is_ordered = np.array([not c.is_categorical for c in choices])
        self._own: dict[str, list[int]] = {}
        layers: dict[str, dict[str, list[int]]] = {}
        for j, choice in enumerate(choices):
            parts = choice.name.split(".")
            own = self._own.setdefault(parts[0], [])
            within = layers.setdefault(parts[0], {})
            if len(parts) > 2:
                within.setdefault(parts[1], []).append(j)
            elif parts[-1] != "depth" and not choice.is_categorical:
                own.append(j)
        self._layers = {name: list(within.values()) for name, within in layers.items()}
        self._stages = [n for n in self._own if self._own[n] or self._layers[n]]

    def _draw(self, rng: np.random.Generator) -> None:
        sizes = self.space.gene_space.sizes.tolist()
        kinds = np.flatnonzero(~self._is_ordered).tolist()
        self._amounts = rng.uniform(0.3, 1.0, len(sizes))
        self._choice_bends = rng.uniform(0.5, 3.0, len(sizes))
        self._bends = {name: float(rng.uniform(0.5, 3.0)) for name in [*self._stages, "macs"]}
        self._stage_weights = rng.dirichlet(np.full(len(self._stages), 5.0))
        self._products = [
            (first, second, float(rng.normal())) for first, second in self._neighbours()
        ]
        self._between = rng.normal(size=max(len(self._stages) - 1, 0))
        self._single = [
            rng.normal(0, _SINGLE if ordered else 1.0, size)
            for size, ordered in zip(sizes, self._is_ordered, strict=True)
        ]
        self._pairs_of_kinds = [
            (a, b, rng.normal(size=(sizes[a], sizes[b]))) for a, b in pairwise(kinds)
        ]
        ends = np.concatenate([self.space.extremes("smallest"), self.space.extremes("largest")])
        log_macs = np.log(self.space.layer_table(ends).macs)
        self._macs = float(log_macs.min()), max(float(np.ptp(log_macs)), 1e-9)
        strengths = self._raw_strengths(ends)
        self._strengths = strengths.min(axis=0), np.maximum(np.ptp(strengths, axis=0), 1e-9)
        rough = self._irregular(self.space.sample(_SAMPLE, rng, "architectures"))
        self._centre, self._spread = float(rough.mean()), max(float(rough.std()), 1e-9)

    def _neighbours(self) -> list[tuple[list[int], list[int]]]:
        """Pairs of sets of genes that act together: choices of a layer, layers of a stage."""
        pairs = []
        for name in self._stages:
            layers = self._layers[name]
            pairs += list(pairwise(layers))
            pairs += [([a], [b]) for layer in layers for a, b in pairwise(layer)]
        return pairs


def _mean(values: Floats, counts: npt.NDArray[np.bool_], genes: list[int]) -> Floats:
    """The mean over those of some genes that count; 0 where none does."""
    number = counts[:, genes].sum(axis=1)
    return np.asarray(values[:, genes].sum(axis=1) / np.maximum(number, 1))


def _saturating(x: Floats, bend: float | Floats) -> Floats:
    """From 0 at 0 to 1 at 1, the flatter at its end the larger the bend."""
    return np.asarray(-np.expm1(-bend * x) / -np.expm1(-bend))


def _normal(keys: npt.NDArray[np.uint64], seed: int) -> Floats:
    """A standard normal number for each key and seed, by SplitMix64."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    z = (keys ^ start) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray(ndtri(((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53))
