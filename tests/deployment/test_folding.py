import numpy as np
import pytest
import torch

from deployment.emission.emission import Emission
from deployment.emission.folding import foldable, folded_weights
from tests.deployment.doubles import GATED, ODD, ZOO, rows_of, shaken_subnet


@pytest.mark.parametrize("space", [GATED, ODD, ZOO], ids=lambda space: space.name)
def test_folded_weights_compute_what_the_layers_compute_one_after_the_other(space):
    generator = torch.Generator().manual_seed(0)
    folded = 0
    for seed, row in enumerate(rows_of(space, 3)[-4:]):
        subnet = shaken_subnet(space, row, seed)
        layers = subnet.graph.layers
        emission = Emission(subnet=subnet, batch_size=1)
        for index, chain in foldable(layers).items():
            layer = layers[index]
            modules = [subnet.layers[layers[i].name.replace(".", "_")] for i in (index, *chain)]
            tokens = (layer.in_height * layer.in_width, layer.in_channels)
            map_ = (layer.in_channels, layer.in_height, layer.in_width)
            is_map = layer.operator == "conv2d"
            x = torch.randn((3, *(map_ if is_map else tokens)), generator=generator)
            after = [layers[i] for i in chain]
            weight, bias = folded_weights(emission, layer, after)
            with torch.no_grad():
                y = x
                for module in modules:
                    y = module(y)
                host = modules[0]
                host.weight.copy_(torch.from_numpy(weight))
                host.bias = None if bias is None else torch.nn.Parameter(torch.from_numpy(bias))
                theirs = host(x)
            np.testing.assert_allclose(theirs, y, rtol=0, atol=1e-5 * float(y.abs().max()))
            folded += len(chain)
    assert folded > 0


def test_chains_end_where_something_else_reads():
    """In the odd space a norm's input is read by a sum too, and a norm has no convolution."""
    layers = shaken_subnet(ODD, [0]).graph.layers
    names = {layers[a].name: [layers[i].name for i in b] for a, b in foldable(layers).items()}
    assert names == {"stem.conv": ["stem.norm"]}


def test_norm_and_factor_are_folded_one_behind_the_other():
    row = next(r for r in rows_of(ZOO, 40) if any(
        layer.operator == "scale" and "conv0" in layer.name for layer in ZOO.graph(r).layers
    ))  # fmt: skip
    layers = ZOO.graph(row).layers
    chains = [[layers[i].operator for i in chain] for chain in foldable(layers).values()]
    assert ["batch_norm", "scale"] in chains
    assert ["scale"] in chains  # behind the linear maps of the transformer
