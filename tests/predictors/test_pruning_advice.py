from pathlib import Path

import numpy as np
import pytest

from experiments.accuracy_tables import read_accuracy_table
from predictors import BoostedTrees, NotFittedError, pruning_advice
from predictors.value_effects import Effect, Effects
from records import BadInputError
from search_spaces import CNNSpace, Restricted
from tests.search_spaces.conditional import DeepSpace

SPACE = DeepSpace(image_size=4)
"""depth (0, 1, 2), kind (plain, wide, skip), width, dilation, kernel (1, 3, 5) and `free`; all but
the first and the last exist under conditions."""
NAMES = [choice.name for choice in SPACE.choices]


def column(genes, name):
    """The values of a choice, None where it is inactive."""
    j = NAMES.index(name)
    values = np.array([*SPACE.choices[j].values, None], dtype=object)
    return values[np.where(SPACE.active(genes)[:, j], genes[:, j], -1)]


def evaluated(function, n=150, seed=0, noise=0.02):
    rng = np.random.default_rng(seed)
    genes = SPACE.sample(n, rng)
    return genes, function(genes) + noise * rng.standard_normal(n)


def harmful(genes):
    """Two values that harm by 1 and 0.6 where they exist, nothing else of effect."""
    return -1.0 * (column(genes, "second.kernel") == 3) - 0.6 * (column(genes, "kind") == "wide")


@pytest.fixture(scope="module")
def known():
    """A predictor of `harmful` and the rows that it was fitted on."""
    genes, values = evaluated(harmful)
    return BoostedTrees(SPACE, graph=False).fit(genes, values), genes


@pytest.fixture(scope="module")
def advice(known):
    return pruning_advice(*known)


def test_a_model_that_sees_graphs_is_refused():
    genes = SPACE.sample(60, np.random.default_rng(0))
    with pytest.raises(BadInputError, match="graph=False"):
        pruning_advice(BoostedTrees(SPACE, graph=True).fit(genes, harmful(genes)), genes)


def test_the_values_that_harm_are_found_the_worst_first_and_no_others(advice):
    assert [(e.choice, e.value) for e in advice.removed] == [
        ("second.kernel", 3),
        ("kind", "wide"),
    ]


def test_effects_are_those_of_the_function_and_within_their_intervals(advice):
    """Against the mean over the choice's values: 3 of one value of three at 0 is -2/3."""
    by_value = {(e.choice, e.value): e.effect for e in advice.effects}
    assert by_value["second.kernel", 3].mean == pytest.approx(-2 / 3, abs=0.1)
    assert by_value["second.kernel", 1].mean == pytest.approx(1 / 3, abs=0.1)
    for value in SPACE.choices[NAMES.index("free")].values:
        effect = by_value["free", value]
        assert effect.lower <= 0 <= effect.upper
        assert abs(effect.mean) < 0.05
    for effect in by_value.values():
        assert effect.lower <= effect.mean <= effect.upper


def test_rows_count_where_a_value_is_active_only(known, advice):
    _, genes = known
    for entry in advice.effects:
        assert entry.effect.rows == int((column(genes, entry.choice) == entry.value).sum())


def test_a_value_is_judged_where_its_choice_is_active():
    """And the choices that make it active are not blamed for what it does."""
    genes, values = evaluated(lambda g: -1.0 * (column(g, "wide.dilation") == 2), n=250)
    found = pruning_advice(BoostedTrees(SPACE, graph=False).fit(genes, values), genes)
    assert [(e.choice, e.value) for e in found.removed] == [("wide.dilation", 2)]
    assert found.removed[0].effect.mean == pytest.approx(-0.5, abs=0.15)


def test_the_space_is_restricted_and_can_be_left_again(known, advice):
    _, genes = known
    small = advice.applied()
    assert isinstance(small, Restricted)
    assert small.base == advice.space == SPACE
    assert dict(small.allowed) == {"kind": ("plain", "skip"), "second.kernel": (1, 5)}
    kept = advice.keeps(genes)
    np.testing.assert_array_equal(kept, small.contains(genes))
    np.testing.assert_array_equal(small.to_base(small.from_base(genes[kept])), genes[kept])
    assert 0 < kept.sum() < len(genes)


