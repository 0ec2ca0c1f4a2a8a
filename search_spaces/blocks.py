"""Blocks: compositions of primitives. A new block touches this file (or a user's own) alone."""

from __future__ import annotations

from collections.abc import Sequence

from records import BadInputError, unknown_name
from search_spaces.builder import Tensor
from search_spaces.expression import (
    Condition,
    Dim,
    Expression,
    both,
    is_equal,
    make_divisible,
    negate,
    round_to,
    where,
)
from search_spaces.network import NetworkBuilder

SCALINGS = ("none", "layer", "switchable")


def at_resolution(net: NetworkBuilder, images: Tensor, resolutions: Sequence[int]) -> Tensor:
    """The images at a resolution that is chosen among those given; with none as they are.

    Raises:
        BadInputError: A resolution above that of the images.
    """
    if not resolutions:
        return images
    if isinstance(images.height, int) and max(resolutions) > images.height:
        raise BadInputError(
            f"resolutions are at most the images' {images.height} pixels, got {resolutions}; "
            "make the space with a larger image_size"
        )
    resolution = net.choice("resolution", resolutions)
    with net.when(negate(is_equal(resolution, images.height))):
        return net.resize(images, resolution)


def residual_slot(scaling: str, sizes: Sequence[tuple[Dim, Sequence[int]]]) -> Dim | None:
    """The slot of the learned scales of residual branches.

    Args:
        scaling: `none`; `layer` for one vector of factors a branch (LayerScale); `switchable` for
            one for every combination of the sizes (NASViT).
        sizes: Chosen sizes, such as width and depth of a stage, each with its values.

    Returns:
        What `scale_slot` of the blocks takes.

    Raises:
        UnknownNameError: Another scaling.
    """
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS)
    if scaling == "none":
        return None
    slot: Dim = 0
    if scaling == "switchable":
        for chosen, values in sizes:
            place: Dim = 0
            for index, value in enumerate(sorted(values)):
                place = where(is_equal(chosen, value), index, place)
            slot = slot * len(values) + place
    return slot


def conv_norm_act(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    stride: Dim = 1,
    groups: Dim = 1,
    activation: str | Expression | None = "relu",
) -> Tensor:
    """Convolution, batch normalisation, and an activation unless it is None."""
    x = net.batch_norm(net.conv2d(x, channels, kernel=kernel, stride=stride, groups=groups))
    return x if activation is None else net.activation(x, activation)


