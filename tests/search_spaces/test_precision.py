"""A choice of numerics: it leaves the layers alone and belongs to what accuracy is keyed by."""

from dataclasses import dataclass

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace, SearchSpace, WithPlatform, WithPrecision
from search_spaces.blocks import classifier

BASE = CNNSpace(image_size=16)
SPACE = WithPrecision(base=BASE, precisions=("int8", "fp32"))
ROWS = SPACE.sample(40, np.random.default_rng(0))


def test_every_network_stands_in_every_precision():
    assert SPACE.cardinality == 2 * BASE.cardinality
    assert SPACE.choices[-1].scope == "numerics"
    base = SPACE.to_base(ROWS)
    assert set(SPACE.precision_of(ROWS)) == {"int8", "fp32"}
    for name in SPACE.precisions:
        mine = SPACE.precision_of(ROWS) == name
        np.testing.assert_array_equal(SPACE.in_precision(base[mine], name), ROWS[mine])


def test_precision_leaves_the_layers_alone_and_is_kept_where_the_platform_is_dropped():
    np.testing.assert_array_equal(
        SPACE.layer_table(ROWS).macs, BASE.layer_table(SPACE.to_base(ROWS)).macs
    )
    assert SPACE.graph(ROWS[0]) == BASE.graph(SPACE.to_base(ROWS)[0])
    np.testing.assert_array_equal(SPACE.without_platform(ROWS), ROWS)
    ends = SPACE.extremes("largest")
    assert sorted(SPACE.precision_of(ends)) == ["fp32", "int8"]


def test_precision_and_platform_stand_behind_each_other():
    platform = (("device.rows", (8, 16)),)
    space = WithPrecision(
        base=WithPlatform(base=BASE, platform=platform), precisions=("int8", "fp32")
    )
    assert space.cardinality == 4 * BASE.cardinality
    rows = space.sample(20, np.random.default_rng(1))
    np.testing.assert_array_equal(
        space.precision_of(space.without_platform(rows)), space.precision_of(rows)
    )


def test_the_file_gives_the_space_back():
    again = SearchSpace.from_json(SPACE.to_json())
    assert again == SPACE
    assert again.hash == SPACE.hash != BASE.hash
    with pytest.raises(BadInputError, match="'base' and 'precisions'"):
        SearchSpace.from_json({**SPACE.to_json(), "parameters": {"base": {}}})


@pytest.mark.parametrize("precisions", [("int8",), (), (8, 32)])
def test_there_must_be_a_choice(precisions):
    with pytest.raises(BadInputError, match="two names or more"):
        WithPrecision(base=BASE, precisions=precisions)


def test_what_is_not_among_the_choices_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        SPACE.in_precision(BASE.extremes("smallest"), "int")
    with pytest.raises(BadInputError, match="declared twice"):
        WithPrecision(base=SPACE, precisions=("int8", "fp32"))


@dataclass(frozen=True, kw_only=True)
class ReadsPrecision(SearchSpace):
    """A network that depends on numerics, or numerics on the platform, or neither."""

    how: str = ""

    def build(self, net, images):
        rows = net.choice("rows", (8, 16), scope="platform")
        width = net.choice("width", (8, 16))
        with net.when(rows > 8 if self.how == "platform" else width > 8):
            bits = net.choice("bits", (4, 8), scope="numerics")
        with net.when(bits > 4):
            net.choice("lanes", (1, 2), scope="platform")
        with net.when(bits > 4 if self.how == "choice" else True):
            kernel = net.choice("kernel", (1, 3))
        x = net.conv2d(images, bits if self.how == "layer" else width, kernel=kernel)
        return classifier(net, x, self.num_classes)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("layer", r"layer 'conv' depends on \['bits'\] of scope 'numerics'"),
        ("choice", r"choice 'kernel' of scope 'architecture' depends on \['bits'\]"),
        ("platform", r"choice 'bits' of scope 'numerics' depends on \['rows'\]"),
    ],
)
def test_what_may_depend_on_what(how, message):
    with pytest.raises(BadInputError, match=message):
        ReadsPrecision(how=how)
    ReadsPrecision()  # numerics may depend on the architecture, the platform on both
