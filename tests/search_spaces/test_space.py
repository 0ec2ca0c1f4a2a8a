import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import BadInputError, json_text
from search_spaces import Architecture, CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from tests.search_spaces.doubles import TINY, NestedSpace, Wing, all_rows, build_chosen


@dataclass(frozen=True, kw_only=True)
class Unpadded(SearchSpace):
    """Convolutions without padding, each of which makes the image smaller."""

    kernels: tuple[int, ...] = (1, 3)
    layers_declared: int = 2
    stride: int = 1

    def build(self, net, images):
        x = images
        for i in range(self.layers_declared):
            with net.scope(f"layer{i}"):
                kernel = net.choice("kernel", self.kernels)
                x = net.conv2d(x, 8, kernel=kernel, stride=self.stride, padding=0)
        return classifier(net, x, self.num_classes)


SPACES = [CNNSpace(image_size=8), ViTSpace(image_size=16), HybridSpace(image_size=8), *TINY]


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@settings(max_examples=25)
@given(data=st.data())
def test_any_row_round_trips_through_an_architecture_and_its_json(space, data):
    row = data.draw(st.tuples(*(st.integers(0, int(s) - 1) for s in space.gene_space.sizes)))
    (architecture,) = space.decode(row)
    read = Architecture.from_json(json.loads(json_text(architecture.to_json())))
    assert read == architecture
    genes = np.array([row], np.int16)
    np.testing.assert_array_equal(space.encode(read), space.canonical(genes))
    assert len(read.items) == space.active(genes).sum()


def test_images_too_small_for_the_layers_are_refused_by_layer():
    assert Unpadded(image_size=5).cardinality == 4
    with pytest.raises(BadInputError, match=r"Unpadded: layer 'layer1\.conv'"):
        Unpadded(image_size=4)
    with pytest.raises(BadInputError, match=r"'layer0\.conv'"):
        Unpadded(image_size=2)
    with pytest.raises(BadInputError, match=r"'layer1\.conv'"):
        Unpadded(image_size=8, stride=4)


def test_a_user_space_round_trips_with_its_stage_class():
    space = NestedSpace(image_size=8, wings=(Wing(widths=(4, 12), ratio=2.5),), deepest=(1, 4))
    value = json.loads(json_text(space.to_json()))
    assert value["parameters"]["wings"] == [{"widths": [4, 12], "ratio": 2.5}]
    assert SearchSpace.from_json(value) == NestedSpace.from_json(value) == space


def test_spaces_passed_in_win_over_known_ones():
    @dataclass(frozen=True, kw_only=True)
    class Passed(NestedSpace):
        version = 3

    value = NestedSpace(image_size=8).to_json() | {"space": "Passed", "version": 3}
    assert type(CNNSpace.from_json(value, [Passed])) is Passed
    with pytest.raises(BadInputError, match="unknown search space 'Passed'"):
        CNNSpace.from_json(value)


def test_files_that_are_no_space_of_this_version_are_refused():
    good = CNNSpace().to_json()
    bad = [
        (
            good | {"space": "CNNSpaces"},
            "unknown search space 'CNNSpaces'; did you mean 'CNNSpace",
        ),
        (good | {"version": 2}, "CNNSpace is of version 1 here, got 2"),
        ({"space": "CNNSpace"}, "a space has 'space', 'version' and 'parameters'"),
        (good | {"parameters": 3}, "a space has 'space', 'version' and 'parameters'"),
        ([], "a space has 'space', 'version' and 'parameters'"),
        (good | {"parameters": {"stem_width": [8]}}, "'stem_width'; did you mean 'stem_widths'"),
        (good | {"parameters": {"image_size": "32"}}, "image_size must be an integer"),
        (good | {"parameters": {"stages": "abc"}}, "do not fit CNNSpace"),
        (good | {"parameters": {"stages": [{"depth": 3}]}}, "do not fit CNNSpace"),
        (good | {"parameters": {"stages": [{"depths": ["a"]}]}}, "do not fit CNNSpace"),
    ]
    for value, why in bad:
        with pytest.raises(BadInputError, match=why):
            SearchSpace.from_json(value)


def test_hash_depends_on_the_parameters_alone():
    assert CNNSpace().hash == CNNSpace(image_size=32).hash != CNNSpace(image_size=16).hash
    assert CNNSpace().hash != HybridSpace().hash


def test_a_graph_is_of_one_architecture():
    space = HybridSpace(image_size=8)
    genes = space.sample(2, np.random.default_rng(0))
    with pytest.raises(BadInputError, match="of one architecture, got 2 rows"):
        space.graph(genes)
    assert space.graph(space.decode(genes)[1]) == space.graph(genes[1])


def test_skipped_layers_vanish_and_inputs_reach_through_them():
    space = NestedSpace(image_size=8)
    values = {"depth": 1, "kind": "skip", "free": 2}
    graph = space.graph(Architecture("NestedSpace", 1, tuple(values.items())))
    assert [(a.name, a.inputs) for a in graph.layers] == [
        ("input", ()), ("conv", (0,)), ("pool", (1,)), ("classifier", (2,)),
    ]  # fmt: skip
    values = {"depth": 2, "kind": "wide", "width": 16, "wide.dilation": 2, "second.kernel": 5}
    values["free"] = 1
    graph = space.graph(Architecture("NestedSpace", 1, tuple(values.items())))
    names = ["input", "conv", "wide.conv", "second.conv", "pool", "classifier"]
    assert [layer.name for layer in graph.layers] == names
    assert (graph.layers[2].channels, graph.layers[2].dilation) == (16, 2)
    assert (graph.layers[3].in_channels, graph.layers[3].kernel) == (16, 5)
    row = space.encode(Architecture("NestedSpace", 1, tuple(values.items())))[0]
    assert [n.name for n in build_chosen(space, row).nodes] == names


def test_decoding_and_encoding_nothing():
    space = HybridSpace(image_size=8)
    assert space.encode([]).shape == (0, len(space.choices))
    assert space.decode(np.zeros((0, len(space.choices)), np.int16)) == []


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_enumeration_has_every_architecture_once(space):
    rows = space.enumerate(space.cardinality)
    everything = np.unique(space.canonical(all_rows(space)), axis=0)
    np.testing.assert_array_equal(np.unique(rows, axis=0), everything)
    assert len(rows) == space.cardinality
    for size in (1, 7, 10_000):
        parts = list(space.chunks(size))
        assert {len(part) for part in parts[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(parts), rows)


def test_spaces_too_large_to_enumerate_say_how_large_they_are():
    space = HybridSpace()
    message = f"HybridSpace has {space.cardinality} architectures, more than 1000000: raise `most`"
    with pytest.raises(BadInputError, match=message):
        space.enumerate()
    assert len(next(space.chunks(10))) == 10
    with pytest.raises(BadInputError, match="a chunk has 1 row or more, got size 0"):
        next(space.chunks(0))


def test_a_space_contains_the_architectures_that_it_encodes():
    space, other = HybridSpace(image_size=8), HybridSpace(image_size=16)
    (architecture,) = space.decode(space.extremes("largest")[:1])
    assert architecture in space
    assert architecture in other  # sizes of images are no choices
    assert architecture not in CNNSpace()
    assert Architecture("HybridSpace", 1, architecture.items[:-1]) not in space
    assert "HybridSpace" not in space
