import pytest
import torch

from deployment import emit
from deployment.emission.chunks import in_chunks
from deployment.emission.torch_export import torch_export
from deployment.proofs.first_difference import (
    differing_from_supernet,
    differing_from_torch,
    relative_difference,
)
from deployment.proofs.space_proof import perturbed_supernet
from tests.deployment.doubles import HYBRID, ZOO, rows_of, shaken_subnet
from tests.supernet.doubles import images_of

ROW = ZOO.extremes("largest")[-1]


@pytest.fixture(scope="module")
def pair():
    supernet = perturbed_supernet(ZOO)
    images = images_of(ZOO, 4)
    statistics = supernet.recalibrate(ROW, [images])
    return supernet, supernet.extract(ROW, statistics), images, statistics


def test_no_layer_of_an_extracted_network_differs(pair):
    supernet, subnet, images, statistics = pair
    assert differing_from_supernet(supernet, subnet, images, statistics, 1e-5) == ""


@pytest.mark.parametrize("name", ["stem.norm", "attention.attention.attention", "classifier"])
def test_the_layer_that_was_changed_is_named(pair, name):
    supernet, subnet, images, statistics = pair
    weight = subnet.layers[name.replace(".", "_")].weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight += 0.5
        assert differing_from_supernet(supernet, subnet, images, statistics, 1e-5) == name
    finally:
        with torch.no_grad():
            weight.copy_(before)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("stem_conv", "stem.conv"),
        ("stem_norm", "stem.conv"),  # folded into it
        ("classifier", "classifier"),
    ],
)
def test_the_layer_of_a_file_that_differs_is_named(changed, named):
    row = rows_of(HYBRID, 1)[-1]
    subnet, other = shaken_subnet(HYBRID, row), shaken_subnet(HYBRID, row)
    model = emit(subnet, 2)
    images = images_of(HYBRID, 2)
    assert differing_from_torch(subnet, model, images, 1e-5) == ""
    with torch.no_grad():
        other.layers[changed].weight.mul_(1.5)
    assert differing_from_torch(other, model, images, 1e-5) == named


def test_in_a_file_by_torch_no_layer_is_named():
    row = rows_of(HYBRID, 1)[-1]
    subnet, other = shaken_subnet(HYBRID, row), shaken_subnet(HYBRID, row, seed=1)
    model = torch_export(other, 2, "net", [])
    assert differing_from_torch(subnet, model, images_of(HYBRID, 2), 1e-5) == ""


def test_differences_are_relative_and_of_one_shape():
    a = torch.tensor([[0.0, 4.0]])
    assert relative_difference(a, a) == 0
    assert relative_difference(a, torch.tensor([[1.0, 8.0]])) == 0.5
    assert relative_difference(torch.empty(0), torch.empty(0)) == 0
    with pytest.raises(ValueError, match="shapes differ"):
        relative_difference(a, a.T)


def test_the_layer_of_a_file_in_chunks_that_differs_is_named():
    row = rows_of(HYBRID, 1)[-1]
    subnet, other = shaken_subnet(HYBRID, row), shaken_subnet(HYBRID, row)
    model = in_chunks(emit(subnet, 2), 6)
    images = images_of(HYBRID, 6)
    assert differing_from_torch(subnet, model, images, 1e-5) == ""
    with torch.no_grad():
        other.layers["stem_conv"].weight.mul_(1.5)
    assert differing_from_torch(other, model, images, 1e-5) == "stem.conv"
