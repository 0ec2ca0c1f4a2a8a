import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier, conv_norm_act, mbconv, squeeze_excite
from supernet import Supernet, channel_groups, channel_importance, permute_channels, sort_channels
from tests.supernet.doubles import SPACES, TINY, images_of, perturbed


@dataclass(frozen=True, kw_only=True)
class Gated(SearchSpace):
    """Squeeze-and-excitation with an elastic hidden width, and an expansion that can be absent."""

    image_size: int = 8
    channels: int = 2
    num_classes: int = 4

    def build(self, net, images):
        width = net.choice("width", (8, 16))
        x = conv_norm_act(net, images, width, kernel=3)
        for i in range(2):
            with net.scope(f"block{i}"):
                x = mbconv(
                    net, x, width, kernel=net.choice("kernel", (3, 5)), shortcut=True,
                    expansion=net.choice("expansion", (1, 2)), expand_by_one=i == 0,
                )  # fmt: skip
                x = squeeze_excite(net, x, hidden=net.choice("gate_width", (4, 8)))
        return classifier(net, x, self.num_classes)


every_space = pytest.mark.parametrize("space", [*SPACES, TINY, Gated()], ids=lambda s: s.name)
WIDE = ("width", "expansion", "heads", "dim", "ratio")


def outputs(supernet, rows):
    images = images_of(supernet.space, 4).double()
    with torch.no_grad():
        return torch.stack([supernet(images, row) for row in rows])


def full_width_rows(space, n):
    """Random networks in which every layer that is there has its largest width."""
    rows = space.sample(n, np.random.default_rng(5))
    for j, choice in enumerate(space.choices):
        if any(word in choice.name for word in WIDE):
            rows[:, j] = len(choice.values) - 1
    return space.canonical(rows)


@every_space
@pytest.mark.parametrize("residual", [False, True])
def test_the_function_of_full_width_networks_is_unchanged(space, residual):
    supernet = perturbed(space).double()
    rows = np.concatenate([space.extremes("largest"), full_width_rows(space, 40)])
    before = outputs(supernet, rows)
    report = sort_channels(supernet, residual=residual)
    assert len(report.groups) > 2
    changed = [g.order for g in report.groups if not torch.equal(g.order, g.order.sort().values)]
    assert len(changed) > 1
    assert (outputs(supernet, rows) - before).abs().max() < 1e-9
    assert before.std() > 0.01


@every_space
def test_in_single_precision_the_largest_differ_by_rounding_only(space):
    supernet = perturbed(space)
    images, rows = images_of(space, 8), space.extremes("largest")
    statistics = [supernet.recalibrate(row, [images_of(space, 64, seed=9)]) for row in rows]
    pairs = list(zip(rows, statistics, strict=True))
    with torch.no_grad():
        before = [supernet(images, row, s) for row, s in pairs]
        report = sort_channels(supernet)
        after = [supernet(images, row, report.in_order(s)) for row, s in pairs]
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


@every_space
def test_any_order_within_bands_keeps_the_function(space):
    """The groups hang together rightly: random orders, residual streams and single widths too."""
    supernet = perturbed(space).double()
    rows = np.concatenate([space.extremes("largest"), full_width_rows(space, 20)])
    before = outputs(supernet, rows)
    generator = torch.Generator().manual_seed(3)
    orders = {}
    for group in channel_groups(space):
        if not group.fixed_by:
            edges = [0, *group.bands, group.size]
            orders[group.name] = torch.stack([
                torch.cat([start + torch.randperm(stop - start, generator=generator)
                           for start, stop in pairwise(edges)])
                for _ in range(group.blocks)
            ])  # fmt: skip
    permute_channels(supernet, orders)
    assert len(orders) > 3
    assert (outputs(supernet, rows) - before).abs().max() < 1e-9


@every_space
def test_narrower_networks_keep_the_greatest_possible_importance(space):
    supernet = perturbed(space)
    old = {g.name: channel_importance(supernet, g) for g in channel_groups(space) if g.readers}
    report = sort_channels(supernet, residual=True)
    for entry in report.groups:
        group = entry.group
        new = channel_importance(supernet, group)
        torch.testing.assert_close(new, entry.importance)
        if not entry.bands:
            assert (new.diff(dim=1) <= 0).all()
        if group.kind == "channels" and not entry.bands:
            for width in group.widths:
                best = old[group.name].topk(width).values.sum()
                torch.testing.assert_close(new[:, :width].sum(), best)


