"""The mechanism of each proxy against what can be worked out by hand or by brute force."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.nn import functional as F

from predictors.zero_cost import PROXIES
from predictors.zero_cost.activation_codes import equal_bits, log_determinant, naswot
from predictors.zero_cost.jacobian import FLOOR, jacob_cov, spread_of_rows
from predictors.zero_cost.length_distortion import circle, length, length_distortion, without_norms
from predictors.zero_cost.probe import Batch, draw_weights, features
from predictors.zero_cost.saliency import grad_norm, snip
from predictors.zero_cost.synaptic_diversity import attention_layers, dss
from predictors.zero_cost.synflow import synflow
from predictors.zero_cost.zen import expressivity, zen
from search_spaces import HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from search_spaces.expression import is_equal
from supernet import Subnet

NETWORK_PROXIES = {n: p.of_network for n, p in PROXIES.items() if p.of_network is not None}


@dataclass(frozen=True, kw_only=True)
class TinySpace(SearchSpace):
    """Two convolutions of 1x1 and a classifier, bare or with batch norm and relu."""

    image_size: int = 4
    channels: int = 2
    num_classes: int = 3
    bare: bool = False

    def build(self, net, images):
        width = net.choice("width", (3, 5))
        dead = net.choice("dead", (0, 1))
        x = net.conv2d(images, width, kernel=1, name="first")
        if not self.bare:
            x = net.activation(net.batch_norm(x, name="norm"), "relu")
        with net.when(is_equal(dead, 1)):
            x = net.zeros(x)
        return classifier(net, net.conv2d(x, 2, kernel=1, name="second"), self.num_classes)


LIVE, DEAD = [0, 0], [0, 1]


def network(space, genes=LIVE, seed=0):
    return Subnet(space.graph(genes), seed=seed)


def batch_for(space, n=4, seed=0, dtype=torch.float32):
    drawn = np.random.default_rng(seed).normal(size=(n, space.channels, *[space.image_size] * 2))
    labels = torch.arange(n) % space.num_classes
    return Batch(images=torch.tensor(drawn, dtype=dtype), labels=labels, seed=seed)


BARE, NORMED = TinySpace(bare=True), TinySpace()
VIT = ViTSpace(image_size=8, channels=2, patch_sizes=(2, 4), embed_dims=(16, 24), depths=(1, 2))


# ---- synflow ------------------------------------------------------------------------------------


def test_synflow_of_a_linear_network_is_its_depth_times_the_sum_over_paths():
    net = network(BARE)
    first, second, last = (
        net.layers[key].weight.detach().double().flatten(1).abs().numpy()
        for key in ("first", "second", "classifier")
    )
    paths = sum(
        first[j, i] * second[k, j] * last[o, k]
        for i, j, k, o in itertools.product(range(2), range(3), range(2), range(3))
    )
    assert synflow(net, batch_for(BARE)) == pytest.approx(math.log10(3 * paths), rel=1e-12)


def test_synflow_asks_neither_for_signs_nor_for_the_batch_norm_of_a_fresh_network():
    net, other = network(NORMED), network(NORMED)
    with torch.no_grad():
        other.layers["second"].weight.neg_()
    score = synflow(net, batch_for(NORMED))
    assert synflow(other, batch_for(NORMED, seed=1)) == score
    assert score == pytest.approx(synflow(network(BARE), batch_for(BARE)), abs=1e-2)


# ---- naswot -------------------------------------------------------------------------------------


def test_the_kernel_counts_equal_bits_and_its_determinant_is_that_of_the_paper():
    codes = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    kernel = equal_bits(codes)
    assert kernel.tolist() == [[3, 2, 1], [2, 3, 0], [1, 0, 3]]
    assert log_determinant(kernel.numpy()) == pytest.approx(math.log(12))
    assert log_determinant(equal_bits(codes[[0, 0]]).numpy()) == -math.inf
    assert math.isnan(log_determinant(np.zeros((2, 2))))


def test_naswot_compares_what_the_activations_read():
    net, batch = network(NORMED), batch_for(NORMED)
    conv = net.layers["first"](batch.images)
    bits = (conv > conv.mean((0, 2, 3), keepdim=True)).flatten(1).numpy()
    kernel = [[int((a == b).sum()) for b in bits] for a in bits]
    assert naswot(net, batch) == pytest.approx(np.linalg.slogdet(kernel).logabsdet, rel=1e-9)


def test_naswot_normalises_by_the_batch():
    net, batch = network(NORMED), batch_for(NORMED)
    moved = Batch(images=batch.images + 3, labels=batch.labels)
    assert naswot(net.eval(), moved) == pytest.approx(naswot(net, batch), rel=1e-6)


def test_naswot_needs_activations_and_images_that_differ():
    assert math.isnan(naswot(network(BARE), batch_for(BARE)))
    batch = batch_for(NORMED)
    twice = Batch(images=batch.images[[0, 0, 1]], labels=batch.labels[:3])
    assert naswot(network(NORMED), twice) == -math.inf


# ---- jacob_cov ----------------------------------------------------------------------------------


def test_uncorrelated_gradients_have_the_greatest_spread():
    n = 4
    waves = [np.cos(2 * np.pi * k * np.arange(16) / 16) for k in range(1, n + 1)]
    best = -n * (math.log(1 + FLOOR) + 1 / (1 + FLOOR))
    assert spread_of_rows(np.array(waves)) == pytest.approx(best)
    assert spread_of_rows(np.random.default_rng(0).normal(size=(n, 16))) < best


def test_a_linear_network_responds_alike_to_all_images():
    net, batch = network(BARE), batch_for(BARE, n=3)
    alike = -(math.log(3 + FLOOR) + 1 / (3 + FLOOR)) - 2 * (math.log(FLOOR) + 1 / FLOOR)
    assert jacob_cov(net, batch) == pytest.approx(alike, rel=1e-6)


def test_jacob_cov_is_of_the_gradients_of_the_summed_outputs():
    net, batch = network(NORMED), batch_for(NORMED)
    images = batch.images.double()
    double = network(NORMED).double()
    gradients = np.zeros((len(images), images[0].numel()))
    for i, pixel in itertools.product(range(len(images)), range(images[0].numel())):
        sums = []
        for step in (1e-6, -1e-6):
            moved = images.clone()
            moved[i].view(-1)[pixel] += step
            sums.append(double(moved).sum().item())
        gradients[i, pixel] = (sums[0] - sums[1]) / 2e-6
    assert jacob_cov(net, batch) == pytest.approx(spread_of_rows(gradients), rel=1e-3)


# ---- grad_norm, snip ----------------------------------------------------------------------------


def finite_differences(net, batch):
    """The gradient of the batch's loss with respect to every weight, by moving each of them."""
    found = []
    for key in ("first", "second", "classifier"):
        weight = net.layers[key].weight.detach()
        gradient = torch.zeros_like(weight)
        for place in itertools.product(*map(range, weight.shape)):
            losses = []
            for step in (1e-6, -2e-6):
                weight[place] += step
                losses.append(F.cross_entropy(net(batch.images), batch.labels).item())
            weight[place] += 1e-6
            gradient[place] = (losses[0] - losses[1]) / 2e-6
        found.append((weight, gradient))
    return found