def rep_conv(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    stride: Dim = 1,
    groups: Dim = 1,
    identity: Condition | None = None,
    activation: str | Expression | None = "relu",
) -> Tensor:
    """A convolution that trains as a sum of branches and runs as one (re-parameterisation).

    The branches are a `kernel x kernel` convolution and a 1x1 convolution, each with its norm,
    and, where the shape is kept, a norm of the input itself. The sum is one convolution with other
    weights, `supernet.reparameterise` finds them, and exported files have that one. The layer
    table counts what is trained, all branches; the kernel table counts what runs.

    Args:
        net: The network.
        x: A feature map.
        channels: Of the output.
        kernel: Of the wide branch, odd.
        stride: Of both convolutions.
        groups: Of both convolutions.
        identity: Where the input's own norm is a branch; None for wherever stride is 1 and the
            channels stay.
        activation: Behind the sum, unless it is None.

    Raises:
        BadInputError: An even kernel, whose output would have another size than the 1x1 branch's.

    References:
        Ding et al., RepVGG: Making VGG-style ConvNets Great Again, CVPR 2021, arXiv 2101.03697.
    """
    net.require(is_equal(kernel - (kernel // 2) * 2, 1), "rep_conv would have an even kernel")
    if identity is None:
        identity = both(is_equal(stride, 1), is_equal(channels, x.channels))
    with net.scope("wide"):
        y = conv_norm_act(
            net, x, channels, kernel=kernel, stride=stride, groups=groups, activation=None
        )
    with net.scope("point"):
        point = conv_norm_act(
            net, x, channels, kernel=1, stride=stride, groups=groups, activation=None
        )
    y = net.add(y, point, name="sum")
    with net.scope("identity"), net.when(identity):
        y = net.add(y, net.batch_norm(x), name="sum")
    return y if activation is None else net.activation(y, activation)


def squeeze_excite(
    net: NetworkBuilder,
    x: Tensor,
    *,
    hidden: Dim | None = None,
    activation: str = "relu",
    gate: str = "hardsigmoid",
) -> Tensor:
    """Weighs the channels by what the whole map shows of them.

    The hidden width is a quarter of the channels, divisible by 8, unless given. The means stay a
    map of one position, so that runtimes keep their layout of convolutions.

    References:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv 1709.01507.
    """
    with net.scope("se"):
        h = net.squeeze(x)
        width = make_divisible(x.channels // 4, 8) if hidden is None else hidden
        h = net.conv2d(h, width, kernel=1, bias=True, name="reduce")
        h = net.conv2d(
            net.activation(h, activation), x.channels, kernel=1, bias=True, name="expand"
        )
        return net.multiply(x, net.activation(h, gate, name="gate"))


def mbconv(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    expansion: Dim,
    stride: Dim = 1,
    shortcut: Condition,
    activation: str | Expression = "relu",
    se: Condition = False,
    se_hidden: Dim | None = None,
    se_activation: str = "relu",
    se_gate: str = "hardsigmoid",
    hidden: Dim | None = None,
    expand_by_one: bool = True,
    scale_slot: Dim | None = None,
) -> Tensor:
    """The inverted bottleneck: expand, depthwise convolution, project, add.

    Args:
        net: The network.
        x: A feature map.
        channels: Of the output.
        kernel: Of the depthwise convolution.
        expansion: Ratio of hidden to input channels.
        stride: Of the depthwise convolution.
        shortcut: Where the input is added; channels and size must then agree.
        activation: Behind the expansion and the depthwise convolution. ReLU is folded into the
            convolution by onnxruntime.
        se: Where squeeze-and-excitation follows the depthwise convolution.
        se_hidden: Its hidden width.
        se_activation: Its activation.
        se_gate: Its gate.
        hidden: The hidden width; unless given, `channels_in * expansion` rounded to a multiple of
            8, since kernels work on blocks of 8 or 16 channels.
        expand_by_one: Whether an expansion of 1 still has its convolution.
        scale_slot: Scales the branch by learned factors per channel, of this slot.

    References:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018,
        arXiv 1801.04381; Howard et al., MobileNetV3, ICCV 2019, arXiv 1905.02244.
    """
    width = round_to(x.channels * expansion, 8) if hidden is None else hidden
    h = x
    with net.scope("expand"), net.when(expand_by_one or negate(is_equal(expansion, 1))):
        h = conv_norm_act(net, h, width, kernel=1, activation=activation)
    with net.scope("depthwise"):
        h = net.batch_norm(net.depthwise(h, kernel=kernel, stride=stride, name="conv"))
        h = net.activation(h, activation)
    with net.when(se):
        h = squeeze_excite(net, h, hidden=se_hidden, activation=se_activation, gate=se_gate)
    with net.scope("project"):
        h = conv_norm_act(net, h, channels, kernel=1, activation=None)
    return residual(net, x, h, where=shortcut, scale_slot=scale_slot)


def fused_mbconv(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    expansion: Dim,
    stride: Dim = 1,
    shortcut: Condition,
    activation: str | Expression = "relu",
) -> Tensor:
    """The inverted bottleneck with expansion and depthwise convolution in one dense convolution.

    References:
        Xiong et al., MobileDets, CVPR 2021, arXiv 2004.14525; Tan & Le, EfficientNetV2, ICML 2021,
        arXiv 2104.00298.
    """
    with net.scope("expand"):
        h = conv_norm_act(net, x, round_to(x.channels * expansion, 8), kernel=kernel,
                          stride=stride, activation=activation)  # fmt: skip
    with net.scope("project"):
        h = conv_norm_act(net, h, channels, kernel=1, activation=None)
    return residual(net, x, h, where=shortcut)


def residual(
    net: NetworkBuilder,
    x: Tensor,
    branch: Tensor,
    *,
    where: Condition = True,
    scale_slot: Dim | None = None,
) -> Tensor:
    """Input plus branch where the condition holds, the branch alone elsewhere."""
    if where is False:
        return branch
    if scale_slot is not None:
        with net.when(where):
            branch = net.scale(branch, slot=scale_slot)
    if where is True:
        return net.add(x, branch)
    with net.when(where):
        # a skipped layer passes on its first input, here the branch
        return net.add(branch, x)


def transformer(
    net: NetworkBuilder,
    x: Tensor,
    *,
    heads: Dim,
    head_dim: Dim,
    mlp_ratio: Dim,
    v_dim: Dim | None = None,
    window: Dim = 0,
    mixing: str | Expression = "softmax",
    activation: str | Expression = "gelu",
    hidden: Dim | None = None,
    scale_slot: Dim | None = None,
) -> Tensor:
    """The pre-norm transformer block on tokens: attention and MLP, each with a shortcut.

    The width of queries, keys and values is `heads * head_dim`, independent of the embedding; the
    hidden width of the MLP is `embedding * mlp_ratio` rounded to a multiple of 8 unless given.
    `v_dim`, `window` and `mixing` are those of `NetworkBuilder.attention`; `scale_slot` scales
    both branches by learned factors per channel.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929; fixed head
        dim as in Chen et al., AutoFormer, ICCV 2021, arXiv 2107.00651.
    """
    with net.scope("attention"):
        h = net.attention(
            net.layer_norm(x), heads=heads, qk_dim=head_dim, v_dim=v_dim, window=window,
            mixing=mixing,
        )  # fmt: skip
        x = residual(net, x, net.linear(h, x.channels, name="project"), scale_slot=scale_slot)
    with net.scope("mlp"):
        width = round_to(x.channels * mlp_ratio, 8) if hidden is None else hidden
        h = net.linear(net.layer_norm(x), width, name="expand")
        h = net.linear(net.activation(h, activation), x.channels, name="project")
        return residual(net, x, h, scale_slot=scale_slot)


def classifier(net: NetworkBuilder, x: Tensor, num_classes: int) -> Tensor:
    """Mean over all positions, then a linear map to the logits."""
    return net.linear(net.global_pool(x), num_classes, name="classifier")
