from dataclasses import dataclass

import numpy as np
import pytest

from experiments.baselines import ScaledResNet
from experiments.section_shape import gates, shape_of
from experiments.section_text import describe
from experiments.sections import sections
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act, fused_mbconv, mbconv, residual
from tests.experiments.doubles import named, standard
from tests.search_spaces.zoo import Zoo


@dataclass(frozen=True, kw_only=True)
class Odd(SearchSpace):
    """Sections of all sorts, one after the other."""

    image_size: int = 16
    channels: int = 2
    num_classes: int = 4

    def build(self, net, images):
        width = net.choice("width", (8, 16))
        with net.scope("features"):
            with net.scope("stem"):
                x = conv_norm_act(net, images, width, kernel=3)
            for i in range(2):
                with net.scope(f"block{i}"):
                    x = fused_mbconv(net, x, width, kernel=3, expansion=2, shortcut=True)
            with net.scope("down"):
                x = net.max_pool(x, kernel=2, stride=2)
        with net.scope("grouped"):
            x = mbconv(net, x, 24, kernel=5, expansion=3, stride=2, shortcut=False, se=True)
        with net.scope("dilated"):
            x = net.conv2d(x, 24, kernel=3, dilation=2)
        with net.scope("pyramid"):
            parts = []
            for kernel in (3, 5):
                with net.scope(f"k{kernel}"):
                    parts.append(conv_norm_act(net, x, 8, kernel=kernel))
            x = net.concat(*parts)
        with net.scope("mixed"):
            h = conv_norm_act(net, x, 16, kernel=1, activation=None)
            with net.scope("own"):
                h = conv_norm_act(net, h, 16, kernel=3)
            x = residual(net, x, h)
        with net.scope("last"):
            x = net.activation(net.batch_norm(x), "silu")
        return classifier(net, x, self.num_classes)


SPACES = {s.name: s for s in (Zoo(), Odd(), CNNSpace(), HybridSpace(), ViTSpace(), ScaledResNet())}
STANDARD = ("autoformer-tiny", "efficientformer", "fbnet", "mnasnet", "nas-bench-201",
            "nas-bench-macro", "ofa-mobilenetv3", "vit-resnas-tiny")  # fmt: skip


@pytest.mark.parametrize("name", [*SPACES, *STANDARD])
def test_sections_are_a_chain_that_holds_every_layer_once(name):
    space = SPACES[name] if name in SPACES else standard(name)
    rows = np.concatenate(
        [space.extremes("largest")[:2], space.sample(4, np.random.default_rng(0))]
    )
    for graph in map(space.graph, rows):
        found = sections(graph)

        layers = [layer for section in found for layer in section.layers]
        assert layers == list(graph.layers[1:])
        for section in found:
            assert graph.layers[section.start] is section.layers[0]
            behind = section.start + len(section.layers)
            passed = {i for x in graph.layers[behind:] for i in x.inputs if i < behind}
            assert len(passed) == (behind < len(graph.layers))  # one tensor, none at the end
            said = describe(section)
            assert said.text
            assert said.kind in {
                "stem", "conv", "attention", "cell", "transition", "head", "other",
            }  # fmt: skip
        assert found[-1].name == "head"
        assert [describe(s).kind for s in found].count("head") == 1


def said(space, row=None):
    words = {name: describe(section) for name, section in named(space, row).items()}
    return {name: (w.kind, w.text, w.detail, w.has_shortcut) for name, w in words.items()}


def test_scopes_are_divided_where_blocks_begin_and_not_inside_of_them():
    assert said(Odd()) == {
        "features.stem": ("stem", "conv 3x3", "2 to 16", False),
        "features.block0": ("conv", "fused MBConv 3x3", "16 to 32 to 16", True),
        "features.block1": ("conv", "fused MBConv 3x3", "16 to 32 to 16", True),
        "features.down": ("other", "maximum 2x2 /2", "", False),
        "grouped": ("conv", "MBConv 5x5 /2 + SE", "16 to 48 to 24", False),
        "dilated": ("conv", "conv 3x3 dilated 2", "24 to 24", False),
        "pyramid": ("cell", "cell", "conv 3x3, conv 5x5", False),
        "mixed": ("conv", "conv 1x1, conv 3x3", "16 to 16", True),
        "last": ("other", "batch norm, silu", "", False),
        "head": ("head", "mean, linear", "16 to 4", False),
    }


