"""The search space: a set of architectures, declared once, read by everything else.

A space is a frozen dataclass whose fields are its parameters (image size, class count, stages) and
whose `build` method declares the largest network with choices inside. All else follows: genes and
their operations, architectures, the layer table, graphs of single networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from records import BadInputError, content_hash, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.choice import Choice, Value
from search_spaces.genes import Genes, GeneSpace, Mask, Measure
from search_spaces.graph import Graph, Layer
from search_spaces.layer_table import LayerTable, tabulate_layers
from search_spaces.network import NetworkBuilder, Node, Tensor
from search_spaces.primitives import ATTRIBUTES
from search_spaces.shapes import check_scopes, check_shapes
from search_spaces.tabulate import Tabulation, all_genes

if TYPE_CHECKING:
    from search_spaces.restricted import Restricted


@dataclass(frozen=True, kw_only=True)
class SearchSpace(ABC):
    """A set of architectures for images of one size and a number of classes.

    Attributes:
        image_size: Height and width of the images, in pixels.
        channels: Channels of the images.
        num_classes: Classes to tell apart.

    Raises:
        BadInputError: Parameters that no network can have, found when the space is made.
    """

    version: ClassVar[int] = 1

    image_size: int = 32
    channels: int = 3
    num_classes: int = 10

    @abstractmethod
    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        """Declares the network from the images to the logits."""

    def __post_init__(self) -> None:
        for name, least in (("image_size", 1), ("channels", 1), ("num_classes", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise BadInputError(f"{name} must be an integer >= {least}, got {value!r}")
        check_scopes(self.name, self.choices, self.nodes)
        check_shapes(self.name, self.choices, self.nodes, self.layers)
        _ = self.gene_space  # refuses choices that cannot stand together

    def __getstate__(self) -> dict[str, Any]:
        """The parameters: what else is kept follows from them, in another process too."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def name(self) -> str:
        """The class's name, which files refer to."""
        return type(self).__name__

    def _builder(self) -> NetworkBuilder:
        """What the network is declared with."""
        return NetworkBuilder()

    @cached_property
    def _declared(self) -> NetworkBuilder:
        """The builder after the declaration."""
        net = self._builder()
        logits = self.build(net, net.input(self.channels, self.image_size, self.image_size))
        if not isinstance(logits, Tensor) or logits.node != len(net.nodes) - 1:
            raise BadInputError(f"{self.name}.build must return the layer declared last")
        if isinstance(logits.channels, int) and logits.channels != self.num_classes:
            raise BadInputError(
                f"{self.name}.build returns {logits.channels} values an image, but there are "
                f"{self.num_classes} classes: end with `classifier(net, x, self.num_classes)`"
            )
        return net

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices, in the order of the genes."""
        return tuple(self._declared.choices)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The declared layers of the largest network, in the order in which they run."""
        return tuple(self._declared.nodes)

    @cached_property
    def gene_space(self) -> GeneSpace:
        """The genes without the networks."""
        return GeneSpace(self.choices)

    @property
    def cardinality(self) -> int:
        """The exact number of architectures."""
        return self.gene_space.cardinality

    @cached_property
    def hash(self) -> str:
        """Identifies the space's name, version and parameters."""
        return content_hash(self.to_json())

    def restrict(self, allowed: Mapping[str, Sequence[Value]]) -> Restricted:
        """The space with some choices limited to subsets of their values.

        Args:
            allowed: For choices by name, or for all whose names match a pattern (`*.kernel`), the
                values to keep; see `Restricted`.

        Raises:
            BadInputError: An unknown choice, values that it does not offer, no value left.
        """
        from search_spaces.restricted import Restricted  # a space itself

        return Restricted(base=self, allowed=tuple((k, v) for k, v in allowed.items()))

    def freeze(self, values: Mapping[str, Value]) -> Restricted:
        """The space with some choices fixed to one value; names as in `restrict`.

        Raises:
            BadInputError: An unknown choice, a value that it does not offer.
        """
        return self.restrict({name: (value,) for name, value in values.items()})

    # ---- genes -------------------------------------------------------------------------------

    def enumerate(self, most: int = 1_000_000) -> Genes:
        """All canonical architectures, each once, a `cardinality x d` array.

        Raises:
            BadInputError: The space has more than `most`.
        """
        if self.cardinality > most:
            raise BadInputError(
                f"{self.name} has {self.cardinality} architectures, more than {most}: raise "
                "`most`, go through them with `chunks`, or sample"
            )
        return self.gene_space.rows_at(np.arange(self.cardinality))

    def chunks(self, size: int = 65_536) -> Iterator[Genes]:
        """All canonical architectures, each once, in arrays of at most `size` rows.

        Raises:
            BadInputError: A size below 1, or a space of 2^63 architectures and more.
        """
        if size < 1:
            raise BadInputError(f"a chunk has 1 row or more, got size {size}")
        for start in range(0, self.cardinality, size):
            stop = min(start + size, self.cardinality)
            yield self.gene_space.rows_at(np.arange(start, stop))

    def sample(self, n: int, rng: np.random.Generator, measure: Measure = "choices") -> Genes:
        """Draws `n` architectures, an `n x d` array; see `GeneSpace.sample` for the measures."""
        return self.gene_space.sample(n, rng, measure)

    def active(self, genes: Genes) -> Mask:
        """Which genes matter, an `n x d` mask."""
        return self.gene_space.active(genes)

    def canonical(self, genes: Genes) -> Genes:
        """The same architectures with inactive genes set to 0."""
        return self.gene_space.canonical(genes)

    def without_platform(self, genes: Genes) -> Genes:
        """The same networks with every gene of the platform at 0: what accuracy belongs to."""
        kept = np.array([c.scope != "platform" for c in self.choices], np.bool_)
        return genes if kept.all() else genes * kept

    def mutate(self, genes: Genes, rng: np.random.Generator, probability: float = 0.1) -> Genes:
        """Changes active genes; see `GeneSpace.mutate`."""
        return self.gene_space.mutate(genes, rng, probability)

    def crossover(self, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Mixes two populations row by row; see `GeneSpace.crossover`."""
        return self.gene_space.crossover(first, second, rng)

    def extremes(self, which: Literal["smallest", "largest"]) -> Genes:
        """The smallest or largest architectures: one for each way to set the choices by name.

        Choices of numbers take their least or greatest value; choices of names have no order, so
        every value is taken, all such choices alike where they offer the same names: a hybrid
        space has a smallest convolutional and a smallest attention network.
        """
        names = sorted({c.values for c in self.choices if c.is_categorical})
        rows = []
        for pick in all_genes([len(values) for values in names]):
            setting = dict(zip(names, pick, strict=True))
            rows.append(
                [
                    setting[c.values]
                    if c.is_categorical
                    else (0 if which == "smallest" else len(c.values) - 1)
                    for c in self.choices
                ]
            )
        return self.canonical(np.array(rows, np.int16))

    def decode(self, genes: npt.ArrayLike) -> list[Architecture]:
        """The architectures of an `n x d` array of genes (or of one row)."""
        checked = self.gene_space.check(genes)
        active = self.active(checked)
        return [
            Architecture(
                self.name,
                self.version,
                tuple(
                    (c.name, c.values[g])
                    for c, g, on in zip(self.choices, row, there, strict=True)
                    if on
                ),
            )
            for row, there in zip(checked, active, strict=True)
        ]

    def encode(self, architectures: Architecture | Iterable[Architecture]) -> Genes:
        """The genes of architectures of this space, an `n x d` array.

        Raises:
            BadInputError: An architecture of another space or version, or with choices that this
                space does not have, or that lacks some; named.
        """
        if isinstance(architectures, Architecture):
            architectures = (architectures,)
        rows = []
        for architecture in architectures:
            if (architecture.space, architecture.version) != (self.name, self.version):
                raise BadInputError(
                    f"an architecture of {architecture.space!r} version {architecture.version} "
                    f"does not belong to {self.name!r} version {self.version}"
                )
            rows.append(self._encode_choices(dict(architecture.items)))
        return np.array(rows, np.int16).reshape(-1, len(self.choices))

    def __contains__(self, architecture: object) -> bool:
        """Whether this is an architecture of this space, with choices that fit."""
        if not isinstance(architecture, Architecture):
            return False
        try:
            self.encode(architecture)
        except BadInputError:
            return False
        return True

    def _encode_choices(self, values: Mapping[str, Any]) -> Genes:
        known = {c.name for c in self.choices}
        for name in values:
            if name not in known:
                raise unknown_name("choice", name, known)
        row = np.zeros(len(self.choices), np.int16)
        for j, choice in enumerate(self.choices):
            if choice.name in values:
                if values[choice.name] not in choice.values:
                    raise BadInputError(
                        f"choice {choice.name!r} is {values[choice.name]!r}; "
                        f"allowed: {choice.values}"
                    )
                row[j] = choice.values.index(values[choice.name])
        active = self.active(row[None])[0]
        for choice, on in zip(self.choices, active, strict=True):
            if on != (choice.name in values):
                what = "is missing" if on else "means nothing here"
                raise BadInputError(f"choice {choice.name!r} {what}, given the other choices")
        return row

    # ---- networks ----------------------------------------------------------------------------

    @cached_property
    def layers(self) -> Tabulation:
        """Every layer for all combinations of the genes that it reads."""
        return tabulate_layers(self.choices, self.nodes)

    def layer_table(self, genes: Genes) -> LayerTable:
        """What the architectures execute, for an `n x d` array of genes."""
        return LayerTable(
            names=tuple(node.name for node in self.nodes),
            edges=tuple(node.inputs for node in self.nodes),
            codes=self.layers.codes(genes),
            flat=self.layers.columns,
        )

    def graph(self, architecture: Architecture | npt.ArrayLike) -> Graph:
        """The plain layers of one architecture, or of one row of genes."""
        if isinstance(architecture, Architecture):
            row = self.encode(architecture)
        else:
            row = self.gene_space.check(architecture)
        if len(row) != 1:
            raise BadInputError(f"a graph is of one architecture, got {len(row)} rows of genes")
        codes = self.layers.codes(row)[:, 0]
        columns = self.layers.columns
        place: dict[int, int] = {}
        layers: list[Layer] = []
        for index, node in enumerate(self.nodes):
            code = codes[index]
            if not columns["active"][code]:
                place[index] = place[node.inputs[0]]
                continue
            sizes = {name: int(columns[name][code]) for name in ATTRIBUTES}
            layers.append(
                Layer(
                    name=node.name,
                    operator=node.operator,
                    inputs=tuple(place[i] for i in node.inputs),
                    macs=int(columns["macs"][code]),
                    parameters=int(columns["parameters"][code]),
                    **sizes,
                )
            )
            place[index] = len(layers) - 1
        return Graph(layers=tuple(layers))

    # ---- files -------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Name, version and parameters as JSON-ready values."""
        return {"space": self.name, "version": self.version, "parameters": asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], spaces: Sequence[type[Self]] = ()) -> Self:
        """The space that `to_json` wrote.

        Args:
            value: The JSON value.
            spaces: Classes to look the name up in, beside all known subclasses of this class.

        Raises:
            BadInputError: An unknown space, another version, parameters that do not fit.
        """
        known = {c.__name__: c for c in (*_subclasses(cls), *spaces)}
        try:
            name, version = value["space"], value["version"]
            parameters = dict(value["parameters"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"a space has 'space', 'version' and 'parameters'; got {value!r}"
            ) from error
        if name not in known:
            raise unknown_name("search space", name, known)
        space = known[name]
        if version != space.version:
            raise BadInputError(f"{name} is of version {space.version} here, got {version}")
        allowed = {field.name for field in fields(space) if field.init}
        for key in parameters:
            if key not in allowed:
                raise unknown_name(f"parameter of {name}", key, allowed)
        try:
            made: Self = space(**space._parameters(parameters, spaces))
        except (TypeError, AttributeError) as error:
            raise BadInputError(f"parameters that do not fit {name}: {error}") from error
        return made

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        """The parameters read from JSON; `spaces` as in `from_json`."""
        return {name: cls._parameter(name, value) for name, value in values.items()}

    @classmethod
    def _parameter(cls, name: str, value: Any) -> Any:
        """A parameter read from JSON: lists become tuples, objects the dataclass `Stage`."""
        stage = getattr(cls, "Stage", None)
        if isinstance(value, list | tuple):
            return tuple(cls._parameter(name, v) for v in value)
        if isinstance(value, dict) and is_dataclass(stage) and isinstance(stage, type):
            return stage(**{k: cls._parameter(k, v) for k, v in value.items()})
        return value


def _subclasses(cls: type[Any]) -> list[type[Any]]:
    found = [] if getattr(cls, "__abstractmethods__", None) else [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found
