"""Blocks: compositions of primitives. A new block touches this file (or a user's own) alone."""

from __future__ import annotations

from search_spaces.expression import Dim, round_to
from search_spaces.network import NetworkBuilder, Tensor


def conv_norm_act(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    stride: Dim = 1,
    activation: str | None = "relu",
) -> Tensor:
    """Convolution, batch normalisation, and an activation unless it is None."""
    x = net.batch_norm(net.conv2d(x, channels, kernel=kernel, stride=stride))
    return x if activation is None else net.activation(x, activation)


def mbconv(
    net: NetworkBuilder,
    x: Tensor,
    channels: Dim,
    *,
    kernel: Dim,
    expansion: Dim,
    stride: int = 1,
    shortcut: bool,
    activation: str = "relu",
) -> Tensor:
    """The inverted bottleneck: expand, depthwise convolution, project, add.

    The hidden width is `channels_in * expansion` rounded to a multiple of 8. Kernels of
    onnxruntime work on blocks of 8 or 16 channels. ReLU is folded into the convolution there.

    References:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018,
        arXiv 1801.04381.
    """
    with net.scope("expand"):
        h = conv_norm_act(net, x, round_to(x.channels * expansion, 8), kernel=1)
    with net.scope("depthwise"):
        h = net.batch_norm(net.depthwise(h, kernel=kernel, stride=stride, name="conv"))
        h = net.activation(h, activation)
    with net.scope("project"):
        h = conv_norm_act(net, h, channels, kernel=1, activation=None)
    return net.add(x, h) if shortcut else h


def transformer(
    net: NetworkBuilder, x: Tensor, *, heads: Dim, head_dim: int, mlp_ratio: Dim
) -> Tensor:
    """The pre-norm transformer block on tokens: attention and MLP, each with a shortcut.

    The width of queries, keys and values is `heads * head_dim`, independent of the embedding; the
    hidden width of the MLP is `embedding * mlp_ratio` rounded to a multiple of 8.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929; fixed head
        dim as in Chen et al., AutoFormer, ICCV 2021, arXiv 2107.00651.
    """
    with net.scope("attention"):
        h = net.attention(net.layer_norm(x), heads=heads, qk_dim=head_dim)
        x = net.add(x, net.linear(h, x.channels, name="project"))
    with net.scope("mlp"):
        h = net.linear(net.layer_norm(x), round_to(x.channels * mlp_ratio, 8), name="expand")
        h = net.linear(net.activation(h, "gelu"), x.channels, name="project")
        return net.add(x, h)


def classifier(net: NetworkBuilder, x: Tensor, num_classes: int) -> Tensor:
    """Mean over all positions, then a linear map to the logits."""
    return net.linear(net.global_pool(x), num_classes, name="classifier")
