"""Which choices a module's layers can have, and how they hang together."""

import pytest
from torch import nn

from records import BadInputError
from supernet import elastic_space
from tests.supernet.modules import BasicBlock, MobileNetV2, ResNet, SmallCNN, conv_norm, mlp


def space_of(module, choices, image_size=16):
    return elastic_space(module, choices, image_size=image_size, channels=3, num_classes=4)


def offered(module, choices, image_size=16):
    space = space_of(module, choices, image_size)
    return {choice.name: choice.values for choice in space.choices}


def head(channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4))


def test_patterns_containers_and_names_mean_layers():
    values = {"out_channels": (4, 8)}
    expected = {"layer1.0.conv1.out_channels": (4, 8), "layer1.1.conv1.out_channels": (4, 8)}
    assert offered(ResNet(), {"layer1.*.conv1": values}) == expected
    assert offered(ResNet(), {"layer1.?.conv1": values}) == expected
    one = {"layer1.1.conv1.out_channels": (4, 8)}
    assert offered(ResNet(), {"layer1.1.conv1": values}) == one
    assert offered(MobileNetV2(), {"features.4": {"out_channels": (32, 16)}}) == {
        "features.4.0.out_channels": (16, 32),
    }  # fmt: skip


def test_widths_that_sums_tie_together_are_one_choice_named_after_the_first():
    stream = {"conv1.out_channels": (4, 8)}
    for name in ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.*.conv2"):
        choices = {name: {"out_channels": (4, 8)}}
        assert offered(ResNet(), choices) == stream
    found = space_of(ResNet(), {"layer2.1.conv2": {"out_channels": (8, 16)}})
    layers = {layer.name for layer in found.traced if layer.width}
    assert layers == {"layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2"}


def test_depthwise_convolutions_follow_what_they_read():
    space = space_of(MobileNetV2(), {"features.2.conv.0": {"out_channels": (8, 16, 24)}})
    for row, width in zip(space.enumerate(), (8, 16, 24), strict=True):
        layers = {layer.name: layer for layer in space.graph(row).layers}
        depthwise = layers["features.2.conv.1.0"]
        assert (depthwise.channels, depthwise.groups) == (width, width)
        assert layers["features.2.conv.2"].in_channels == width
    with pytest.raises(BadInputError, match="names no Conv2d of one group and no Linear"):
        space_of(MobileNetV2(), {"features.2.conv.1.0": {"out_channels": (12, 24)}})


def test_optional_blocks_tie_what_they_write_to_what_they_read():
    chain = nn.Sequential(*(conv_norm(8, 8, 3, act=nn.ReLU) for _ in range(3)))
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), chain, head(8))
    alone = {"1.1.0": {"out_channels": (4, 8)}}
    assert offered(module, alone) == {"1.1.0.out_channels": (4, 8)}
    with_depth = {**alone, "1": {"depth": (1, 2, 3)}}
    assert offered(module, with_depth) == {"1.depth": (1, 2, 3), "1.0.0.out_channels": (4, 8)}


def test_depth_leaves_out_the_last_blocks():
    space = space_of(
        ResNet(blocks=3), {"layer1": {"depth": (0, 2, 3)}, "layer2": {"depth": (1, 3)}}
    )
    seen = set()
    for row in space.enumerate():
        (architecture,) = space.decode(row)
        values = dict(architecture.items)
        names = {layer.name for layer in space.graph(row).layers}
        for layer in ("layer1", "layer2"):
            blocks = {b for b in range(3) if f"{layer}.{b}.conv2" in names}
            assert blocks == set(range(values[f"{layer}.depth"]))
        seen.add(tuple(values.values()))
    assert len(seen) == 6


class Chain(nn.Module):
    """Blocks in a ModuleList, one of them a chain itself."""

    def __init__(self, order=(0, 1, 2)):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        inner = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.blocks = nn.ModuleList([BasicBlock(8, 8), inner, BasicBlock(8, 8)])
        self.head = head(8)
        self.order = order

    def forward(self, x):
        x = self.stem(x)
        for i in self.order:
            x = self.blocks[i](x)
        return self.head(x)


def test_chains_within_chains():
    choices = {"blocks": {"depth": (1, 2, 3)}, "blocks.1": {"depth": (0, 1, 2)}}
    space = space_of(Chain(), choices)
    assert space.cardinality == 1 + 3 + 3
    inner = next(c for c in space.choices if c.name == "blocks.1.depth")
    assert inner.active_if is not True
    largest = {layer.name for layer in space.graph(space.extremes("largest")[0]).layers}
    assert {"blocks.1.1.conv1", "blocks.2.conv1"} <= largest


def test_a_sequential_may_be_the_module_itself():
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Identity(), head(8))
    choices = {"0": {"kernel": (1, 3)}}
    assert offered(module, choices) == {"0.kernel": (1, 3)}
    with pytest.raises(BadInputError, match="block '3' makes"):
        space_of(module, {"": {"depth": (3, 4)}})


