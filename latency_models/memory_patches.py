"""Running the first layers patch by patch: less memory for some computation twice.

The maps of a network's first layers are its largest. Computing the output of a certain layer in
`p x p` patches, one after the other, needs only a part of each map before it at a time, at the
price that the parts overlap: a patch of the output needs more than its share of the input, its
receptive field (Lin et al., MCUNetV2, NeurIPS 2021, section 3). For a layer with kernel `k`,
stride `s`, dilation `d` and padding `q`, rows `[a, b)` of the output need the rows

    [a s - q,  (b - 1) s - q + (k - 1) d + 1)

of its input, cut at the edges; a value that several layers read is computed for all that any of
them needs. Rows and columns are independent, so a patch's work is a product of both.

Norms, factors and activations are written in place; every other layer, a sum too, writes a tensor
that lives until its last reader. The images stay in memory all the time, the collected output
during the patches. Every number is for all candidates of a population at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_models.inputs import checked_genes
from records import BadInputError, unknown_name
from search_spaces import Genes, SearchSpace, peak_alive

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

WINDOWS = frozenset(("conv2d", "avg_pool", "max_pool"))
POINTWISE = frozenset(("batch_norm", "scale", "activation", "add", "concat", "zeros"))
IN_PLACE = frozenset(("batch_norm", "scale", "activation"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCosts:
    """Costs of `n` networks whose first layers run patch by patch, for one image.

    Attributes:
        macs: Multiply-accumulates, those done twice included.
        extra_macs: How many more these are than without patches.
        peak_activation_bytes: The most that is alive at once, images included.
        whole_peak_bytes: The same without patches.
        input_rows: A `patches x n` array: rows of the images that each row of patches needs.
    """

    macs: Counts
    extra_macs: Counts
    peak_activation_bytes: Counts
    whole_peak_bytes: Counts
    input_rows: Counts


class PatchPlan:
    """A space whose networks run patch by patch up to a layer.

    Args:
        space: The search space.
        until: The name of the last layer that is computed in patches; where a network skips it,
            up to what it passes on.
        patches: Patches along either side; 1 is the network as it is.
        bytes_per_value: 1 for int8.

    Raises:
        UnknownNameError: No such layer.
        BadInputError: Fewer than one patch, or a layer before that needs the whole map.
    """

    def __init__(
        self, space: SearchSpace, until: str, patches: int, bytes_per_value: int = 1
    ) -> None:
        names = [node.name for node in space.nodes]
        if until not in names:
            raise unknown_name("layer", until, names)
        if not all(type(value) is int and value >= 1 for value in (patches, bytes_per_value)):
            raise BadInputError(
                "patches and bytes_per_value must be whole and >= 1, got "
                f"{patches!r} and {bytes_per_value!r}"
            )
        self.space = space
        self.cut = names.index(until)
        self.patches = patches
        self.bytes_per_value = bytes_per_value
        self._before = self._needed_layers()
        for index in self._before[1:]:
            operator = space.nodes[index].operator
            if operator not in WINDOWS | POINTWISE:
                raise BadInputError(
                    f"{names[index]!r} ({operator}) needs the whole map, so no patches reach "
                    f"{until!r}; choose a layer before it"
                )

    @property
    def inside(self) -> list[int]:
        """The layers that are computed in patches, by index; the images are not among them."""
        return self._before[1:]

    def _needed_layers(self) -> list[int]:
        """The layers that the cut depends on, itself included, in order."""
        needed = {self.cut}
        for index in range(self.cut, -1, -1):
            if index in needed:
                needed.update(self.space.nodes[index].inputs)
        return sorted(needed | {0})

    def costs(self, genes: Genes) -> PatchCosts:
        """The costs of an `n x d` array of genes.

        Raises:
            BadInputError: Genes that are none of the space's, a network whose map is smaller than
                the patches are many, or in which something behind the cut reads a layer before it.
        """
        table = self.space.layer_table(checked_genes(self.space, genes))
        columns = {
            name: table.column(name).T
            for name in ("active", "kernel", "stride", "padding", "dilation", "channels",
                         "height", "width", "macs", "elements")
        }  # fmt: skip
        active = columns["active"] > 0
        self._check(columns, active)
        rows = self._regions(columns, active, "height")
        across = self._regions(columns, active, "width")
        before = self._before
        per_position = columns["macs"] // np.maximum(columns["height"] * columns["width"], 1)
        macs = columns["macs"].sum(axis=0)
        whole = columns["macs"][before].sum(axis=0)
        high = rows[1] - rows[0]  # layers x patches x n
        wide = across[1] - across[0]
        in_patches = (per_position[before] * (high.sum(axis=1) * wide.sum(axis=1))[before]).sum(
            axis=0
        )
        return PatchCosts(
            macs=macs - whole + in_patches,
            extra_macs=in_patches - whole,
            peak_activation_bytes=self._peak(columns, active, high, wide),
            whole_peak_bytes=self._whole_peak(columns, active),
            input_rows=high[0],
        )

    def can_be_cut(self, genes: Genes) -> Mask:
        """Which networks can run in patches, length `n`.

        The others have a map smaller than the patches are many, or a shortcut from inside the
        patches to a layer behind them.
        """
        table = self.space.layer_table(checked_genes(self.space, genes))
        active = table.column("active").T > 0
        fits = np.ones(active.shape[1], bool)
        for _, _, reads in self._open_shortcuts(active):
            fits &= ~reads
        for side in ("height", "width"):
            fits &= self._size_at_cut(table.column(side).T, active) >= self.patches
        return fits

    def times_computed(self, genes: Genes) -> npt.NDArray[np.float64]:
        """How often each position of each layer is computed, on average, a `layers x n` array.

        1 behind the patches and for absent layers.

        Raises:
            BadInputError: As for `costs`.
        """
        table = self.space.layer_table(checked_genes(self.space, genes))
        names = ("active", "kernel", "stride", "padding", "dilation", "height", "width")
        columns = {name: table.column(name).T for name in names}
        active = columns["active"] > 0
        self._check(columns, active)
        sides = []
        for side in ("height", "width"):
            low, high = self._regions(columns, active, side)
            sides.append((high - low).sum(axis=1) / np.maximum(columns[side], 1))
        found = np.ones(active.shape)
        before = self._before[1:]
        found[before] = np.where(active[before], sides[0][before] * sides[1][before], 1.0)
        return found

    def _check(self, columns: dict[str, Counts], active: Mask) -> None:
        """What the patches leave behind must be the cut's output alone, and large enough."""
        for reader, source, reads in self._open_shortcuts(active):
            if reads.any():
                raise BadInputError(
                    f"{reader!r} behind the patches reads {source!r} inside them; choose a layer "
                    "where no shortcut is open"
                )
        for side in ("height", "width"):
            final = self._size_at_cut(columns[side], active)
            if (final < self.patches).any():
                raise BadInputError(
                    f"a map of {final.min()} positions cannot be cut into {self.patches} patches"
                )

    def _open_shortcuts(self, active: Mask) -> Iterator[tuple[str, str, Mask]]:
        """Layers behind the cut that read one inside: both names, and in which networks."""
        inside = set(self._before) - {self.cut}
        for index, node in enumerate(self.space.nodes):
            if index in self._before:
                continue
            for place, source in enumerate(node.inputs):
                if source in inside:
                    reads = active[index] if place else np.ones(active.shape[1], bool)
                    yield node.name, self.space.nodes[source].name, reads

    def _regions(
        self, columns: dict[str, Counts], active: Mask, side: str
    ) -> tuple[Counts, Counts]:
        """First and past-the-last row (or column) that each layer computes for each patch.

        Returns:
            Two `layers x patches x n` arrays; layers behind the cut are 0.
        """
        layers, n = active.shape
        size = columns[side]
        far = np.int64(1) << 40
        low = np.full((layers, self.patches, n), far)
        high = np.full((layers, self.patches, n), -far)
        final = self._size_at_cut(size, active)
        share = np.arange(self.patches + 1)[:, None] * final // self.patches
        low[self.cut], high[self.cut] = share[:-1], share[1:]
        for index in reversed(self._before[1:]):
            node = self.space.nodes[index]
            a, b = low[index], high[index]
            if node.operator in WINDOWS:
                k, s, q, d = (
                    columns[c][index] for c in ("kernel", "stride", "padding", "dilation")
                )
                need = (a * s - q, (b - 1) * s - q + (k - 1) * d + 1)
            else:
                need = (a, b)
            need = (np.where(active[index], need[0], a), np.where(active[index], need[1], b))
            for place, source in enumerate(node.inputs):
                reads = active[index] | (place == 0)
                reads = reads & (b > a)
                top = self._size_of(source, size, active)
                low[source] = np.where(
                    reads, np.minimum(low[source], need[0].clip(0)), low[source]
                )
                high[source] = np.where(
                    reads, np.maximum(high[source], np.minimum(need[1], top)), high[source]
                )
        empty = high <= low
        return np.where(empty, 0, low), np.where(empty, 0, high)

    def _size_at_cut(self, size: Counts, active: Mask) -> Counts:
        return self._size_of(self.cut, size, active)

    def _size_of(self, index: int, size: Counts, active: Mask) -> Counts:
        """The size of a layer's output; of what it passes on where it is skipped."""
        found, done = size[index].copy(), active[index].copy()
        while index and not done.all():
            index = self.space.nodes[index].inputs[0]
            found = np.where(done, found, size[index])
            done |= active[index]
        return np.asarray(found)

    # ---- memory ------------------------------------------------------------------------------

    def _written(self, active: Mask) -> tuple[Mask, Sequence[Sequence[int]]]:
        """Which layers write a tensor of their own, and what every layer reads."""
        own = [node.operator not in IN_PLACE for node in self.space.nodes]
        return active & np.array(own)[:, None], [node.inputs for node in self.space.nodes]

    def _whole_peak(self, columns: dict[str, Counts], active: Mask) -> Counts:
        writes, edges = self._written(active)
        sizes = np.where(writes, columns["elements"], 0)
        sizes[0] = 0
        alive = columns["elements"][0] + peak_alive(sizes, writes, edges)
        return np.asarray(alive * self.bytes_per_value)

    def _peak(
        self,
        columns: dict[str, Counts],
        active: Mask,
        high: Counts,
        wide: Counts,
    ) -> Counts:
        """The most that is alive in any patch, or behind the patches."""
        writes, edges = self._written(active)
        elements = columns["elements"]
        output = columns["channels"]
        at_cut = self._size_of(self.cut, elements, active)
        image = elements[0]
        before = np.array(self._before)
        place = {index: k for k, index in enumerate(self._before)}
        inner_edges = [tuple(place[i] for i in edges[index]) for index in self._before]
        peak = np.zeros(active.shape[1], np.int64)
        for i in range(self.patches):
            for j in range(self.patches):
                tiles = output * high[:, i] * wide[:, j]
                sizes = np.where(writes, tiles, 0)[before]
                if self.patches == 1:
                    sizes[0] = 0
                    sizes[-1] = 0
                elif self.cut:
                    sizes[0] = 0  # the image is there as a whole
                within = peak_alive(sizes, writes[before], inner_edges)
                peak = np.maximum(peak, within + image + at_cut)
        later = np.where(writes, elements, 0)
        later[before] = 0
        later[self.cut] = at_cut
        shown = writes.copy()
        shown[before] = False
        shown[self.cut] = True
        peak = np.maximum(peak, image + peak_alive(later, shown, edges))
        return np.asarray(peak * self.bytes_per_value)