def test_snip_and_grad_norm_agree_with_finite_differences():
    net = network(NORMED).double().train()
    batch = batch_for(NORMED, dtype=torch.float64)
    pairs = finite_differences(net, batch)
    expected = sum(float((w * g).abs().sum()) for w, g in pairs)
    assert snip(net, batch) == pytest.approx(expected, rel=1e-6)
    assert grad_norm(net, batch) == pytest.approx(sum(float(g.norm()) for _, g in pairs), rel=1e-6)


# ---- zen ----------------------------------------------------------------------------------------


def noisy_pair(space, n=8):
    batch = batch_for(space, n)
    return batch.images, batch.images + 0.01 * batch_for(space, n, seed=1).images


def test_zen_of_a_linear_network_is_the_change_of_its_map():
    net = network(BARE)
    x, moved = noisy_pair(BARE)
    weight = (
        net.layers["second"].weight.flatten(1) @ net.layers["first"].weight.flatten(1)
    ).detach()
    change = torch.einsum("oc,nchw->nohw", weight, moved - x).abs().sum((1, 2, 3)).mean()
    assert expressivity(net, x, moved) == pytest.approx(math.log(change), rel=1e-4)


def test_batch_norm_takes_a_scale_away_and_its_term_gives_it_back():
    net, plain = network(NORMED), network(BARE)
    x, moved = noisy_pair(NORMED)
    before, bare = expressivity(net, x, moved), expressivity(plain, x, moved)
    with torch.no_grad():
        for one in (net, plain):
            one.layers["first"].weight.mul_(7)
    assert expressivity(plain, x, moved) - bare == pytest.approx(math.log(7), abs=1e-3)
    assert expressivity(net, x, moved) - before == pytest.approx(math.log(7), abs=1e-3)
    variance = net.layers["first"](moved).var((0, 2, 3), correction=0).mean()
    change = (features(net, x, pooled=False) - features(net, moved, pooled=False)).abs()
    expected = math.log(change.sum((1, 2, 3)).mean()) + 0.5 * math.log(variance)
    assert expressivity(net, x, moved) == pytest.approx(expected, rel=1e-5)


