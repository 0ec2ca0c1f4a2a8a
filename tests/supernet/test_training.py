import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from records import BadInputError
from search_spaces import CNNSpace
from supernet import ImageData, Recipe, Split, Supernet, SupernetEvaluator, TrainingError, train
from supernet.training import (
    MOST_SKIPPED,
    BatchSource,
    batches_per_epoch,
    draw_members,
    make_optimiser,
    sandwich_step,
    set_learning_rate,
)
from tests.supernet.doubles import RECIPE, SPACES, TINY, easy_data, images_of, perturbed

EXTREMES = TINY.extremes("largest"), TINY.extremes("smallest")


def run(seed=0, epochs=2, **options):
    data = options.pop("data", None) or easy_data()
    recipe = options.pop("recipe", RECIPE)
    return train(Supernet(TINY), data, epochs=epochs, recipe=recipe, seed=seed, **options)


# ---- the step --------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_gradients_are_the_sum_of_the_members_and_the_mean_of_the_shards(shards):
    space = SPACES[2]
    recipe = Recipe(batch_size=12, shards=shards, random_subnets=2, label_smoothing=0.1)
    supernet, other = perturbed(space), perturbed(space)
    images, labels = images_of(space, 12), torch.arange(12) % 4
    members = draw_members(
        supernet, (space.extremes("largest"), space.extremes("smallest")), 3, False, recipe, 0
    )
    assert len(members) == 4
    with ThreadPoolExecutor(shards) as pool:
        losses = sandwich_step(supernet, members, images, labels, recipe, pool)

    expected = [torch.zeros_like(p) for p in other.parameters()]
    told = np.zeros(4)
    targets = torch.full((12, 4), 0.1 / 4).scatter(1, labels[:, None], 0.9 + 0.1 / 4)
    for part, target in zip(images.chunk(shards), targets.chunk(shards), strict=True):
        for m, row in enumerate(members):
            other.zero_grad()
            logits = other(part, row)
            loss = -(target * logits.log_softmax(1)).sum(1).mean()
            loss.backward()
            told[m] += loss.item() / shards
            for total, p in zip(expected, other.parameters(), strict=True):
                if p.grad is not None:
                    total += p.grad / shards
            if m == 0:  # the largest's predictions are the others' targets, without a gradient
                target = logits.detach().softmax(1)
    np.testing.assert_allclose(losses, told, rtol=1e-5)
    for (name, p), total in zip(supernet.named_parameters(), expected, strict=True):
        found = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(found, total, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)


def test_weights_that_no_member_uses_get_no_gradient():
    supernet = Supernet(TINY)
    (conv,) = [r for r in EXTREMES[0] if "conv" in dict(TINY.decode(r)[0].items).values()]
    with ThreadPoolExecutor(1) as pool:
        sandwich_step(supernet, conv[None], images_of(TINY, 8), torch.arange(8) % 4, RECIPE, pool)
    unused = ("attention", "mlp", "position", "transforms")  # the kernel is the largest
    for name, p in supernet.named_parameters():
        assert (p.grad is None) == any(part in name for part in unused), name


def test_draws_depend_on_seed_and_step_alone():
    first, second = Supernet(TINY, seed=1), Supernet(TINY, seed=2)
    recipe = replace(RECIPE, random_subnets=3)

    def drawn(supernet, step, seed):
        torch.manual_seed(step)  # the global state must not matter
        return draw_members(supernet, EXTREMES, step, False, recipe, seed)

    forward = [drawn(first, step, 5) for step in range(20)]
    backward = [drawn(second, step, 5) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forward, backward)
    sampled = [tuple(map(tuple, members[1:-1])) for members in forward]
    assert len(set(sampled)) > 15
    assert any((drawn(first, s, 6) != forward[s]).any() for s in range(20))


