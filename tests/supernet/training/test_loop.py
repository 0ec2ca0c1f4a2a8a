import logging
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError
from supernet import Supernet, SupernetEvaluator, TrainingError, load_supernet, train
from supernet.training import (
    AlphaDivergence,
    AttentiveSampling,
    ComplexityAware,
    ExponentialWithFloor,
    LabelsOnly,
    MeanOfMembers,
    MemberSampler,
    Phase,
    ProgressiveShrinking,
    ProjectConflicts,
    Sandwich,
    SinglePath,
)
from supernet.training.guard import MOST_SKIPPED, Guard
from tests.supernet.doubles import RECIPE, TINY, easy_data, trained, with_nan

EXTREMES = np.concatenate([TINY.extremes("largest"), TINY.extremes("smallest")])

SHRINKING = ProgressiveShrinking(
    phases=(
        Phase(share=0.3),
        Phase(share=0.3, opens=("*.expansion", "*depth")),
        Phase(share=0.4, opens=("*",), sort_channels=True),
    )
)

RECIPES = {
    "AttentiveNAS": replace(
        RECIPE,
        members=AttentiveSampling(largest_alone_share=0.1),
        distillation=AlphaDivergence(),
        gradients=ProjectConflicts(),
        clip_norm=None,
        clip_value=1.0,
    ),
    "AutoFormer": replace(
        RECIPE, members=SinglePath(), drop_path=0.1, dropout=0.1, regularise="all"
    ),
    "BigNAS": replace(
        RECIPE,
        members=Sandwich(random_subnets=2, largest_alone_share=0),
        schedule=ExponentialWithFloor(),
        drop_path=0.2,
        dropout=0.2,
        gradients=MeanOfMembers(),
    ),
    "ElasticViT": replace(RECIPE, members=ComplexityAware(levels=3, bank_size=3), ema=0.9),
    "Once-for-All": replace(RECIPE, members=SHRINKING, optimiser="sgd", learning_rate=0.03),
    "in turn": replace(RECIPE, updates="member", members=Sandwich(random_subnets=2), ema=0.9),
    "half": replace(RECIPE, precision="fp16", members=Sandwich(largest_alone_share=0), ema=0.5),
}


# ---- what training is for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "Once-for-All",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("AttentiveNAS", "ElasticViT", "in turn")
        ),
    ],
)
def test_learns_to_tell_the_classes_apart_in_every_subnet(name):
    data = easy_data()
    supernet = trained(recipe=RECIPES.get(name, RECIPE), epochs=10, data=data)
    assert not supernet.training
    assert all(p.grad is None for p in supernet.parameters())
    rows = np.concatenate([EXTREMES, TINY.sample(4, np.random.default_rng(0))])
    before = SupernetEvaluator(Supernet(TINY), data).evaluate(rows)
    after = SupernetEvaluator(supernet, data).evaluate(rows)
    assert max(m.value for m in before) < 0.6
    assert min(m.value for m in after) > 0.9


def test_same_seed_same_weights():
    def hashed(seed):
        torch.manual_seed(np.random.default_rng().integers(1000))
        return trained(seed=seed, recipe=replace(RECIPE, augment=True)).weights_hash()

    assert hashed(1) == hashed(1) != hashed(2)


def test_threads_do_not_change_a_bit():
    recipe = replace(RECIPE, shards=4)
    alone = trained(recipe=recipe).weights_hash()
    torch.set_num_threads(4)
    try:
        assert trained(recipe=recipe).weights_hash() == alone
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


def test_steps_tell_what_was_trained():
    steps = []
    recipe = replace(RECIPE, members=Sandwich(random_subnets=2, largest_alone_share=0.25))
    trained(recipe=recipe, on_step=steps.append)
    assert [len(s.losses) for s in steps] == [1, 1, 4, 4, 4, 4, 4, 4]
    assert [(s.number, s.total) for s in steps] == [(i, 8) for i in range(1, 9)]
    assert steps[0].roles == ("largest",)
    assert steps[5].roles == ("largest", "random", "random", "smallest")
    assert {s.dropped for s in steps} == {0}
    assert {s.cosine for s in steps} == {None}
    assert steps[0].learning_rate == recipe.learning_rate > steps[-1].learning_rate > 0


