"""Branches that become one convolution, and those that must not."""

from dataclasses import dataclass

import pytest
import torch

from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier, conv_norm_act, rep_conv
from supernet import Subnet, Supernet, reparameterise
from tests.deployment.doubles import rows_of, shaken_subnet
from tests.supernet.doubles import images_of


@dataclass(frozen=True, kw_only=True)
class RepSpace(SearchSpace):
    """Blocks in the manner of RepVGG, with elastic kernels, widths, strides and depth."""

    image_size: int = 12
    channels: int = 2
    num_classes: int = 4

    def build(self, net, images):
        with net.scope("stem"):
            x = conv_norm_act(net, images, 8, kernel=3)
        for s, widths in enumerate(((8, 12), (16, 24))):
            with net.scope(f"stage{s}"):
                width = net.choice("width", widths)
                depth = net.choice("depth", (1, 2))
                for i in range(2):
                    with net.scope(f"layer{i}"), net.when(depth > i):
                        kernel = net.choice("kernel", (3, 5))
                        x = rep_conv(net, x, width, kernel=kernel, stride=1 if i else s + 1)
        with net.scope("depthwise"):
            x = rep_conv(net, x, x.channels, kernel=5, groups=x.channels, activation=None)
        with net.scope("grouped"):
            x = rep_conv(net, x, x.channels, kernel=3, groups=4, activation="hardswish")
        return classifier(net, x, self.num_classes)


SPACE = RepSpace()


def body(build, **fields):
    """The graph of a network `build(net, images)` with a classifier behind."""

    @dataclass(frozen=True, kw_only=True)
    class Body(SearchSpace):
        image_size: int = 12
        channels: int = 8
        num_classes: int = 4

        def build(self, net, images):
            x = build(net, images)
            net.choice("threads", (1, 2), scope="platform")
            return classifier(net, x, self.num_classes)

    return Body(**fields)


def convolutions(subnet):
    return [layer for layer in subnet.graph.layers if layer.operator == "conv2d"]


@torch.no_grad()
def assert_same(first, second, images):
    ours, theirs = first(images), second(images)
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(ours.abs().max())


@pytest.mark.parametrize("seed", range(6))
def test_the_joined_network_computes_the_same(seed):
    row = rows_of(SPACE, 6)[seed - 6]
    subnet = shaken_subnet(SPACE, row, seed)
    joined = reparameterise(subnet)
    assert_same(subnet, joined, images_of(SPACE, 4))
    left = {layer.operator for layer in joined.graph.layers}
    assert "add" not in left
    assert left & {"batch_norm"}  # the stem's, which emit folds
    blocks = {
        layer.name.rsplit(".", 2)[0] for layer in subnet.graph.layers if "wide" in layer.name
    }
    assert len(convolutions(joined)) == 1 + len(blocks)


def test_the_graph_counts_what_runs():
    subnet = shaken_subnet(SPACE, SPACE.extremes("largest")[0])
    joined = reparameterise(subnet)
    kept = [la for la in convolutions(subnet) if "point" not in la.name]
    assert sum(la.macs for la in convolutions(joined)) == sum(la.macs for la in kept)
    assert joined.graph.macs < subnet.graph.macs
    assert joined.graph.parameters == sum(p.numel() for p in joined.parameters())
    assert [la.name for la in convolutions(joined)] == [la.name for la in kept]
    assert all(la.bias for la in convolutions(joined)[1:])


def test_a_joined_network_is_saved_and_joined_no_further(tmp_path):
    joined = reparameterise(shaken_subnet(SPACE, SPACE.extremes("smallest")[0]))
    loaded = Subnet.load(joined.save(tmp_path / "net"))
    assert loaded.graph == joined.graph
    assert reparameterise(joined) is joined
    assert_same(joined, loaded, images_of(SPACE, 2))


def test_the_given_network_stays_as_it_is():
    subnet = shaken_subnet(SPACE, SPACE.extremes("largest")[0])
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    reparameterise(subnet)
    assert all(torch.equal(value, before[name]) for name, value in subnet.state_dict().items())


def test_the_supernet_trains_the_branches():
    """Every branch of every subnet has its own weights in the supernet."""
    supernet = Supernet(SPACE)
    row = SPACE.extremes("largest")[0]
    loss = supernet(images_of(SPACE, 8), row).square().sum()
    loss.backward()
    names = [n for n, p in supernet.named_parameters() if p.grad is not None and p.grad.any()]
    for branch in ("wide_conv", "point_conv", "identity_norm"):
        assert any(branch in name for name in names), branch


