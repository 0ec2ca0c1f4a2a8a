from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from supernet import Supernet
from supernet.training import (
    AlphaDivergence,
    LabelsOnly,
    MeanOfMembers,
    ProjectConflicts,
    Sandwich,
)
from tests.supernet.doubles import (
    RECIPE,
    SPACES,
    TINY,
    draw_of,
    images_of,
    member,
    perturbed,
    stepper_of,
)

SPACE = SPACES[2]
N = 12
IMAGES, LABELS = images_of(SPACE, N), torch.arange(N) % 4
LARGEST, SMALLEST = TINY.extremes("largest"), TINY.extremes("smallest")
TINY_IMAGES = images_of(TINY, N, seed=5)


def recipe_of(**options):
    return replace(RECIPE, **{"batch_size": N, "shards": 2, "label_smoothing": 0.1, **options})


def sandwich_of(space, random_subnets=2):
    sampler = Sandwich(random_subnets=random_subnets, largest_alone_share=0)
    return sampler.members(draw_of(space))


def by_hand(network, members, images, labels, recipe, teacher=None, weight=1.0):
    """Losses and gradients of each member on its own, from the definition."""
    parameters = list(network.parameters())
    losses = np.zeros(len(members))
    gradients = [[torch.zeros_like(p) for p in parameters] for _ in members]
    smoothing = recipe.label_smoothing
    for part, label in zip(
        images.tensor_split(recipe.shards), labels.tensor_split(recipe.shards), strict=True
    ):
        hard = torch.full((len(part), 4), smoothing / 4)
        hard = hard.scatter(1, label[:, None], 1 - smoothing + smoothing / 4)
        said = []
        for m, one in enumerate(members):
            logits = network.run(part, one.graph)
            log_p = logits.log_softmax(1)
            if one.teachers:
                target = torch.stack([said[t] for t in one.teachers]).mean(0)
                loss = -(target * log_p).sum(1).mean()
            else:
                loss = -(hard * log_p).sum(1).mean()
                if teacher is not None:
                    outside = teacher(part).detach().softmax(1)
                    loss = loss - weight * (outside * log_p).sum(1).mean()
            said.append(logits.detach().softmax(1))
            losses[m] += loss.item() / recipe.shards
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for total, g in zip(gradients[m], found, strict=True):
                if g is not None:
                    total += g / recipe.shards
    return losses, gradients


def summed(gradients):
    return [sum(parts) for parts in zip(*gradients, strict=True)]


def assert_gradient(network, found, expected):
    assert found is not None
    for (name, p), g, e in zip(network.named_parameters(), found, expected, strict=True):
        g = torch.zeros_like(p) if g is None else g
        torch.testing.assert_close(g, e, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_gradients_are_the_sum_of_the_members_and_the_mean_of_the_shards(shards):
    recipe = recipe_of(shards=shards)
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    assert [m.role for m in members] == ["largest", "random", "random", "smallest"]
    outcome = stepper_of(network, recipe)(members, IMAGES, LABELS, 0, 0.5)
    losses, gradients = by_hand(perturbed(SPACE), members, IMAGES, LABELS, recipe)
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-5)
    assert_gradient(network, outcome.gradients, summed(gradients))
    assert outcome.kept == (True,) * 4
    assert outcome.is_finite
    assert outcome.cosine is None


def test_the_mean_of_the_members_is_their_sum_by_their_number():
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    _, gradients = by_hand(network, members, IMAGES, LABELS, recipe_of())
    stepper = stepper_of(network, recipe_of(gradients=MeanOfMembers()))
    outcome = stepper(members, IMAGES, LABELS, 0, 0.5)
    assert_gradient(network, outcome.gradients, [g / 4 for g in summed(gradients)])


@pytest.mark.parametrize("watch", [False, True])
def test_members_in_turn_meet_the_weights_that_those_before_them_left(watch):
    network, members, rate = perturbed(SPACE), sandwich_of(SPACE), 0.05
    stepper = stepper_of(network, recipe_of(updates="member", shards=1), watch=watch)
    other = perturbed(SPACE)  # the same, changed by hand
    said, turns = [], 0
    for m, outcome in enumerate(stepper.in_turn(members, IMAGES, LABELS, 0, 0.5)):
        loss, gradient = by_hand_in_turn(other, members[m], said)
        assert outcome.losses == pytest.approx((loss,), rel=1e-5)
        assert_gradient(network, outcome.gradients, gradient)
        for one in (network, other):
            with torch.no_grad():
                torch._foreach_sub_(list(one.parameters()), [rate * g for g in gradient])
        turns += 1
    assert turns == 4
    assert (outcome.cosine is not None) == watch


