import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from records import BadInputError, json_text
from supernet import (
    ChoiceDistribution,
    ChoiceLearner,
    ChoiceRecipe,
    SupernetReward,
    accuracy,
    learn_distribution,
)
from supernet.choice_gradient import cost_gradient, entropy_gradient, reward_gradient
from supernet.expected_sum import ExpectedSum
from tests.supernet.doubles import TINY, easy_data, perturbed, trained
from tests.supernet.test_choice_distribution import ROWS, macs_of, random_distribution

D = len(TINY.choices)
TARGET = TINY.extremes("largest")[1]
FEW = ChoiceRecipe(steps=6)


def value_of(genes):
    """A number for each architecture that depends on several choices at once."""
    weights = np.random.default_rng(0).normal(size=(D, 3))
    rest = np.random.default_rng(1).normal(size=(D, D))
    x = np.asarray(genes, np.float64) + TINY.active(genes)
    return 5 + weights[:, 0] @ x.T + 0.5 * np.einsum("ij,jk,ik->i", x, rest, x)


def logits_of(distribution):
    table = distribution.table
    return np.log(np.where(table > 0, table, 1.0)), table > 0


def derivative(quantity, distribution):
    """By central differences of the logits."""
    logits, there = logits_of(distribution)
    gradient = np.zeros_like(logits)
    for place in zip(*np.nonzero(there), strict=True):
        ends = []
        for step in (1e-5, -1e-5):
            moved = logits.copy()
            moved[place] += step
            ends.append(quantity(ChoiceDistribution.from_table(TINY, np.exp(moved))))
        gradient[place] = (ends[0] - ends[1]) / 2e-5
    return gradient


def mean_value(distribution):
    return np.exp(distribution.log_probability(ROWS)) @ value_of(ROWS)


def nearness(genes, step=0):
    """How many choices are as in the target, with noise that is the same for a step."""
    active = TINY.active(np.asarray(genes))
    right = ((genes == TARGET) & active).sum(axis=1) / D
    return right + 0.1 * np.random.default_rng([step, 7]).normal(size=len(genes))


# ---- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5])
def test_the_estimated_gradient_is_unbiased(n):
    distribution = random_distribution(seed=2)
    rng = np.random.default_rng(3)
    draws = 3000
    genes = distribution.sample(n * draws, rng).reshape(draws, n, D)
    values = value_of(genes.reshape(-1, D)).reshape(draws, n)
    found = np.array(
        [reward_gradient(distribution, g, v) for g, v in zip(genes, values, strict=True)]
    )
    exact = derivative(mean_value, distribution)
    error = found.std(axis=0) / np.sqrt(draws)
    assert (np.abs(found.mean(axis=0) - exact) <= 4 * error + 1e-9).all()
    assert (np.abs(exact) > 10 * error).any()  # so that a wrong sign or factor would show


def test_a_reward_that_is_the_same_for_all_samples_moves_nothing():
    distribution = random_distribution()
    genes = distribution.sample(6, np.random.default_rng(0))
    assert np.abs(reward_gradient(distribution, genes, np.full(6, 0.7))).max() < 1e-12


def test_samples_without_a_reward_do_not_count():
    distribution = random_distribution()
    genes = distribution.sample(5, np.random.default_rng(0))
    rewards = np.array([0.1, np.nan, 0.5, -np.inf, 0.3])
    kept = [0, 2, 4]
    np.testing.assert_array_equal(
        reward_gradient(distribution, genes, rewards),
        reward_gradient(distribution, genes[kept], rewards[kept]),
    )
    assert not reward_gradient(distribution, genes[:2], rewards[:2]).any()


def test_the_gradient_of_an_expected_sum_is_exact():
    distribution, macs = random_distribution(seed=4), macs_of(reference=1e3)
    value, gradient = cost_gradient(distribution, macs, 2, np.random.default_rng(0))

    def expected(d):
        return np.exp(d.log_probability(ROWS)) @ macs(ROWS)

    assert value == pytest.approx(expected(distribution))
    np.testing.assert_allclose(gradient, derivative(expected, distribution), atol=1e-6)


