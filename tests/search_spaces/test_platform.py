from dataclasses import dataclass

import numpy as np
import pytest

from records import BadInputError
from search_spaces import CNNSpace, SearchSpace, ViTSpace, WithPlatform
from search_spaces.blocks import classifier

BASE = ViTSpace(image_size=8)
PLATFORM = (("device.rows", (8, 16, 32)), ("device.flow", ("output", "weight")))


def space():
    return WithPlatform(base=BASE, platform=PLATFORM)


def test_networks_are_those_of_the_base_whatever_the_platform():
    both = space()
    genes = both.sample(200, np.random.default_rng(0))
    base = both.to_base(genes)
    np.testing.assert_array_equal(base, BASE.gene_space.check(base))
    for column in ("channels", "height", "macs", "active"):
        np.testing.assert_array_equal(
            both.layer_table(genes).column(column), BASE.layer_table(base).column(column)
        )
    assert both.graph(genes[0]) == BASE.graph(base[0])
    assert both.cardinality == 6 * BASE.cardinality


def test_without_platform_keeps_the_network_and_nothing_of_the_platform():
    both = space()
    genes = both.sample(200, np.random.default_rng(1))
    kept = both.without_platform(genes)
    np.testing.assert_array_equal(both.to_base(kept), both.to_base(genes))
    assert genes[:, -2:].any()
    assert not kept[:, -2:].any()
    assert BASE.without_platform(both.to_base(genes)) is not None
    np.testing.assert_array_equal(BASE.without_platform(both.to_base(genes)), both.to_base(genes))


def test_a_single_value_is_no_gene_and_is_known():
    one = WithPlatform(base=BASE, platform=(*PLATFORM, ("device.clock", (2,))))
    assert [c.name for c in one.choices[-2:]] == ["device.rows", "device.flow"]
    assert one.places["device.clock"] == 2
    values = {"device.rows": np.array([8, 32])}
    np.testing.assert_array_equal(one.places["device.rows"].evaluate(values), [8, 32])


def test_a_restricted_base_stays_restricted():
    small = BASE.freeze({BASE.choices[0].name: BASE.choices[0].values[0]})
    both = WithPlatform(base=small, platform=PLATFORM)
    assert both.cardinality == 6 * small.cardinality
    assert [c.name for c in both.choices[:-2]] == [c.name for c in small.choices]


def test_the_space_comes_back_from_json():
    both = WithPlatform(base=CNNSpace(image_size=16), platform=PLATFORM)
    back = SearchSpace.from_json(both.to_json())
    assert back == both
    assert back.hash == both.hash
    with pytest.raises(BadInputError, match="'base' and 'platform'"):
        SearchSpace.from_json({**both.to_json(), "parameters": {"base": {}}})


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        ((("device.rows", (8,)),), "nothing to choose"),
        ((), "nothing to choose"),
        ((("device.rows", ()), *PLATFORM[1:]), "has no values"),
        ((*PLATFORM, PLATFORM[0]), "'device.rows' is declared twice"),
        (((BASE.choices[0].name, (1, 2)),), "is declared twice"),
        ((("device.rows", (16, 8)),), "ascending order"),
    ],
)
def test_a_platform_that_cannot_be_is_refused(platform, message):
    with pytest.raises(BadInputError, match=message):
        WithPlatform(base=BASE, platform=platform)


@dataclass(frozen=True, kw_only=True)
class ReadsPlatform(SearchSpace):
    """A network that depends on the platform, in one of three ways, or does not."""

    how: str = ""

    def build(self, net, images):
        rows = net.choice("rows", (8, 16), scope="platform")
        width = rows if self.how == "size" else 8
        x = net.conv2d(images, width, kernel=1)
        with net.when(rows > 8 if self.how == "layer" else True):
            x = net.conv2d(x, width, kernel=3, name="second")
        with net.when(rows > 8 if self.how == "choice" else True):
            depth = net.choice("depth", (1, 2))
        with net.when(rows > 8):
            net.choice("lanes", (1, 2), scope="platform")
        with net.when(depth > 1):
            x = net.conv2d(x, width, kernel=3, name="third")
        return classifier(net, x, self.num_classes)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("size", r"layer 'conv' depends on \['rows'\] of scope 'platform'"),
        ("layer", r"layer 'second' depends on \['rows'\]"),
        ("choice", r"choice 'depth' of scope 'architecture' depends on \['rows'\]"),
    ],
)
def test_networks_may_not_depend_on_the_platform(how, message):
    with pytest.raises(BadInputError, match=message):
        ReadsPlatform(how=how)


def test_choices_of_the_platform_may_depend_on_each_other():
    made = ReadsPlatform()
    assert [c.scope for c in made.choices] == ["platform", "architecture", "platform"]
    rows = made.enumerate()
    assert len(rows) == 6
    kept = made.without_platform(rows)
    np.testing.assert_array_equal(kept, made.canonical(kept))
    assert len(np.unique(kept, axis=0)) == 2
