"""Proof, for any space, that all readers of its networks agree: tables, supernet, subnet, file.

Every claim that the framework makes about a space's networks is checked on some of them, with
weights none of which is an identity: the extremes and random ones. It is what to run after writing
a space or a primitive of one's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deployment.emission.emit import emit, exporter_of
from deployment.kernel_tables.counting import Counted, count
from deployment.proofs.first_difference import (
    differing_from_supernet,
    differing_from_torch,
    relative_difference,
)
from deployment.proofs.space_checks import check_attention_rows, check_genes
from deployment.proofs.space_report import SpaceReport, Tally, report
from deployment.proofs.verify import TOLERANCE, compare
from records import BadInputError, array_hash, generator
from search_spaces import Genes, Layer, SearchSpace
from supernet import Statistics, Subnet, Supernet

SHIPPED = frozenset((
    "conv2d", "batch_norm", "layer_norm", "activation", "add", "to_tokens", "to_map", "position",
    "attention", "linear", "global_pool", "squeeze", "multiply", "concat", "scale", "zeros",
    "avg_pool", "max_pool", "resize", "channel_shuffle",
))  # fmt: skip
"""The primitives that are no user's."""

NOISE = 0.2
IMAGES = 16
BATCH_SIZE = 2
"""Images a run of the exported files; twice as many of the given images are compared."""


