"""How a space declares its networks: the largest network, written once, with choices inside.

A space's `build` method calls a `NetworkBuilder` much as a torch module's `forward` calls layers.
Sizes may be choices. Layers declared inside `with net.when(condition)` are skipped where the
condition fails, and **a skipped layer passes on its first input**: so a chain of optional blocks
is elastic depth, and two optional blocks with opposite conditions are a choice of block. An `add`
takes the shortcut as its first input for that reason.

From this one declaration come the layer table, the supernet, the extracted module and the ONNX
file.
"""

from __future__ import annotations

from records import BadInputError, unknown_name
from search_spaces.builder import MAP, TOKENS, VECTOR, Builder, Node, Tensor
from search_spaces.expression import Dim, Expression, either, is_equal, negate, where
from search_spaces.primitives import ACTIVATIONS, MIXINGS

__all__ = ["NetworkBuilder", "Node", "Tensor"]


class NetworkBuilder(Builder):
    """The primitives as methods; see `Builder` for choices, conditions and scopes."""

    def input(self, channels: int, height: int, width: int) -> Tensor:
        """The images that the network reads."""
        if self.nodes:
            raise BadInputError("a network has one input, declared first")
        return self.primitive("input", (), channels=channels, height=height, width=width, form=MAP)

    # ---- convolution and pooling on feature maps -----------------------------------------------

    def conv2d(
        self,
        x: Tensor,
        channels: Dim,
        *,
        kernel: Dim,
        stride: Dim = 1,
        groups: Dim = 1,
        padding: Dim | None = None,
        dilation: Dim = 1,
        bias: bool = False,
        name: str = "conv",
    ) -> Tensor:
        """A convolution with square kernels; `padding` is `dilation * (kernel // 2)` unless given.

        Raises:
            BadInputError: A kernel, stride, dilation or group count below 1; groups that do not
                divide the channels; an input that is no feature map.
        """
        what = f"layer {self._path(name)!r}"
        self._require_form(x, MAP, what)
        sizes = (("kernel", kernel), ("stride", stride), ("dilation", dilation),
                 ("group count", groups))  # fmt: skip
        for size_name, size in sizes:
            self.require(_at_least(size, 1), f"{what} would have a {size_name} below 1")
        if not (isinstance(groups, int) and groups == 1):
            for side, size in (("input", x.channels), ("output", channels)):
                fits = is_equal(size - (size // groups) * groups, 0)
                self.require(fits, f"{what} has groups that do not divide its {side} channels")
        pad = dilation * (kernel // 2) if padding is None else padding
        reach = dilation * (kernel - 1) + 1
        return self.primitive(
            "conv2d",
            (x,),
            name=name,
            channels=channels,
            height=(x.height + 2 * pad - reach) // stride + 1,
            width=(x.width + 2 * pad - reach) // stride + 1,
            kernel=kernel,
            stride=stride,
            padding=pad,
            dilation=dilation,
            groups=groups,
            bias=int(bias),
        )

    def depthwise(
        self, x: Tensor, *, kernel: Dim, stride: Dim = 1, name: str = "depthwise"
    ) -> Tensor:
        """A convolution of every channel by itself."""
        return self.conv2d(
            x, x.channels, kernel=kernel, stride=stride, groups=x.channels, name=name
        )

    def avg_pool(
        self, x: Tensor, *, kernel: Dim, stride: Dim = 1, padding: Dim = 0, name: str = "pool"
    ) -> Tensor:
        """The mean over square windows of a feature map; padding does not count in the mean."""
        return self._pool("avg_pool", x, kernel, stride, padding, name)

    def max_pool(
        self, x: Tensor, *, kernel: Dim, stride: Dim = 1, padding: Dim = 0, name: str = "pool"
    ) -> Tensor:
        """The largest value in square windows of a feature map."""
        return self._pool("max_pool", x, kernel, stride, padding, name)

    def _pool(
        self, operator: str, x: Tensor, kernel: Dim, stride: Dim, padding: Dim, name: str
    ) -> Tensor:
        what = f"layer {self._path(name)!r}"
        self._require_form(x, MAP, what)
        for size_name, size in (("kernel", kernel), ("stride", stride)):
            self.require(_at_least(size, 1), f"{what} would have a {size_name} below 1")
        wide = negate(_at_least(padding * 2, kernel + 1))
        self.require(wide, f"{what} would have padding of more than half its kernel")
        return self.primitive(
            operator,
            (x,),
            name=name,
            height=(x.height + 2 * padding - kernel) // stride + 1,
            width=(x.width + 2 * padding - kernel) // stride + 1,
            kernel=kernel,
            stride=stride,
            padding=padding,
        )

    def global_pool(self, x: Tensor, name: str = "pool") -> Tensor:
        """The mean over all positions of a feature map or a sequence, one vector an image."""
        return self.primitive("global_pool", (x,), height=1, width=1, form=VECTOR, name=name)

    def squeeze(self, x: Tensor, name: str = "squeeze") -> Tensor:
        """The mean over all positions of a feature map, as a map of one position."""
        self._require_form(x, MAP, f"layer {self._path(name)!r}")
        return self.primitive("squeeze", (x,), height=1, width=1, name=name)

    def resize(
        self, x: Tensor, height: Dim, width: Dim | None = None, *, name: str = "resize"
    ) -> Tensor:
        """A feature map or images at another size, by bilinear interpolation.

        Going down, every output is a mean over the inputs that it covers (antialiasing).
        """
        what = f"layer {self._path(name)!r}"
        self._require_form(x, MAP, what)
        self.require(_at_least(height, 1), f"{what} would resize to a height below 1")
        wide = height if width is None else width
        return self.primitive("resize", (x,), height=height, width=wide, name=name)

    def channel_shuffle(self, x: Tensor, groups: Dim, name: str = "shuffle") -> Tensor:
        """Reorders channels so that the next grouped convolution sees all groups.

        References:
            Zhang et al., ShuffleNet, CVPR 2018, arXiv 1707.01083.
        """
        what = f"layer {self._path(name)!r}"
        self._require_form(x, MAP, what)
        fits = is_equal(x.channels - (x.channels // groups) * groups, 0)
        self.require(fits, f"{what} has groups that do not divide its channels")
        return self.primitive("channel_shuffle", (x,), groups=groups, name=name)

    def zeros(self, x: Tensor, name: str = "zeros") -> Tensor:
        """A feature map of zeros of the input's shape: a connection that is cut."""
        self._require_form(x, MAP, f"layer {self._path(name)!r}")
        return self.primitive("zeros", (x,), name=name)

    # ---- normalisation, activation, arithmetic -------------------------------------------------

    def batch_norm(self, x: Tensor, name: str = "norm") -> Tensor:
        """Normalisation per channel over batch and positions (Ioffe & Szegedy, 2015)."""
        self._require_form(x, MAP, f"layer {self._path(name)!r}")
        return self.primitive("batch_norm", (x,), name=name)

    def layer_norm(self, x: Tensor, name: str = "norm") -> Tensor:
        """Normalisation of every token over its channels (Ba et al., 2016)."""
        self.require(
            negate(is_equal(x.form, MAP)),
            f"layer {self._path(name)!r} works on tokens but would get a feature map: use "
            "to_tokens",
        )
        return self.primitive("layer_norm", (x,), name=name)

    def activation(self, x: Tensor, kind: str | Expression, name: str = "activation") -> Tensor:
        """An activation function by name, which may be a choice; see `ACTIVATIONS`."""
        return self.primitive(
            "activation",
            (x,),
            activation=self._index_of("activation", kind, ACTIVATIONS, 1),
            name=name,
        )

    def add(self, shortcut: Tensor, x: Tensor, name: str = "add") -> Tensor:
        """The sum of two tensors of equal shape; the shortcut stays where the layer is skipped.

        Raises:
            BadInputError: Shapes that differ, for some setting of the choices.
        """
        self._require_same(
            "channels height width form", shortcut, x, f"layer {self._path(name)!r} adds"
        )
        return self.primitive("add", (shortcut, x), name=name)

    def multiply(self, x: Tensor, gate: Tensor, name: str = "multiply") -> Tensor:
        """A feature map times a gate of one value a channel (a map of one position)."""
        what = f"layer {self._path(name)!r}"
        self._require_form(x, MAP, what)
        self._require_same("channels form", x, gate, f"{what} multiplies")
        self.require(
            is_equal(gate.height * gate.width, 1),
            f"{what} takes a gate of one position: make it with squeeze",
        )
        return self.primitive("multiply", (x, gate), name=name)

    def scale(self, x: Tensor, *, slot: Dim = 0, name: str = "scale") -> Tensor:
        """Every channel times a learned factor, starting at 1e-4: a quiet residual branch.

        With a `slot` that depends on choices there is one vector of factors for each value
        (0, 1, 2 ...), and subnets of different sizes use different ones.

        References:
            Touvron et al., LayerScale, ICCV 2021, arXiv 2103.17239; Gong et al., NASViT, ICLR
            2022 (switchable scaling).
        """
        what = f"layer {self._path(name)!r}"
        self.require(_at_least(slot, 0), f"{what} would have a slot below 0")
        return self.primitive("scale", (x,), slot=slot, name=name)

    def concat(self, *tensors: Tensor, name: str = "concat") -> Tensor:
        """Maps or tokens side by side along the channels.

        Where the width of a tensor in front is a choice, later channels change their place and
        with it the shared weights that read them.
        """
        first, *others = tensors
        for other in others:
            self._require_same(
                "height width form", first, other, f"layer {self._path(name)!r} joins"
            )
        total = first.channels
        for other in others:
            total = total + other.channels
        return self.primitive("concat", tensors, channels=total, name=name)

    # ---- tokens --------------------------------------------------------------------------------

    def to_tokens(self, x: Tensor, name: str = "to_tokens") -> Tensor:
        """A feature map as a sequence of tokens, row by row."""
        self._require_form(x, MAP, f"layer {self._path(name)!r}")
        return self.primitive("to_tokens", (x,), form=TOKENS, name=name)

    def to_map(self, x: Tensor, name: str = "to_map") -> Tensor:
        """A sequence of tokens as the feature map that it came from."""
        self._require_form(x, TOKENS, f"layer {self._path(name)!r}")
        return self.primitive("to_map", (x,), form=MAP, name=name)

    def position(self, x: Tensor, name: str = "position") -> Tensor:
        """Adds a learned embedding of each position to the tokens."""
        self._require_form(x, TOKENS, f"layer {self._path(name)!r}")
        return self.primitive("position", (x,), name=name)

    def attention(
        self,
        x: Tensor,
        *,
        heads: Dim,
        qk_dim: Dim | None = None,
        v_dim: Dim | None = None,
        window: Dim = 0,
        mixing: str | Expression = "softmax",
        name: str = "attention",
    ) -> Tensor:
        """Self-attention with its query, key and value projections (Vaswani et al., 2017).

        The result has `heads * v_dim` channels and is usually followed by a `linear`.

        Args:
            x: The tokens.
            heads: The number of heads.
            qk_dim: Width of queries and keys of a head; unless given the heads share the width of
                the input, which they must divide. `heads * qk_dim` need not equal that width.
            v_dim: Width of values of a head, as `qk_dim` unless given.
            window: Side of the windows in which attention works, 0 for all positions (Liu et al.,
                Swin Transformer, ICCV 2021, arXiv 2103.14030; not shifted).
            mixing: `softmax`, or `linear` for kernelised attention with ReLU features, whose cost
                grows with the number of tokens only (Cai et al., EfficientViT, ICCV 2023, arXiv
                2205.14756); linear attention works on all positions.
            name: The layer's name.

        Raises:
            BadInputError: Heads that do not divide the width, windows that do not divide the map,
                for some setting of the choices.
        """
        what = f"layer {self._path(name)!r}"
        self._require_form(x, TOKENS, what)
        self.require(_at_least(heads, 1), f"{what} would have fewer than 1 head")
        if qk_dim is None:
            qk_dim = x.channels // heads
            self.require(
                is_equal(qk_dim * heads, x.channels),
                f"{what} has heads that do not divide its width; give qk_dim to set the width of "
                "a head freely",
            )
        self.require(_at_least(qk_dim, 1), f"{what} would have heads of a width below 1")
        v = qk_dim if v_dim is None else v_dim
        mixing_index = self._index_of("mixing", mixing, MIXINGS, 0)
        is_global = is_equal(window, 0)
        side = where(is_global, 1, window)
        for size_name, size in (("height", x.height), ("width", x.width)):
            self.require(
                is_equal(size - (size // side) * side, 0),
                f"{what} has windows that do not divide the map's {size_name}",
            )
        self.require(
            either(is_global, is_equal(mixing_index, MIXINGS.index("softmax"))),
            f"{what}: linear attention works on all positions, window must be 0",
        )
        return self.primitive(
            "attention",
            (x,),
            channels=heads * v,
            heads=heads,
            qk_dim=qk_dim,
            v_dim=v,
            window=window,
            mixing=mixing_index,
            bias=1,
            name=name,
        )

    def linear(self, x: Tensor, channels: Dim, *, bias: bool = True, name: str) -> Tensor:
        """The same linear map of every token, or of the vector."""
        self.require(
            negate(is_equal(x.form, MAP)),
            f"layer {self._path(name)!r} works on tokens but would get a feature map: use "
            "to_tokens, global_pool or a 1x1 convolution",
        )
        return self.primitive("linear", (x,), channels=channels, bias=int(bias), name=name)

    def _index_of(
        self, what: str, kind: str | Expression, known: tuple[str, ...], first: int
    ) -> Dim:
        """The place of a name, or of a choice among names, in a tuple of known ones."""
        if isinstance(kind, str):
            if kind not in known[first:]:
                raise unknown_name(what, kind, known[first:])
            return known.index(kind)
        for choice in self.choices:
            if kind.operation == "choice" and choice.name in kind.choices:
                for value in map(str, choice.values):
                    if value not in known[first:]:
                        raise unknown_name(what, value, known[first:])
        index: Dim = first
        for place, name in enumerate(known):
            if place > first:
                index = where(is_equal(kind, name), place, index)
        return self._simple(index)


def _at_least(size: Dim, least: Dim) -> bool | Expression:
    return size >= least if isinstance(size, Expression) else negate(_below(size, least))


def _below(size: Dim, least: Dim) -> bool | Expression:
    return least > size if isinstance(least, Expression) else bool(size < least)
