"""What a network's modules really do as they run: products, parameters, shapes of outputs.

Products are counted by torch at the level of its own operators, so nothing here knows the formulas
of the layer table. A multiply-accumulate is two of torch's floating-point operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernet import Subnet


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one layer's module did for one image.

    Attributes:
        macs: Its multiply-accumulates: of convolutions and of all matrix products.
        parameters: Its trainable parameters.
        shape: Of its output, without the batch.
    """

    macs: int
    parameters: int
    shape: tuple[int, ...]

    def fits(self, channels: int, height: int, width: int) -> bool:
        """Whether the output is a map of this size, as many tokens, or one vector."""
        vector = (channels,) if height * width == 1 else ()
        return self.shape in ((channels, height, width), (height * width, channels), vector)


@torch.no_grad()
def count(subnet: Subnet, images: Tensor) -> list[Counted]:
    """Runs a network and counts, for every layer behind the input in their order."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            shapes[name] = tuple(output.shape[1:])

        return hook

    handles = [
        module.register_forward_hook(note(name))  # type: ignore[arg-type]
        for name, module in subnet.layers.items()
    ]
    try:
        # attention written out, since not every fused form of it is counted
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            subnet(images)
    finally:
        for handle in handles:
            handle.remove()
    operations = counter.get_flop_counts()
    prefix = f"{type(subnet).__name__}.layers"
    return [
        Counted(
            macs=sum(operations.get(f"{prefix}.{name}", {}).values()) // (2 * len(images)),
            parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
            shape=shapes[name],
        )
        for name, module in subnet.layers.items()
    ]
