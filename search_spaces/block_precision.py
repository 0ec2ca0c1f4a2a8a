"""Choices of numerics: in which precision each stage or block of a network runs.

8 bits cost some blocks of a network much accuracy and others none, and gain some much time and
others none. So the precision of each is a choice of its own (HAQ: Wang et al., CVPR 2019, arXiv
1811.08886, by layer and in more widths; Quantune: Lee et al., 2022, arXiv 2202.05048, searches
settings of post-training quantisation with a model that learns from what was measured). The
choices have the scope `numerics`: accuracy belongs to a row of genes with its precisions, the
weights are shared, and predictors learn from both.

`search_spaces.precision` is the same for the network as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.block_names import block_of, stage_of
from search_spaces.choice import Scope
from search_spaces.expression import Condition, Expression, either
from search_spaces.extended import Added, Extended
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Node, Tensor
from search_spaces.space import SearchSpace

BLOCK_PRECISIONS = ("int8", "fp32")
"""What a block may run in. A name has no order; "int8" stands for gene 0."""

QUANTISED_PRIMITIVES: Mapping[str, tuple[str, ...]] = {
    "static": ("conv2d", "linear"),
    "dynamic": ("linear",),
}
"""For each way to quantise the primitives that it takes to 8 bits
(`deployment.quantisation.quantised`)."""

GROUPINGS: Mapping[str, Callable[[str], str]] = {"stage": stage_of, "block": block_of}
"""Layers that share a choice, by the name of a layer."""

_SUFFIX = ".precision"


@dataclass(frozen=True, kw_only=True)
class WithBlockPrecision(Extended):
    """A space and, behind its own genes, the precision of each stage or block.

    Only what a quantiser touches has a choice: with dynamic quantisation that is what holds linear
    maps. A choice is there where one of its layers is.

    Attributes:
        base: The space of networks.
        by: "stage" or "block": what has a precision of its own.
        quantisation: "static" or "dynamic": how int8 blocks are quantised.

    Raises:
        UnknownNameError: Another grouping or way to quantise.
        BadInputError: A base with nothing to quantise, or with choices of precision already.

    >>> from search_spaces.cnn import CNNSpace
    >>> space = WithBlockPrecision(base=CNNSpace(image_size=16))
    >>> space.blocks
    ('stem', 'stage0', 'stage1', 'stage2', 'classifier')
    >>> rows = space.with_fp32(space.base.extremes("smallest"), ["stem", "classifier"])
    >>> space.fp32_blocks(rows[0])
    ('stem', 'classifier')
    """

    scope: ClassVar[Scope] = "numerics"

    by: str = "stage"
    quantisation: str = "static"

    def __post_init__(self) -> None:
        if self.by not in GROUPINGS:
            raise unknown_name("grouping of layers", self.by, GROUPINGS)
        if self.quantisation not in QUANTISED_PRIMITIVES:
            raise unknown_name("quantisation", self.quantisation, QUANTISED_PRIMITIVES)
        if not self.blocks:
            kinds = ", ".join(QUANTISED_PRIMITIVES[self.quantisation])
            raise BadInputError(
                f"{self.base.name} has nothing that {self.quantisation} quantisation takes to "
                f"8 bits ({kinds}); search the base"
            )
        super().__post_init__()

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The names of what has a choice, in the order in which it runs."""
        return tuple(self._conditions(self.base.nodes))

    @property
    def added(self) -> Added:
        """A choice of precision for each stage or block."""
        return tuple((block + _SUFFIX, BLOCK_PRECISIONS) for block in self.blocks)

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        logits = self.base.build(net, images)
        for block, condition in self._conditions(net.nodes).items():
            with net.when(condition):
                net.choice(block + _SUFFIX, BLOCK_PRECISIONS, scope=self.scope)
        return logits

    def is_quantised(self, node: Node) -> bool:
        """Whether the quantiser takes a layer to 8 bits where its block is in int8."""
        return node.operator in QUANTISED_PRIMITIVES[self.quantisation]

    def precision_gene(self, layer: str) -> Expression | None:
        """The choice that a layer's precision is, by the layer's name; None without one."""
        name = GROUPINGS[self.by](layer) + _SUFFIX
        return next((c.value for c in self.choices if c.name == name), None)

    def fp32_blocks(self, row: npt.ArrayLike) -> tuple[str, ...]:
        """The names of the stages or blocks of one network that stay in fp32.

        Args:
            row: The genes of one architecture.

        Raises:
            BadInputError: Genes of another space, or of several architectures.
        """
        rows = self.gene_space.check(row)
        if len(rows) != 1:
            raise BadInputError(f"blocks are those of one architecture, got {len(rows)} rows")
        return tuple(np.array(self._names)[self._in_fp32(rows)[0]].tolist())

    def is_fp32(self, genes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which networks are in fp32 as a whole, an array of length `n`."""
        rows = self.gene_space.check(genes)
        here = self.active(rows)[:, self._first :]
        return np.asarray((self._in_fp32(rows) | ~here).all(axis=1))

    def with_fp32(self, base_genes: npt.ArrayLike, blocks: Sequence[str]) -> Genes:
        """Networks of the base with these stages or blocks in fp32 and all others in int8.

        Args:
            base_genes: An `n x d` array of genes of the base.
            blocks: Names; what a network does not have is passed over.

        Raises:
            BadInputError: Genes that are not the base's.
            UnknownNameError: A name that no network of the space has.
        """
        for block in blocks:
            if block not in self.blocks:
                raise unknown_name(self.by, block, self.blocks)
        rows = self.base.gene_space.check(base_genes)
        column = np.array([int(name in blocks) for name in self._names], np.int16)
        return self.canonical(np.hstack([rows, np.tile(column, (len(rows), 1))]))

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and how layers are grouped and quantised."""
        parameters = {
            "base": self.base.to_json(), "by": self.by, "quantisation": self.quantisation,
        }  # fmt: skip
        return {"space": self.name, "version": self.version, "parameters": parameters}

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        if not isinstance(values.get("base"), Mapping):
            raise BadInputError(
                f"a space with precision by block has a 'base'; got {dict(values)!r}"
            )
        return {**values, "base": SearchSpace.from_json(values["base"], spaces)}

    @property
    def _first(self) -> int:
        """The place of the first gene of precision."""
        return len(self.base.choices)

    @property
    def _names(self) -> list[str]:
        """For each gene of precision its stage or block."""
        return [choice.name.removesuffix(_SUFFIX) for choice in self.choices[self._first :]]

    def _in_fp32(self, rows: Genes) -> npt.NDArray[np.bool_]:
        """For each row and gene of precision whether it says fp32 and matters."""
        fp32 = rows[:, self._first :] == BLOCK_PRECISIONS.index("fp32")
        return np.asarray(fp32 & self.active(rows)[:, self._first :])

    def _conditions(self, nodes: Sequence[Node]) -> dict[str, Condition]:
        """For each stage or block that the quantiser touches when it is there."""
        found: dict[str, Condition] = {}
        seen: set[tuple[str, object]] = set()
        for node in nodes:
            if not self.is_quantised(node):
                continue
            block = GROUPINGS[self.by](node.name)
            key = node.active.key if isinstance(node.active, Expression) else node.active
            if (block, key) not in seen:
                seen.add((block, key))
                found[block] = either(found.get(block, False), node.active)
        return found