def test_a_batch_norm_behind_a_dead_branch_is_left_out():
    @dataclass(frozen=True, kw_only=True)
    class Branches(TinySpace):
        def build(self, net, images):
            net.choice("width", (3, 5))
            dead = net.choice("dead", (0, 1))
            x = net.conv2d(images, 2, kernel=1, name="first")
            with net.when(is_equal(dead, 1)):
                branch = net.zeros(x)
            branch = net.batch_norm(net.conv2d(branch, 2, kernel=1), name="norm")
            return classifier(net, net.add(x, branch), self.num_classes)

    x, moved = noisy_pair(NORMED)
    net = network(Branches(), DEAD)
    change = (net.layers["first"](x) - net.layers["first"](moved)).abs().sum((1, 2, 3)).mean()
    assert expressivity(net, x, moved) == pytest.approx(math.log(change), rel=1e-5)


def test_zen_is_the_mean_over_draws_of_its_seed():
    net, batch = network(NORMED), batch_for(NORMED)
    scores = {s: zen(net, Batch(images=batch.images, labels=batch.labels, seed=s)) for s in (0, 1)}
    assert scores[0] == zen(net, batch) != scores[1]
    many = [zen(net, batch, repeats=r) for r in (1, 2)]
    assert many[0] != many[1]


# ---- dss ----------------------------------------------------------------------------------------


def test_dss_is_diversity_of_attention_and_saliency_of_the_rest():
    net = network(VIT, VIT.extremes("smallest")[0])
    probe = network(VIT, VIT.extremes("smallest")[0]).double()
    with torch.no_grad():
        for value in probe.parameters():
            value.abs_()
    probe(torch.ones((1, 2, 8, 8), dtype=torch.float64)).sum().backward()
    expected, diverse = 0.0, 0
    for name, weight in probe.named_parameters():
        if not name.endswith("weight") or weight.ndim < 2:
            continue
        if "_attention_" in name:
            singular = [np.linalg.svd(m.detach().numpy())[1] for m in (weight, weight.grad)]
            expected += singular[0].sum() * singular[1].sum()
            diverse += 1
        else:
            expected += float((weight * weight.grad).abs().sum())
    assert diverse == 2
    assert dss(net, batch_for(VIT)) == pytest.approx(expected, rel=1e-6)


def test_without_attention_dss_is_the_synaptic_flow():
    net, batch = network(NORMED), batch_for(NORMED)
    assert attention_layers(net.graph) == set()
    assert math.log10(dss(net, batch)) == pytest.approx(synflow(net, batch), rel=1e-12)


# ---- length distortion --------------------------------------------------------------------------


def test_the_curve_is_a_circle_through_images_of_unit_variance():
    points = circle((2, 4, 4), 64, torch.Generator().manual_seed(0)).flatten(1)
    torch.testing.assert_close(points.norm(dim=1), torch.full((64,), 32**0.5))
    assert length(points) == pytest.approx(2 * math.pi * 32**0.5, rel=1e-3)


