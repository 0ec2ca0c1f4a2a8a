from dataclasses import dataclass

import pytest
import torch

from records import BadInputError
from search_spaces import CNNSpace, ConvStage, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.expression import where
from supernet import Supernet, load_pretrained
from tests.supernet.doubles import SPACES, TINY, images_of, perturbed

spaces = pytest.mark.parametrize("space", [*SPACES, TINY], ids=lambda s: s.name)


def largest_subnets(space, seed=3):
    """The largest subnets of another supernet of the space."""
    donor = perturbed(space, seed=seed)
    batches = [images_of(space, 32, seed=9)]
    return [
        (row, donor.extract(row, donor.recalibrate(row, batches)))
        for row in space.extremes("largest")
    ]


@spaces
@pytest.mark.parametrize("sort", [False, True])
def test_the_largest_subnet_answers_as_the_network_that_was_loaded(space, sort):
    for row, subnet in largest_subnets(space)[:4]:
        supernet = Supernet(space)
        report = load_pretrained(supernet, subnet.state_dict(), sort=sort)
        images = images_of(space, 4)
        with torch.no_grad():
            found = supernet.extract(row, report.statistics)(images)
            torch.testing.assert_close(found, subnet(images), atol=1e-5, rtol=1e-5)
        assert report.unused == ()
        assert not report.skipped
        assert not report.adapted
        assert (report.sorting is None) != sort
        norms = [la.name for la in subnet.graph.layers if la.operator == "batch_norm"]
        assert set(report.statistics) == set(norms)