def test_gradients_are_watched_without_changing_them():
    steps = []
    watched = trained(watch_gradients=True, on_step=steps.append)
    assert np.isnan(steps[0].cosine)  # the largest alone
    assert all(-1 <= s.cosine <= 1 for s in steps[3:])
    torch.testing.assert_close(
        dict(watched.named_parameters()), dict(trained().named_parameters()), atol=1e-4, rtol=1e-3
    )


@dataclass(frozen=True)
class Noted(MemberSampler):
    """A user's own sampler, which notes what it is told."""

    told: list = field(default_factory=list, compare=False)

    def members(self, draw):
        return Sandwich(largest_alone_share=0).members(draw)

    def observe(self, draw, members, losses):
        self.told.append((draw.step, len(members), losses))


def test_a_users_sampler_is_told_the_losses():
    steps, sampler = [], Noted()
    trained(recipe=replace(RECIPE, members=sampler), on_step=steps.append)
    assert sampler.told == [(s.number - 1, 3, s.losses) for s in steps]


# ---- a run in two parts ------------------------------------------------------------------------


class Stop(Exception):  # noqa: N818
    pass


def interrupted(stop, path, **options):
    """The steps of a run up to its last checkpoint before `stop`."""
    told = []

    def interrupt(step):
        told.append(step)
        if step.number == stop:
            raise Stop

    with pytest.raises(Stop):
        trained(on_step=interrupt, checkpoint=path, checkpoint_every=2, **options)
    return told[: stop - stop % 2]


@pytest.fixture(scope="module")
def uninterrupted():
    told = []
    return trained(recipe=replace(RECIPE, augment=True), epochs=2, on_step=told.append), told


