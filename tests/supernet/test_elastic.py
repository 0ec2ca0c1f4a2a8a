import numpy as np
import pytest
import torch
import torch.nn.functional as F

from search_spaces import CNNSpace, ConvStage, ViTSpace
from search_spaces.primitives import PRIMITIVES
from supernet import Supernet
from supernet.elastic import ELASTIC
from supernet.static import STATIC
from tests.supernet.doubles import SPACES, images_of, perturbed


def graphs(space, n=60):
    return [space.graph(row) for row in space.sample(n, np.random.default_rng(0))]


def layers(space, operator, n=60):
    return [layer for g in graphs(space, n) for layer in g.layers if layer.operator == operator]


def test_every_primitive_has_an_elastic_and_a_static_reader():
    assert set(ELASTIC) == set(STATIC) == set(PRIMITIVES) - {"input"}


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_linear_and_norm_weights_are_prefixes(space):
    supernet = perturbed(space)
    for operator in ("linear", "batch_norm", "layer_norm"):
        for layer in layers(space, operator):
            primitive = supernet.primitive(layer)
            weights = primitive.weights(layer)
            assert torch.equal(weights["bias"], primitive.bias[: layer.channels])
            rows = primitive.weight[: layer.channels]
            if operator == "linear":
                rows = rows[:, : layer.in_channels]
            assert torch.equal(weights["weight"], rows)
            assert weights["weight"].shape[0] == layer.channels


def test_convolutions_of_the_largest_kernel_are_prefixes():
    supernet = perturbed(SPACES[0])
    seen = set()
    for layer in layers(SPACES[0], "conv2d"):
        primitive = supernet.primitive(layer)
        if layer.kernel == primitive.kernels[0]:
            weight = primitive.weights(layer)["weight"]
            per_group = layer.in_channels // layer.groups
            assert torch.equal(weight, primitive.weight[: layer.channels, :per_group])
            seen.add(layer.kernel)
    assert seen == {1, 3, 5, 7}


@pytest.mark.parametrize("space", SPACES[1:], ids=lambda s: s.name)
def test_a_head_keeps_its_queries_keys_and_values_in_every_subnet(space):
    """Weights and biases are prefixes with one meaning, whatever the number of heads."""
    supernet = perturbed(space)
    counts = set()
    for layer in layers(space, "attention"):
        counts.add(layer.heads)
        largest = supernet.primitive(layer)
        weights = largest.weights(layer)
        h, width = layer.heads, layer.in_channels
        dims = (layer.qk_dim, layer.qk_dim, layer.v_dim)
        rows = [h * d for d in dims]
        parts = zip(("query", "key", "value"), dims, weights["weight"].split(rows),
                    weights["bias"].split(rows), strict=True)  # fmt: skip
        for name, d, weight, bias in parts:
            assert torch.equal(weight.view(h, d, width), getattr(largest, name)[:h, :d, :width])
            assert torch.equal(bias.view(h, d), getattr(largest, f"{name}_bias")[:h, :d])
    assert len(counts) == 3


def test_attention_of_fewer_heads_is_attention_of_the_first_heads():
    """Against softmax(q k^T / sqrt(d)) v written out for each head."""
    space = SPACES[1]
    supernet = perturbed(space)
    for layer in layers(space, "attention", 10):
        largest = supernet.primitive(layer)
        x = torch.randn(2, layer.tokens, layer.in_channels)
        found = largest.run(layer, [x], largest.weights(layer))
        heads = []
        for h in range(layer.heads):
            q, k, v = (
                x @ getattr(largest, part)[h, :, : layer.in_channels].T
                + getattr(largest, f"{part}_bias")[h]
                for part in ("query", "key", "value")
            )
            heads.append((q @ k.mT / layer.qk_dim**0.5).softmax(-1) @ v)
        torch.testing.assert_close(found, torch.cat(heads, -1), atol=1e-5, rtol=1e-4)


def kernel_space():
    stage = ConvStage(depths=(1, 2), kernels=(3, 5, 7), widths=(8, 16))
    return CNNSpace(image_size=8, stages=(stage,))


def depthwise_layers(space):
    found = {}
    for layer in layers(space, "conv2d", 80):
        if layer.name == "stage0.layer0.depthwise.conv":
            found[layer.kernel] = layer
    assert sorted(found) == [3, 5, 7]
    return found


def test_smaller_kernels_start_as_centre_crops():
    space = kernel_space()
    supernet = Supernet(space)
    for kernel, layer in depthwise_layers(space).items():
        primitive = supernet.primitive(layer)
        cut = (7 - kernel) // 2
        crop = primitive.weight[: layer.channels, :, cut : 7 - cut, cut : 7 - cut]
        assert torch.equal(primitive.weights(layer)["weight"], crop)


