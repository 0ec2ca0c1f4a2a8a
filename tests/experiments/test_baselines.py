import numpy as np
import pytest
import torch

from deployment import emit, verify
from experiments.baselines import (
    HAND_MADE,
    MULTIPLIERS,
    ScaledMobileNetV2,
    ScaledMobileNetV3Small,
    ScaledResNet,
    ScaledViT,
    hand_made,
    nearest_size,
    scaled_to,
)
from hardware_profiles import Target, device
from latency_models import MeasuredCostModel, RooflineCostModel
from records import BadInputError, UnknownNameError
from search_spaces import SearchSpace
from supernet import ImageData, Split, Subnet

SPACE = ScaledResNet(image_size=32, channels=3, num_classes=10, blocks=3)
PUBLISHED = {"image_size": 224, "channels": 3, "num_classes": 1000, "multipliers": (0.5, 1.0, 2.0)}
ONE, TWO = [1], [2]  # genes of factors 1 and 2 among these
SPACES = {
    "resnet-8": ScaledResNet(channels=1),
    "mobilenet-v2": ScaledMobileNetV2(channels=1),
    "mobilenet-v3-small": ScaledMobileNetV3Small(channels=1),
    "vit-tiny": ScaledViT(channels=1),
}


def row(multiplier):
    return np.array([MULTIPLIERS.index(multiplier)], np.int16)