def test_a_block_that_does_nothing_may_be_optional():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Identity(), nn.SiLU()), head(8)
    )
    space = space_of(module, {"1": {"depth": (1, 2, 3)}})
    lengths = [len(space.graph(row).layers) for row in space.enumerate()]
    assert lengths == [5, 5, 6]


def test_a_linear_map_of_a_flattened_map_has_a_width():
    space = space_of(
        SmallCNN(), {"fc1": {"out_features": (12, 24)}, "conv": {"out_channels": (6, 12)}}
    )
    rows = [{layer.name: layer for layer in space.graph(r).layers} for r in space.enumerate()]
    assert {(r["fc1"].in_channels, r["fc1"].channels, r["fc1"].kernel) for r in rows} == {
        (6, 12, 4), (6, 24, 4), (12, 12, 4), (12, 24, 4),
    }  # fmt: skip


def test_one_value_is_no_choice():
    choices = {"stem": {"kernel": (5,), "out_channels": (8,)}, "fc1": {"out_features": (12, 24)}}
    assert offered(SmallCNN(), choices) == {"fc1.out_channels": (12, 24)}
    with pytest.raises(BadInputError, match="a space needs at least one choice"):
        space_of(SmallCNN(), {"stem": {"kernel": (5,)}})


def test_a_pattern_of_kernels_passes_over_pointwise_convolutions():
    assert offered(MobileNetV2(), {"features.*": {"kernel": (1, 3)}}) == {
        "features.0.0.kernel": (1, 3), "features.1.conv.0.0.kernel": (1, 3),
        "features.2.conv.1.0.kernel": (1, 3), "features.3.conv.1.0.kernel": (1, 3),
    }  # fmt: skip


PADDED = nn.Sequential(nn.Conv2d(3, 8, 5, padding=0), nn.Conv2d(8, 8, 4, groups=2), head(8))
BAD = [
    (ResNet, {"conv1": {"colour": (1, 2)}}, "unknown option of 'conv1' 'colour'"),
    (ResNet, {"conv9": {"kernel": (3, 7)}}, "unknown layer of the module 'conv9'"),
    (ResNet, {"layer9": {"depth": (1, 2)}}, "'layer9' names no Sequential or ModuleList"),
    (ResNet, {"conv1": {"depth": (1, 2)}}, "'conv1' names no Sequential or ModuleList"),
    (ResNet, {"layer1": {"depth": (1, 3)}}, "'layer1' has 2 blocks: the greatest depth must be"),
    (ResNet, {"layer2": {"depth": (0, 2)}}, r"'layer2.0' makes \(16, 2, 2\) of \(8, 4, 4\)"),
    (ResNet, {"layer2.0.downsample": {"depth": (1, 2)}, "conv1": {"kernel": (2, 7)}}, "be odd"),
    (ResNet, {"conv1": {"kernel": (3, 5)}}, "'conv1' has a 7x7 kernel: the greatest value must"),
    (ResNet, {"conv1": {"kernel": (3, 9)}}, "'conv1' has a 7x7 kernel"),
    (ResNet, {"bn1": {"kernel": (3, 5)}}, "'bn1' names no Conv2d with a kernel above 1"),
    (ResNet, {"fc": {"out_features": (2, 4)}}, "the width of 'fc' is fixed by the logits"),
    (ResNet, {"bn1": {"out_channels": (4, 8)}}, "'bn1' names no Conv2d of one group and no Lin"),
    (ResNet, {"conv1": {"out_channels": (4, 16)}}, "'conv1' has 8 channels: the greatest value"),
    (ResNet, {"conv1": {"out_channels": (4, 8)}, "layer1.0.conv2": {"out_channels": (2, 8)}},
     r"conv1.out_channels is given two sets of values, \(4, 8\) and \(2, 8\)"),
    (ResNet, {"conv1": {"out_channels": ()}}, r"more distinct integers from 1 on, got \(\)"),
    (ResNet, {"conv1": {"out_channels": (0, 8)}}, "distinct integers from 1 on"),
    (ResNet, {"conv1": {"out_channels": (4.0, 8)}}, "distinct integers from 1 on"),
    (ResNet, {"conv1": {"out_channels": (8, 8)}}, "distinct integers from 1 on"),
    (ResNet, {"layer1": {"depth": (-1, 2)}}, "distinct integers from 0 on"),
    (lambda: PADDED, {"0": {"kernel": (3, 5)}}, "'0' has padding 0: an elastic kernel has half"),
    (lambda: PADDED, {"0": {"out_channels": (4, 8)}}, "of '0' is fixed by the groups of '1'"),
    (SmallCNN, {"fc1": {"kernel": (1, 4)}}, "'fc1' names no Conv2d with a kernel above 1"),
    (mlp, {"": {"depth": (4, 5)}}, "block '4' makes"),
    (lambda: Chain((1, 0, 2)), {"blocks": {"depth": (1, 2, 3)}}, "'blocks.1' does not read the"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "choices", "match"), BAD, ids=[case[2][:40] for case in BAD])
def test_choices_that_do_not_fit_are_refused(module, choices, match):
    with pytest.raises(BadInputError, match=match):
        space_of(module(), choices)