@pytest.mark.parametrize("stop", [3, 8, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, uninterrupted, stop):
    """Bit for bit: weights, and the losses told on the way; within an epoch and between two."""
    path = tmp_path / "run.safetensors"
    options = {"recipe": replace(RECIPE, augment=True), "epochs": 2}
    expected, whole = uninterrupted
    told = interrupted(stop, path, **options)
    resumed = trained(on_step=told.append, checkpoint=path, **options)
    assert resumed.weights_hash() == expected.weights_hash()
    assert told == whole
    again = trained(on_step=pytest.fail, checkpoint=path, **options)  # nothing is left to do
    assert again.weights_hash() == expected.weights_hash()


@pytest.mark.parametrize("name", RECIPES)
def test_every_part_of_a_recipe_can_be_resumed(tmp_path, name):
    """Bit for bit; the channels of the shrinking run are sorted for step 11, right at the seam."""
    whole = []
    options = {"recipe": RECIPES[name], "epochs": 4, "data": easy_data(n=128)}
    expected = trained(on_step=whole.append, **options)
    path = tmp_path / "run.safetensors"
    told = interrupted(10, path, **options)
    resumed = trained(on_step=told.append, checkpoint=path, **options)
    assert resumed.weights_hash() == expected.weights_hash()
    assert told == whole
    assert load_supernet(path).weights_hash() == expected.weights_hash()


# ---- averages and teachers ---------------------------------------------------------------------


def test_the_average_replaces_the_weights_at_the_end(tmp_path):
    """Followed step by step from outside; the checkpoint gives the same network."""
    path, supernet = tmp_path / "run.safetensors", Supernet(TINY)
    average = {n: p.detach().clone() for n, p in supernet.named_parameters()}

    def follow(step):
        decay = min(0.7, step.number / (9 + step.number))
        for n, p in supernet.named_parameters():
            average[n] = decay * average[n] + (1 - decay) * p.detach()

    train(supernet, easy_data(), epochs=2, recipe=replace(RECIPE, ema=0.7), on_step=follow,
          checkpoint=path)  # fmt: skip
    for n, p in supernet.named_parameters():
        torch.testing.assert_close(p.detach(), average[n], atol=1e-6, rtol=1e-5)
    assert load_supernet(path).weights_hash() == supernet.weights_hash()
    assert trained().weights_hash() != supernet.weights_hash()


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def test_a_frozen_teacher_is_learnt_from_and_not_changed(tmp_path):
    teacher = linear()
    before = [p.detach().clone() for p in teacher.parameters()]
    path = tmp_path / "run.safetensors"
    supernet = trained(teacher=teacher, checkpoint=path)
    assert supernet.weights_hash() != trained().weights_hash()
    assert not teacher.training
    for p, kept in zip(teacher.parameters(), before, strict=True):
        assert torch.equal(p, kept)
        assert p.grad is None
    trained(teacher=linear(), checkpoint=path, on_step=pytest.fail)
    for other in ({"teacher": linear(1)}, {"teacher": teacher, "teacher_weight": 0.5}, {}):
        with pytest.raises(BadInputError, match=r"written by another run \(teacher"):
            trained(checkpoint=path, **other)


# ---- trouble -----------------------------------------------------------------------------------


def test_a_batch_with_nan_is_skipped_and_training_goes_on(caplog):
    steps = []
    with caplog.at_level(logging.WARNING):
        supernet = trained(data=with_nan(7), epochs=10, on_step=steps.append)
    bad = [s.number for s in steps if not np.isfinite(s.losses).all()]
    assert len(bad) == 10  # one batch an epoch
    dropped = [r for r in caplog.records if "members dropped" in r.getMessage()]
    assert [r.args[0] + 1 for r in dropped] == bad
    assert steps[-1].dropped == sum(len(s.losses) for s in steps if s.number in bad)
    assert all(torch.isfinite(p).all() for p in supernet.parameters())
    measured = SupernetEvaluator(supernet, easy_data()).evaluate(EXTREMES)
    assert min(m.value for m in measured) > 0.9


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_a_batch_with_nan(name):
    supernet = trained(data=with_nan([3, 100]), recipe=RECIPES[name])
    assert all(torch.isfinite(p).all() for p in supernet.parameters())


def test_a_sampler_is_told_nan_for_a_dropped_member():
    sampler = Noted()
    trained(data=with_nan(7), recipe=replace(RECIPE, members=sampler))
    bad = [losses for _, _, losses in sampler.told if np.isnan(losses).all()]
    assert len(bad) == 1
    assert np.isfinite([x for _, _, losses in sampler.told for x in losses]).sum() == 3 * 7


def test_weights_that_went_bad_return_to_a_good_state(caplog):
    """After one disturbance training ends as good as without."""
    supernet = Supernet(TINY)

    def disturb(step):
        if step.number == 30:
            with torch.no_grad():
                supernet.primitives["classifier"].weight.fill_(torch.nan)

    data = easy_data()
    train(supernet, data, epochs=14, recipe=replace(RECIPE, ema=0.5), on_step=disturb)
    assert caplog.text.count("back to the last good weights") == 1
    assert min(m.value for m in SupernetEvaluator(supernet, data).evaluate(EXTREMES)) > 0.9


def test_a_state_to_return_to_is_kept_when_channels_were_sorted(monkeypatch):
    """So that they are sorted still when training returns to it."""
    kept = []
    monkeypatch.setattr(Guard, "keep", lambda guard: kept.append(guard.state()))
    monkeypatch.setattr(Guard, "good_step", lambda guard: None)
    trained(recipe=RECIPES["Once-for-All"])
    assert len(kept) == 1


@pytest.mark.parametrize(("epochs", "steps"), [(4, MOST_SKIPPED), (1, 8)])
def test_nothing_but_nan_ends_the_training(epochs, steps):
    supernet = Supernet(TINY)
    before = supernet.weights_hash()
    why = f"{steps} steps in a row are not finite.*lower learning_rate.*0.003"
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
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be >= 1"),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used.*`cpu` always can"),
        ({"teacher": linear(), "teacher_weight": -1.0}, "teacher_weight must be >= 0"),
        (
            {"teacher": linear(), "recipe": replace(RECIPE, distillation=LabelsOnly())},
            "a teacher is given, but the recipe's distillation is LabelsOnly",
        ),
    ],
    ids=["epochs", "every", "device", "absent", "weight", "labels"],
)
def test_runs_that_make_no_sense_are_refused(options, why):
    with pytest.raises(BadInputError, match=why):
        trained(**options)
