"""Self-attention and position embeddings with elastic sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Layer
from supernet.elastic.primitive import ElasticPrimitive, Weights, check_shapes, largest
from supernet.functions import attention, resize_matrix


class Attention(ElasticPrimitive):
    """Self-attention with elastic width, heads, query/key and value dims.

    The weights are kept per head, `heads x dim x width`, apart for queries, keys and values; a
    subnet takes the first heads, the first dims of each and the first input channels. The subnet's
    `weight` stacks query, key and value rows. Windows and the kind of mixing need no weights, so
    subnets that differ in them share all.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        heads, qk, v, width = largest(variants, "heads", "qk_dim", "v_dim", "in_channels")
        self.query = nn.Parameter(torch.empty(heads, qk, width))
        self.key = nn.Parameter(torch.empty(heads, qk, width))
        self.value = nn.Parameter(torch.empty(heads, v, width))
        self.query_bias = nn.Parameter(torch.zeros(heads, qk))
        self.key_bias = nn.Parameter(torch.zeros(heads, qk))
        self.value_bias = nn.Parameter(torch.zeros(heads, v))

    def reset(self, generator: torch.Generator) -> None:
        for weight in (self.query, self.key, self.value):
            nn.init.normal_(weight, std=weight.shape[2] ** -0.5, generator=generator)

    def _parts(self, layer: Layer) -> list[tuple[Tensor, Tensor]]:
        """The slices of queries, keys and values: weights `heads x dim x width` and biases."""
        h, d = layer.heads, layer.in_channels
        return [
            (self.query[:h, : layer.qk_dim, :d], self.query_bias[:h, : layer.qk_dim]),
            (self.key[:h, : layer.qk_dim, :d], self.key_bias[:h, : layer.qk_dim]),
            (self.value[:h, : layer.v_dim, :d], self.value_bias[:h, : layer.v_dim]),
        ]

    def weights(self, layer: Layer) -> Weights:
        parts = self._parts(layer)
        weight = torch.cat([w.reshape(-1, layer.in_channels) for w, _ in parts])
        bias = torch.cat([b.reshape(-1) for _, b in parts])
        return {"weight": weight, "bias": bias}

    def stacks(self, layer: Layer) -> dict[str, list[Tensor]]:
        parts = self._parts(layer)
        return {"weight": [w for w, _ in parts], "bias": [b for _, b in parts]}

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return attention(inputs[0], weights["weight"], weights["bias"], layer)

    @torch.no_grad()
    def set_weights(self, layer: Layer, weights: Weights) -> None:
        check_shapes(layer, self.weights(layer), weights)
        start = 0
        for weight, bias in self._parts(layer):
            rows = slice(start, start + bias.numel())
            weight.copy_(weights["weight"][rows].view(weight.shape))
            bias.copy_(weights["bias"][rows].view(bias.shape))
            start = rows.stop


class Position(ElasticPrimitive):
    """Learned position embeddings, kept as the largest grid, resized bilinearly to others."""

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        self.embedding = nn.Parameter(
            torch.empty(largest(variants, "channels", "height", "width"))
        )

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.embedding, std=0.02, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        grid = self.embedding[: layer.channels]
        size = (layer.height, layer.width)
        if grid.shape[1:] != size:
            grid = F.interpolate(grid[None], size=size, mode="bilinear", antialias=True)[0]
        return {"embedding": grid.flatten(1).T}  # tokens x channels

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return inputs[0] + weights["embedding"]

    @torch.no_grad()
    def set_weights(self, layer: Layer, weights: Weights) -> None:
        """As for every primitive.

        An embedding of another grid than the largest is resized, and corrected by the least
        change after which resizing it back gives what was set.
        """
        check_shapes(layer, self.weights(layer), weights)
        given = weights["embedding"].T.reshape(-1, layer.height, layer.width)
        size = self.embedding.shape[1:]
        grid = given
        if given.shape[1:] != size:
            grid = F.interpolate(given[None], size=tuple(size), mode="bilinear")[0]
            rows = resize_matrix(size[0], layer.height).to(grid)
            columns = resize_matrix(size[1], layer.width).to(grid)
            missing = given - rows @ grid @ columns.T
            grid = grid + torch.linalg.pinv(rows) @ missing @ torch.linalg.pinv(columns).T
        self.embedding[: layer.channels].copy_(grid)
