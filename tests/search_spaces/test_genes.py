import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from records import BadInputError
from search_spaces import Choice, CNNSpace, GeneSpace, HybridSpace, HybridStage, ViTSpace
from tests.search_spaces.doubles import TINY, NestedSpace, all_rows, any_genes, build_chosen

SPACES = [CNNSpace(image_size=16), ViTSpace(image_size=16), HybridSpace(image_size=16)]
DEPTH = Choice(name="depth", values=(0, 1, 2))
tiny = pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
full = pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)


def gene(space, name):
    return [c.name for c in space.choices].index(name)


def assert_uniform(values, size):
    """A chi-square test that fails by chance once in a thousand seeds; seeds are fixed."""
    assert chisquare(np.bincount(values, minlength=size)).pvalue > 1e-3


@tiny
def test_cardinality_equals_brute_force(space):
    reached = {tuple(build_chosen(space, row).reached.items()) for row in all_rows(space)}
    canonical = np.unique(space.canonical(all_rows(space)), axis=0)
    assert space.cardinality == len(reached) == len(canonical)
    assert isinstance(space.cardinality, int)


def test_cardinality_of_nested_conditions_by_hand():
    # depth 0, or kind plain or wide (small or large with 2 groups) with 3 kernels, or skip; free 3
    assert NestedSpace(image_size=8).cardinality == 3 * (1 + 2 * (3 + 3 + 3 * 2 + 1))


def test_a_parents_condition_is_its_childrens_too():
    kind = Choice(name="kind", values=("a", "b"), active_if=DEPTH.value > 0)
    size = Choice(name="size", values=(1, 2), active_if=kind.value.equals("a"))
    space = GeneSpace((DEPTH, kind, size))
    assert space.cardinality == 1 + 2 * (2 + 1)
    np.testing.assert_array_equal(space.active(np.array([[0, 0, 1]])), [[True, False, False]])


def test_independent_choices_multiply_exactly():
    choices = tuple(Choice(name=str(i), values=tuple(range(7))) for i in range(80))
    assert GeneSpace(choices).cardinality == 7**80


@full
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_canonical_is_idempotent_and_keeps_active_genes(space, seed):
    genes = any_genes(space, 50, seed)
    canonical = space.canonical(genes)
    active = space.active(genes)
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    np.testing.assert_array_equal(space.active(canonical), active)
    np.testing.assert_array_equal(canonical[active], genes[active])
    assert not canonical[~active].any()
    assert canonical.dtype == np.int16


@tiny
def test_sampling_architectures_is_uniform(space):
    rows = np.unique(space.canonical(all_rows(space)), axis=0)
    n = 60 * len(rows)
    sample = space.sample(n, np.random.default_rng(7), "architectures")
    found, index = np.unique(np.concatenate([rows, sample]), axis=0, return_inverse=True)
    np.testing.assert_array_equal(found, rows)
    assert_uniform(index[len(rows) :], len(rows))


@tiny
def test_sampling_choices_is_uniform_per_choice(space):
    sample = space.sample(20_000, np.random.default_rng(3), "choices")
    active = space.active(sample)
    np.testing.assert_array_equal(sample, space.canonical(sample))
    for j, choice in enumerate(space.choices):
        assert_uniform(sample[active[:, j], j], len(choice.values))
    assert len(np.unique(sample, axis=0)) <= space.cardinality


def test_the_two_measures_differ_as_told():
    space = CNNSpace(image_size=16)
    depth = gene(space, "stage1.depth")
    rng = np.random.default_rng(0)
    by_choice, by_network = (space.sample(4000, rng, m) for m in ("choices", "architectures"))
    assert abs((by_choice[:, depth] == 2).mean() - 1 / 3) < 0.03
    assert (by_network[:, depth] == 2).mean() > 0.8  # 6 times as many per further block


def test_unknown_measure_is_refused():
    with pytest.raises(BadInputError, match="'choices' or 'architectures', got 'uniform'"):
        SPACES[0].sample(1, np.random.default_rng(0), "uniform")