def convolution(channels_in, channels, kernel, side, groups=1):
    """Parameters with the norm behind it, and MACs on a map of this side."""
    weights = channels * (channels_in // groups) * kernel**2
    return np.array([weights + 2 * channels, weights * side**2])


def linear(channels_in, channels, tokens=1):
    return np.array([(channels_in + 1) * channels, channels_in * channels * tokens])


def bottleneck(channels_in, hidden, channels, kernel, side, stride, squeezed=0):
    """Counts of an inverted bottleneck and the side of its output."""
    counts = np.zeros(2, int)
    if hidden != channels_in:
        counts += convolution(channels_in, hidden, 1, side)
    side //= stride
    counts += convolution(hidden, hidden, kernel, side, groups=hidden)
    if squeezed:
        counts += linear(hidden, squeezed) + linear(squeezed, hidden)
    return counts + convolution(hidden, channels, 1, side), side


def mobilenet_v2(side, colours, classes, strides):
    """Table 2 of arXiv 1801.04381, one bottleneck after the other."""
    stem, *others = strides
    side //= stem
    counts = convolution(colours, 32, 3, side)
    before = 32
    stages = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for (t, c, n), stride in zip(stages, others, strict=True):
        for i in range(n):
            more, side = bottleneck(before, t * before, c, 3, side, stride if i == 0 else 1)
            counts, before = counts + more, c
    return counts + convolution(320, 1280, 1, side) + linear(1280, classes)


def mobilenet_v3_small(side, colours, classes, strides):
    """Table 2 of arXiv 1905.02244; the hidden width of SE is a quarter, a multiple of 8."""
    stem, *others = strides
    side //= stem
    counts = convolution(colours, 16, 3, side)
    before = 16
    layers = [
        (3, 16, 16, 8), (3, 72, 24, 0), (3, 88, 24, 0), (5, 96, 40, 24), (5, 240, 40, 64),
        (5, 240, 40, 64), (5, 120, 48, 32), (5, 144, 48, 40), (5, 288, 96, 72),
        (5, 576, 96, 144), (5, 576, 96, 144),
    ]  # fmt: skip
    for (kernel, hidden, channels, squeezed), stride in zip(layers, others, strict=True):
        more, side = bottleneck(before, hidden, channels, kernel, side, stride, squeezed)
        counts, before = counts + more, channels
    return counts + convolution(96, 576, 1, side) + linear(576, 1024) + linear(1024, classes)


def vit(side, colours, classes, patch, width=192, heads=3):
    """DeiT without its class token: 12 layers, heads of 64, MLP ratio 4."""
    tokens = (side // patch) ** 2
    inner = 64 * heads
    positions, scores = np.array([width * tokens, 0]), np.array([0, 2 * tokens**2 * inner])
    norm = np.array([2 * width, 0])
    counts = linear(colours * patch**2, width, tokens) + positions
    for _ in range(12):
        counts = counts + linear(width, 3 * inner, tokens) + linear(inner, width, tokens)
        counts = counts + linear(width, 4 * width, tokens) + linear(4 * width, width, tokens)
        counts = counts + 2 * norm + scores
    return counts + norm + linear(width, classes)


V2_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
V2_STRIDES_32 = (1, 1, 1, 2, 2, 1, 2, 1)
V3_STRIDES = (2, 2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)
V3_STRIDES_32 = (1, 1, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)


def counts_of(graph):
    return [graph.parameters, graph.macs]


def test_resnet_20_has_the_published_parameters_and_those_of_its_shortcuts():
    graph = SPACE.graph(row(1.0))
    subnet = Subnet(graph)
    shortcuts = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)  # two 1x1 convolutions with their norms

    # He et al., table 6: 0.27 M. With shortcuts padded by zeros it is 269,722 exactly, the
    # count that is usually given for CIFAR-10.
    assert graph.parameters == 269_722 + shortcuts == 272_474
    assert sum(p.numel() for p in subnet.parameters()) == graph.parameters
    assert sum(layer.operator == "conv2d" for layer in graph.layers) == 19 + 2


def test_mobilenet_v2_at_224_pixels_is_the_published_network():
    graph = ScaledMobileNetV2(unit_strides=0, **PUBLISHED).graph(ONE)

    # 3.4 M and 300 M in the paper; 3,504,872 and 300.8 M are the counts of its usual ports
    assert counts_of(graph) == [3_504_872, 300_774_272]
    assert counts_of(graph) == mobilenet_v2(224, 3, 1000, V2_STRIDES).tolist()
    assert sum(layer.activation_name == "relu6" for layer in graph.layers) == 35


def test_mobilenet_v3_small_at_224_pixels_is_the_published_network():
    graph = ScaledMobileNetV3Small(unit_strides=0, **PUBLISHED).graph(ONE)

    # 2.5 M and 56 M in the paper; 2,542,856 is the count of its usual ports
    assert graph.parameters == 2_542_856
    assert round(graph.macs / 1e6, 1) == 56.5
    assert counts_of(graph) == mobilenet_v3_small(224, 3, 1000, V3_STRIDES).tolist()
    assert sum(layer.operator == "squeeze" for layer in graph.layers) == 9
    assert sum(layer.activation_name == "relu" for layer in graph.layers) == 9 + 5


def test_vit_at_224_pixels_is_deit_without_its_class_token():
    space = ScaledViT(patch_size=16, **PUBLISHED)

    # DeiT-Ti has 5,717,416 parameters, DeiT-S 22,050,664: 5.7 and 22 M in the paper
    assert space.graph(ONE).parameters == 5_717_416 - 2 * 192
    assert space.graph(TWO).parameters == 22_050_664 - 2 * 384
    assert counts_of(space.graph(ONE)) == vit(224, 3, 1000, 16).tolist()
    assert counts_of(space.graph(TWO)) == vit(224, 3, 1000, 16, width=384, heads=6).tolist()


def test_for_images_of_32_pixels_all_stages_remain_and_the_first_strides_are_1():
    v2, v3 = SPACES["mobilenet-v2"], SPACES["mobilenet-v3-small"]

    assert counts_of(v2.graph(row(1.0))) == mobilenet_v2(32, 1, 10, V2_STRIDES_32).tolist()
    assert counts_of(v3.graph(row(1.0))) == mobilenet_v3_small(32, 1, 10, V3_STRIDES_32).tolist()
    for space in (v2, v3):
        last = [layer for layer in space.graph(row(1.0)).layers if layer.name == "last.conv"]
        assert [(layer.height, layer.width) for layer in last] == [(4, 4)]


def test_vit_for_images_of_32_pixels_has_64_tokens():
    space = SPACES["vit-tiny"]

    graph = space.graph([space.multipliers.index(1.0)])

    assert counts_of(graph) == vit(32, 1, 10, 4).tolist()


def test_heads_of_vit_stay_64_wide_and_their_number_follows_the_embedding():
    space = SPACES["vit-tiny"]
    found = []
    for index in range(len(space.multipliers)):
        attention = [a for a in space.graph([index]).layers if a.operator == "attention"]
        assert len(attention) == 12
        found.append((attention[0].in_channels, attention[0].heads, attention[0].qk_dim))

    assert found == [
        (24, 1, 24), (48, 1, 48), (72, 1, 64), (96, 2, 64), (120, 2, 64), (144, 2, 64),
        (168, 3, 64), (192, 3, 64), (240, 4, 64), (288, 5, 64), (336, 5, 64), (384, 6, 64),
    ]  # fmt: skip


def test_a_factor_scales_all_widths_and_rounds_them_to_multiples_of_8():
    graph = SPACES["mobilenet-v3-small"].graph(row(0.75))
    widths = [a.channels for a in graph.layers if a.operator == "conv2d" and ".se." not in a.name]

    # 16 | 16, 16 | 72, 72, 24 | 88, 88, 24 times the factor are 12 | 12, 12 | 54, 54, 18 | 66, 66
    assert widths[:9] == [16, 16, 16, 56, 56, 16, 64, 64, 16]  # halves go up: 12 = 1.5 * 8
    assert widths[-1] == 432
    assert {width % 8 for width in widths} == {0}


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_factor_gives_a_larger_network_than_the_one_before(name):
    space = SPACES[name]
    counts = [counts_of(space.graph([i])) for i in range(len(space.multipliers))]

    for column in zip(*counts, strict=True):
        assert list(column) == sorted(set(column))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_exported_file_of_the_smallest_one_computes_what_torch_does(name):
    subnet = Subnet(SPACES[name].graph([0])).eval()

    agreement = verify(subnet, emit(subnet), torch.randn(4, 1, 32, 32))

    assert agreement.relative_difference < 1e-5
    assert sum(p.numel() for p in subnet.parameters()) == subnet.graph.parameters


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_space_is_read_back_from_what_it_is_written_as(name):
    assert SearchSpace.from_json(SPACES[name].to_json()) == SPACES[name]


def test_networks_are_named_by_their_layers_or_papers_and_factor():
    space = ScaledResNet(image_size=8, channels=1, num_classes=10)

    assert space.title(row(0.5)) == "ResNet-8 x0.5"
    assert SPACE.title(row(2.0)) == "ResNet-20 x2"
    assert SPACES["mobilenet-v2"].title(row(1.25)) == "MobileNetV2 x1.25"
    assert SPACES["mobilenet-v3-small"].title(row(0.25)) == "MobileNetV3-Small x0.25"
    assert SPACES["vit-tiny"].title([0]) == "ViT-Tiny x0.125"


def test_every_resnet_gives_logits_for_small_images():
    space = ScaledResNet(image_size=8, channels=1, num_classes=10)

    subnet = Subnet(space.graph(row(MULTIPLIERS[0]))).eval()

    assert subnet(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("unit_strides", [-1, 6])
def test_more_strides_than_there_are_cannot_be_set_to_1(unit_strides):
    with pytest.raises(BadInputError, match="unit_strides must be 0 to 5"):
        ScaledMobileNetV2(unit_strides=unit_strides)


@pytest.mark.parametrize("patch_size", [0, 5])
def test_patches_that_do_not_divide_the_image_are_refused(patch_size):
    with pytest.raises(BadInputError, match="patch_size must divide the image size of 32"):
        ScaledViT(patch_size=patch_size)


# ---- by name ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    split = Split(torch.zeros(2, 1, 32, 32), torch.arange(2))
    names = tuple("abcdefgh")
    return ImageData(name="d", train=split, validation=split, test=split, class_names=names)


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_named_network_fits_the_dataset_and_half_the_maps_are_cheaper(data, name):
    usual = hand_made(name, data, multipliers=(0.5, 1.0))
    halved = hand_made(name, data, reduction=2, multipliers=(0.5, 1.0))

    assert (usual.image_size, usual.channels, usual.num_classes) == (32, 1, 8)
    assert usual.multipliers == halved.multipliers == (0.5, 1.0)
    assert 0.2 < halved.graph([1]).macs / usual.graph([1]).macs < 0.35
    assert halved.graph([1]).layers[-1].channels == 8


def test_named_networks_are_the_spaces_of_this_package(data):
    found = [hand_made(name, data).label for name in HAND_MADE]

    assert found == ["ResNet-8", "ResNet-14", "MobileNetV2", "MobileNetV3-Small", "ViT-Tiny"]
    assert hand_made("vit-tiny", data).multipliers == ScaledViT().multipliers


def test_the_named_mobilenet_v2_has_relu_and_is_otherwise_the_published_one(data):
    named, published = (
        hand_made("mobilenet-v2", data),
        ScaledMobileNetV2(channels=1, num_classes=8),
    )

    kinds = {layer.activation_name for layer in named.graph(row(1.0)).layers}

    assert "relu" in kinds
    assert "relu6" not in kinds
    assert counts_of(named.graph(row(1.0))) == counts_of(published.graph(row(1.0)))


def test_an_unknown_name_is_refused_and_the_names_are_listed(data):
    with pytest.raises(UnknownNameError, match="resnet-8"):
        hand_made("vgg", data)


def test_a_reduction_that_is_not_offered_is_refused(data):
    with pytest.raises(BadInputError, match=r"one of \(1, 2\), got 3"):
        hand_made("resnet-8", data, reduction=3)


# ---- of the same latency ---------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.01, 0.9, 1.0, 1.07, 1.5, 100])
def test_scaled_to_picks_the_nearest_ratio_of_those_measured(factor):
    target = Target(profile=device("raspberry-pi-4"), batch_size=1, threads=1)
    genes = np.random.default_rng(0).permutation(len(MULTIPLIERS)).astype(np.int16)[:, None]
    every = RooflineCostModel(SPACE, target).latency_ms(genes)
    costs = MeasuredCostModel(SPACE, target, genes, every)
    for latency in every * factor:
        ratios = np.maximum(every / latency, latency / every)

        nearest = scaled_to(costs, latency)

        assert nearest.shape == (1,)
        assert nearest == genes[ratios.argmin()]


def test_the_nearest_size_is_taken_among_those_that_are_not_too_slow():
    latencies = [0.5, 1.25, 0.85, 2.0]

    assert nearest_size(latencies, 1.0) == 2
    assert nearest_size(latencies, 1.2) == 1
    assert nearest_size(latencies, 1.2, most=1.0) == 2
    assert nearest_size(latencies, 0.45, most=1.1) is None
    assert nearest_size(latencies, 0.5, most=1.0) == 0


def test_of_equally_near_sizes_the_first_is_taken():
    assert nearest_size([2.0, 0.5, 2.0], 1.0) == 0
