"""Users' modules as spaces and supernets, against the modules themselves."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError, json_text
from search_spaces import SearchSpace
from supernet import (
    ModuleSpace,
    Supernet,
    channel_groups,
    elastic_space,
    elastic_supernet,
    load_module,
    load_supernet,
    save_supernet,
    zero_residual_branches,
)
from tests.search_spaces.contract import SearchSpaceContract
from tests.supernet.doubles import images_of
from tests.supernet.modules import MobileNetV2, MobileNetV3, ResNet, SmallCNN, mlp, shaken

SIZES = {"channels": 3, "num_classes": 4}

RESNET = {
    "layer1.*.conv1": {"out_channels": (4, 8)},
    "layer2.*.conv1": {"out_channels": (8, 16)},
    "layer2.0.conv2": {"out_channels": (8, 16)},
    "layer1": {"depth": (0, 1, 2)},
    "layer2": {"depth": (1, 2)},
    "conv1": {"kernel": (3, 5, 7)},
}

CASES = {
    "resnet": (ResNet, RESNET, 32),
    "mobilenet_v2": (
        MobileNetV2,
        {
            "features.2.conv.0.0": {"out_channels": (12, 24)},
            "features.3.conv.0": {"out_channels": (24, 48)},
            "features.3": {"kernel": (1, 3)},
            "features.4": {"out_channels": (16, 32)},
        },
        16,
    ),
    "mobilenet_v3": (
        MobileNetV3,
        {
            "features.2.block.0.0": {"out_channels": (12, 24)},
            "features.2.block.2.fc1": {"out_channels": (4, 8)},
            "features.3": {"kernel_size": (3, 5)},
            "classifier.0": {"out_features": (16, 32)},
        },
        16,
    ),
    "small_cnn": (
        SmallCNN,
        {
            "stem": {"kernel": (3, 5), "out_channels": (4, 8)},
            "conv": {"out_channels": (4, 8, 12)},
            "fc1": {"out_features": (12, 24)},
        },
        16,
    ),
    "mlp": (mlp, {"1": {"out_features": (16, 32)}, "3": {"depth": (0, 2)}}, 16),
}
cases = pytest.mark.parametrize("case", CASES)


def made(case):
    module, choices, size = CASES[case]
    return shaken(module()), choices, {"image_size": size, **SIZES}


@cases
@pytest.mark.parametrize("sort", [False, True])
def test_the_largest_subnet_answers_as_the_module(case, sort):
    module, choices, sizes = made(case)
    space = elastic_space(module, choices, **sizes)
    supernet = Supernet(space, seed=7)
    report = load_module(supernet, module, sort=sort)
    assert report.missing == ()
    assert [key for key in report.unused if "num_batches" not in key] == []
    row, images = space.extremes("largest")[0], images_of(space, 5)
    with torch.no_grad():
        found = supernet.extract(row, report.statistics)(images)
        torch.testing.assert_close(found, module(images), atol=1e-5, rtol=1e-5)
    assert (report.sorting is not None) == sort
    if sort:
        assert report.sorting.groups


@cases
def test_every_subnet_runs_and_equals_its_slice(case):
    module, choices, sizes = made(case)
    supernet = elastic_supernet(module, choices, **sizes)
    space = supernet.space
    images = images_of(space, 4)
    rows = space.sample(40, np.random.default_rng(0))
    answers = []
    for row in rows:
        statistics = supernet.recalibrate(row, [images_of(space, 8, seed=2)])
        with torch.no_grad():
            answers.append(supernet(images, row, statistics))
            subnet = supernet.extract(row, statistics)(images)
        torch.testing.assert_close(subnet, answers[-1], atol=1e-5, rtol=1e-5)
    assert torch.stack(answers).std(0).min() > 0  # they are not all the same


def reference(depth1, depth2, hidden, stream):
    """A ResNet of the given depths and widths, written anew."""
    network = ResNet(widths=(8, stream))
    network.layer1 = network.layer1[:depth1]
    network.layer2 = network.layer2[:depth2]
    for i, block in enumerate(network.layer2):
        block.conv1 = nn.Conv2d(
            8 if i == 0 else stream, hidden[i], 3, stride=2 - i, padding=1, bias=False
        )
        block.bn1 = nn.BatchNorm2d(hidden[i])
        block.conv2 = nn.Conv2d(hidden[i], stream, 3, padding=1, bias=False)
    return network


@pytest.mark.parametrize(
    ("depth1", "depth2", "hidden", "stream"),
    [(2, 2, (16, 16), 16), (1, 2, (8, 16), 8), (0, 1, (16, 16), 8), (2, 1, (8, 8), 16)],
)
def test_a_subnet_is_the_module_with_fewer_blocks_and_its_first_channels(
    depth1, depth2, hidden, stream
):
    module, choices, sizes = made("resnet")
    supernet = elastic_supernet(module, {**choices, "layer1.*.conv1": {}}, **sizes)
    space = supernet.space
    values = {
        "conv1.kernel": 7, "layer1.depth": depth1, "layer2.depth": depth2,
        "layer2.0.conv1.out_channels": hidden[0], "layer2.1.conv1.out_channels": hidden[1],
        "layer2.0.conv2.out_channels": stream,
    }  # fmt: skip
    row = np.array([c.values.index(values[c.name]) for c in space.choices], np.int16)
    row = space.canonical(row[None])[0]
    small = reference(depth1, depth2, hidden, stream).eval()
    state = small.state_dict()
    for name, value in module.state_dict().items():
        if name in state:
            state[name] = value[tuple(slice(0, n) for n in state[name].shape)]
    small.load_state_dict(state)
    statistics = {
        name: {"running_mean": m.running_mean, "running_var": m.running_var}
        for name, m in small.named_modules()
        if isinstance(m, nn.BatchNorm2d)
    }
    images = images_of(space, 4)
    subnet = supernet.extract(row, statistics)
    assert sum(p.numel() for p in subnet.parameters()) == sum(
        p.numel() for p in small.parameters()
    )
    with torch.no_grad():
        torch.testing.assert_close(subnet(images), small(images), atol=1e-5, rtol=1e-5)


def test_choices_are_named_after_layers_and_conditions_follow_depth():
    module, choices, sizes = made("resnet")
    space = elastic_space(module, choices, **sizes)
    found = {c.name: c for c in space.choices}
    assert {name: c.values for name, c in found.items()} == {
        "conv1.kernel": (3, 5, 7),
        "layer1.depth": (0, 1, 2),
        "layer1.0.conv1.out_channels": (4, 8),
        "layer1.1.conv1.out_channels": (4, 8),
        "layer2.0.conv1.out_channels": (8, 16),
        "layer2.0.conv2.out_channels": (8, 16),  # and that of the shortcut and the next block
        "layer2.depth": (1, 2),
        "layer2.1.conv1.out_channels": (8, 16),
    }
    always = {name for name, c in found.items() if c.active_if is True}
    assert always == {
        "conv1.kernel", "layer1.depth", "layer2.depth", "layer2.0.conv1.out_channels",
        "layer2.0.conv2.out_channels",
    }  # fmt: skip


def test_the_module_stays_as_it_is():
    module, choices, sizes = made("resnet")
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    elastic_supernet(module, choices, **sizes)
    assert module.training
    assert module.layer1[0].bn1.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_other_constants_in_batch_norms_are_allowed_for():
    module, choices, sizes = made("resnet")
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 0.3
    space = elastic_space(module, choices, **sizes)
    supernet = Supernet(space)
    report = load_module(supernet, module)
    row, images = space.extremes("largest")[0], images_of(space, 3)
    with torch.no_grad():
        found = supernet.extract(row, report.statistics)(images)
        torch.testing.assert_close(found, module(images), atol=1e-5, rtol=1e-5)


def test_a_supernet_of_a_module_is_saved_and_read(tmp_path):
    module, choices, sizes = made("small_cnn")
    supernet = elastic_supernet(module, choices, **sizes)
    save_supernet(supernet, tmp_path / "net.safetensors")
    read = load_supernet(tmp_path / "net.safetensors")
    assert read.space == supernet.space
    assert read.weights_hash() == supernet.weights_hash()


def test_channels_and_branches_are_found_as_in_other_spaces():
    module, choices, sizes = made("resnet")
    supernet = elastic_supernet(module, choices, **sizes)
    groups = {g.name: g for g in channel_groups(supernet.space)}
    assert groups["layer2.0.conv2"].is_residual
    assert groups["layer2.0.conv2"].widths == (8, 16)
    assert not groups["layer2.1.conv1"].is_residual
    names = zero_residual_branches(supernet)
    assert names == ("layer1.0.bn2", "layer1.1.bn2", "layer2.1.bn2")


def test_restricting_gives_a_module_without_a_choice():
    module, choices, sizes = made("resnet")
    space = elastic_space(module, choices, **sizes)
    frozen = space.freeze({"layer2.depth": 1, "conv1.kernel": 7})
    assert {c.name for c in space.choices} - {c.name for c in frozen.choices} == {
        "layer2.depth", "conv1.kernel", "layer2.1.conv1.out_channels",
    }  # fmt: skip
    rows = frozen.sample(20, np.random.default_rng(0))
    for row, base in zip(rows, frozen.to_base(rows), strict=True):
        assert frozen.graph(row) == space.graph(base)


def test_damaged_files_are_refused():
    module, choices, sizes = made("small_cnn")
    value = json.loads(json_text(elastic_space(module, choices, **sizes).to_json()))

    def refused(match, change):
        damaged = json.loads(json.dumps(value))
        change(damaged["parameters"])
        with pytest.raises(BadInputError, match=match):
            SearchSpace.from_json(damaged)

    refused("unknown primitive of a module 'conv3d'",
            lambda p: p["traced"][0].update(operator="conv3d"))  # fmt: skip
    refused("'conv' does not read layers before it", lambda p: p["traced"][3].update(inputs=[9]))
    refused("'stem' does not read layers before it", lambda p: p["traced"][0].update(inputs=[]))
    refused("unknown choice 'conv.out_channels'", lambda p: p["offered"].pop(1))
    refused("do not fit ModuleSpace", lambda p: p.pop("traced"))
    refused("do not fit ModuleSpace", lambda p: p["traced"][0].update(colour=1))


class TestResNetSpace(SearchSpaceContract):
    space = elastic_space(ResNet(), RESNET, image_size=32, **SIZES)

    @staticmethod
    def other():
        fewer = {name: sizes for name, sizes in RESNET.items() if name != "conv1"}
        return elastic_space(ResNet(), fewer, image_size=32, **SIZES)

    def test_bad_sizes_are_refused(self):
        with pytest.raises(BadInputError, match="num_classes must be an integer >= 2, got 1"):
            ModuleSpace(num_classes=1, traced=self.space.traced, offered=self.space.offered)


class TestMobileNetSpace(SearchSpaceContract):
    space = elastic_space(MobileNetV3(), CASES["mobilenet_v3"][1], image_size=16, **SIZES)

    @staticmethod
    def other():
        choices = {"features.3": {"kernel": (1, 3, 5)}}
        return elastic_space(MobileNetV3(), choices, image_size=16, **SIZES)

    def test_bad_sizes_are_refused(self):
        with pytest.raises(BadInputError, match="returns 4 values an image, but there are 5"):
            ModuleSpace(num_classes=5, traced=self.space.traced, offered=self.space.offered)
