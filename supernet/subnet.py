"""The subnet: a plain static module of one architecture, with no trace of elasticity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from records import BadInputError, CorruptFileError, new_folder, read_json, write_bytes, write_json
from search_spaces import Graph, Layer
from supernet.blank import blank_module
from supernet.freed_memory import keep_freed_memory
from supernet.static import STATIC


class Subnet(nn.Module):
    """One architecture's network; its modules are named as the layers are declared.

    Args:
        graph: The layers.
        weights: The state dict; with None the weights are those that each module starts with.
        seed: Seed of that initialisation.
    """

    def __init__(
        self, graph: Graph, weights: dict[str, Tensor] | None = None, *, seed: int = 0
    ) -> None:
        keep_freed_memory()
        super().__init__()
        self.graph = graph
        if weights is None:
            generator = torch.Generator().manual_seed(seed)
            with torch.random.fork_rng(devices=[]):
                torch.random.set_rng_state(generator.get_state())
                self.layers = _modules(graph, lambda layer: STATIC[layer.operator](layer))
        else:
            self.layers = _modules(graph, blank_module)
            _assign(self.layers, weights)

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
            weights = load_file(folder / "weights.safetensors")
            # copies of their own: what lies in a file's buffer may start at any address
            subnet = Subnet(graph, {name: value.clone() for name, value in weights.items()})
        except (BadInputError, SafetensorError, RuntimeError, ValueError, OSError) as error:
            raise CorruptFileError(f"{folder} holds no subnet of this version: {error}") from error
        return subnet.eval()


def _assign(layers: nn.ModuleDict, weights: Mapping[str, Tensor]) -> None:
    """Puts a state dict in place, without a copy.

    Module by module, since torch's own way searches all names once a module.

    Raises:
        RuntimeError: Names or shapes that do not fit.
    """
    of_layer: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        prefix, _, rest = name.partition(".")
        key, _, own = rest.partition(".")
        if prefix != "layers" or key not in layers:
            raise RuntimeError(f"no layer of the network has a weight {name!r}")
        of_layer.setdefault(key, {})[own] = value
    for key, module in layers.items():
        own_weights = of_layer.get(key, {})
        names = {**module._parameters, **module._buffers}
        shapes = {n: value.shape for n, value in names.items() if value is not None}
        if module._modules or shapes != {n: value.shape for n, value in own_weights.items()}:
            module.load_state_dict(own_weights, assign=True)  # nested modules, or the error
            continue
        for n, value in own_weights.items():
            if n in module._parameters:
                module._parameters[n] = nn.Parameter(value)
            else:
                module._buffers[n] = value


def _modules(graph: Graph, make: Callable[[Layer], nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({_key(layer.name): make(layer) for layer in graph.layers[1:]})


def _key(name: str) -> str:
    """torch does not allow dots in a module's name."""
    return name.replace(".", "_")