def test_the_kinds_of_block_take_turns_and_the_largest_comes_first():
    supernet = Supernet(TINY)
    for step in range(6):
        members = draw_members(supernet, EXTREMES, step, False, RECIPE, 0)
        assert len(members) == 3
        np.testing.assert_array_equal(members[0], EXTREMES[0][step % 2])
        np.testing.assert_array_equal(members[-1], EXTREMES[1][step % 2])
        alone = draw_members(supernet, EXTREMES, step, True, RECIPE, 0)
        np.testing.assert_array_equal(alone, EXTREMES[0][step % 2][None])
    one_kind = CNNSpace(image_size=8)
    assert len(one_kind.extremes("largest")) == len(one_kind.extremes("smallest")) == 1


def test_the_largest_is_alone_for_the_first_share_of_the_steps():
    steps = []
    recipe = replace(RECIPE, largest_alone_share=0.25, random_subnets=2)
    run(epochs=1, recipe=recipe, on_step=steps.append)
    assert [len(s.losses) for s in steps] == [1, 1, 4, 4, 4, 4, 4, 4]
    assert [(s.number, s.total) for s in steps] == [(i, 8) for i in range(1, 9)]


# ---- batches, rates, weight decay --------------------------------------------------------------


def test_an_epoch_shows_every_image_once():
    source = BatchSource(easy_data(n=130), RECIPE, 3)
    assert source.per_epoch == batches_per_epoch(source.data.train, RECIPE) == 4
    first = torch.cat([source.batch(step)[0] for step in range(4)]).flatten(1)
    assert len(torch.unique(first, dim=0)) == 128
    second = torch.cat([source.batch(step)[0] for step in range(4, 8)]).flatten(1)
    assert not torch.equal(first, second)
    again = BatchSource(easy_data(n=130), RECIPE, 3)
    for step in (6, 1, 3):  # in any order
        for a, b in zip(again.batch(step), source.batch(step), strict=True):
            assert torch.equal(a, b)


def test_fewer_images_than_a_batch_are_one_batch():
    source = BatchSource(easy_data(n=10), RECIPE, 0)
    assert source.per_epoch == 1
    assert len(source.batch(5)[0]) == 10


def test_rate_rises_and_falls_as_told():
    optimiser = make_optimiser(Supernet(TINY), RECIPE)
    recipe = replace(RECIPE, learning_rate=2.0, warmup_share=0.2)
    rates = []
    for step in range(50):
        set_learning_rate(optimiser, recipe, step, 50)
        rates.append(optimiser.param_groups[0]["lr"])
    np.testing.assert_allclose(rates[:10], np.linspace(0.2, 2, 10))
    np.testing.assert_allclose(rates[10:], 1 + np.cos(np.pi * np.arange(40) / 40))


def test_weight_decay_spares_norms_biases_positions_and_transforms():
    supernet = Supernet(SPACES[2])
    decayed = {id(p) for p in make_optimiser(supernet, RECIPE).param_groups[0]["params"]}
    names = {name for name, p in supernet.named_parameters() if id(p) in decayed}
    spared = {name for name, _ in supernet.named_parameters()} - names
    assert all(n.endswith(("conv.weight", "project.weight", "expand.weight", "classifier.weight",
                           ".query", ".key", ".value")) for n in names)  # fmt: skip
    assert all("norm" in n or "transforms" in n or n.endswith(("bias", "embedding"))
               for n in spared)  # fmt: skip
    assert {n.rsplit(".", 1)[-1] for n in spared} >= {"query_bias", "embedding", "5", "bias"}


# ---- runs --------------------------------------------------------------------------------------


def test_learns_to_tell_the_classes_apart_in_every_subnet():
    data = easy_data()
    supernet = run(epochs=9, data=data)
    assert not supernet.training
    rows = np.concatenate([*EXTREMES, TINY.sample(4, np.random.default_rng(0))])
    before = SupernetEvaluator(Supernet(TINY), data).evaluate(rows)
    after = SupernetEvaluator(supernet, data).evaluate(rows)
    assert max(m.value for m in before) < 0.6
    assert min(m.value for m in after) > 0.9


def test_same_seed_same_weights():
    def hashed(seed):
        torch.manual_seed(np.random.default_rng().integers(1000))
        return run(seed, epochs=1, recipe=replace(RECIPE, augment=True)).weights_hash()

    assert hashed(1) == hashed(1) != hashed(2)