def test_kernel_transforms_are_chained_and_extracted():
    space = kernel_space()
    supernet = perturbed(space)
    found = depthwise_layers(space)
    primitive = supernet.primitive(found[3])
    big, to5, to3 = primitive.weight, primitive.transforms["5"], primitive.transforms["3"]
    assert not torch.allclose(to5, torch.eye(25), atol=0.1)
    expected = {7: big}
    crop = big[..., 1:6, 1:6].reshape(-1, 25)
    expected[5] = torch.einsum("ij,cj->ci", to5, crop).view(-1, 1, 5, 5)
    crop = expected[5][..., 1:4, 1:4].reshape(-1, 9)  # of the transformed 5
    expected[3] = torch.einsum("ij,cj->ci", to3, crop).view(-1, 1, 3, 3)
    for kernel, layer in found.items():
        weight = primitive.weights(layer)["weight"]
        torch.testing.assert_close(weight, expected[kernel][: layer.channels])
        row = next(g for g in graphs(space, 80) if layer in g.layers)
        subnet = supernet.extract(row, supernet.recalibrate(row, [images_of(space, 4)]))
        stored = subnet.arrays(layer)["weight"]
        np.testing.assert_array_equal(stored, weight.detach().numpy())


def test_gradients_reach_the_transforms_used_and_no_others():
    space = kernel_space()
    supernet = Supernet(space)
    found = depthwise_layers(space)
    primitive = supernet.primitive(found[5])
    primitive.weights(found[5])["weight"].square().sum().backward()
    assert primitive.transforms["5"].grad.abs().sum() > 0
    assert primitive.transforms["3"].grad is None
    assert not primitive.weight.grad[..., 0, :].any()  # outside the centre
    assert primitive.weight.grad[..., 1:6, 1:6].abs().sum() > 0


@pytest.mark.parametrize("sizes", [(2, 4, 8), (4, 6, 8, 12), (3, 8)])
def test_resized_patches_answer_a_constant_image_alike(sizes):
    """Also where one patch size does not divide the other."""
    space = ViTSpace(image_size=24, patch_sizes=sizes, depths=(1, 2))
    supernet = perturbed(space)
    constant = torch.full((1, 3, 24, 24), 0.7) * torch.tensor([1.0, -2, 3]).view(1, 3, 1, 1)
    answers = {}
    for graph in graphs(space):
        layer = graph.layers[1]
        primitive = supernet.primitive(layer)
        out = primitive.run(layer, [constant], primitive.weights(layer))
        assert out.shape[2:] == (24 // layer.kernel,) * 2
        answers[layer.kernel] = out[0, :48, 0, 0]
        torch.testing.assert_close(out.std((2, 3)), torch.zeros(out.shape[:2]), atol=1e-5, rtol=0)
    assert sorted(answers) == list(sizes)
    for answer in answers.values():
        torch.testing.assert_close(answer, answers[sizes[-1]], atol=1e-4, rtol=1e-4)


def test_a_patch_of_half_the_size_sums_squares_of_the_kernel():
    space = ViTSpace(image_size=16, patch_sizes=(4, 8), depths=(1, 2))
    supernet = perturbed(space)
    layer = next(la for la in layers(space, "conv2d") if la.kernel == 4)
    primitive = supernet.primitive(layer)
    sums = F.avg_pool2d(primitive.weight[: layer.channels], 2) * 4
    torch.testing.assert_close(primitive.weights(layer)["weight"], sums)


def position_of(space, supernet):
    found = {layer.height: layer for layer in layers(space, "position")}
    return supernet.primitive(found[max(found)]), found


def test_position_embeddings_are_resized_from_the_largest_grid():
    space = ViTSpace(image_size=16, patch_sizes=(2, 4, 8), depths=(1, 2))
    primitive, found = position_of(space, Supernet(space))
    assert sorted(found) == [2, 4, 8]
    grid = primitive.embedding
    assert grid.shape[1:] == (8, 8)
    full = primitive.weights(found[8])["embedding"]
    for y in range(8):
        for x in range(8):  # tokens run row by row
            assert torch.equal(full[y * 8 + x], grid[: found[8].channels, y, x])
    with torch.no_grad():
        grid.copy_(torch.arange(8.0).view(1, 8, 1).expand_as(grid))  # the row's number
    for size in (2, 4):
        rows = primitive.weights(found[size])["embedding"].view(size, size, -1)
        assert torch.allclose(rows, rows[:, :1, :1].expand_as(rows), atol=1e-5)  # only rows differ
        heights = rows[:, 0, 0]
        assert (heights.diff() > 0).all()
        torch.testing.assert_close(heights.mean(), torch.tensor(3.5))
        torch.testing.assert_close(heights + heights.flip(0), torch.full((size,), 7.0))


def test_initial_weights_depend_on_the_seed_alone():
    def hashed(seed):
        torch.manual_seed(np.random.default_rng().integers(1000))
        return Supernet(SPACES[2], seed=seed).weights_hash()

    assert hashed(1) == hashed(1) != hashed(2)


def test_a_set_position_embedding_of_a_smaller_grid_is_read_back():
    space = ViTSpace(image_size=24, patch_sizes=(2, 4, 6, 8), depths=(1, 2))
    primitive, found = position_of(space, Supernet(space))
    smooth = {}
    for side, layer in found.items():
        given = torch.randn(layer.tokens, layer.channels)
        primitive.set_weights(layer, {"embedding": given})
        torch.testing.assert_close(
            primitive.weights(layer)["embedding"], given, atol=1e-4, rtol=1e-4
        )
        ramp = torch.arange(float(side)).repeat_interleave(side)[:, None].expand_as(given)
        primitive.set_weights(layer, {"embedding": ramp})
        smooth[side] = primitive.embedding[0, :, 0].diff()
    assert sorted(smooth) == [3, 4, 6, 12]
    for steps in smooth.values():
        assert (steps > -0.1).all()  # a ramp stays one