def test_each_of_several_largest_subnets_takes_what_it_has():
    """A convolutional and an attention network go into one supernet, one after the other."""
    space = SPACES[2]
    (_, conv), *_, (other, attention) = largest_subnets(space)
    supernet = Supernet(space)
    first = load_pretrained(supernet, conv.state_dict(), sort=False)
    assert any("attention" in name for name in first.missing)
    assert not any("expand.conv" in name for name in first.missing)
    before = supernet.state_dict()["primitives.stage0_layer0_expand_conv.weight"].clone()
    second = load_pretrained(supernet, attention.state_dict(), sort=False)
    assert set(first.missing) <= set(second.loaded)
    assert set(second.missing) <= set(first.loaded)
    after = supernet.state_dict()["primitives.stage0_layer0_expand_conv.weight"]
    assert torch.equal(before, after)
    with torch.no_grad():
        found = supernet.extract(other, second.statistics)(images_of(space, 3))
        torch.testing.assert_close(found, attention(images_of(space, 3)), atol=1e-5, rtol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Kinds(SearchSpace):
    """A width that follows from a choice among names."""

    image_size: int = 8

    def build(self, net, images):
        kind = net.choice("kind", ("narrow", "wide", "middling"))
        width = where(kind == "wide", 16, where(kind == "narrow", 4, 8))
        return classifier(net, conv_norm_act(net, images, width, kernel=3), self.num_classes)


def test_a_layer_of_several_sizes_is_loaded_in_the_largest():
    space = Kinds()
    subnets = [subnet for _, subnet in largest_subnets(space)]
    wide = next(s for s in subnets if s.graph.layers[1].channels == 16)
    supernet = Supernet(space)
    load_pretrained(supernet, wide.state_dict())
    with pytest.raises(BadInputError, match=r"has shape \(16, 3, 3, 3\) in the largest subnet"):
        load_pretrained(supernet, subnets[0].state_dict())


def renamed(state):
    """A state dict with other names, attention's rows apart, and what else one finds in files."""
    new = {"epoch": torch.tensor(3)}
    for key, value in state.items():
        _, layer, name = key.split(".")
        if layer.endswith("attention_attention"):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                new[f"net.{layer}.{part}.{name}"] = rows
        elif name == "embedding":
            new[f"net.{layer}"] = torch.cat([torch.zeros(1, value.shape[1]), value])[None]
        else:
            new[f"net.{layer}.{name}"] = value
    return new


def foreign(layer):
    prefix = f"net.{layer.replace('.', '_')}"
    if layer.endswith("attention.attention"):
        return tuple(f"{prefix}.{part}" for part in "qkv")
    return prefix


def test_other_names_joined_rows_and_class_tokens():
    space = SPACES[1]
    ((row, subnet),) = largest_subnets(space)
    state = renamed(subnet.state_dict())
    named = {n.name for n in space.nodes if n.operator not in ("input", "add", "activation")}
    by_name = {n: foreign(n) for n in named if not n.endswith(("pool", "to_tokens"))}
    for names in (foreign, by_name):
        supernet = Supernet(space)
        report = load_pretrained(supernet, state, names)
        assert report.unused == ("epoch",)
        assert report.missing == ()
        assert dict(report.adapted) == {"patches.position": "without the class token's vector"}
        taken = report.loaded["layer0.attention.attention"]
        assert len(taken) == 6
        with torch.no_grad():
            found = supernet.extract(row)(images_of(space, 3))
            torch.testing.assert_close(found, subnet(images_of(space, 3)), atol=1e-5, rtol=1e-5)


def test_query_key_and_value_rows_keep_their_meaning():
    """The stacked rows `[q; k; v]` of timm, head by head, are these."""
    space = ViTSpace(image_size=8, channels=2, patch_sizes=(4,), embed_dims=(32,), depths=(1, 2))
    supernet, rows = Supernet(space), torch.randn(3 * 4 * 16, 32)
    load_pretrained(
        supernet,
        {"qkv.weight": rows, "qkv.bias": rows[:, 0]},
        {"layer0.attention.attention": "qkv"},
        sort=False,
    )
    attention = supernet.primitives["layer0_attention_attention"]
    for part, weight in enumerate((attention.query, attention.key, attention.value)):
        for head in range(4):
            start = part * 64 + head * 16
            assert torch.equal(weight[head], rows[start : start + 16])
    assert torch.equal(attention.value_bias.flatten(), rows[128:, 0])


def test_another_number_of_classes_and_grey_images():
    space = CNNSpace(image_size=8, channels=3, num_classes=7, stem_stride=1)
    ((_, subnet),) = largest_subnets(space)
    grey = CNNSpace(image_size=8, channels=1, num_classes=4, stem_stride=1)
    supernet = Supernet(grey)
    before = supernet.primitives["classifier"].weight.clone()
    report = load_pretrained(supernet, subnet.state_dict(), sort=False)
    assert dict(report.skipped) == {"classifier": "it has 7 classes, this space 4"}
    assert dict(report.adapted) == {"stem.conv": "summed over 3 colours"}
    assert "classifier" not in report.loaded
    assert torch.equal(supernet.primitives["classifier"].weight, before)
    stem = supernet.primitives["stem_conv"].weight
    torch.testing.assert_close(stem, subnet.state_dict()["layers.stem_conv.weight"].sum(1, True))


def test_a_shallower_network_leaves_blocks_as_they_were():
    deep = CNNSpace(image_size=8, stages=(ConvStage(depths=(1, 2, 3)),))
    shallow = CNNSpace(image_size=8, stages=(ConvStage(depths=(1, 2)),))
    ((_, subnet),) = largest_subnets(shallow)
    supernet = Supernet(deep)
    before = supernet.primitives["stage0_layer2_expand_conv"].weight.clone()
    report = load_pretrained(supernet, subnet.state_dict(), sort=False)
    assert {name.rsplit(".", 2)[0] for name in report.missing} == {"stage0.layer2"}
    assert len(report.missing) == 6
    assert torch.equal(supernet.primitives["stage0_layer2_expand_conv"].weight, before)


def test_a_missing_bias_is_zero():
    space = SPACES[1]
    ((_, subnet),) = largest_subnets(space)
    state = subnet.state_dict()
    del state["layers.layer0_attention_attention.bias"]
    supernet = perturbed(space)
    report = load_pretrained(supernet, state, sort=False)
    assert report.adapted["layer0.attention.attention"] == "no bias there: 0"
    assert not supernet.primitives["layer0_attention_attention"].key_bias.any()


def test_channels_are_sorted_with_their_statistics():
    space = SPACES[0]
    ((_, subnet),) = largest_subnets(space)
    report = load_pretrained(Supernet(space), subnet.state_dict())
    name = "stage0.layer0.expand"
    order = report.sorting.orders[f"{name}.conv"][0]
    assert order.tolist() != list(range(64))
    own = subnet.state_dict()[f"layers.{name.replace('.', '_')}_norm.running_var"]
    assert torch.equal(report.statistics[f"{name}.norm"]["running_var"], own[order])


def refused(match, change, names=None, space=SPACES[0]):
    ((_, subnet),) = largest_subnets(space)
    state, supernet = subnet.state_dict(), Supernet(space)
    change(state)
    before = supernet.weights_hash()
    with pytest.raises(BadInputError, match=match):
        load_pretrained(supernet, state, names)
    assert supernet.weights_hash() == before


def test_what_does_not_fit_is_refused_and_changes_nothing():
    project, norm = "layers.stage1_layer2_project_conv", "layers.stem_norm"

    def narrower(state):
        state[f"{project}.weight"] = state[f"{project}.weight"][:, :-8]

    refused(
        r"weight of layer 'stage1.layer2.project.conv' has shape \(24, 96, 1, 1\).*got \(24, 88",
        narrower,
    )
    refused(
        "layer 'stage1.layer2.project.conv' has no bias but the state dict has one",
        lambda state: state.update({f"{project}.bias": torch.zeros(24)}),
    )
    refused(
        "has bias, running_mean, running_var, num_batches_tracked for layer 'stem.norm' but no we",
        lambda state: state.pop(f"{norm}.weight"),
    )
    refused("no tensor belongs to a layer of CNNSpace: the state dict has layers.stem_conv.weight",
            lambda state: None, names=lambda layer: None)  # fmt: skip
    refused("the state dict has nothing", lambda state: state.clear())


def test_names_that_do_not_exist_are_refused():
    def none(state):
        """Nothing is changed."""

    refused("unknown layer with weights 'stem.con'", none, names={"stem.con": "layers.stem_conv"})
    refused("no tensor of the state dict belongs to layers.stm, which is given for layer 'stem.c",
            none, names={"stem.conv": "layers.stm"})  # fmt: skip
    refused(
        r"has layers.stem_conv.weight but no weight of layers.stm, which it should be joined with",
        none,
        names={"stem.conv": ("layers.stem_conv", "layers.stm")},
    )
