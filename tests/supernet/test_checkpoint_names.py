"""Networks with the names of timm and torchvision, loaded and compared with themselves."""

from dataclasses import dataclass

import pytest
import torch

from records import BadInputError
from search_spaces import SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from supernet import (
    Supernet,
    load_pretrained,
    timm_vit_names,
    torchvision_mobilenet_v2_names,
    torchvision_mobilenet_v3_names,
    torchvision_vit_names,
)
from tests.supernet.doubles import images_of
from tests.supernet.modules import MobileNetV2, MobileNetV3, TimmViT, TorchvisionViT, shaken

VIT = ViTSpace(
    image_size=16, num_classes=4, patch_sizes=(4,), embed_dims=(16, 32), depths=(1, 2),
    heads=(2, 4), mlp_ratios=(1, 2), head_dim=8,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class V2Space(SearchSpace):
    image_size: int = 16
    num_classes: int = 4

    def build(self, net, images):
        act = "relu6"
        with net.scope("stem"):
            x = conv_norm_act(net, images, 8, kernel=3, stride=2, activation=act)
        for i, (channels, stride, hidden) in enumerate([(8, 1, (8,)), (16, 2, (12, 24)),
                                                        (16, 1, (24, 48))]):  # fmt: skip
            with net.scope(f"block{i}"):
                x = mbconv(
                    net, x, channels, kernel=3, stride=stride, expansion=1 if i == 0 else 3,
                    hidden=net.choice("hidden", hidden), expand_by_one=False, activation=act,
                    shortcut=stride == 1,
                )  # fmt: skip
        with net.scope("head"):
            x = conv_norm_act(net, x, 32, kernel=1, activation=act)
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class V3Space(SearchSpace):
    image_size: int = 16
    num_classes: int = 4

    def build(self, net, images):
        with net.scope("stem"):
            x = conv_norm_act(net, images, 8, kernel=3, stride=2, activation="hardswish")
        for i, (channels, kernel, stride, hidden, act, se) in enumerate(
            [
                (8, 3, 1, (8,), "relu", False),
                (16, 3, 2, (16, 24), "relu", True),
                (16, 5, 1, (32, 48), "hardswish", True),
            ]
        ):
            with net.scope(f"block{i}"):
                x = mbconv(
                    net, x, channels, kernel=kernel, stride=stride, expansion=1 if i == 0 else 3,
                    hidden=net.choice("hidden", hidden), expand_by_one=False, activation=act,
                    shortcut=stride == 1, se=se, se_hidden=8,
                )  # fmt: skip
        with net.scope("head"):
            x = conv_norm_act(net, x, 48, kernel=1, activation="hardswish")
            x = net.linear(net.global_pool(x), 32, name="mix")
            x = net.activation(x, "hardswish", name="mix_activation")
        return net.linear(x, self.num_classes, name="classifier")


BLOCKS = ("block0", "block1", "block2")


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize(
    ("module", "names", "unused"),
    [(TimmViT, timm_vit_names, ()), (TorchvisionViT, torchvision_vit_names, ("class_token",))],
)
def test_vision_transformers_load_and_answer_alike(module, names, unused, sort):
    network, supernet = shaken(module()), Supernet(VIT)
    report = load_pretrained(supernet, network.state_dict(), names, sort=sort)
    assert report.missing == ()
    assert report.unused == unused
    images, row = images_of(VIT, 4), VIT.extremes("largest")[0]
    with torch.no_grad():
        torch.testing.assert_close(
            supernet.extract(row)(images), network(images), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize(
    ("module", "space", "names"),
    [
        (MobileNetV2, V2Space(), torchvision_mobilenet_v2_names),
        (MobileNetV3, V3Space(), torchvision_mobilenet_v3_names),
    ],
)
def test_mobilenets_load_and_answer_alike(module, space, names, sort):
    network, supernet = shaken(module()), Supernet(space)
    state = network.state_dict()
    report = load_pretrained(supernet, state, names(state, BLOCKS), sort=sort)
    assert report.missing == ()
    assert report.unused == ()
    images, row = images_of(space, 4), space.extremes("largest")[0]
    with torch.no_grad():
        found = supernet.extract(row, report.statistics)(images)
        torch.testing.assert_close(found, network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "names"),
    [(MobileNetV2, torchvision_mobilenet_v2_names), (MobileNetV3, torchvision_mobilenet_v3_names)],
)
def test_another_number_of_blocks_is_refused(module, names):
    with pytest.raises(BadInputError, match="the checkpoint has 3 blocks, got 2 scopes"):
        names(module().state_dict(), BLOCKS[:2])


def test_layers_of_other_networks_have_no_name():
    for names in (timm_vit_names, torchvision_vit_names):
        assert names("stem.conv") is None
        assert names("layer0.attention.norm2") is None
        assert names("layer11.mlp.expand").count("11") == 1