@full
@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_mutation_changes_an_active_gene_of_each_row(space, probability):
    rng = np.random.default_rng(1)
    genes = space.sample(2000, rng)
    before = genes.copy()
    mutated = space.mutate(genes, rng, probability)
    active = space.active(genes)
    np.testing.assert_array_equal(genes, before)
    np.testing.assert_array_equal(mutated, space.gene_space.check(mutated))
    changed = (mutated != genes) & active
    assert changed.any(axis=1).all()
    if probability == 0:
        # genes that stay active change only by the one mutation
        assert ((changed & space.active(mutated)).sum(axis=1) <= 1).all()
    if probability == 1:
        stays = active & space.active(mutated)
        assert (mutated != genes)[stays].all()


def test_mutation_has_the_probability_it_is_told():
    space = ViTSpace(image_size=16, depths=(6,))
    rng = np.random.default_rng(2)
    genes = space.sample(20_000, rng)
    changed = (space.mutate(genes, rng, 0.3) != genes).mean()
    expected = 0.3 + 0.7 ** len(space.choices) / len(space.choices)  # at least one
    assert abs(changed - expected) < 0.005


def test_a_mutated_gene_takes_each_other_value_equally():
    space = ViTSpace(image_size=16)
    rng = np.random.default_rng(4)
    row = np.repeat(space.extremes("largest"), 9000, axis=0)
    mutated = space.mutate(row, rng, 1.0)
    depth = gene(space, "depth")
    assert (mutated[:, depth] < 4).all()
    assert_uniform(mutated[:, depth], 4)


def test_mutation_probability_is_checked():
    with pytest.raises(BadInputError, match=r"within 0 and 1, got 1\.5"):
        SPACES[0].mutate(SPACES[0].extremes("largest"), np.random.default_rng(0), 1.5)


HYBRID = HybridSpace(
    image_size=8, stages=(HybridStage(depths=(0, 1, 2), kernels=(3, 5, 7), heads=(1, 2, 3)),)
)


def rows_with(space, n, **values):
    """Canonical rows with the given values, dots of the names as double underscores."""
    genes = space.sample(n, np.random.default_rng(5))
    for name, value in values.items():
        j = gene(space, name.replace("__", "."))
        genes[:, j] = space.choices[j].values.index(value)
    return space.canonical(genes)


def test_genes_that_a_mutation_activates_are_resampled():
    rows = rows_with(HYBRID, 30_000, stage0__depth=0)
    mutated = HYBRID.mutate(rows, np.random.default_rng(6), 0.2)
    active = HYBRID.active(mutated) & ~HYBRID.active(rows)
    for name in ("block", "layer0.kernel", "layer1.kernel", "layer0.heads", "layer1.mlp_ratio"):
        j = gene(HYBRID, f"stage0.{name}")
        assert active[:, j].sum() > 300
        assert_uniform(mutated[active[:, j], j], len(HYBRID.choices[j].values))


def test_genes_that_a_crossover_activates_are_resampled():
    first = rows_with(HYBRID, 30_000, stage0__depth=1, stage0__block="conv")
    second = rows_with(HYBRID, 30_000, stage0__depth=2, stage0__block="attention")
    child = HYBRID.crossover(first, second, np.random.default_rng(8))
    j = gene(HYBRID, "stage0.layer1.kernel")
    active = HYBRID.active(child)[:, j]  # two convolutions: in neither parent
    assert 0.2 < active.mean() < 0.3
    assert_uniform(child[active, j], 3)


@full
def test_crossover_takes_each_gene_from_a_parent_that_has_it(space):
    rng = np.random.default_rng(9)
    first, second = space.sample(3000, rng), space.sample(3000, rng)
    child = space.crossover(first, second, rng)
    np.testing.assert_array_equal(child, space.gene_space.check(child))
    on, in_first, in_second = (space.active(g) for g in (child, first, second))
    from_first, from_second = child == first, child == second
    assert (from_first | from_second)[on & in_first & in_second].all()
    assert from_first[on & in_first & ~in_second].all()
    assert from_second[on & ~in_first & in_second].all()
    differ = on & in_first & in_second & (first != second)
    assert abs(from_first[differ].mean() - 0.5) < 0.02