def by_hand_in_turn(network, member, said):
    """Loss and gradient of one member, taught by what those before it said in their turn."""
    logits = network.run(IMAGES, member.graph)
    log_p = logits.log_softmax(1)
    if member.teachers:
        target = torch.stack([said[t] for t in member.teachers]).mean(0)
    else:
        target = 0.9 * torch.nn.functional.one_hot(LABELS, 4) + 0.1 / 4
    loss = -(target * log_p).sum(1).mean()
    said.append(logits.detach().softmax(1))
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return loss.item(), [torch.zeros_like(p) if g is None else g for g, p in pairs]


def test_threads_do_not_change_a_bit():
    recipe = recipe_of(shards=4)
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    alone = stepper_of(network, recipe)(members, IMAGES, LABELS, 0, 0.5)
    with ThreadPoolExecutor(4) as pool:
        together = stepper_of(network, recipe, pool=pool)(members, IMAGES, LABELS, 0, 0.5)
    assert alone.losses == together.losses
    for a, b in zip(alone.gradients, together.gradients, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_a_pupil_of_several_teachers_learns_their_mean_prediction():
    rows = SPACE.sample(4, np.random.default_rng(3))
    members = [member(SPACE, row) for row in rows[:3]]
    members.append(member(SPACE, rows[3], "smallest", (0, 1, 2)))
    network = perturbed(SPACE)
    outcome = stepper_of(network, recipe_of())(members, IMAGES, LABELS, 0, 0.5)
    losses, gradients = by_hand(network, members, IMAGES, LABELS, recipe_of())
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-5)
    assert_gradient(network, outcome.gradients, summed(gradients))


def test_probabilities_may_stand_for_labels():
    network, members = perturbed(SPACE), sandwich_of(SPACE, 0)
    hard = torch.nn.functional.one_hot(LABELS, 4).float()
    mixed = stepper_of(network, recipe_of())(members, IMAGES, hard, 0, 0.5)
    plain = stepper_of(network, recipe_of())(members, IMAGES, LABELS, 0, 0.5)
    np.testing.assert_allclose(mixed.losses, plain.losses, rtol=1e-6)


def test_without_distillation_every_member_learns_the_labels():
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    outcome = stepper_of(network, recipe_of(distillation=LabelsOnly()))(
        members, IMAGES, LABELS, 0, 0.5
    )
    untaught = [replace(m, teachers=()) for m in members]
    losses, gradients = by_hand(network, untaught, IMAGES, LABELS, recipe_of())
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-5)
    assert_gradient(network, outcome.gradients, summed(gradients))


def test_weights_that_no_member_uses_get_no_gradient():
    network = Supernet(TINY)
    (conv,) = [r for r in LARGEST if "conv" in dict(TINY.decode(r)[0].items).values()]
    members = [member(TINY, conv, "largest")]
    outcome = stepper_of(network, recipe_of())(members, TINY_IMAGES, LABELS, 0, 0.5)
    unused = ("attention", "mlp", "position", "transforms")  # the kernel is the largest
    for (name, _), g in zip(network.named_parameters(), outcome.gradients, strict=True):
        assert (g is None) == any(part in name for part in unused), name


# ---- a frozen teacher --------------------------------------------------------------------------


def frozen():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 4))


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_frozen_teacher_teaches_those_without_a_teacher_in_the_step(weight):
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    stepper = stepper_of(network, recipe_of(), teacher=frozen(), teacher_weight=weight)
    outcome = stepper(members, IMAGES, LABELS, 0, 0.5)
    losses, gradients = by_hand(
        network, members, IMAGES, LABELS, recipe_of(), teacher=frozen(), weight=weight
    )
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-5)
    assert_gradient(network, outcome.gradients, summed(gradients))
    plain = stepper_of(network, recipe_of())(members, IMAGES, LABELS, 0, 0.5)
    assert outcome.losses[0] > plain.losses[0] + 0.1
    np.testing.assert_allclose(outcome.losses[1:], plain.losses[1:], rtol=1e-6)
    assert all(p.grad is None for p in stepper.teacher.parameters())


# ---- the gradients of the largest and of the others --------------------------------------------


def test_the_cosine_is_that_of_the_flattened_gradients_that_both_have():
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    stepper = stepper_of(network, recipe_of(), watch=True)
    outcome = stepper(members, IMAGES, LABELS, 0, 0.5)
    _, gradients = by_hand(network, members, IMAGES, LABELS, recipe_of())
    others = summed(gradients[1:])
    both = [k for k, (a, b) in enumerate(zip(gradients[0], others, strict=True))
            if a.any() and b.any()]  # fmt: skip
    a, b = (torch.cat([g[k].flatten() for k in both]).double() for g in (gradients[0], others))
    assert outcome.cosine == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-4)
    assert_gradient(network, outcome.gradients, summed(gradients))