def test_a_linear_network_makes_an_ellipse_of_the_circle():
    net, batch = network(BARE), batch_for(BARE)
    generator = batch.generator("length distortion")
    lengths = []
    for _ in range(3):
        draw_weights(net, generator, gain=2.0)
        weight = net.layers["second"].weight.flatten(1) @ net.layers["first"].weight.flatten(1)
        images = circle((2, 4, 4), 96, generator)
        axes = (images[[0, 24]].mean((2, 3)) @ weight.T).detach().double().numpy()

        def speed(t, axes=axes):
            return np.linalg.norm(-axes[0] * math.sin(t) + axes[1] * math.cos(t))

        lengths.append(quad(speed, 0, 2 * math.pi)[0])
    assert length_distortion(net, batch) == pytest.approx(np.mean(lengths), rel=2e-3)


def test_length_distortion_leaves_normalisation_out():
    for space in (NORMED, VIT):
        probe = without_norms(network(space, space.extremes("smallest")[0]))
        assert not any(isinstance(m, nn.BatchNorm2d | nn.LayerNorm) for m in probe.modules())
    batch = batch_for(NORMED)
    assert length_distortion(network(NORMED), batch) != length_distortion(network(BARE), batch)


# ---- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORK_PROXIES)
def test_the_network_is_left_as_it_was(name):
    net, batch = network(NORMED), batch_for(NORMED)
    net.layers["norm"].eval()
    net.layers["second"].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    random_state = torch.random.get_rng_state()
    score = NETWORK_PROXIES[name](net, batch)
    assert math.isfinite(score)
    assert NETWORK_PROXIES[name](net, batch) == score
    assert [module.training for module in net.modules()] == modes
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in net.parameters())
    assert not net.layers["second"].weight.requires_grad
    assert batch.images.grad is None
    assert not batch.images.requires_grad
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("name", NETWORK_PROXIES)
def test_a_network_without_a_path_scores_least_or_not_at_all(name):
    batch = batch_for(NORMED)
    live, dead = (NETWORK_PROXIES[name](network(NORMED, g), batch) for g in (LIVE, DEAD))
    if name == "naswot":  # the activation before the cut still tells images apart
        assert dead == live
    elif name in ("grad_norm", "snip"):  # what is behind the cut may have a gradient
        assert 0 <= dead < live
    else:
        assert not math.isfinite(dead) or dead == 0


@pytest.mark.parametrize("name", NETWORK_PROXIES)
def test_weights_that_are_no_numbers_give_no_score(name):
    net = network(VIT, VIT.extremes("smallest")[0])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(math.nan)
    score = NETWORK_PROXIES[name](net, batch_for(VIT))
    draws_its_own = name in ("zen", "length_distortion")
    assert draws_its_own or not math.isfinite(score)


@pytest.mark.parametrize("name", NETWORK_PROXIES)
def test_every_kind_of_layer_is_scored(name):
    space = HybridSpace(image_size=16, channels=2)
    rows = space.sample(2, np.random.default_rng(0))
    batch = batch_for(space, n=3)
    scores = [NETWORK_PROXIES[name](network(space, row), batch) for row in rows]
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]


def test_features_without_a_pooling_are_what_the_last_layer_reads():
    @dataclass(frozen=True, kw_only=True)
    class Flat(TinySpace):
        image_size: int = 1

        def build(self, net, images):
            x = net.conv2d(images, net.choice("width", (3, 5)), kernel=1, name="first")
            return net.linear(net.to_tokens(x), self.num_classes, name="classifier")

    space = Flat()
    net, batch = network(space, [0]), batch_for(space)
    for pooled in (False, True):
        read = features(net, batch.images, pooled=pooled)
        torch.testing.assert_close(read.flatten(1), net.layers["first"](batch.images).flatten(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORK_PROXIES)
def test_a_network_on_a_cuda_device_scores_alike(name):
    net, batch = network(NORMED), batch_for(NORMED)
    there = Batch(images=batch.images.cuda(), labels=batch.labels.cuda(), seed=batch.seed)
    expected = NETWORK_PROXIES[name](net, batch)
    assert NETWORK_PROXIES[name](net.cuda(), there) == pytest.approx(expected, rel=1e-2)
