import numpy as np
import pytest

from experiments.benchmarks.synthetic_accuracy import SyntheticAccuracy
from records import BadInputError
from search_spaces import HybridSpace
from search_spaces.standard import OFAMobileNetV3

OFA = OFAMobileNetV3()
HYBRID = HybridSpace(image_size=8, channels=1, stem_stride=1)
SPACES = {"ofa": OFA, "hybrid": HYBRID}


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def draw(space, n, seed=0):
    return space.sample(n, np.random.default_rng(seed), "architectures")


def test_inactive_genes_have_no_effect(space):
    rng = np.random.default_rng(1)
    genes = draw(space, 200)
    scrambled = rng.integers(space.gene_space.sizes, size=genes.shape).astype(np.int16)
    scrambled = np.where(space.active(genes), genes, scrambled)
    # A gene that the scrambling switched on would make another network: none is.
    assert (space.canonical(scrambled) == genes).all()
    assert (scrambled != genes).any()
    accuracy = SyntheticAccuracy(space, seed=3)
    for of in (accuracy.values, accuracy.measured, accuracy.regular, accuracy.irregular):
        assert of(scrambled) == pytest.approx(of(genes), abs=1e-12)


def test_the_regular_part_grows_with_every_ordered_choice(space):
    accuracy = SyntheticAccuracy(space, seed=5)
    genes = draw(space, 60)
    for j, choice in enumerate(space.choices):
        if choice.is_categorical:
            continue
        rows = genes[space.active(genes)[:, j] & (genes[:, j] < len(choice.values) - 1)]
        larger = rows.copy()
        larger[:, j] += 1
        gain = accuracy.regular(space.canonical(larger)) - accuracy.regular(rows)
        assert (gain > 0).all(), choice.name


def test_returns_diminish_within_a_choice(space):
    """The second step of an ordered choice of three brings less than the first, on the average."""
    accuracy = SyntheticAccuracy(space, seed=2)
    largest = space.extremes("largest")[:1]
    first, second = [], []
    for j, choice in enumerate(space.choices):
        if choice.is_categorical or len(choice.values) != 3 or not space.active(largest)[0, j]:
            continue
        rows = np.repeat(largest, 3, axis=0)
        rows[:, j] = [0, 1, 2]
        values = accuracy.regular(space.canonical(rows))
        first.append(values[1] - values[0])
        second.append(values[2] - values[1])
    assert np.mean(second) < np.mean(first)


def test_the_regular_part_goes_from_low_to_high(space):
    accuracy = SyntheticAccuracy(space, seed=1, low=0.6, high=0.9)
    for which, expected in (("smallest", 0.6), ("largest", 0.9)):
        found = accuracy.regular(space.extremes(which))
        assert found.min() >= 0.6 - 1e-9
        assert found.max() <= 0.9 + 1e-9
        # Of two kinds of blocks one may have the most MACs and the other the strongest stage.
        assert abs(found - expected).min() < (1e-9 if space is OFA else 0.01)


def test_the_irregular_part_has_mean_0_and_deviation_1_over_random_networks(space):
    found = SyntheticAccuracy(space, seed=4).irregular(draw(space, 4000, seed=9))
    assert found.mean() == pytest.approx(0, abs=0.12)
    assert found.std() == pytest.approx(1, abs=0.12)


def test_neighbouring_layers_act_together():
    """What one layer's kernel brings depends on the next layer's, unless it is switched off."""
    accuracy = SyntheticAccuracy(OFA, seed=0)
    names = [c.name for c in OFA.choices]
    first, second = (names.index(f"stage1.block{i}.kernel") for i in (1, 2))
    base = draw(OFA, 1)[0]
    base[names.index("stage1.depth")] = 2

    def effect(other, row):
        rows = np.repeat(row[None], 2, axis=0)
        rows[:, second] = other
        rows[:, first] = [0, 2]
        found = accuracy.irregular(rows)
        return found[1] - found[0]

    assert abs(effect(0, base) - effect(2, base)) > 1e-3
    base[names.index("stage1.depth")] = 0  # two layers: the second of the pair is inactive
    assert effect(0, base) == pytest.approx(effect(2, base), abs=1e-12)


def test_noise_has_its_size_and_is_fixed_by_network_and_seed(space):
    genes = draw(space, 1500)
    accuracy = SyntheticAccuracy(space, seed=7, noise=0.002)
    noise = accuracy.measured(genes) - accuracy.values(genes)
    assert noise.std() == pytest.approx(0.002, rel=0.1)
    assert noise.mean() == pytest.approx(0, abs=0.0002)
    again = SyntheticAccuracy(space, seed=7, noise=0.002)
    assert (again.measured(genes[::-1])[::-1] == accuracy.measured(genes)).all()
    assert [m.value for m in again.evaluate(genes[:5])] == accuracy.measured(genes)[:5].tolist()
    other = SyntheticAccuracy(space, seed=8, noise=0.002)
    other_noise = other.measured(genes) - other.values(genes)
    assert abs(np.corrcoef(noise, other_noise)[0, 1]) < 0.1


def test_without_noise_what_is_measured_is_the_value(space):
    accuracy = SyntheticAccuracy(space, noise=0.0)
    genes = draw(space, 20)
    assert (accuracy.measured(genes) == accuracy.values(genes)).all()


def test_seeds_draw_functions_that_rank_networks_differently(space):
    genes = draw(space, 500)
    one, other = (SyntheticAccuracy(space, seed=seed) for seed in (0, 1))
    assert one.weights_hash != other.weights_hash
    correlation = np.corrcoef(one.values(genes), other.values(genes))[0, 1]
    assert correlation < 0.98


def test_size_tells_much_and_not_everything():
    """As with real networks: accuracy and MACs go together, and not in every pair."""
    genes = draw(OFA, 1000)
    log_macs = np.log(OFA.layer_table(genes).macs)
    for seed in range(3):
        values = SyntheticAccuracy(OFA, seed=seed).values(genes)
        assert 0.5 < np.corrcoef(log_macs, values)[0, 1] < 0.99


@pytest.mark.parametrize(
    "wrong", [{"low": 0.9, "high": 0.8}, {"low": 0.0}, {"noise": -1.0}, {"roughness": -0.1}]
)
def test_wrong_sizes_are_an_error(wrong):
    with pytest.raises(BadInputError, match="low < high"):
        SyntheticAccuracy(HYBRID, **wrong)


def test_there_are_no_networks_to_take():
    with pytest.raises(BadInputError, match="no networks"):
        SyntheticAccuracy(HYBRID).subnet(HYBRID.decode(draw(HYBRID, 1))[0])