def two(first, second, **more):
    """Two branches of one input, made by functions `(net, x)`, and their sum."""

    def build(net, x):
        with net.scope("first"):
            a = first(net, x)
        with net.scope("second"):
            b = second(net, x)
        return net.add(a, b)

    return build


def conv(**options):
    def branch(net, x):
        return net.batch_norm(net.conv2d(x, 8, **options))

    return branch


JOINED = {
    "the smaller kernel first": (two(conv(kernel=1), conv(kernel=3)), [(3, 1, 1)]),
    "equal kernels": (two(conv(kernel=3), conv(kernel=3)), [(3, 1, 1)]),
    "a norm alone": (two(lambda net, x: net.batch_norm(x), conv(kernel=3)), [(3, 1, 1)]),
    "a norm and a 1x1": (two(lambda net, x: net.batch_norm(x), conv(kernel=1)), [(1, 1, 1)]),
    "dilated": (two(conv(kernel=3, dilation=2), conv(kernel=1)), [(3, 2, 1)]),
    "without padding": (two(conv(kernel=3, padding=0, stride=2),
                            conv(kernel=1, padding=0, stride=2)), None),
    "depthwise": (two(conv(kernel=5, groups=8), conv(kernel=1, groups=8)), [(5, 1, 8)]),
    "groups in a dense one": (two(conv(kernel=3), conv(kernel=1, groups=4)), [(3, 1, 1)]),
    "coarse and fine groups": (two(conv(kernel=3, groups=2), conv(kernel=3, groups=4)),
                               [(3, 1, 2)]),
    "a dense one in a wider depthwise": (two(conv(kernel=3, groups=8), conv(kernel=1)), None),
    "another stride of dilation": (two(conv(kernel=5, dilation=1),
                                       conv(kernel=3, dilation=2)), None),
    "an activation between": (two(lambda net, x: net.activation(conv(kernel=3)(net, x), "relu"),
                                  conv(kernel=1)), None),
    "of different inputs": (
        two(
            lambda net, x: conv(kernel=3)(net, net.activation(x, "gelu")),
            conv(kernel=1),
        ),
        None,
    ),
    "off centre": (two(conv(kernel=3, stride=2), conv(kernel=2, stride=2, padding=0)), None),
    "the input itself": (two(lambda net, x: x, conv(kernel=3)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_what_is_joined_and_what_is_not(name):
    build, expected = JOINED[name]
    try:
        space = body(build)
    except BadInputError:  # sizes that do not add up
        assert expected is None
        return
    subnet = shaken_subnet(space, space.extremes("largest")[0])
    joined = reparameterise(subnet)
    if expected is None:
        assert joined is subnet
        return
    assert [(la.kernel, la.dilation, la.groups) for la in convolutions(joined)] == expected
    assert_same(subnet, joined, images_of(space, 3))


def test_a_branch_that_something_else_reads_stays():
    def build(net, x):
        with net.scope("first"):
            a = conv(kernel=3)(net, x)
        with net.scope("second"):
            b = conv(kernel=1)(net, x)
        return net.concat(net.add(a, b), net.activation(a, "relu"))

    space = body(build)
    subnet = shaken_subnet(space, space.extremes("largest")[0])
    assert reparameterise(subnet) is subnet


def test_norms_behind_a_sum_stay_where_they_are():
    def build(net, x):
        return net.batch_norm(two(conv(kernel=3), conv(kernel=1))(net, x), name="last")

    space = body(build)
    subnet = shaken_subnet(space, space.extremes("largest")[0])
    joined = reparameterise(subnet)
    assert [la.operator for la in joined.graph.layers[1:3]] == ["conv2d", "batch_norm"]
    assert_same(subnet, joined, images_of(space, 3))


def test_branches_of_branches_are_one_convolution():
    def build(net, x):
        with net.scope("outer"):
            a = net.batch_norm(two(conv(kernel=3), conv(kernel=1))(net, x), name="last")
        with net.scope("other"):
            b = two(conv(kernel=5), lambda net, x: net.batch_norm(x))(net, x)
        return net.add(a, b, name="all")

    space = body(build)
    subnet = shaken_subnet(space, space.extremes("largest")[0])
    joined = reparameterise(subnet)
    assert [(la.kernel, la.padding) for la in convolutions(joined)] == [(5, 2)]
    assert_same(subnet, joined, images_of(space, 3))


def test_an_even_kernel_is_refused():
    with pytest.raises(BadInputError, match="even kernel"):
        body(lambda net, x: rep_conv(net, x, 8, kernel=net.choice("kernel", (3, 4)))).nodes  # noqa: B018