def test_the_gradient_of_any_other_cost_is_estimated_from_samples():
    distribution, macs = random_distribution(seed=4), macs_of(reference=1e3)
    _, exact = cost_gradient(distribution, macs, 2, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    found = [cost_gradient(distribution, lambda g: macs(g), 64, rng) for _ in range(200)]
    slopes = np.array([slope for _, slope in found])
    error = slopes.std(axis=0) / np.sqrt(len(slopes))
    assert (np.abs(slopes.mean(axis=0) - exact) <= 4 * error + 1e-9).all()
    means = np.array([value for value, _ in found])
    expected = macs.expectation(distribution.arrays)[0]
    assert abs(means.mean() - expected) < 4 * means.std() / np.sqrt(len(means))


def test_the_gradient_of_the_entropy_is_that_of_each_choice_by_its_share():
    distribution = random_distribution(seed=5)
    genes = distribution.sample(8, np.random.default_rng(2))
    share = TINY.active(genes).mean(axis=0)
    assert 0 < share.min() < 1

    def bonus(d):
        return share @ np.array(list(d.choice_entropies.values()))

    found = entropy_gradient(distribution, genes)
    np.testing.assert_allclose(found, derivative(bonus, distribution), atol=1e-8)


# ---- learning --------------------------------------------------------------------------------


def test_choices_that_are_not_active_stay_as_they_are():
    """Also where a cost and the entropy count."""
    macs = macs_of(reference=1e4)
    recipe = ChoiceRecipe(steps=20, cost_weight=1.0, entropy_weight=0.01)
    learner = ChoiceLearner(TINY, nearness, cost=macs, recipe=recipe)
    depth = next(j for j, c in enumerate(TINY.choices) if c.name.endswith("depth"))
    state = learner.state()
    state["logits"][depth] = [800.0, 0.0]  # depth 0 for certain
    learner.restore(state)
    inactive = learner.distribution.active_share == 0
    assert inactive.sum() >= 3
    learner.run()
    moved = np.abs(np.array(learner.state()["logits"])).max(axis=1)
    assert (moved[inactive] == 0).all()
    assert (moved[~inactive & (np.arange(D) != depth)] > 0).all()


@pytest.mark.parametrize("samples", [2, 4])
def test_it_converges_to_the_known_best(samples):
    recipe = ChoiceRecipe(steps=300, samples=samples, learning_rate=0.05)
    learner = ChoiceLearner(TINY, nearness, recipe=recipe, seed=1)
    seen = []
    distribution = learner.run(seen.append)
    np.testing.assert_array_equal(distribution.most_likely(), TARGET)
    assert np.exp(distribution.log_probability(TARGET[None]))[0] > 0.5
    assert [s.step for s in seen] == list(range(300))
    assert np.mean([s.reward for s in seen[-20:]]) > np.mean([s.reward for s in seen[:20]]) + 0.2
    assert (
        seen[-1].entropy
        < seen[0].entropy
        == pytest.approx(ChoiceDistribution.uniform(TINY).entropy)
    )
    assert all(np.isnan(s.cost) for s in seen)


def test_more_entropy_keeps_more_architectures_in_play():
    found = [
        ChoiceLearner(
            TINY,
            nearness,
            recipe=ChoiceRecipe(steps=60, learning_rate=0.06, entropy_weight=weight),
        ).run()
        for weight in (0.0, 0.3)
    ]
    assert found[1].entropy > found[0].entropy + 0.5


@pytest.mark.parametrize("how", ["exact", "sampled", "exponent"])
def test_a_stronger_weight_gives_a_lower_expected_cost(how):
    macs = macs_of(reference=float(np.median(macs_of()(ROWS))))
    cost = macs if how == "exact" else lambda genes: macs(genes)
    costs = []
    for weight in (0.0, 0.05, 1.0):
        name = "cost_exponent" if how == "exponent" else "cost_weight"
        recipe = ChoiceRecipe(steps=60, cost_samples=16, learning_rate=0.05, **{name: weight})
        learner = ChoiceLearner(
            TINY, lambda g, s: np.maximum(nearness(g, s), 0), cost=cost, recipe=recipe, seed=2
        )
        costs.append(macs.expectation(learner.run().arrays)[0])
    assert costs[0] > costs[1] > costs[2]


def test_the_same_seed_gives_the_same_distribution_also_after_a_stop():
    macs = macs_of(reference=1e4)
    recipe = replace(FEW, cost_weight=0.1)

    def learner(seed=3):
        return ChoiceLearner(TINY, nearness, cost=lambda g: macs(g), recipe=recipe, seed=seed)

    whole = learner().run()
    stopped = learner()
    for _ in range(3):
        stopped.step()
    other = learner(seed=9)
    other.restore(json.loads(json_text(stopped.state())))
    assert other.run() == whole
    assert learner(seed=4).run() != whole
    with pytest.raises(BadInputError, match="another space"):
        other.restore(other.state() | {"space_hash": "x"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"samples": 1}, "samples"),
        ({"cost_samples": 1}, "cost_samples"),
        ({"entropy_weight": -1.0}, "entropy_weight"),
        ({"cost_weight": np.inf}, "cost_weight"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"second_moment": 1.0}, "second_moment"),
        ({"cost_weight": 1.0, "cost_exponent": 0.1}, "not both"),
    ],
    ids=str,
)
def test_recipes_out_of_range_are_refused(options, message):
    with pytest.raises(BadInputError, match=message):
        ChoiceRecipe(**options)