def test_importance_is_the_sum_of_the_weights_that_read_a_channel():
    supernet, groups = perturbed(SPACES[0]), {g.name: g for g in channel_groups(SPACES[0])}
    block = "stage0_layer1"
    found = channel_importance(supernet, groups["stage0.layer1.expand.conv"])
    project = supernet.primitives[f"{block}_project_conv"].weight.double()
    torch.testing.assert_close(found[0], project.abs().sum((0, 2, 3)))
    found = channel_importance(supernet, groups["stage1.layer0.project.conv"])
    readers = [supernet.primitives[f"stage1_layer{i}_expand_conv"].weight.double() for i in (1, 2)]
    expected = sum(w.abs().sum((0, 2, 3)) for w in readers)
    expected = expected + supernet.primitives["classifier"].weight.double().abs().sum(0)
    torch.testing.assert_close(found[0], expected)


def test_importance_of_heads_and_their_dimensions():
    space = SPACES[3]
    supernet, groups = perturbed(space), {g.name: g for g in channel_groups(space)}
    name = "attention.attention.attention"
    attention = supernet.primitives[name.replace(".", "_")]
    columns = supernet.primitives["attention_attention_project"].weight
    columns = columns.view(16, 3, 6).double().abs()
    heads, value, query_key = (
        channel_importance(supernet, groups[f"{name}.{kind}"])
        for kind in ("heads", "value", "query_key")
    )
    torch.testing.assert_close(heads[0], columns.sum((0, 2)))
    torch.testing.assert_close(value, columns.sum(0))
    products = attention.query.double().abs().sum(2) * attention.key.double().abs().sum(2)
    torch.testing.assert_close(query_key, products)


def test_hidden_units_of_an_mlp_are_sorted_by_what_reads_them():
    supernet = perturbed(SPACES[1])
    sort_channels(supernet)
    sums = supernet.primitives["layer0_mlp_project"].weight.abs().sum(0)
    assert (sums.diff() <= 1e-5).all()
    heads = supernet.primitives["layer0_attention_project"].weight.abs().view(96, 4, 16)
    assert (heads.sum((0, 2)).diff() <= 1e-4).all()


def test_residual_streams_and_single_widths_are_left_with_the_reason():
    supernet = perturbed(SPACES[0])
    report = sort_channels(supernet)
    assert report.left["stage0.layer0.project.conv"] == "a residual stream"
    assert "logits" in report.left["classifier"]
    sorted_ = {entry.group.name for entry in report.groups}
    assert "stage0.layer0.expand.conv" in sorted_
    assert "stem.conv" in sorted_  # no sum passes it
    assert sorted_.isdisjoint(report.left)
    assert sorted_ | set(report.left) == {g.name for g in channel_groups(SPACES[0])}
    vit = sort_channels(perturbed(SPACES[1]))
    assert vit.left["layer0.attention.attention.value"] == "there is one size only, 16"


@dataclass(frozen=True, kw_only=True)
class DeadEnd(SearchSpace):
    """A convolution that nobody reads."""

    image_size: int = 8

    def build(self, net, images):
        x = conv_norm_act(net, images, 8, kernel=3)
        with net.scope("unread"):
            conv_norm_act(net, x, net.choice("width", (4, 8)), kernel=3)
        return classifier(net, x, self.num_classes)


def test_channels_that_nobody_reads_are_left():
    report = sort_channels(Supernet(DeadEnd()))
    assert report.left["unread.conv"] == "no weights read them"
    assert report.groups == ()


def test_equal_importance_keeps_the_order():
    supernet = Supernet(SPACES[0])
    with torch.no_grad():
        for p in supernet.parameters():
            p.fill_(0.5)
    for entry in sort_channels(supernet, residual=True).groups:
        assert torch.equal(entry.order[0], torch.arange(entry.group.size))


def test_sorting_twice_changes_nothing():
    supernet = perturbed(SPACES[2])
    sort_channels(supernet)
    for entry in sort_channels(supernet).groups:
        assert torch.equal(entry.order, entry.order.sort(dim=1).values), entry.group.name


@pytest.mark.parametrize("by_name", [False, True])
def test_trained_widths_keep_their_channels(by_name):
    space, name = SPACES[0], "stage1.layer1.expand.conv"
    supernet = perturbed(space)
    trained = space.restrict({"stage1.width": (24,), "*.expansion": (3, 4)})  # 72 and 96
    if by_name:
        trained = {name: (72, 96)}
    group = next(g for g in channel_groups(space) if g.name == name)
    before = channel_importance(supernet, group)[0]
    report = sort_channels(supernet, keep=trained)
    entry = next(e for e in report.groups if e.group.name == name)
    assert entry.bands == (72,)
    (order,) = entry.order
    assert sorted(order[:72].tolist()) == list(range(72))
    assert order[:72].tolist() != list(range(72))
    importance = before[order]
    assert (importance[:72].diff() <= 0).all()
    assert (importance[72:].diff() <= 0).all()
    assert importance[72] > importance[71]  # it would have come before
    others = [e.bands for e in report.groups if e.group.name.endswith("layer0.expand.conv")]
    assert any(others) != by_name


