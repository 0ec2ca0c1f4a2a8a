"""The subnet: a plain static module of one architecture, with no trace of elasticity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from records import BadInputError, CorruptFileError, new_folder, read_json, write_bytes, write_json
from search_spaces import Graph, Layer
from supernet.elastic import BATCH_NORM_EPSILON, LAYER_NORM_EPSILON, attention


class SelfAttention(nn.Module):
    """Query, key and value projections and scaled dot-product attention.

    `weight` stacks the rows of queries, keys and values, each head by head.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        rows = layer.heads * (2 * layer.qk_dim + layer.v_dim)
        self.layer = layer
        self.weight = nn.Parameter(torch.empty(rows, layer.in_channels))
        self.bias = nn.Parameter(torch.empty(rows))

    def forward(self, x: Tensor) -> Tensor:
        return attention(x, self.weight, self.bias, self.layer)

    def extra_repr(self) -> str:
        return f"{self.layer.in_channels}, heads={self.layer.heads}, dim={self.layer.qk_dim}"


class PositionEmbedding(nn.Module):
    """Adds a learned vector to each token."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(layer.tokens, layer.channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding


class Add(nn.Module):
    """The sum of shortcut and branch."""

    def forward(self, shortcut: Tensor, x: Tensor) -> Tensor:
        return shortcut + x


class ToTokens(nn.Module):
    """A feature map `n x C x H x W` as tokens `n x HW x C`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2)


class ToMap(nn.Module):
    """Tokens `n x HW x C` as a feature map `n x C x H x W`."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.size = (layer.height, layer.width, layer.channels)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.size).permute(0, 3, 1, 2)


class GlobalPool(nn.Module):
    """The mean over the positions of a feature map or of tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)


def _conv2d(layer: Layer) -> nn.Module:
    return nn.Conv2d(
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        bias=bool(layer.bias),
    )


def _activation(layer: Layer) -> nn.Module:
    kinds: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "hardswish": nn.Hardswish,
    }
    return kinds[layer.activation_name]()


STATIC: dict[str, Callable[[Layer], nn.Module]] = {
    "conv2d": _conv2d,
    "batch_norm": lambda layer: nn.BatchNorm2d(layer.channels, eps=BATCH_NORM_EPSILON),
    "layer_norm": lambda layer: nn.LayerNorm(layer.channels, eps=LAYER_NORM_EPSILON),
    "linear": lambda layer: nn.Linear(layer.in_channels, layer.channels, bias=bool(layer.bias)),
    "attention": SelfAttention,
    "position": PositionEmbedding,
    "activation": _activation,
    "add": lambda layer: Add(),
    "to_tokens": lambda layer: ToTokens(),
    "to_map": ToMap,
    "global_pool": lambda layer: GlobalPool(),
}


class Subnet(nn.Module):
    """One architecture's network; its modules are named as the layers are declared.

    Args:
        graph: The layers.
        weights: The state dict; with None the weights are torch's own initialisation where a
            layer has one, and otherwise drawn from a normal distribution.
        seed: Seed of that initialisation.
    """

    def __init__(
        self, graph: Graph, weights: dict[str, Tensor] | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.graph = graph
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(generator.get_state())
            self.layers = nn.ModuleDict(
                {_key(layer.name): STATIC[layer.operator](layer) for layer in graph.layers[1:]}
            )
        for module in self.layers.values():
            if isinstance(module, SelfAttention):
                std = module.weight.shape[1] ** -0.5
                nn.init.normal_(module.weight, std=std, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, PositionEmbedding):
                nn.init.normal_(module.embedding, std=0.02, generator=generator)
        if weights is not None:
            self.load_state_dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `n x classes` of images `n x channels x height x width`."""
        outputs = [images]
        for layer, module in zip(self.graph.layers[1:], self.layers.values(), strict=True):
            outputs.append(module(*(outputs[i] for i in layer.inputs)))
        return outputs[-1]

    def arrays(self, layer: Layer) -> dict[str, npt.NDArray[np.float32]]:
        """The weights and statistics of a layer as arrays, by their names in the module."""
        state = self.layers[_key(layer.name)].state_dict()
        return {
            name: value.detach().cpu().numpy()
            for name, value in state.items()
            if name != "num_batches_tracked"
        }

    def save(self, folder: str | Path) -> Path:
        """Writes `graph.json` and `weights.safetensors` into a new folder."""
        with new_folder(folder) as new:
            write_json(new / "graph.json", self.graph.to_json())
            state = {k: v.contiguous() for k, v in self.state_dict().items()}
            write_bytes(new / "weights.safetensors", save(state))
        return Path(folder)

    @staticmethod
    def load(folder: str | Path) -> Subnet:
        """The subnet that `save` wrote, in eval mode.

        Raises:
            CorruptFileError: Missing, damaged or foreign files.
        """
        folder = Path(folder)
        try:
            graph = Graph.from_json(read_json(folder / "graph.json", kind="graph"))
            subnet = Subnet(graph, load_file(folder / "weights.safetensors"))
        except (BadInputError, SafetensorError, RuntimeError, ValueError, OSError) as error:
            raise CorruptFileError(f"{folder} holds no subnet of this version: {error}") from error
        return subnet.eval()


def _key(name: str) -> str:
    """torch does not allow dots in a module's name."""
    return name.replace(".", "_")
