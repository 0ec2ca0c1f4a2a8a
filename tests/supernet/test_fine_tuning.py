import json
from dataclasses import replace

import pytest
import torch

from records import BadInputError
from supernet import (
    Int8Scheme,
    Recipe,
    Split,
    Subnet,
    Supernet,
    TrainingError,
    accuracy,
    fine_tune,
    fine_tuning_recipe,
    reparameterise,
    train,
)
from supernet.fine_tuning import CALIBRATION_IMAGES
from supernet.training import LabelsOnly, SoftTargets
from tests.supernet.doubles import RECIPE, TINY, easy_data
from tests.supernet.test_reparameterisation import SPACE as BRANCHES

QUICK = Recipe(batch_size=32, augment=False, learning_rate=3e-3)


@pytest.fixture(scope="module")
def trained():
    """A supernet after one pass, its smallest and largest subnets."""
    data = easy_data()
    supernet = train(Supernet(TINY), data, epochs=1, recipe=RECIPE)
    evaluator = supernet.evaluator(data)
    small, large = (TINY.extremes(which)[0] for which in ("smallest", "largest"))
    return data, evaluator.subnet(small), evaluator.subnet(large)


def test_a_subnet_becomes_better_and_the_record_says_how(trained):
    data, subnet, _ = trained
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    tuned = fine_tune(subnet, data, epochs=3, recipe=QUICK, seed=5)
    record = tuned.record
    assert record.accuracy_after > record.accuracy_before
    assert record.accuracy_before == accuracy(subnet, data.validation)
    assert record.accuracy_after == accuracy(tuned.subnet, data.validation)
    assert len(record.accuracies) == 4
    assert record.accuracies[record.kept_epoch] == max(record.accuracies)
    assert not tuned.subnet.training
    assert tuned.subnet.graph == subnet.graph
    assert all(torch.equal(v, before[n]) for n, v in subnet.state_dict().items())
    told = json.loads(json.dumps(record.to_json()))
    assert told["epochs"] == 3
    assert told["recipe"]["learning_rate"] == 3e-3
    assert told["teacher"] is None
    assert told["quantised"] is None
    assert told["accuracy_after"] == record.accuracy_after
    assert told["images"] == len(data.validation)


def test_what_is_worse_is_not_kept(trained):
    """With a rate that destroys the weights, and with labels that tell nothing."""
    data, subnet, _ = trained
    mixed = torch.roll(data.train.labels, 1)
    wrong = replace(data, name="wrong", train=Split(data.train.images, mixed))
    tuned = fine_tune(subnet, wrong, epochs=2, recipe=replace(QUICK, learning_rate=0.3))
    assert tuned.record.kept_epoch == 0
    assert tuned.subnet is subnet
    assert max(tuned.record.accuracies[1:]) < tuned.record.accuracy_before


def test_same_seed_same_weights(trained):
    data, subnet, _large = trained
    options = {"epochs": 1, "recipe": replace(QUICK, augment=True)}
    first = fine_tune(subnet, data, seed=1, **options).subnet.state_dict()
    torch.manual_seed(9)
    again = fine_tune(subnet, data, seed=1, **options).subnet.state_dict()
    other = fine_tune(subnet, data, seed=2, **options).subnet.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    name = "layers.classifier.weight"
    assert not torch.equal(first[name], other[name])


def test_a_teacher_is_learned_from(trained):
    """With labels that are all wrong, what is right can only come from the teacher."""
    data, subnet, large = trained
    good = fine_tune(large, data, epochs=6, recipe=QUICK).subnet
    mixed = torch.roll(data.train.labels, 1)
    wrong = replace(data, name="wrong", train=Split(data.train.images, mixed))
    recipe = replace(QUICK, distillation=SoftTargets())
    options = {"epochs": 4, "recipe": recipe}
    alone = fine_tune(subnet, wrong, epochs=4, recipe=QUICK)
    taught = fine_tune(subnet, wrong, teacher=good, teacher_weight=20.0, **options)
    assert taught.record.accuracies[-1] > alone.record.accuracies[-1] + 0.2
    assert taught.record.teacher["parameters"] == good.graph.parameters
    assert len(taught.record.teacher["weights_hash"]) > 8
    assert taught.record.teacher_weight == 20.0
    assert not good.training