def test_conflicts_are_removed_between_the_largest_and_the_sum_of_the_others():
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    recipe = recipe_of(gradients=ProjectConflicts(after_share=0.4))
    _, gradients = by_hand(network, members, IMAGES, LABELS, recipe)
    plain = stepper_of(network, recipe)(members, IMAGES, LABELS, 0, 0.3)
    assert_gradient(network, plain.gradients, summed(gradients))
    outcome = stepper_of(network, recipe)(members, IMAGES, LABELS, 0, 0.5)
    expected, conflicts = [], 0
    for s, u in zip(gradients[0], summed(gradients[1:]), strict=True):
        share = float(-(s * u).sum() / ((u * u).sum() + 1e-6))
        conflicts += share > 0.01
        expected.append(u + s + min(max(share, 0), 2) * u)
    assert conflicts > 3
    assert_gradient(network, outcome.gradients, expected)


# ---- members that go wrong ---------------------------------------------------------------------


def spoil(network, monkeypatch, name, value=float("nan")):
    """Makes a layer give a value, for the networks that have it."""
    primitive = network.primitives[name]
    real = primitive.run

    def spoiled(*args):
        return real(*args) * value

    monkeypatch.setattr(primitive, "run", spoiled)


def conv_and_attention():
    """A largest convolutional network, and an attention network that it teaches, and a third."""
    conv, attention = (
        next(r for r in LARGEST if kind in dict(TINY.decode(r)[0].items).values())
        for kind in ("conv", "attention")
    )
    return conv, attention, SMALLEST[0]


def test_a_member_with_nan_is_dropped_and_the_others_count(monkeypatch):
    conv, attention, small = conv_and_attention()
    members = [member(TINY, conv, "largest"), member(TINY, attention, "random", (0,)),
               member(TINY, small, "smallest", (0,))]  # fmt: skip
    network = perturbed(TINY)
    _, gradients = by_hand(network, members, TINY_IMAGES, LABELS, recipe_of())
    spoil(network, monkeypatch, "stage0_layer0_attention_attention")
    outcome = stepper_of(network, recipe_of())(members, TINY_IMAGES, LABELS, 0, 0.5)
    assert outcome.kept == (True, False, True)
    assert np.isnan(outcome.losses).tolist() == [False, True, False]
    assert np.isnan(outcome.kept_losses).tolist() == [False, True, False]
    assert not outcome.is_finite
    assert_gradient(network, outcome.gradients, summed([gradients[0], gradients[2]]))


def test_pupils_of_a_dropped_teacher_learn_the_labels(monkeypatch):
    conv, attention, small = conv_and_attention()
    members = [member(TINY, attention, "largest"), member(TINY, conv, "random", (0,)),
               member(TINY, small, "smallest", (0, 1))]  # fmt: skip
    network = perturbed(TINY)
    untaught = [member(TINY, conv), member(TINY, small, "smallest", (0,))]
    losses, gradients = by_hand(network, untaught, TINY_IMAGES, LABELS, recipe_of())
    spoil(network, monkeypatch, "stage0_layer0_attention_attention")
    outcome = stepper_of(network, recipe_of())(members, TINY_IMAGES, LABELS, 0, 0.5)
    assert outcome.kept == (False, True, True)
    np.testing.assert_allclose(outcome.losses[1:], losses, rtol=1e-5)
    assert_gradient(network, outcome.gradients, summed(gradients))


def test_a_gradient_that_is_not_finite_drops_its_member_though_the_loss_is(monkeypatch):
    conv, attention, _ = conv_and_attention()
    members = [member(TINY, conv, "largest"), member(TINY, attention, "random", (0,))]
    network = perturbed(TINY)
    primitive = network.primitives["stage0_layer0_attention_attention"]
    real = primitive.run

    def spoiled(layer, inputs, weights):
        out = real(layer, inputs, weights)
        out.register_hook(lambda g: g * torch.inf)
        return out

    monkeypatch.setattr(primitive, "run", spoiled)
    outcome = stepper_of(network, recipe_of())(members, TINY_IMAGES, LABELS, 0, 0.5)
    assert np.isfinite(outcome.losses).all()
    assert outcome.kept == (True, False)
    assert all(torch.isfinite(g).all() for g in outcome.gradients if g is not None)


