"""The options of the shipped spaces: resolution, gates, windows, scales."""

import numpy as np
import pytest
import torch

from records import BadInputError
from search_spaces import CNNSpace, ConvStage, HybridSpace, ViTSpace
from supernet import Supernet
from tests.search_spaces.contract import SearchSpaceContract

CNN = CNNSpace(
    image_size=12,
    stages=(
        ConvStage(depths=(1, 2), se=(0, 1), activations=("relu", "hardswish")),
        ConvStage(widths=(16, 24), stride=2),
    ),
    resolutions=(8, 12),
    scaling="switchable",
)
VIT = ViTSpace(
    image_size=16,
    patch_sizes=(2, 4),
    depths=(1, 2),
    windows=(0, 2),
    mixings=("linear", "softmax"),
    scaling="layer",
    resolutions=(8, 16),
)
HYBRID = HybridSpace(image_size=12, resolutions=(8, 12), scaling="switchable")


class TestCNN(SearchSpaceContract):
    space = CNN

    def other(self):
        return CNNSpace(image_size=12, resolutions=(8, 10))


class TestViT(SearchSpaceContract):
    space = VIT

    def other(self):
        return ViTSpace(image_size=16, windows=(0, 2))


class TestHybrid(SearchSpaceContract):
    space = HYBRID

    def other(self):
        return HybridSpace(image_size=12, scaling="layer")


@pytest.mark.parametrize("space", [CNN, VIT, HYBRID], ids=lambda s: s.name)
def test_subnets_are_slices(space):
    supernet = Supernet(space, seed=1).eval()
    for p in supernet.parameters():
        if p.unique().numel() == 1:
            torch.nn.init.normal_(p, 0.5, 0.2, generator=torch.Generator().manual_seed(0))
    images = torch.randn(4, 3, space.image_size, space.image_size)
    for row in space.sample(12, np.random.default_rng(0)):
        statistics = supernet.recalibrate(row, [images])
        subnet = supernet.extract(row, statistics)
        with torch.no_grad():
            difference = (subnet(images) - supernet(images, row, statistics)).abs().max()
        assert difference < 1e-5


def test_a_switchable_branch_has_a_slot_for_every_width_and_depth():
    slots = set()
    for row in HYBRID.sample(500, np.random.default_rng(0)):
        chosen = dict(HYBRID.decode(row)[0].items)
        for layer in HYBRID.graph(row).layers:
            if layer.operator == "scale" and layer.name.startswith("stage1"):
                slots.add((chosen["stage1.width"], chosen["stage1.depth"], layer.slot))
    assert len(slots) == len({slot for _, _, slot in slots}) == 9  # 3 widths x 3 depths


def test_a_smaller_resolution_costs_less_and_changes_no_weights():
    j = [c.name for c in CNN.choices].index("resolution")
    rows = CNN.sample(50, np.random.default_rng(1))
    small, large = rows.copy(), rows.copy()
    small[:, j], large[:, j] = 0, 1
    first, second = CNN.layer_table(small), CNN.layer_table(large)
    assert (first.macs < second.macs).all()
    np.testing.assert_array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: CNNSpace(resolutions=(32, 64)), "at most the images' 32 pixels"),
        (lambda: CNNSpace(scaling="layers"), "unknown scaling 'layers'"),
        (lambda: ConvStage(se=(0, 2)), "se is 0, 1 or both"),
        (lambda: CNNSpace(stages=(ConvStage(activations=("relu", "swish")),)), "'swish'"),
        (lambda: CNNSpace(image_size=4), "resolution is below the total stride"),
        (lambda: CNNSpace(resolutions=(4, 32)), r"below the total stride.*resolution=4"),
        (lambda: ViTSpace(windows=(0, 3)), r"windows that do not divide.*window=3"),
        (lambda: ViTSpace(mixings=("soft", "linear")), "unknown mixing 'soft'"),
        (lambda: ViTSpace(resolutions=(20, 32)), "patch"),
    ],
)
def test_options_that_cannot_be_are_refused_when_the_space_is_made(make, why):
    with pytest.raises(BadInputError, match=why):
        make()