def test_the_default_recipe_grows_its_geometry_and_learns_from_a_teacher():
    recipe = fine_tuning_recipe()
    assert recipe.learning_rate < Recipe().learning_rate
    assert isinstance(recipe.distillation, LabelsOnly)
    assert recipe.augmentation(0).shift == 0
    assert recipe.augmentation(2).shift < 0.02
    assert isinstance(fine_tuning_recipe(has_teacher=True).distillation, SoftTargets)
    assert fine_tuning_recipe(is_quantised=True).learning_rate < recipe.learning_rate


def test_learning_to_be_rounded(trained):
    """Few steps of rounding take accuracy away; training with them gives some back."""
    data, _, large = trained
    start = fine_tune(large, data, epochs=3, recipe=QUICK).subnet
    scheme = Int8Scheme(weight_steps=1, activation_steps=7)
    recipe = replace(QUICK, learning_rate=1e-3)
    steps = []
    tuned = fine_tune(start, data, epochs=4, recipe=recipe, quantised=scheme, on_step=steps.append)
    record = tuned.record
    assert record.accuracy_before < accuracy(start, data.validation)
    assert record.accuracy_after > record.accuracy_before + 0.02
    assert record.quantised == {**scheme.to_json(), "calibration_images": CALIBRATION_IMAGES}
    assert [s.number for s in steps] == list(range(1, 33))
    for name, value in start.state_dict().items():
        if "running" in name:  # the statistics are those that it was given with
            assert torch.equal(value, tuned.subnet.state_dict()[name])
    images = data.train.images[:64]
    few = fine_tune(start, data, epochs=1, quantised=scheme, calibration_images=images)
    assert few.record.quantised["calibration_images"] == 64


def test_branches_are_trained_apart_and_rounded_as_one():
    data, space = easy_data(), replace(BRANCHES, image_size=8, channels=1)
    subnet = Supernet(space).evaluator(data).subnet(space.extremes("largest")[0])
    trained = fine_tune(subnet, data, epochs=1, recipe=QUICK)
    assert trained.record.kept_epoch == 1
    assert trained.subnet.graph == subnet.graph
    rounded = fine_tune(
        trained.subnet, data, epochs=3, recipe=QUICK, quantised=Int8Scheme(weight_steps=2)
    )
    assert rounded.record.kept_epoch > 0
    assert rounded.subnet.graph == reparameterise(subnet).graph


def test_regularisation_reaches_a_network_that_is_rounded(trained):
    data, _, large = trained
    recipe = replace(QUICK, drop_path=0.3, dropout=0.3)
    options = {"epochs": 1, "quantised": Int8Scheme()}
    plain = fine_tune(large, data, recipe=QUICK, **options).record.accuracies
    noisy = fine_tune(large, data, recipe=recipe, **options).record.accuracies
    assert plain[0] == noisy[0]
    assert plain[1] != noisy[1]


def test_an_average_of_the_weights_is_judged_at_the_end(trained):
    data, subnet, _ = trained
    recipe = replace(QUICK, ema=0.9)
    tuned = fine_tune(subnet, data, epochs=2, recipe=recipe)
    assert len(tuned.record.accuracies) == 3
    assert tuned.record.accuracies[-1] > tuned.record.accuracy_before


def test_bad_input(trained):
    data, subnet, _ = trained
    with pytest.raises(BadInputError, match="epochs must be >= 1"):
        fine_tune(subnet, data, epochs=0)
    with pytest.raises(BadInputError, match=r"call subnet\.eval"):
        fine_tune(Subnet(subnet.graph), data)
    with pytest.raises(BadInputError, match="nothing is quantised"):
        fine_tune(subnet, data, calibration_images=data.train.images)
    other = Subnet(replace(TINY, num_classes=5).graph(TINY.extremes("largest")[0])).eval()
    with pytest.raises(BadInputError, match="made for"):
        fine_tune(other, data)
    with pytest.raises(BadInputError, match="made for"):
        fine_tune(subnet, data, teacher=other)
    with pytest.raises(BadInputError, match="distillation is LabelsOnly"):
        fine_tune(subnet, data, teacher=subnet, recipe=QUICK)


def test_training_that_cannot_go_on_is_an_error(trained):
    data, subnet, _ = trained
    bad = Split(torch.full_like(data.train.images, torch.nan), data.train.labels)
    with pytest.raises(TrainingError, match="not finite"):
        fine_tune(subnet, replace(data, name="nan", train=bad), epochs=3, recipe=QUICK)