def test_bands_hold_for_heads():
    space = SPACES[1]
    supernet = perturbed(space)
    report = sort_channels(supernet, keep=space.restrict({"*.heads": (2, 3)}))
    heads = [entry for entry in report.groups if entry.group.kind == "heads"]
    assert len(heads) == 3
    for entry in heads:
        assert entry.bands == (2, 3)
        assert sorted(entry.order[0, :2].tolist()) == [0, 1]
        assert entry.order[0, 2:].tolist() == [2, 3]


@pytest.mark.parametrize("space", [SPACES[0], SPACES[1]], ids=lambda s: s.name)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_step_after_sorting_equals_sorting_after_a_step(space, kind):
    images, row = images_of(space, 8).double(), space.extremes("largest")[0]
    labels = torch.arange(8) % 4

    def step(supernet, optimiser):
        optimiser.zero_grad()
        F.cross_entropy(supernet(images, row), labels).backward()
        optimiser.step()

    first = perturbed(space).double()
    make = torch.optim.AdamW if kind == "adamw" else torch.optim.SGD
    options = {"weight_decay": 0.1} if kind == "adamw" else {"momentum": 0.9}
    optimiser = make(first.parameters(), lr=1e-2, **options)
    for _ in range(2):
        step(first, optimiser)
    second = perturbed(space).double()
    second.load_state_dict(first.state_dict())
    other = make(second.parameters(), lr=1e-2, **options)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))

    orders = sort_channels(first, optimiser=optimiser, residual=True).orders
    step(first, optimiser)
    step(second, other)
    permute_channels(second, orders, optimiser=other)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-6, msg=name)
        for key, value in optimiser.state[a].items():
            torch.testing.assert_close(value, other.state[b][key], atol=1e-8, rtol=1e-6)


def test_an_average_of_the_weights_follows():
    supernet = perturbed(SPACES[2])
    average = {name: 3 * p.detach().clone() for name, p in supernet.named_parameters()}
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    sort_channels(supernet, average=average)
    changed = 0
    for name, p in supernet.named_parameters():
        torch.testing.assert_close(average[name], 3 * p)
        changed += not torch.equal(p, before[name])
    assert changed > 20


def test_a_narrow_network_answers_more_like_the_full_one_after_sorting():
    """With branches of unequal weight, the point of it all."""
    space = SPACES[1]
    supernet = perturbed(space).double()
    with torch.no_grad():  # important units last
        for i in range(3):
            weight = supernet.primitives[f"layer{i}_mlp_project"].weight
            weight *= torch.linspace(0, 2, weight.shape[1]) ** 4
    row = space.extremes("largest")[0]
    narrow = row.copy()
    for j, choice in enumerate(space.choices):
        if choice.name.endswith("mlp_ratio"):
            narrow[j] = 1
    before, after = outputs(supernet, [row, narrow]), None
    sort_channels(supernet)
    after = outputs(supernet, [row, narrow])
    errors = [(o[1] - o[0]).abs().mean() for o in (before, after)]
    assert errors[1] < 0.5 * errors[0]


def test_what_cannot_be_done_is_refused_by_name():
    space = SPACES[0]
    supernet, name = perturbed(space), "stage0.layer0.expand.conv"
    order = torch.arange(64)[None]
    with pytest.raises(BadInputError, match=r"unknown group of channels 'stage0.layer0.expand'"):
        permute_channels(supernet, {"stage0.layer0.expand": order})
    with pytest.raises(BadInputError, match=r"'classifier' have a fixed order: these are the log"):
        permute_channels(supernet, {"classifier": torch.arange(4)[None]})
    for wrong in (order[:, :63], order.clamp(max=62), torch.arange(64)):
        with pytest.raises(BadInputError, match=r"must hold 0 to 63 once in each of 1 rows"):
            permute_channels(supernet, {name: wrong})
    with pytest.raises(BadInputError, match="unknown group of channels 'stage9'"):
        sort_channels(supernet, keep={"stage9": (8,)})
    with pytest.raises(BadInputError, match=r"has 64 channels: sizes to keep .* got \[0, 65\]"):
        sort_channels(supernet, keep={name: (0, 32, 65)})
    with pytest.raises(
        BadInputError, match="keep is a ViTSpace that is no part of the supernet's CNN"
    ):
        sort_channels(supernet, keep=SPACES[1])
    with torch.no_grad():
        supernet.primitives["stage0_layer0_project_conv"].weight[0, 0] = float("nan")
    with pytest.raises(BadInputError, match=r"weights of stage0.layer0.project.conv are not fin"):
        sort_channels(supernet)