def test_a_further_round_restricts_what_is_left(advice):
    once = SPACE.restrict({"second.kernel": (1, 3), "depth": (1, 2)})
    twice = advice.applied(once)
    assert dict(twice.allowed) == {
        "depth": (1, 2), "kind": ("plain", "skip"), "second.kernel": (1,)
    }  # fmt: skip
    assert advice.applied(twice) == twice
    last = SPACE.restrict({"second.kernel": (3,)})
    assert dict(advice.applied(last).allowed)["second.kernel"] == (3,)


def test_the_report_says_what_was_removed_and_what_it_rests_on(advice):
    first, *lines = str(advice).splitlines()
    assert first.startswith("DeepSpace: 2 of 16 values removed, ")
    assert f"{advice.applied().cardinality} of {SPACE.cardinality} architectures left" in first
    assert [line.split("  ")[0] for line in lines] == ["second.kernel = 3", "kind = wide"]
    assert lines[0].endswith(f"{advice.removed[0].effect.rows} rows")


def test_where_nothing_has_an_effect_nothing_is_removed():
    removed = 0
    for seed in range(3):
        genes, values = evaluated(lambda g: np.zeros(len(g)), n=60, seed=seed, noise=1.0)
        model = BoostedTrees(SPACE, rounds=20, graph=False).fit(genes, values)
        found = pruning_advice(model, genes)
        removed += len(found.removed)
        if not found.removed:
            assert found.applied().cardinality == SPACE.cardinality
    assert removed <= 1


def test_few_rows_and_a_greatest_number_hold_removal_back(known, advice):
    rows = [e.effect.rows for e in advice.removed]
    few = rows.index(min(rows))
    some = pruning_advice(*known, least_rows=min(rows) + 1)
    assert all(entry.effect.rows > min(rows) for entry in some.removed)
    gone = {(e.choice, e.value) for e in some.removed}
    assert (advice.removed[few].choice, advice.removed[few].value) not in gone
    one = pruning_advice(*known, most=1)
    assert one.removed == advice.removed[:1]
    assert one.effects == advice.effects


def test_at_equal_cost_small_values_stay():
    """Accuracy that follows MACs and nothing else but one value that is bad in itself."""
    space = CNNSpace(image_size=16)
    rng = np.random.default_rng(0)
    genes = space.sample(150, rng)
    widths = [j for j, c in enumerate(space.choices) if c.name.endswith("width")]
    target = space.choices[widths[0]]

    def macs(rows):
        return space.layer_table(rows).macs

    values = np.log(macs(genes)) - 0.8 * (genes[:, widths[0]] == len(target.values) - 1)
    model = BoostedTrees(space, graph=False).fit(genes, values)
    plain = {(e.choice, e.value) for e in pruning_advice(model, genes).removed}
    equal = {(e.choice, e.value) for e in pruning_advice(model, genes, cost=macs).removed}
    small = {(c.name, c.values[0]) for c in space.choices if not c.is_categorical}
    assert (target.name, target.values[-1]) in equal
    assert len(plain & small) >= 3
    assert len(equal & small) < len(plain & small)