def test_the_zoo_in_words():
    space = Zoo()
    choices = {"resolution": 8, "width": 16, "activation": "silu", "stride_position": 1,
               "conv0.kernel": 5, "conv0.expansion": 2, "conv0.se": "yes",
               "conv1.kernel": 3, "conv1.expansion": 1, "conv1.se": "no", "a.pool": "average",
               "b.pool": "none", "extra.depth": 1, "extra.dilation": 2, "mixing": "softmax",
               "window": 2, "attention.heads": 3, "attention.qk_dim": 4,
               "attention.v_dim": 6}  # fmt: skip
    row = space.encode(_architecture(space, choices))

    assert said(space, row) == {
        "resize": ("transition", "resize", "16x16 to 8x8", False),
        "stem": ("stem", "conv 3x3", "2 to 16", False),
        "conv0": ("conv", "MBConv 5x5 + SE", "16 to 32 to 16", True),
        "conv1": ("conv", "MBConv 3x3 /2", "16 to 16 to 16", False),
        "a, b, concat": ("cell", "branches", "mean 3x3, zeros", False),
        "extra": ("conv", "conv 3x3 dilated 2", "32 to 32", False),
        "grouped": ("conv", "conv 1x1 in 2 groups", "32 to 16", False),
        "layout": ("transition", "map to tokens", "", False),
        "attention": ("attention", "attention, 3 heads", "windows 2x2, MLP 16 to 32", True),
        "head": ("head", "mean, linear", "16 to 4", False),
    }
    choices = {**choices, "mixing": "linear", "attention.heads": 1}
    del choices["window"]
    other = said(space, space.encode(_architecture(space, choices)))
    linear = ("attention", "linear attention, 1 head", "16 tokens, MLP 16 to 32", True)
    assert other["attention"] == linear


def _architecture(space, choices):
    from search_spaces import Architecture

    return Architecture(space.name, space.version, tuple(choices.items()))


@pytest.mark.slow
def test_a_published_space_of_both_kinds_in_words():
    words = said(standard("nasvit"))

    assert words["stage2.layer1"][:2] == ("conv", "MBConv 3x3 + SE")
    assert words["stage2.layer0"][3]  # past a mean and a 1x1 convolution
    assert "2 MLPs" in words["stage3.layer1"][2]
    assert words["last"][1:3] == ("conv 1x1, mean, linear", "224 to 1344 to 1984")


def test_published_spaces_in_words():
    resnas = said(standard("vit-resnas-tiny"))
    assert resnas["stage0.patches.conv1, conv2"][3]
    assert resnas["stage1.reduction"][0] == "cell"
    macro = standard("nas-bench-macro")
    assert said(macro, macro.genes_of(["00000000"]))["stage0.layer0.shrink"][1] == "conv 1x1 /2"
    former = said(standard("efficientformer"))
    assert former["stage0.map0"][1] == "mean 3x3, 2 convs 1x1"
    assert former["stage0.map0"][3]
    assert said(ViTSpace())["patches"][:3] == ("stem", "patches 8x8 /8", "3 to 96")
    resnet = said(ScaledResNet())
    assert resnet["stage0.block0"][1] == "2 convs 3x3"
    assert resnet["stage1.block0"] == ("conv", "2 convs 3x3 /2", resnet["stage1.block0"][2], True)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", "cell"),
        ("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|skip_connect~1"
         "|nor_conv_3x3~2|", "cell"),
        ("|avg_pool_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1"
         "|avg_pool_3x3~2|", "cell"),
    ],
)  # fmt: skip
def test_cells_are_not_taken_for_chains(cell, kind):
    space = standard("nas-bench-201")

    assert said(space, space.genes_of([cell]))["stage1.cell0"][0] == kind


def test_the_layers_of_gates_and_shortcuts_are_found():
    gated = named(standard("mnasnet"))["stage0.layer1"]
    names = [layer.name.removeprefix("stage0.layer1.") for layer in gated.layers]
    assert [names[place] for place in sorted(gates(gated))] == [
        "se.squeeze", "se.reduce", "se.activation", "se.expand", "se.gate",
    ]  # fmt: skip

    section = named(standard("nas-bench-201"))["stage1.reduction"]
    names = [layer.name.removeprefix("stage1.reduction.") for layer in section.layers]
    shape = shape_of(section)
    assert shape.is_chain
    assert shape.has_shortcut
    assert {names[place] for place in shape.shortcut} == {"shortcut.pool", "shortcut.conv"}
    assert section.macs == sum(layer.macs for layer in section.layers)


@dataclass(frozen=True, kw_only=True)
class Dense(SearchSpace):
    """A sum behind which what is before it is read again."""

    def build(self, net, images):
        with net.scope("stem"):
            x = conv_norm_act(net, images, 8, kernel=net.choice("kernel", (3, 5)))
        with net.scope("block"):
            h = net.conv2d(x, 8, kernel=3, name="first")
            y = net.add(x, h, name="sum")
            y = net.add(h, net.conv2d(y, 8, kernel=3, name="second"), name="again")
        return classifier(net, y, self.num_classes)


def test_a_sum_whose_parts_are_read_again_is_no_shortcut():
    section = named(Dense())["block"]

    assert not shape_of(section).is_chain
    assert describe(section).kind == "cell"
