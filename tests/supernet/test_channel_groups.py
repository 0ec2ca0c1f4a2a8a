from dataclasses import dataclass

import pytest

from search_spaces import SearchSpace
from search_spaces.blocks import classifier, conv_norm_act, mbconv, residual
from supernet.channel_groups import channel_groups
from tests.supernet.doubles import SPACES, TINY


def group(space, name):
    (found,) = [g for g in channel_groups(space) if g.name == name]
    return found


def where(places):
    return {(p.layer, p.parameter, p.axis) for p in places}


def test_hidden_channels_of_a_bottleneck_lie_in_all_its_layers():
    block = "stage0.layer1"
    found = group(SPACES[0], f"{block}.expand.conv")
    norms = {
        (f"{block}.{part}.norm", name, 0)
        for part in ("expand", "depthwise")
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    convolutions = {
        (f"{block}.expand.conv", "weight", 0), (f"{block}.expand.conv", "bias", 0),
        (f"{block}.depthwise.conv", "weight", 0), (f"{block}.depthwise.conv", "bias", 0),
        (f"{block}.project.conv", "weight", 1),
    }  # fmt: skip
    assert where(found.places) == norms | convolutions
    assert where(found.readers) == {(f"{block}.project.conv", "weight", 1)}
    assert (found.kind, found.size, found.blocks) == ("channels", 128, 1)
    assert found.widths == (32, 48, 64, 72, 96, 128)
    assert not found.is_residual
    assert not found.fixed_by


def test_a_residual_stream_is_one_group_over_all_its_blocks():
    found = group(SPACES[0], "stage1.layer0.project.conv")
    writers = {layer for layer, name, axis in where(found.places) if (name, axis) == ("weight", 0)}
    readers = {layer for layer, _, _ in where(found.readers)}
    assert found.is_residual
    assert writers == {f"stage1.layer{i}.project.{m}" for i in range(3) for m in ("conv", "norm")}
    assert readers == {"stage1.layer1.expand.conv", "stage1.layer2.expand.conv", "classifier"}


def test_an_embedding_lies_in_position_norms_and_attention():
    found = group(SPACES[1], "patches.conv")
    assert found.is_residual
    assert ("patches.position", "embedding", 0) in where(found.places)
    assert ("norm", "weight", 0) in where(found.places)
    for name in ("query", "key", "value"):
        assert ("layer2.attention.attention", name, 2) in where(found.readers)


def test_heads_are_units_and_their_dimensions_groups_of_each_head():
    layer = "attention.attention.attention"  # of the zoo: 3 heads of 8 and 6
    groups = {g.kind: g for g in channel_groups(SPACES[3]) if g.name.startswith(layer)}
    assert set(groups) == {"heads", "query_key", "value"}
    inner = {(p.layer, p.parameter): p.inner for p in groups["heads"].places}
    project = "attention.attention.project"
    assert inner[layer, "query"] == inner[layer, "key_bias"] == 8
    assert inner[layer, "value"] == inner[project, "weight"] == 6
    assert [(g.size, g.blocks, g.widths) for g in groups.values()] == [
        (3, 1, (1, 2, 3)), (6, 3, (4, 6)), (8, 3, (4, 8)),
    ]  # fmt: skip
    assert where(groups["query_key"].places) == {
        (layer, name, 0) for name in ("query", "query_bias", "key", "key_bias")
    }
    assert where(groups["value"].places) == {
        (layer, "value", 0), (layer, "value_bias", 0), (project, "weight", 1),
    }  # fmt: skip


@pytest.mark.parametrize("space", [*SPACES, TINY], ids=lambda s: s.name)
def test_images_and_logits_are_fixed(space):
    groups = channel_groups(space)
    assert groups[0].name == "input"
    assert "images" in groups[0].fixed_by
    assert groups[-1].name == "classifier"
    assert "logits" in groups[-1].fixed_by


@pytest.mark.parametrize("space", [*SPACES, TINY], ids=lambda s: s.name)
def test_every_axis_of_every_weight_is_in_one_group(space):
    """Except those within a head and of what grouped convolutions read."""
    seen: dict = {}
    for g in channel_groups(space):
        for place in g.places:
            seen.setdefault((place.layer, place.parameter, place.axis), []).append(g.kind)
    for node in space.nodes:
        if node.operator == "linear":
            for axis in (0, 1):
                kinds = seen[node.name, "weight", axis]
                assert sorted(kinds) in (["channels"], ["heads", "value"])
    assert all(len(kinds) == 1 or sorted(kinds)[0] == "heads" for kinds in seen.values())


@dataclass(frozen=True, kw_only=True)
class Fixed(SearchSpace):
    """Layers that have an order of channels, each behind a convolution of its own."""

    image_size: int = 8

    def build(self, net, images):
        width = net.choice("width", (8, 16))
        x = conv_norm_act(net, images, width, kernel=1)
        for name, layer in (
            ("grouped", lambda x: net.conv2d(x, width, kernel=1, groups=2, name="parts")),
            ("shuffled", lambda x: net.channel_shuffle(x, 2)),
            ("joined", lambda x: net.concat(x, x)),
        ):
            with net.scope(name):
                x = layer(conv_norm_act(net, x, width, kernel=1))
        with net.scope("free"):
            x = conv_norm_act(net, x, width, kernel=1)
        return classifier(net, x, self.num_classes)


def test_groups_shuffles_and_concatenations_fix_what_they_read_and_write():
    groups = {g.name: g for g in channel_groups(Fixed())}
    fixed = {name: g.fixed_by for name, g in groups.items() if g.fixed_by}
    assert set(fixed) == {
        "input", "grouped.conv", "grouped.parts", "shuffled.conv", "shuffled.shuffle",
        "joined.conv", "joined.concat", "classifier",
    }  # fmt: skip
    assert "joined.concat" in fixed["joined.conv"]
    assert not groups["free.conv"].fixed_by


@dataclass(frozen=True, kw_only=True)
class OptionalExpansion(SearchSpace):
    """A bottleneck whose expansion is left out where the ratio is 1."""

    expansions: tuple[int, ...] = (1, 2)
    image_size: int = 8

    def build(self, net, images):
        x = conv_norm_act(net, images, 8, kernel=3)
        expansion = net.choice("expansion", self.expansions)
        width = net.choice("width", (8, 16))
        x = mbconv(
            net, x, width, kernel=3, shortcut=False, expansion=expansion, expand_by_one=False
        )
        return classifier(net, x, self.num_classes)


def test_hidden_channels_are_the_inputs_where_the_expansion_can_be_skipped():
    always = {g.name: g for g in channel_groups(OptionalExpansion(expansions=(2, 3)))}
    assert always["conv"].size == 8
    assert always["expand.conv"].widths == (16, 24)
    skipped = {g.name: g for g in channel_groups(OptionalExpansion())}
    assert "expand.conv" not in skipped
    assert skipped["conv"].widths == (8, 16)
    assert skipped["conv"].bands == (8,)
    assert ("expand.conv", "weight", 0) in where(skipped["conv"].places)


@dataclass(frozen=True, kw_only=True)
class NoProjection(SearchSpace):
    """Attention whose heads are added to the tokens as they are."""

    image_size: int = 8

    def build(self, net, images):
        width = net.choice("width", (8, 16))
        x = net.to_tokens(net.conv2d(images, width, kernel=2, stride=2, padding=0))
        x = residual(net, x, net.attention(net.layer_norm(x), heads=width // 4, qk_dim=4))
        return classifier(net, x, self.num_classes)


def test_heads_that_meet_a_residual_stream_are_fixed():
    groups = {g.name: g for g in channel_groups(NoProjection())}
    assert "heads of 'attention' meet" in groups["conv"].fixed_by
    assert [name for name in groups if name.startswith("attention")] == ["attention.query_key"]
    assert groups["attention.query_key"].blocks == 4