@pytest.mark.parametrize(
    ("reward", "cost", "recipe", "message"),
    [
        (nearness, None, {"cost_weight": 1.0}, "no cost was given"),
        (lambda g, s: np.zeros(3), None, {}, r"got shape \(3,\)"),
        (nearness, lambda g: np.full(len(g), np.nan), {"cost_weight": 1.0}, "not finite"),
        (nearness, lambda g: np.zeros((len(g), 2)), {"cost_weight": 1.0}, "one finite number"),
        (lambda g, s: -np.ones(len(g)), macs_of(), {"cost_exponent": 0.1}, "at least 0"),
    ],
    ids=["missing", "rewards", "nan", "columns", "negative"],
)
def test_rewards_and_costs_that_do_not_fit_are_refused(reward, cost, recipe, message):
    with pytest.raises(BadInputError, match=message):
        ChoiceLearner(TINY, reward, cost=cost, recipe=ChoiceRecipe(**recipe)).step()


def test_where_no_reward_is_known_nothing_moves():
    recipe = replace(FEW, entropy_weight=0.0)
    learner = ChoiceLearner(TINY, lambda g, s: np.full(len(g), np.nan), recipe=recipe)
    assert np.isnan(learner.step().reward)
    assert learner.run() == ChoiceDistribution.uniform(TINY)


# ---- on a supernet ---------------------------------------------------------------------------


def test_the_reward_is_that_of_the_slice_on_the_images_of_the_step():
    supernet, data = perturbed(TINY), easy_data()
    rows = TINY.sample(3, np.random.default_rng(0))
    rows = np.concatenate([rows, rows[:1]])
    for kind in ("accuracy", "loss"):
        reward = SupernetReward(supernet, data, kind=kind, batch_size=64, seed=1)
        images, labels = reward.batch(4)
        with torch.no_grad():
            logits = [supernet(images, row) for row in rows]
        if kind == "accuracy":
            expected = [(x.argmax(1) == labels).float().mean().item() for x in logits]
        else:
            expected = [-torch.nn.functional.cross_entropy(x, labels).item() for x in logits]
        found = reward(rows, 4)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert found[0] == found[3]
        assert (reward(rows, 5) != found).any()


def test_every_image_for_validation_is_seen_once_an_epoch():
    supernet, data = perturbed(TINY), easy_data()
    reward = SupernetReward(supernet, data, batch_size=50)
    epochs = [torch.cat([reward.batch(s)[0] for s in steps]) for steps in (range(4), range(4, 8))]
    images = reward.split.images.flatten(1).sum(1).sort().values
    for epoch in epochs:
        torch.testing.assert_close(epoch.flatten(1).sum(1).sort().values, images)
    assert not torch.equal(*epochs)
    assert len(SupernetReward(supernet, data, batch_size=9999).batch(3)[1]) == 200


def test_rewards_of_other_kinds_and_data_of_other_spaces_are_refused():
    with pytest.raises(BadInputError, match="'accuracy' or 'loss'"):
        SupernetReward(perturbed(TINY), easy_data(), kind="f1")
    with pytest.raises(BadInputError, match="batch_size"):
        SupernetReward(perturbed(TINY), easy_data(), batch_size=1)
    with pytest.raises(BadInputError, match="num_classes"):
        SupernetReward(perturbed(replace(TINY, num_classes=3)), easy_data())


@pytest.mark.slow
def test_on_a_trained_supernet_a_stronger_weight_gives_a_lower_expected_cost():
    data = easy_data()
    supernet = trained(epochs=6)
    before = supernet.weights_hash()
    largest = float(TINY.layer_table(TINY.extremes("largest")).macs.max())
    macs = ExpectedSum(TINY, TINY.layers, TINY.layers.columns["macs"], reference=largest)
    costs, best = [], []
    for weight in (0.0, 0.03, 0.3):
        recipe = ChoiceRecipe(steps=150, cost_weight=weight, learning_rate=0.05)
        learned = learn_distribution(supernet, data, cost=macs, recipe=recipe)
        costs.append(macs.expectation(learned.arrays)[0])
        best.append(learned.most_likely())
    assert costs[0] > costs[1] > costs[2]
    evaluator = supernet.evaluator(data)
    found = accuracy(evaluator.subnet(best[0]), data.test)
    drawn = TINY.sample(10, np.random.default_rng(0))
    assert found >= np.mean([accuracy(evaluator.subnet(row), data.test) for row in drawn])
    assert supernet.weights_hash() == before
