"""The tensors that onnxruntime allocates for a population of networks, step by step.

The kernel table says what runs; here is what each of it allocates, on onnxruntime's CPU provider
at its highest optimisation level, for the graphs of `deployment.emission.emit`:

- a blocked convolution writes whole blocks of channels; with a folded sum it writes over the
  summand where nothing else reads that;
- a value in blocks that something in plain order reads is copied, once, and the other way round;
  a mean over all positions reads blocks only where the channels fill them;
- an activation of its own writes over its input where nothing else reads it, except GELU and
  SiLU; a sum never does;
- attention takes scratch space: queries, keys and values, the scores, and the mixed values before
  they are brought into order;
- a convolution in plain order, because its groups do not fill blocks, takes scratch space for
  patches of its input (`deployment.memory.patches`);
- a gate is enlarged to the map's size first;
- reshapes allocate nothing.

`MemorySteps.steps` lists them in the order of declaration, `deployment.memory.order` in the order
in which onnxruntime runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from deployment.kernel_tables.fusion import Fusion, fusion_of
from deployment.memory.patches import patch_values
from deployment.memory.writing import NOBODY, Counts, Mask, Step, Writing
from search_spaces import Genes, SearchSpace, Tabulation, tabulate
from search_spaces.expression import Condition, Dim, Expression, where
from search_spaces.primitives import ACTIVATIONS, MIXINGS

_PACKING = 256
"""Bytes a sequence that attention takes beside those that its sizes explain, as measured."""

_MAP, _ROWS, _MATRIX, _SEQUENCE, _OTHER = range(5)
"""Forms of tensors: `n c h w`, `n h w c`, `(n t) c`, `n t c`, anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Numbers of layers, for all combinations of the genes that each reads.

    Attributes:
        rows: For each number of each layer its row of the tabulation.
        table: Its one column is called `value`.
    """

    rows: Mapping[tuple[int, str], int]
    table: Tabulation


@lru_cache(maxsize=16)
def _numbers_of(fusion: Fusion) -> _Numbers:
    """What the steps read, made once for each fusion."""
    found = _expressions(fusion)
    return _Numbers(
        rows={key: place for place, key in enumerate(found)},
        table=tabulate(fusion.choices, [{"value": value} for value in found.values()]),
    )


def _expressions(fusion: Fusion) -> dict[tuple[int, str], Dim]:
    found: dict[tuple[int, str], Dim] = {}
    for index, node in enumerate(fusion.nodes):
        for name in (
            "channels",
            "height",
            "width",
            "in_channels",
            *_MORE.get(node.operator, ()),
        ):
            found[index, name] = node.attributes[name]
        host: Dim = 0
        for main, on in fusion.hosts[index]:
            host = where(on, main, host)
        found[index, "host"] = host
        found[index, "active"] = _number(node.active)
        found[index, "alone"] = _number(fusion.alone[index])
        found[index, "plain"] = _number(fusion.plain[index])
        if len(node.inputs) > 1:
            found[index, "second"] = _number(fusion.flow.passes(index, 1))
    return found


class MemorySteps:
    """The steps of a space's networks on a runtime with blocks of channels.

    Args:
        space: The search space.
        batch_size: Images a run.
        channel_block: Channels in a block.
        threads: Threads inside an operator, each with scratch space of its own in a convolution
            with groups; None for a runtime whose convolutions take none, or take it in ways that
            are not known.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch_size: int = 1,
        channel_block: int = 8,
        threads: int | None = 1,
    ) -> None:
        self.space = space
        self.batch_size = batch_size
        self.channel_block = channel_block
        self.threads = threads

    @cached_property
    def _numbers(self) -> _Numbers:
        return _numbers_of(fusion_of(self.space, self.channel_block))

    def steps(self, genes: Genes) -> list[Step]:
        """The steps of an `n x d` array of genes; the last step writes the logits."""
        table = self._numbers.table
        values = table.columns["value"][table.codes(genes)]
        w = Writing(len(genes), self.batch_size, self.channel_block)
        w.writer[0] = np.full(w.n, NOBODY)
        w.is_map[0] = np.ones(w.n, bool)
        for index in range(1, len(self.space.nodes)):
            _Layer(self, w, index, values).write()
        return w.steps


_MORE: Mapping[str, Sequence[str]] = {
    "attention": ("heads", "qk_dim", "v_dim", "window", "mixing"),
    "activation": ("activation",),
    "resize": ("in_height", "in_width"),
    "conv2d": ("groups", "kernel", "stride", "padding"),
    "channel_shuffle": ("groups",),
}


