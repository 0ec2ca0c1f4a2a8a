"""Choices of the training recipe, searched beside those of the network.

Which network is best depends on how it is trained: a recipe of few epochs favours small networks,
strong augmentation large ones, so that architectures compared under one recipe are not those that
are best under their own (FBNetV3: Dai et al., CVPR 2021, arXiv 2006.02049). The choices of a
recipe stand behind the genes of the network. They change the accuracy and neither the layers nor
the cost, so they have the scope `numerics`: the accuracy belongs to a row of genes with its
recipe, and every predictor learns from both; costs are those of the same row in the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.based_json import based_json, based_parameters
from search_spaces.choice import Scope, Value
from search_spaces.extended import Added, Extended
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace

Recipe = Mapping[str, Value]
"""A value for each choice of a recipe, by name."""


@dataclass(frozen=True, kw_only=True)
class WithRecipe(Extended):
    """A space and, behind its own genes, the recipe that a network is trained by.

    Numbers are read by their order, so what acts by its logarithm (a learning rate) is given in
    geometric steps; names, such as those of augmentations, have no order.

    Attributes:
        base: The space of networks.
        recipe: Names of choices and for each its values: numbers in ascending order,
            `(False, True)`, or names. A single value is no gene.

    Raises:
        BadInputError: No choice with two values, values that are no choice, a name that the base
            has.

    >>> from search_spaces.cnn import CNNSpace
    >>> choices = (("learning_rate", (0.03, 0.1, 0.3)), ("augmentation", ("none", "mixup")))
    >>> space = WithRecipe(base=CNNSpace(image_size=16), recipe=choices)
    >>> networks = space.base.extremes("smallest")
    >>> rows = space.trained_by(networks, {"learning_rate": 0.1, "augmentation": "mixup"})
    >>> space.recipes_of(rows)
    [{'learning_rate': 0.1, 'augmentation': 'mixup'}]
    """

    scope: ClassVar[Scope] = "numerics"

    recipe: tuple[tuple[str, Sequence[Value]], ...]

    def __post_init__(self) -> None:
        given = tuple((name, tuple(values)) for name, values in self.recipe)
        object.__setattr__(self, "recipe", given)
        if all(len(values) == 1 for _, values in given):
            raise BadInputError("the recipe has nothing to choose; search the base with it")
        super().__post_init__()

    @property
    def added(self) -> Added:
        """The choices of the recipe."""
        return self.recipe

    def trained_by(self, networks: npt.ArrayLike, recipes: Recipe | Sequence[Recipe]) -> Genes:
        """The rows of networks with their recipes.

        Args:
            networks: An `n x d` array of genes of the base.
            recipes: One for all networks, or one each; every choice with one of its values.

        Returns:
            An `n x (d + r)` array, `r` choices of the recipe having two values or more.

        Raises:
            BadInputError: Genes that are not of the base, another number of recipes, a choice
                that is missing, unknown, or has a value that was not declared.
        """
        rows = self.base.gene_space.check(networks)
        each = [recipes] * len(rows) if isinstance(recipes, Mapping) else list(recipes)
        if len(each) != len(rows):
            raise BadInputError(
                f"give one recipe for all or one for each of the {len(rows)} networks, "
                f"got {len(each)}"
            )
        found = np.zeros((len(rows), len(self.choices) - rows.shape[1]), np.int16)
        for row, recipe in zip(found, each, strict=True):
            row[:] = self._genes_of(recipe)
        return np.concatenate([rows, found], axis=1)

    def recipes_of(self, genes: npt.ArrayLike) -> list[dict[str, Value]]:
        """The recipes of an `n x (d + r)` array of genes, single values included.

        Raises:
            BadInputError: Genes of another space.
        """
        rows = self.gene_space.check(genes)[:, len(self.base.choices) :]
        chosen = [name for name, values in self.recipe if len(values) > 1]
        place = {name: j for j, name in enumerate(chosen)}
        return [
            {
                name: values[row[place[name]]] if name in place else values[0]
                for name, values in self.recipe
            }
            for row in rows.tolist()
        ]

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and the recipe's values."""
        return based_json(self, self.base, "recipe", self.recipe)

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        return based_parameters("a space with a recipe", "recipe", values, spaces)

    def _genes_of(self, recipe: Recipe) -> list[int]:
        known = dict(self.recipe)
        for name in recipe:
            if name not in known:
                raise unknown_name("choice of the recipe", name, known)
        genes = []
        for name, values in self.recipe:
            if recipe.get(name) not in values:
                got = f"is {recipe[name]!r}" if name in recipe else "is missing"
                raise BadInputError(f"{name!r} of a recipe {got}; allowed: {tuple(values)}")
            if len(values) > 1:
                genes.append(values.index(recipe[name]))
        return genes