def verify_space(
    space: SearchSpace,
    *,
    architectures: int = 8,
    seed: int = 0,
    images: Tensor | None = None,
    onnx: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> SpaceReport:
    """Proves that tables, supernet, subnets and exported files of a space agree.

    The checks, each on every architecture that is looked at:

    - `extracted == sliced`: the extracted subnet computes what the supernet's slice computes, in
      eval mode after recalibration;
    - `loaded == extracted`: so it does after saving and loading;
    - `supernet untouched`: recalibrating and extracting leave the shared weights as they are;
    - `macs`, `parameters`, `output shapes`: the layer table's are those of the modules as they
      run, layer by layer. Of a user's primitives the MACs are not compared, which the detail says;
      a resizing counts none by convention;
    - `onnx == torch`: the exported file computes what the subnet computes;

    and on the space as a whole

    - `attention rows`: for every variant of every attention layer the rows of weight and bias of
      a head's queries, keys and values are those of the largest;
    - `genes`: architectures and their JSON come back as the same genes, in canonical form.

    A failing check does not stop the others.

    Args:
        space: The space.
        architectures: How many random architectures to look at; as many of the extremes are added.
        seed: Derives architectures, weights and images.
        images: What to recalibrate and compare on, `n x channels x height x width` with
            `n >= 2`; 16 random images unless given. Few images give statistics of batch norm
            that amplify rounding errors.
        onnx: Whether to export and compare files.
        on_progress: Called with (architectures done, all).

    Raises:
        BadInputError: Fewer than one architecture, images that do not fit.
    """
    if architectures < 1:
        raise BadInputError(f"architectures must be >= 1, got {architectures}")
    size = (space.channels, space.image_size, space.image_size)
    if images is None:
        images = torch.randn((IMAGES, *size), generator=torch.Generator().manual_seed(seed))
    if tuple(images.shape[1:]) != size or len(images) < 2:
        raise BadInputError(f"images must be n x {size} with n >= 2, got {tuple(images.shape)}")
    rows = proof_rows(space, architectures, seed)
    proof = _Proof(space, perturbed_supernet(space, seed), images, onnx, seed)
    for done, row in enumerate(rows, start=1):
        proof.look_at(row)
        if on_progress is not None:
            on_progress(done, len(rows))
    attention, genes = Tally("attention rows"), Tally("genes")
    check_attention_rows(attention, space, proof.supernet)
    check_genes(genes, space, seed)
    return report(space.name, len(rows), [*proof.tallies, attention, genes])


def proof_rows(space: SearchSpace, architectures: int, seed: int = 0) -> Genes:
    """The smallest and the largest network, others of the extremes, and random ones, each once."""
    small, large = space.extremes("smallest"), space.extremes("largest")
    rng = generator(seed, "proof")
    others = rng.permutation(np.concatenate([small[1:], large[:-1]]))[: max(0, architectures - 2)]
    ends = _distinct(np.concatenate([small[:1], large[-1:], others]))
    drawn = space.sample(8 * architectures, rng)  # a small space repeats itself
    return _distinct(np.concatenate([ends, drawn]))[: len(ends) + architectures]


def _distinct(rows: Genes) -> Genes:
    """Rows without repetition, in the order of their first appearance."""
    _, first = np.unique(rows, axis=0, return_index=True)
    return np.asarray(rows[np.sort(first)])


@torch.no_grad()
def perturbed_supernet(space: SearchSpace, seed: int = 0) -> Supernet:
    """A supernet in eval mode none of whose norms, biases and factors is as it starts."""
    supernet = Supernet(space, seed=seed).eval()
    noise = torch.Generator().manual_seed(seed + 1)
    for value in supernet.parameters():
        is_identity = value.ndim == 2 and torch.equal(
            value, torch.eye(*value.shape, device=value.device)
        )
        if value.ndim == 1 or is_identity or bool((value == value.flatten()[0]).all()):
            value.add_(NOISE * torch.randn(value.shape, generator=noise))
    return supernet


class _Proof:
    """The checks of single architectures."""

    def __init__(
        self, space: SearchSpace, supernet: Supernet, images: Tensor, onnx: bool, seed: int
    ) -> None:
        self.space = space
        self.supernet = supernet
        self.images = images
        self.onnx = onnx
        self.seed = seed
        self._weights = self._hashes()
        self.extracted = Tally("extracted == sliced")
        self.loaded = Tally("loaded == extracted")
        self.untouched = Tally("supernet untouched")
        self.macs = Tally("macs")
        self.parameters = Tally("parameters")
        self.shapes = Tally("output shapes")
        self.file = Tally("onnx == torch")
        own = sorted({node.operator for node in space.nodes[1:]} - SHIPPED)
        if own:
            self.macs.note = f"not compared for {', '.join(own)}"
        if not onnx:
            self.file.note = "left out"
        self._exporters: set[str] = set()
        self._tolerance = TOLERANCE

    @property
    def tallies(self) -> list[Tally]:
        """All of them, in the order of the report."""
        return [
            self.extracted,
            self.loaded,
            self.untouched,
            self.macs,
            self.parameters,
            self.shapes,
            self.file,
        ]

    def look_at(self, row: Genes) -> None:
        """All checks of one architecture."""
        where = f"genes {row.tolist()}"
        subnet = self._extract(row, where)
        with self.untouched.case(where):
            for name, value in self._hashes().items():
                changed = value != self._weights[name]
                self.untouched.difference(changed, 0, f"{where}: {name} was changed")
        if subnet is None:
            return
        self._load(subnet, where)
        self._count(subnet, row, where)
        if self.onnx:
            self._export(subnet, where)

    def _hashes(self) -> dict[str, str]:
        """Each of the supernet's weights, short."""
        state = self.supernet.state_dict()
        return {name: array_hash({name: v.detach().numpy()}) for name, v in state.items()}

    @torch.no_grad()
    def _extract(self, row: Genes, where: str) -> Subnet | None:
        subnet = None
        with self.extracted.case(where):
            statistics: Statistics = self.supernet.recalibrate(row, [self.images])
            sliced = self.supernet(self.images, row, statistics)
            extracted = self.supernet.extract(row, statistics)
            subnet = extracted
            self.extracted.difference(
                relative_difference(extracted(self.images), sliced),
                TOLERANCE,
                lambda: f"{where}: layer " + (
                    differing_from_supernet(
                        self.supernet, extracted, self.images, statistics, TOLERANCE
                    )
                    or "unknown"
                ),
            )  # fmt: skip
        return subnet

    @torch.no_grad()
    def _load(self, subnet: Subnet, where: str) -> None:
        with self.loaded.case(where), tempfile.TemporaryDirectory() as folder:
            loaded = Subnet.load(subnet.save(Path(folder) / "subnet"))
            difference = relative_difference(loaded(self.images), subnet(self.images))
            self.loaded.difference(difference, 0.0, lambda: f"{where}: it computes another value")

    def _count(self, subnet: Subnet, row: Genes, where: str) -> None:
        table = self.space.layer_table(row[None])
        place = {name: index for index, name in enumerate(table.names)}
        columns = {
            name: table.column(name)[0]
            for name in ("macs", "parameters", "channels", "height", "width")
        }
        counted: list[Counted] = []
        with self.shapes.case(where):
            counted = count(subnet, self.images[:2])
        for layer, one in zip(subnet.graph.layers[1:], counted, strict=bool(counted)):
            stated = {name: int(column[place[layer.name]]) for name, column in columns.items()}
            self._compare(layer, one, stated, f"{where}: layer {layer.name} ({layer.operator})")

    def _compare(self, layer: Layer, one: Counted, stated: Mapping[str, int], at: str) -> None:
        """Compares one layer's row of the table with its module."""
        sizes = (stated["channels"], stated["height"], stated["width"])
        fits = one.fits(*sizes)
        self.shapes.difference(not fits, 0, f"{at} writes {one.shape}, stated: {sizes}")
        pairs = [(self.parameters, "parameters", one.parameters)]
        if layer.operator in SHIPPED and layer.operator != "resize":
            pairs.append((self.macs, "macs", one.macs))
        for tally, name, found in pairs:
            tally.cases += 1
            off = abs(stated[name] - found)
            tally.difference(off, 0, f"{at} has {found} {name}, stated: {stated[name]}")

    def _export(self, subnet: Subnet, where: str) -> None:
        with self.file.case(where):
            model = emit(subnet, BATCH_SIZE)
            images = self.images[: 2 * BATCH_SIZE]
            agreement = compare(subnet, model, images, seed=self.seed)
            self._tolerance = max(self._tolerance, agreement.tolerance)
            self._exporters.add(exporter_of(model))
            self.file.difference(
                agreement.relative_difference,
                agreement.tolerance,
                lambda: f"{where}: layer " + (
                    differing_from_torch(subnet, model, images[:BATCH_SIZE], agreement.tolerance)
                    or "unknown"
                ),
            )  # fmt: skip
        notes = ["exported by torch"] if "torch" in self._exporters else []
        if self._tolerance > TOLERANCE:
            notes.append(f"rounding in torch alone explains {self._tolerance:.2g}")
        self.file.note = "; ".join(notes)