_FORM_OF = {
    "to_tokens": _MATRIX, "linear": _MATRIX, "attention": _MATRIX, "global_pool": _MATRIX,
    "to_map": _MAP,
}  # fmt: skip
"""What they write; all others write what they read."""


_IN_BLOCKS = frozenset((
    "conv2d", "batch_norm", "scale", "avg_pool", "max_pool", "squeeze", "global_pool",
))  # fmt: skip
"""Written anew for blocks of channels; other operators stay as they are."""


class _Layer:
    """Writes the steps of one layer."""

    def __init__(self, of: MemorySteps, w: Writing, index: int, values: Counts) -> None:
        self.w, self.index = w, index
        self.node = of.space.nodes[index]
        self._values, self._rows, self._of = values, of._numbers.rows, of

    def value(self, name: str, index: int | None = None) -> Counts:
        """A number of this layer, or of another, for each network."""
        key = (self.index if index is None else index, name)
        return np.asarray(self._values[self._rows[key]])

    def write(self) -> None:
        """Adds the layer's steps and says who writes its value."""
        w, node = self.w, self.node
        w.layer = self.index
        passed = w.writer[node.inputs[0]]
        form = _FORM_OF.get(node.operator)
        there = (self.value("active") > 0) & (form is not None)
        w.is_map[self.index] = np.where(there, form == _MAP, w.is_map[node.inputs[0]])
        if len(node.inputs) > 1:
            second = self.value("second") > 0
            passed = np.where(second, w.writer[node.inputs[1]], passed)
        alone = self.value("alone") > 0
        host = self.value("host")
        hosted = host > 0
        writer = np.where(hosted & ~alone, self._host_step(host), passed)
        if node.operator == "add" and hosted.any():
            self._summed(host, hosted & ~alone)
        if node.operator == "zeros":
            writer = np.where(self.value("active") > 0, NOBODY, passed)
        elif alone.any():
            own = getattr(self, f"_{node.operator}", self._same)(alone)
            writer = np.where(alone, own, writer)
        w.writer[self.index] = writer

    def _host_step(self, host: Counts) -> Counts:
        found = np.full(self.w.n, NOBODY)
        for main in np.unique(host[host > 0]).tolist():
            found[host == main] = self.w.writer[main][host == main]
        return found

    def _summed(self, host: Counts, on: Mask) -> None:
        """A folded sum: the kernel before reads the other summand, and may write over it."""
        w = self.w
        step = self._host_step(host)
        first, second = (w.writer[i] for i in self.node.inputs)
        other = np.where(first == step, second, first)
        on = on & (other != step)  # a sum within one convolution adds nothing from outside
        for place in np.unique(step[on]).tolist():
            mine = on & (step == place)
            old = w.steps[place]
            w.steps[place] = replace(
                old,
                reads=(*old.reads, np.where(mine, other, NOBODY)),
                over=np.where(mine, other, old.over),
                summand=np.where(mine, other, old.summand),
                place=np.where(mine, self.index, old.place),
            )

    # ---- inputs ------------------------------------------------------------------------------

    def read(self, place: int, on: Mask, blocked: Mask | None) -> Counts:
        """Who writes an input in the layout asked for; None takes it as it is."""
        w, source = self.w, self.node.inputs[place]
        writer = w.writer[source]
        if blocked is None:
            return writer
        is_blocked = self.value("plain", source) == 0
        for wanted in (True, False):
            needs = on & (blocked == wanted) & (is_blocked != wanted) & (writer != NOBODY)
            if source == 0 and wanted:
                needs = on & (blocked == wanted)
            if not needs.any():
                continue
            writer = self._copied(source, writer, needs, wanted)
        return writer

    def _copied(self, source: int, writer: Counts, needs: Mask, blocked: bool) -> Counts:
        """The same value in another layout: the copy there is, or a new one."""
        w = self.w
        known = w.copies[blocked]
        have = np.full(w.n, NOBODY)
        for place in np.unique(writer[needs]).tolist():
            mine = needs & (writer == place)
            if place in known:
                have[mine] = known[place][mine]
        new = needs & (have == NOBODY)
        if new.any():
            channels = w.filled(self.value("channels", source), np.full(w.n, blocked))
            late = 1 if blocked else 2
            dims = (
                np.asarray(w.batch),
                channels,
                self.value("height", source),
                self.value("width", source),
            )
            step = w.add(f"{self.node.name}.reordered", new, dims, _MAP, [writer], late=late)
            have[new] = step
            for place in np.unique(writer[new]).tolist():
                entry = known.setdefault(place, np.full(w.n, NOBODY))
                mine = new & (writer == place)
                entry[mine] = step
        return np.where(needs, have, writer)

    @property
    def sizes(self) -> tuple[Counts, Counts, Counts]:
        """Channels, height and width of the output."""
        return self.value("channels"), self.value("height"), self.value("width")

    def tensor(
        self,
        name: str,
        on: Mask,
        reads: Sequence[Counts],
        blocked: Mask,
        over: Counts | None = None,
        scratch: Sequence[Counts] = (),
    ) -> Counts:
        """A step that writes a map or tokens of the layer's size; its number for each network."""
        c, h, width = self.sizes
        is_map = self.w.is_map[self.index]
        dims = (
            np.where(is_map, self.w.batch, 1),
            np.where(is_map, self.w.filled(c, blocked), self.w.batch * h * width),
            np.where(is_map, h, c),
            np.where(is_map, width, 1),
        )
        late = blocked & (self.node.operator in _IN_BLOCKS)
        step = self.w.add(name, on, dims, _MAP, reads, over=over, scratch=scratch, late=late)
        return np.full(self.w.n, step)

    # ---- layers ------------------------------------------------------------------------------

    @property
    def blocked(self) -> Mask:
        return np.asarray(self.value("plain") == 0)

    def _conv2d(self, on: Mask) -> Counts:
        blocked = self.blocked
        direct = blocked & (self.value("in_channels") < self.w.block) & (self.value("groups") == 1)
        x = self.read(0, on, blocked & ~direct)
        scratch = [] if self._of.threads is None else [np.where(blocked, 0, self._patches())]
        return self.tensor(self.node.name, on, [x], blocked, scratch=scratch)

    def _patches(self) -> Counts:
        """Bytes of scratch space of a convolution in plain order."""
        groups = np.maximum(self.value("groups"), 1)
        return 4 * patch_values(
            batch_groups=self.w.batch * groups,
            filters=self.value("channels") // groups,
            inputs=self.value("in_channels") // groups,
            positions=self.value("height") * self.value("width"),
            kernel=self.value("kernel"),
            is_plain_product=(self.value("stride") == 1) & (self.value("padding") == 0)
            & (self.value("kernel") == 1),
            threads=self._of.threads or 1,
        )  # fmt: skip

    def _same(self, on: Mask) -> Counts:
        """One tensor of the layer's size, from inputs in the layout of the output."""
        reads = [self.read(place, on, self.blocked) for place in range(len(self.node.inputs))]
        return self.tensor(self.node.name, on, reads, self.blocked)

    def _activation(self, on: Mask) -> Counts:
        kind = self.value("activation")
        new = np.isin(kind, [ACTIVATIONS.index(k) for k in ("gelu", "silu")])
        two = kind == ACTIVATIONS.index("hardswish")
        x = self.read(0, on, self.blocked)
        step = np.full(self.w.n, NOBODY)
        if (on & new).any():
            step = np.where(
                on & new, self.tensor(self.node.name, on & new, [x], self.blocked), step
            )
        if (over := on & ~new & ~two).any():
            step = np.where(over, self.tensor(self.node.name, over, [x], self.blocked, x), step)
        if (half := on & two).any():
            gate = self.tensor(f"{self.node.name}.gate", half, [x], self.blocked)
            whole = self.tensor(self.node.name, half, [x, gate], self.blocked)
            step = np.where(half, whole, step)
        return step

    def _multiply(self, on: Mask) -> Counts:
        blocked = self.blocked
        x, gate = self.read(0, on, blocked), self.read(1, on, blocked)
        wide = on & blocked & (self.value("height") * self.value("width") > 1)
        if wide.any():
            step = self.tensor(f"{self.node.name}.gate", wide, [gate], blocked)
            gate = np.where(wide, step, gate)
        return self.tensor(self.node.name, on, [x, gate], blocked)

    def _global_pool(self, on: Mask) -> Counts:
        plain = np.zeros(self.w.n, bool)
        fills_blocks = self.value("channels") % self.w.block == 0
        x = self.read(0, on & ~fills_blocks, plain)  # as it is where channels fill blocks
        return self.tensor(self.node.name, on, [x], plain)

    def _to_tokens(self, on: Mask) -> Counts:
        c, h, width = self.sizes
        dims = (np.asarray(self.w.batch), h, width, c)
        step = self.w.add(self.node.name, on, dims, _ROWS, [self.read(0, on, None)])
        return np.full(self.w.n, step)

    def _to_map(self, on: Mask) -> Counts:
        return self.tensor(self.node.name, on, [self.read(0, on, None)], np.zeros(self.w.n, bool))

    def _linear(self, on: Mask) -> Counts:
        plain = np.zeros(self.w.n, bool)
        return self.tensor(self.node.name, on, [self.read(0, on, plain)], plain)

    def _resize(self, on: Mask) -> Counts:
        plain = np.zeros(self.w.n, bool)
        c, h, _ = self.sizes
        dims = (np.asarray(self.w.batch), c, h, self.value("in_width"))
        x = self.read(0, on, plain)
        half = self.w.add(f"{self.node.name}.vertical", on, dims, _MAP, [x])
        return self.tensor(self.node.name, on, [np.full(self.w.n, half)], plain)

    def _channel_shuffle(self, on: Mask) -> Counts:
        x = self.read(0, on, np.zeros(self.w.n, bool))
        c, h, width = self.sizes
        groups = np.maximum(self.value("groups"), 1)
        dims = (np.asarray(self.w.batch), c // groups, groups, h * width)
        return np.full(self.w.n, self.w.add(self.node.name, on, dims, _MAP, [x]))

    def _attention(self, on: Mask) -> Counts:
        plain = np.zeros(self.w.n, bool)
        x = self.read(0, on, plain)
        linear = self.value("mixing") == MIXINGS.index("linear")
        step = np.full(self.w.n, NOBODY)
        if (mine := on & linear).any():
            step = np.where(mine, self._linear_attention(mine, x), step)
        if (mine := on & ~linear).any():
            step = np.where(mine, self._softmax_attention(mine, x), step)
        return step

    def _softmax_attention(self, on: Mask, x: Counts) -> Counts:
        w = self.w
        c, h, width = self.sizes
        heads, qk, v = self.value("heads"), self.value("qk_dim"), self.value("v_dim")
        window = self.value("window")
        in_windows = on & (window > 0)
        tokens = np.where(window > 0, window**2, h * width)
        batch = w.batch * h * width // np.maximum(tokens, 1)
        if in_windows.any():
            cut = w.add(
                f"{self.node.name}.cut", in_windows,
                (batch, window, window * self.value("in_channels")), _OTHER, [x],
            )  # fmt: skip
            x = np.where(in_windows, cut, x)
        parts = (
            batch * tokens * heads * (2 * qk + v),
            batch * heads * tokens**2,
            batch * tokens * heads * v,
        )
        scratch = [*(4 * part for part in parts), _PACKING * batch]
        step = w.add(self.node.name, on, (batch, tokens, c), _SEQUENCE, [x], scratch=scratch)
        result = np.full(w.n, step)
        if in_windows.any():
            joined = w.add(
                f"{self.node.name}.join",
                in_windows,
                (batch, window, window * c),
                _OTHER + 1,
                [result],
            )
            result = np.where(in_windows, joined, result)
        return result

    def _linear_attention(self, on: Mask, x: Counts) -> Counts:
        w, name = self.w, self.node.name
        _, h, width = self.sizes
        tokens = h * width
        heads, qk, v = self.value("heads"), self.value("qk_dim"), self.value("v_dim")
        n = np.asarray(w.batch)

        def add(
            what: str, dims: Sequence[Counts], reads: Sequence[Counts], over: Counts | None = None
        ) -> Counts:
            return np.full(w.n, w.add(f"{name}.{what}", on, dims, _OTHER + 2, reads, over=over))

        one = np.asarray(1)
        channels = add("channels", (n, one, self.value("in_channels"), tokens), [x])
        values = add("v.product", (n, one, heads * (v + 1), tokens), [channels])
        values = add("v", (n, one, heads * (v + 1), tokens), [values])
        product = add("qk.product", (n, one, 2 * heads * qk, tokens), [channels])
        product = add("qk", (n, one, 2 * heads * qk, tokens), [product])
        features = add("features", (n, one, 2 * heads * qk, tokens), [product], product)
        q = add("q", (n, heads, qk, tokens), [features])
        k = add("k", (n, heads, qk, tokens), [features])
        summary = add("summary", (n, heads, v + 1, qk), [values, k])
        mixed = add("mixed", (n, heads, v + 1, tokens), [summary, q])
        above = add("above", (n, heads, v, tokens), [mixed])
        below = add("below", (n, heads, one, tokens), [mixed])
        below = add("denominator", (n, heads, one, tokens), [below])
        quotient = add("quotient", (n, heads, v, tokens), [above, below])
        return add("tokens", (n, one, tokens, heads * v), [quotient])


def _number(condition: Condition) -> Dim:
    return condition if isinstance(condition, Expression) else int(condition)