def test_pairs_that_harm_together_are_named_and_kept_out():
    def clash(genes):
        """-1 for one pair of values; over all pairs every value by itself has the mean 0."""
        two, four = column(genes, "depth") == 2, column(genes, "free") == 4
        return np.where(two & four, -1, np.where(two | four, 0.5, -0.25))

    rng = np.random.default_rng(0)
    genes = SPACE.gene_space.uniform(198, rng)
    genes[:, 0], genes[:, -1] = np.arange(198) % 3, np.arange(198) // 3 % 3
    genes = SPACE.canonical(genes)
    values = clash(genes) + 0.1 * rng.standard_normal(len(genes))
    found = pruning_advice(BoostedTrees(SPACE, graph=False).fit(genes, values), genes, pairs=True)
    worst = found.pairs[0]
    assert (worst.choices, worst.values) == (("depth", "free"), (2, 4))
    assert -1.1 < worst.effect.mean < -0.6  # trees draw towards the mean
    together = (column(genes, "depth") == 2) & (column(genes, "free") == 4)
    assert worst.effect.rows == int(together.sum())
    assert not found.keeps(genes)[together].any()
    assert found.keeps(genes).any()
    assert "depth = 2 and free = 4" in str(found)


def test_pairs_are_of_values_that_can_stand_together(known):
    model, genes = known
    effects = Effects(model, SPACE, genes, cost=None, confidence=0.9, most_rows=32, seed=0)
    kind, kernel = NAMES.index("kind"), NAMES.index("second.kernel")
    pairs = effects.of_pairs(kind, kernel)
    assert set(pairs) == {(v, w) for v in (0, 1) for w in range(3)}  # not with `skip`
    beyond = np.array([pairs[v, w][0].mean for v in (0, 1) for w in range(3)]).reshape(2, 3)
    np.testing.assert_allclose(beyond.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(beyond.sum(axis=1), 0, atol=1e-12)
    assert effects.of_pairs(0, NAMES.index("width")) != {}
    shallow = genes[genes[:, 0] == 0]
    nothing = Effects(model, SPACE, shallow, cost=None, confidence=0.9, most_rows=32, seed=0)
    assert nothing.of_pairs(kind, kernel) == {}


def test_on_a_published_table_the_best_network_stays_and_the_rest_gets_better():
    path = Path(__file__).parents[3] / "shared" / "benchdata" / "nb201.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    table = read_accuracy_table(path, "nb201", "cifar100_acc")
    rows = np.random.default_rng(0).permutation(len(table.genes))[:200]
    model = BoostedTrees(table.space, graph=False).fit(table.genes[rows], table.accuracy[rows])
    advice = pruning_advice(model, table.genes[rows])
    kept = table.accuracy[advice.keeps(table.genes)]
    assert len(kept) == advice.applied().cardinality < 0.3 * len(table.genes)
    assert kept.mean() > table.accuracy.mean() + 4
    assert kept.max() > np.quantile(table.accuracy, 0.999)


def test_a_value_without_evaluated_rows_has_no_effect(known):
    genes, _ = evaluated(harmful, n=120)
    shallow = genes[column(genes, "depth") == 0]
    genes = np.concatenate([shallow, genes[column(genes, "kind") == "plain"]])
    model = BoostedTrees(SPACE, rounds=20, graph=False).fit(genes, harmful(genes))
    effects = {(e.choice, e.value): e.effect for e in pruning_advice(model, genes).effects}
    nothing = effects["wide.dilation", 1]
    assert nothing.rows == 0
    assert np.isnan([nothing.mean, nothing.lower, nothing.upper]).all()


def test_an_effect_reads_as_one_line():
    assert (
        str(Effect(mean=-0.5, lower=-0.75, upper=-0.25, rows=7)) == "-0.5  [-0.75, -0.25]  7 rows"
    )


def test_what_cannot_be_advised_on_is_refused(known):
    model, genes = known
    with pytest.raises(BadInputError, match="at least 12"):
        pruning_advice(model, genes[:3])
    with pytest.raises(NotFittedError):
        pruning_advice(BoostedTrees(SPACE, graph=False), genes)
    with pytest.raises(BadInputError, match="make it with a space"):
        pruning_advice(BoostedTrees(featurize=np.asarray), genes)
    for wrong in ({"most": 0}, {"least_rows": 0}, {"most_rows": 0}, {"confidence": 1.0}):
        with pytest.raises(BadInputError, match=next(iter(wrong))):
            pruning_advice(model, genes, **wrong)
