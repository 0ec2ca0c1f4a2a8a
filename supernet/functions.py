"""What primitives compute, as functions of tensors and a layer: shared by supernet and subnet."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import Layer

LINEAR_ATTENTION_EPSILON = 1e-6
"""Added to the denominator of linear attention, where no feature of a query is positive."""


def attention(x: Tensor, weight: Tensor, bias: Tensor, layer: Layer) -> Tensor:
    """Self-attention of tokens `n x tokens x width` with stacked query, key and value rows.

    Softmax attention has the scale `qk_dim^-1/2` and works in windows of `layer.window`
    positions a side, or on all positions where it is 0. Linear attention is
    `relu(q) (relu(k)^T v) / (relu(q) sum relu(k))` (Cai et al., EfficientViT, ICCV 2023).

    Returns:
        `n x tokens x (heads * v_dim)`, heads side by side.
    """
    n = x.shape[0]  # `len` would be a constant to torch's exporter
    qk, v = layer.heads * layer.qk_dim, layer.heads * layer.v_dim
    parts = torch.split(F.linear(x, weight, bias), [qk, qk, v], dim=-1)
    if layer.window:
        parts = tuple(_windows(part, layer) for part in parts)
    groups, tokens = parts[0].shape[:2]
    q, k, values = (p.reshape(groups, tokens, layer.heads, -1).transpose(1, 2) for p in parts)
    if layer.mixing_name == "linear":
        mixed = _linear_attention(q, k, values)
    else:
        mixed = F.scaled_dot_product_attention(q, k, values)
    mixed = mixed.transpose(1, 2).reshape(groups, tokens, v)
    return _unwindowed(mixed, layer, n) if layer.window else mixed


def _linear_attention(q: Tensor, k: Tensor, values: Tensor) -> Tensor:
    q, k = q.relu(), k.relu()
    mixed = q @ (k.transpose(2, 3) @ values)
    weight = q @ k.sum(2).unsqueeze(3)
    return mixed / (weight + LINEAR_ATTENTION_EPSILON)


def _windows(x: Tensor, layer: Layer) -> Tensor:
    """Tokens `n x HW x C` as windows `(n * windows) x w^2 x C`."""
    w, channels = layer.window, x.shape[2]
    rows, columns = layer.height // w, layer.width // w
    x = x.reshape(x.shape[0], rows, w, columns, w, channels).transpose(2, 3)
    return x.reshape(-1, w * w, channels)


def _unwindowed(x: Tensor, layer: Layer, n: int) -> Tensor:
    """Windows `(n * windows) x w^2 x C` as tokens `n x HW x C`."""
    w, channels = layer.window, x.shape[2]
    rows, columns = layer.height // w, layer.width // w
    x = x.reshape(n, rows, columns, w, w, channels).transpose(2, 3)
    return x.reshape(n, layer.tokens, channels)


def resize(x: Tensor, layer: Layer) -> Tensor:
    """A feature map at the layer's size: bilinear, antialiased, as two matrix products."""
    rows = resize_matrix(layer.in_height, layer.height).to(x)
    columns = resize_matrix(layer.in_width, layer.width).to(x)
    return rows @ x @ columns.T


@lru_cache(maxsize=256)
def resize_matrix(size: int, to: int) -> Tensor:
    """The `to x size` matrix of antialiased bilinear interpolation along one axis."""
    with torch.inference_mode(False), torch.no_grad():
        grid = torch.eye(size)[None, None]
        return F.interpolate(grid, size=(to, size), mode="bilinear", antialias=True)[0, 0]


def avg_pool(x: Tensor, layer: Layer) -> Tensor:
    """The mean over windows; padding does not count."""
    return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, count_include_pad=False)


def max_pool(x: Tensor, layer: Layer) -> Tensor:
    """The largest value in windows."""
    return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)


def squeeze(x: Tensor, layer: Layer) -> Tensor:
    """The mean over all positions, `n x C x 1 x 1`."""
    return x.mean((2, 3), keepdim=True)


def global_pool(x: Tensor, layer: Layer) -> Tensor:
    """The mean over the positions of a feature map or of tokens, `n x C`."""
    return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)


def add(shortcut: Tensor, x: Tensor, layer: Layer) -> Tensor:
    """The sum of two tensors."""
    return shortcut + x


def multiply(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    """A feature map times a value a channel."""
    return x * gate


def zeros(x: Tensor, layer: Layer) -> Tensor:
    """Zeros of the input's shape."""
    return torch.zeros_like(x)


def channel_shuffle(x: Tensor, layer: Layer) -> Tensor:
    """Channels of all groups in turn: `g x c` becomes `c x g`."""
    n, channels, height, width = x.shape
    x = x.reshape(n, layer.groups, channels // layer.groups, height, width).transpose(1, 2)
    return x.reshape(n, channels, height, width)


def to_tokens(x: Tensor, layer: Layer) -> Tensor:
    """A feature map `n x C x H x W` as tokens `n x HW x C`; a view where channels come last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(x: Tensor, layer: Layer) -> Tensor:
    """Tokens `n x HW x C` as a feature map `n x C x H x W`, channels last in memory."""
    return x.reshape(-1, layer.height, layer.width, layer.channels).permute(0, 3, 1, 2)


def scale(x: Tensor, weight: Tensor) -> Tensor:
    """Every channel of a map or of tokens times its factor."""
    return x * (weight.view(-1, 1, 1) if x.ndim == 4 else weight)


def concat(*tensors: Tensor) -> Tensor:
    """Maps or tokens side by side along the channels."""
    return torch.cat(tensors, dim=1 if tensors[0].ndim == 4 else -1)