def test_a_spike_drops_its_member_alone(monkeypatch):
    conv, attention, _ = conv_and_attention()
    members = [member(TINY, conv, "largest"), member(TINY, attention, "random")]
    network = perturbed(TINY)
    stepper = stepper_of(network, recipe_of(spike_factor=3))
    assert stepper(members, TINY_IMAGES, LABELS, 0, 0.5).kept == (True, True)
    spoil(network, monkeypatch, "stage0_layer0_mlp_expand", 1e4)
    outcome = stepper(members, TINY_IMAGES, LABELS, 1, 0.5)
    assert outcome.kept == (True, False)
    assert outcome.is_finite
    assert outcome.losses[1] > 10
    _, gradients = by_hand(network, members[:1], TINY_IMAGES, LABELS, recipe_of())
    assert_gradient(network, outcome.gradients, gradients[0])


def test_there_is_no_gradient_where_no_member_is_good():
    network, members = perturbed(TINY), sandwich_of(TINY)
    images = TINY_IMAGES.clone()
    images[0] = torch.nan  # a single image, in the first shard
    outcome = stepper_of(network, recipe_of())(members, images, LABELS, 0, 0.5)
    assert outcome.gradients is None
    assert outcome.kept == (False,) * 4


# ---- regularisation ----------------------------------------------------------------------------


def losses_of(network, members, step=0, **options):
    recipe = recipe_of(distillation=LabelsOnly(), **options)
    return stepper_of(network, recipe)(members, IMAGES, LABELS, step, 0.5).losses


@pytest.mark.parametrize("kind", ["drop_path", "dropout"])
def test_noise_is_for_the_largest_member_unless_for_all(kind):
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    quiet = losses_of(network, members)
    assert losses_of(network, members, regularise="all") == quiet  # no rate, no effect
    noisy = losses_of(network, members, **{kind: 0.5})
    assert noisy[0] != quiet[0]
    assert noisy[1:] == quiet[1:]
    everywhere = losses_of(network, members, **{kind: 0.5}, regularise="all")
    assert everywhere[0] == noisy[0]
    changed = [a != b for a, b in zip(everywhere, quiet, strict=True)]
    assert all(changed) if kind == "dropout" else any(changed[1:])


def test_noise_depends_on_seed_and_step_alone():
    network, members = perturbed(SPACE), sandwich_of(SPACE)
    first = losses_of(network, members, dropout=0.5)
    torch.manual_seed(7)
    assert losses_of(network, members, dropout=0.5) == first
    assert losses_of(network, members, step=1, dropout=0.5)[0] != first[0]


def test_noise_differs_between_shards():
    network, members = perturbed(SPACE), sandwich_of(SPACE)[:1]
    twice = IMAGES[:6].repeat(2, 1, 1, 1)
    recipe = recipe_of(dropout=0.5)
    both = stepper_of(network, recipe)(members, twice, LABELS[:6].repeat(2), 0, 0.5).losses[0]
    one = stepper_of(network, replace(recipe, shards=1))
    assert one(members, twice[:6], LABELS[:6], 0, 0.5).losses[0] != pytest.approx(both, rel=1e-4)


# ---- compiled ----------------------------------------------------------------------------------


def assert_compiled_is_plain(network, turns, **options):
    """Steps that take turns as in training, each against the same step without compiling."""
    recipe = recipe_of(distillation=AlphaDivergence(), shards=1)
    compiled, plain = (stepper_of(network, recipe, compiled=c, **options) for c in (True, False))
    for turn in range(turns):
        (sampled,) = TINY.sample(1, np.random.default_rng(turn))
        members = [
            member(TINY, LARGEST[turn % 2], "largest"),
            member(TINY, sampled, "random", (0,)),
            member(TINY, SMALLEST[turn % 2], "smallest", (0,)),
        ]
        found = compiled(members, TINY_IMAGES, LABELS, 0, 0.5)
        expected = plain(members, TINY_IMAGES, LABELS, 0, 0.5)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)
        filled = [torch.zeros_like(p) if g is None else g for p, g in
                  zip(network.parameters(), expected.gradients, strict=True)]  # fmt: skip
        assert_gradient(network, found.gradients, filled)


@pytest.mark.slow
def test_compiled_networks_have_the_same_gradients():
    assert_compiled_is_plain(perturbed(TINY), 4)


def test_each_extreme_network_is_compiled_once(monkeypatch):
    """Traced as for a compiler, but run as it is; the network forgets its plans meanwhile."""
    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda program: real(program, backend=counter))
    monkeypatch.setattr("supernet.network.MOST_PLANS", 2)
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        assert_compiled_is_plain(perturbed(TINY), 4)
    assert counter.frame_count == len(np.unique(np.concatenate([LARGEST, SMALLEST]), axis=0)) > 2


def test_networks_with_noise_are_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda program: pytest.fail("compiled"))
    stepper = stepper_of(perturbed(TINY), recipe_of(dropout=0.5), compiled=True)
    stepper([member(TINY, LARGEST[0], "largest")], TINY_IMAGES, LABELS, 0, 0.5)
