from dataclasses import dataclass

import numpy as np
import pytest

from records import BadInputError
from search_spaces import NetworkBuilder, SearchSpace
from search_spaces.blocks import classifier, mbconv, transformer
from search_spaces.expression import Expression
from tests.search_spaces.doubles import TINY, any_genes, build_chosen


def space_of(declare):
    """A space whose network is what a function of (net, images) declares."""

    @dataclass(frozen=True, kw_only=True)
    class Declared(SearchSpace):
        def build(self, net, images):
            return declare(net, images)

    return Declared(image_size=8, channels=4, num_classes=2)


def widths(net, *names):
    return [net.choice(name, (8, 16)) for name in names]


def test_a_single_value_is_no_gene():
    net = NetworkBuilder()
    assert net.choice("kernel", (3,)) == 3
    assert net.choices == []
    assert isinstance(net.choice("width", (8, 16)), Expression)
    assert [c.name for c in net.choices] == ["width"]


def test_no_values_are_refused_by_path():
    net = NetworkBuilder()
    with net.scope("stage1"), pytest.raises(BadInputError, match=r"'stage1\.width' has no values"):
        net.choice("width", ())


def test_two_choices_of_one_name_are_refused():
    with pytest.raises(BadInputError, match="two choices are named 'width'"):
        space_of(lambda net, x: net.conv2d(x, widths(net, "width", "width")[0], kernel=1))


def test_a_network_without_choices_is_refused():
    with pytest.raises(BadInputError, match="at least one choice"):
        space_of(lambda net, x: classifier(net, x, 2))


@pytest.mark.parametrize(("first", "second"), [("a.norm", "a.norm"), ("a.b_norm", "a.b.norm")])
def test_two_layers_of_one_name_are_refused(first, second):
    """A dot and an underscore give modules of one name, so they count as the same."""
    net = NetworkBuilder()
    x = net.batch_norm(net.input(3, 8, 8), first)
    with pytest.raises(BadInputError, match=f"two layers are named '{second}' and '{first}'"):
        net.batch_norm(x, second)


def test_unknown_activation_is_refused_with_the_known():
    net = NetworkBuilder()
    x = net.input(3, 8, 8)
    with pytest.raises(BadInputError, match="'rlu'; did you mean 'relu'"):
        net.activation(x, "rlu")
    with pytest.raises(BadInputError, match="unknown activation 'none'"):
        net.activation(x, "none")


def test_a_second_input_is_refused():
    net = NetworkBuilder()
    net.input(3, 8, 8)
    with pytest.raises(BadInputError, match="one input"):
        net.input(3, 8, 8)


def test_the_last_layer_must_be_returned():
    def declare(net, x):
        logits = net.linear(net.global_pool(x), widths(net, "width")[0], name="first")
        net.linear(logits, 2, name="second")
        return logits

    with pytest.raises(BadInputError, match="must return the layer declared last"):
        space_of(declare)


@pytest.mark.parametrize("what", ["kernel", "stride"])
@pytest.mark.parametrize("chosen", [False, True])
def test_kernels_and_strides_below_one_are_refused(what, chosen):
    net = NetworkBuilder()
    x = net.input(3, 8, 8)
    sizes = {"kernel": 3, "stride": 1, what: net.choice(what, (0, 1)) if chosen else 0}
    with net.scope("stem"), pytest.raises(BadInputError, match=rf"'stem\.conv'.*{what} below 1"):
        net.conv2d(x, 8, **sizes)


def test_a_skipped_kernel_may_be_anything():
    net = NetworkBuilder()
    x = net.input(3, 8, 8)
    kernel = net.choice("kernel", (0, 3))
    with net.when(kernel > 0):
        x = net.conv2d(x, 8, kernel=kernel)
    np.testing.assert_array_equal(x.channels.evaluate({"kernel": np.array([0, 3])}), [3, 8])


def test_what_can_never_be_is_not_declared():
    """Neither layers nor genes, as where a stage has one kind of block only."""
    net = NetworkBuilder()
    x = net.input(3, 8, 8)
    width = net.choice("width", (8, 16))
    with net.when(width > 16):
        net.choice("kernel", (3, 5))
        assert net.conv2d(x, 99, kernel=3) is x
    with net.when(width > 4):
        x = net.conv2d(x, width, kernel=3)
    assert [c.name for c in net.choices] == ["width"]
    assert [node.active for node in net.nodes] == [True, True]  # `width > 4` always holds


def test_scope_and_condition_end_with_their_block_even_on_errors():
    net = NetworkBuilder()
    x = net.input(3, 8, 8)
    depth = net.choice("depth", (0, 1))
    with pytest.raises(RuntimeError), net.scope("a"), net.when(depth > 0):
        raise RuntimeError
    net.batch_norm(x)
    assert (net.nodes[-1].name, net.nodes[-1].active) == ("norm", True)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [(8, 3, 1, None, 8), (8, 3, 2, None, 4), (7, 3, 2, None, 4), (8, 5, 1, None, 8),
     (8, 4, 4, 0, 2), (8, 3, 1, 0, 6), (9, 7, 3, 1, 2)],
)  # fmt: skip
def test_convolution_output_size_is_torchs(size, kernel, stride, padding, expected):
    import torch

    net = NetworkBuilder()
    x = net.conv2d(net.input(1, size, size), 1, kernel=kernel, stride=stride, padding=padding)
    pad = kernel // 2 if padding is None else padding
    real = torch.nn.Conv2d(1, 1, kernel, stride, pad)(torch.zeros(1, 1, size, size))
    assert (x.height, x.width) == (expected, expected) == tuple(real.shape[2:])


def test_blocks_have_the_widths_of_their_papers():
    net = NetworkBuilder()
    x = net.input(20, 8, 8)
    with net.scope("conv"):
        mbconv(net, x, 20, kernel=3, expansion=2.6, shortcut=True)
    with net.scope("attention"):
        transformer(net, net.to_tokens(x), heads=3, head_dim=4, mlp_ratio=2)
    sizes = {node.name: node.attributes["channels"] for node in net.nodes}
    assert sizes["conv.expand.conv"] == sizes["conv.depthwise.conv"] == 56  # 52, halves go up
    assert sizes["conv.project.conv"] == sizes["conv.add"] == 20
    assert sizes["attention.attention.attention"] == 12
    assert sizes["attention.mlp.expand"] == 40
    assert net.nodes[-1].inputs[0] == len(net.nodes) - 6  # the shortcut comes first


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_conditions_hold_just_where_building_one_architecture_reaches(space):
    rows = any_genes(space, 300, 0)
    names = [c.name for c in space.choices]
    reached = [build_chosen(space, row).reached for row in rows]
    expected = [[name in there for name in names] for there in reached]
    np.testing.assert_array_equal(space.active(rows), expected)