def test_crossover_of_equal_parents_is_the_parent():
    genes = HYBRID.sample(100, np.random.default_rng(0))
    np.testing.assert_array_equal(HYBRID.crossover(genes, genes, np.random.default_rng(1)), genes)
    with pytest.raises(BadInputError, match="differ in shape"):
        HYBRID.crossover(genes, genes[1:], np.random.default_rng(1))


@full
def test_same_generator_same_result(space):
    def draw(seed):
        rng = np.random.default_rng(seed)
        a, b = space.sample(50, rng), space.sample(50, rng, "architectures")
        return np.concatenate([a, b, space.mutate(a, rng), space.crossover(a, b, rng)])

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_empty_populations_stay_empty():
    rng = np.random.default_rng(0)
    none = HYBRID.sample(0, rng)
    d = len(HYBRID.choices)
    for genes in (none, HYBRID.mutate(none, rng), HYBRID.crossover(none, none, rng)):
        assert genes.shape == (0, d)
        assert genes.dtype == np.int16


@tiny
def test_rows_in_order_are_all_architectures_once(space):
    rows = space.gene_space.rows_at(range(space.cardinality))
    expected = np.unique(space.canonical(all_rows(space)), axis=0)
    np.testing.assert_array_equal(np.unique(rows, axis=0), expected)
    assert rows.shape == expected.shape
    assert rows.dtype == np.int16
    some = np.random.default_rng(0).permutation(space.cardinality)[:20]
    np.testing.assert_array_equal(space.gene_space.rows_at(some), rows[some])
    assert space.gene_space.rows_at([]).shape == (0, rows.shape[1])


@full
def test_rows_of_large_spaces_are_distinct_and_canonical(space):
    last = space.cardinality - 1
    places = np.unique(np.linspace(0, last, 5000).astype(np.int64).clip(0, last))
    rows = space.gene_space.rows_at(places)
    np.testing.assert_array_equal(rows, space.gene_space.check(rows))
    assert len(np.unique(rows, axis=0)) == len(places)


def test_places_outside_are_refused():
    rows_at = HYBRID.gene_space.rows_at
    for wrong in ([-1], [0, HYBRID.cardinality]):
        message = rf"numbered 0 to {HYBRID.cardinality - 1}, got {wrong[0]} to {wrong[-1]}"
        with pytest.raises(BadInputError, match=message):
            rows_at(wrong)
    choices = tuple(Choice(name=str(i), values=tuple(range(8))) for i in range(21))
    with pytest.raises(BadInputError, match=r"9\.22e\+18 architectures is too large to number"):
        GeneSpace(choices).rows_at([0])


def test_check_names_what_is_wrong():
    check = HYBRID.gene_space.check
    row = HYBRID.extremes("largest")[0]
    j = gene(HYBRID, "stage0.depth")
    for value in (3, -1, 40_000):
        wrong = row.astype(np.int64)
        wrong[j] = value
        with pytest.raises(BadInputError, match=rf"'stage0\.depth' of row 0 is {value}.*0 to 2"):
            check(wrong)
    with pytest.raises(BadInputError, match=r"n x \d+, got an array of shape \(1, 3\)"):
        check([1, 2, 3])
    for wrong in (row * 1.0, row * np.nan, row > 0, np.array([None] * len(row))):
        with pytest.raises(BadInputError, match="must be integers, got"):
            check(wrong)


def test_check_returns_canonical_rows():
    genes = any_genes(HYBRID, 100, 3)
    np.testing.assert_array_equal(HYBRID.gene_space.check(genes), HYBRID.canonical(genes))
    assert HYBRID.gene_space.check(list(map(int, genes[0]))).shape == (1, len(HYBRID.choices))


def test_choices_that_cannot_stand_together_are_refused():
    later = Choice(name="kernel", values=(3, 5), active_if=DEPTH.value > 0)
    with pytest.raises(BadInputError, match=r"'kernel' depends on \['depth'\].*declared before"):
        GeneSpace((later, DEPTH))
    with pytest.raises(BadInputError, match="two choices are named 'depth'"):
        GeneSpace((DEPTH, DEPTH))
    with pytest.raises(BadInputError, match="at least one choice"):
        GeneSpace(())