class Stop(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module")
def uninterrupted():
    told = []
    return run(5, recipe=replace(RECIPE, augment=True), on_step=told.append), told


@pytest.mark.parametrize("stop", [3, 8, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, uninterrupted, stop):
    """Bit for bit: weights, and the losses told on the way; within an epoch and between two."""
    path = tmp_path / "run.safetensors"
    recipe = replace(RECIPE, augment=True)
    expected, whole = uninterrupted
    told = []

    def interrupt(step):
        told.append(step)
        if step.number == stop:
            raise Stop

    options = {"recipe": recipe, "checkpoint": path, "checkpoint_every": 2}
    with pytest.raises(Stop):
        run(5, on_step=interrupt, **options)
    told = told[: stop - stop % 2]
    resumed = run(5, on_step=told.append, **options)
    assert resumed.weights_hash() == expected.weights_hash()
    assert told == whole
    again = run(5, on_step=pytest.fail, **options)  # nothing is left to do
    assert again.weights_hash() == expected.weights_hash()


def with_nan(images):
    """The easy data with the given training images made NaN."""
    data = easy_data()
    bad = data.train.images.clone()
    bad[images] = torch.nan
    train_split = Split(bad, data.train.labels)
    return ImageData(name="nan", train=train_split, validation=data.validation, test=data.test,
                     class_names=data.class_names)  # fmt: skip


def test_a_batch_with_nan_is_skipped_and_training_goes_on(caplog):
    steps = []
    with caplog.at_level(logging.WARNING):
        supernet = run(epochs=10, data=with_nan(7), on_step=steps.append)
    bad = [s.number for s in steps if not np.isfinite(s.losses).all()]
    assert len(bad) == 10  # one batch an epoch
    skipped = [r for r in caplog.records if "skipped" in r.getMessage()]
    assert [r.args[0] + 1 for r in skipped] == bad
    assert all(torch.isfinite(p).all() for p in supernet.parameters())
    measured = SupernetEvaluator(supernet, easy_data()).evaluate(np.concatenate(EXTREMES))
    assert min(m.value for m in measured) > 0.9


def test_a_gradient_that_is_not_finite_is_skipped_too(monkeypatch, caplog):
    real = sandwich_step
    calls = []

    def spoiled(supernet, *rest):
        losses = real(supernet, *rest)
        calls.append(losses)
        if len(calls) == 5:
            next(p for p in supernet.parameters() if p.grad is not None).grad[0] = torch.inf
        return losses

    monkeypatch.setattr("supernet.training.sandwich_step", spoiled)
    supernet = run(epochs=2)
    assert all(torch.isfinite(p).all() for p in supernet.parameters())
    assert len(calls) == 16
    assert caplog.text.count("skipped") == 1


@pytest.mark.parametrize(("epochs", "steps"), [(4, MOST_SKIPPED), (1, 8)])
def test_nothing_but_nan_ends_the_training(epochs, steps):
    supernet = Supernet(TINY)
    before = supernet.weights_hash()
    why = f"loss of {steps} steps in a row is not finite.*lower learning_rate.*0.003"
    with pytest.raises(TrainingError, match=why):
        train(supernet, with_nan(slice(None)), epochs=epochs, recipe=RECIPE)
    assert supernet.weights_hash() == before


@pytest.mark.parametrize("size", [{"image_size": 16}, {"channels": 3}, {"num_classes": 5}])
def test_data_that_do_not_fit_the_space_are_refused(size):
    (name, want), = size.items()  # fmt: skip
    space = replace(TINY, **size)
    with pytest.raises(BadInputError, match=f"'easy' has {name} .* made with {want}"):
        train(Supernet(space), easy_data(), epochs=1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"shards": 0}, "shards must be 1 to half of batch_size"),
        ({"batch_size": 8, "shards": 5}, r"shards must be 1 to half of batch_size \(4\)"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"random_subnets": -1}, "random_subnets must be >= 0"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(options, why):
    with pytest.raises(BadInputError, match=why):
        Recipe(**options)


def test_no_epochs_are_refused():
    with pytest.raises(BadInputError, match="epochs must be >= 1"):
        run(epochs=0)
