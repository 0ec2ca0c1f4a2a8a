"""Compromises are compared with every set of a tiny number of candidates."""

from itertools import combinations

import numpy as np
import pytest

from records import BadInputError, Observation, UnknownNameError
from strategies import NSGA2, Front, Problem, is_non_dominated, pareto_front, search
from strategies.compromise_rules import REFERENCE, Scaled, least_regret, most_volume
from tests.strategies.doubles import TINY, FormulaAccuracy, LayerCost, all_rows

ROWS = all_rows(TINY)


class Contrary(LayerCost):
    """A device on which other networks are fast: attention is dear, or parameters."""

    def __init__(self, name, *, parameters=0.0, heads=0.0):
        super().__init__(TINY, name)
        self.parameters = parameters
        self.heads = heads

    def predict(self, genes):
        found = super().predict(genes)
        table = self.space.layer_table(genes)
        extra = self.parameters * table.parameters + self.heads * (genes.sum(axis=1) % 5)
        return found | {"latency_ms": found["latency_ms"] + extra}


COSTS = (
    LayerCost(TINY, "board"),
    Contrary("phone", parameters=2e-5),
    Contrary("camera", heads=0.02),
)


def problem(limits=None, targets=3, **options):
    return Problem(
        TINY, FormulaAccuracy(TINY, noise=0.01), COSTS[:targets], limits or {}, **options
    )


def observed(p, rows=ROWS):
    values = p.accuracy.values(rows)
    return [
        Observation(genes=tuple(row), metric="accuracy", value=float(value))
        for row, value in zip(rows.tolist(), values, strict=True)
    ]


def front_of(p, rows=ROWS):
    return pareto_front(p, observed(p, rows))


def scaled_by_hand(p, rows):
    """For each target the scaled front and candidates, written out anew."""
    allowed = (p.target_violations(rows) == 0).all(axis=1)
    objectives = p.objectives(rows, p.accuracy.values(rows))
    found = []
    for t in range(len(p.targets)):
        own = np.column_stack([objectives[:, 0], np.log(objectives[:, t + 1])])
        fits = p.target_violations(rows)[:, t] == 0
        front = own[fits][is_non_dominated(own[fits])]
        low, span = front.min(axis=0), np.ptp(front, axis=0)
        found.append(((front - low) / span, (own[allowed] - low) / span))
    return rows[allowed], found


def regret_of(front, candidates, chosen):
    """What the worst served point of a front loses, by its definition."""
    return max(min(max(0.0, *(candidates[i] - point)) for i in chosen) for point in front.tolist())


def volume_of(front, points):
    """The share of the front's area, by adding rectangles from the left."""

    def area(rows):
        total, lowest = 0.0, REFERENCE
        for error, latency in sorted(map(tuple, rows), key=lambda r: (r[1], r[0])):
            if error < lowest and latency < REFERENCE:
                total += (lowest - error) * (REFERENCE - latency)
                lowest = error
        return total

    return area(points) / area(front)


@pytest.fixture(scope="module", params=[0, 1])
def instance(request):
    """16 of the networks, and the three targets' scaled fronts."""
    rows = ROWS[np.random.default_rng(request.param).permutation(len(ROWS))[:16]]
    p = problem()
    return p, rows, scaled_by_hand(p, rows)


WEIGHTS = {"board": 1.0, "phone": 3.0, "camera": 0.5}


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_set_of_networks_has_a_smaller_worst_loss(instance, n, weights):
    p, rows, (candidates, targets) = instance
    counts = [weights.get(name, 1.0) for name in p.targets]
    best = min(
        max(
            w * regret_of(front, own, chosen)
            for w, (front, own) in zip(counts, targets, strict=True)
        )
        for chosen in combinations(range(len(candidates)), n)
    )
    found = front_of(p, rows).compromise(n, weights=weights)
    assert len(found) <= n
    worst = max(w * found.regret[name] for w, name in zip(counts, p.targets, strict=True))
    assert worst == pytest.approx(best)
    by_genes = {tuple(row): i for i, row in enumerate(candidates.tolist())}
    places = [by_genes[network.genes] for network in found]
    for name, (front, own) in zip(p.targets, targets, strict=True):
        assert found.regret[name] == pytest.approx(regret_of(front, own, places))


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_set_of_networks_has_more_hypervolume(instance, n, weights):
    p, rows, (candidates, targets) = instance
    counts = [weights.get(name, 1.0) for name in p.targets]
    best = max(
        sum(
            w * volume_of(front, own[list(chosen)])
            for w, (front, own) in zip(counts, targets, strict=True)
        )
        for chosen in combinations(range(len(candidates)), n)
    )
    found = front_of(p, rows).compromise(n, weights=weights, rule="hypervolume")
    total = sum(w * found.hypervolume[name] for w, name in zip(counts, p.targets, strict=True))
    assert total == pytest.approx(best)


def test_more_networks_lose_less_and_as_many_as_there_are_lose_least():
    front = front_of(problem())
    worst = [max(front.compromise(n).regret.values()) for n in (1, 2, 4, 8, 1000)]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 2 * worst[2] > 0
    everything = front.compromise(1000, rule="hypervolume")
    assert len(everything) == len(front.shared)
    assert everything.regret == pytest.approx(dict.fromkeys(front.problem.targets, 0.0))
    assert everything.hypervolume == pytest.approx(dict.fromkeys(front.problem.targets, 1.0))


def test_a_network_says_how_far_it_is_behind_each_front():
    p = problem()
    front = front_of(p)
    accuracy = p.accuracy.values(ROWS)
    cheap = p.cheap_objectives(ROWS)
    for network in front.compromise(4):
        own = p.cheap_objectives(np.array([network.genes]))[0]
        for t, name in enumerate(p.targets):
            best = accuracy[cheap[:, t] <= own[t]].max()
            assert network.behind[name] == pytest.approx(best - network.accuracy)
            assert network.points[name].latency_ms == own[t]
            assert network.points[name].target == name
    found = front.compromise(4)
    assert any(share > 0 for network in found for share in network.behind.values())
    assert [n.accuracy for n in found] == sorted(n.accuracy for n in found)
    assert found[0] is next(iter(found))


def test_what_one_target_forbids_is_no_compromise_but_on_the_others_fronts():
    p = problem({("latency_ms", "phone"): 0.5})
    allowed = p.allows(ROWS)
    assert allowed[:, 1].sum() < allowed[:, 0].sum() == len(ROWS)
    front = front_of(p)
    keeps = {tuple(row) for row in ROWS[allowed[:, 1]].tolist()}
    assert {point.genes for point in front.for_target("phone")} <= keeps
    assert not {point.genes for point in front.for_target("board")} <= keeps
    for rule in ("worst", "hypervolume"):
        assert {network.genes for network in front.compromise(5, rule=rule)} <= keeps


def test_the_weights_of_the_problem_are_the_default():
    weights = {"phone": 4.0, "camera": 0.0}
    front = front_of(problem(weights=weights))
    found = front.compromise(2)
    assert found.weights == {"board": 1.0, "phone": 4.0, "camera": 0.0}
    assert found == front_of(problem()).compromise(2, weights=weights)
    alone = front.compromise(1, weights={"phone": 1, "board": 0, "camera": 0})
    others = [front.compromise(1, weights={"phone": w}).regret["phone"] for w in (0.01, 1)]
    assert alone.regret["phone"] <= min(others)


def test_one_target_has_compromises_too():
    front = front_of(problem(targets=1))
    found = front.compromise(3)
    on_front = {point.genes for point in front}
    assert len(found) == 3
    assert all(network.behind == {"board": 0.0} for network in found)
    assert {network.genes for network in found} <= on_front
    assert front.for_target("board").compromise(3) == found


def test_a_front_whose_points_are_alike_has_a_scale():
    same = np.array([[0.2, 3.0]])
    scaled = Scaled.of(same, np.array([[0.2, 3.0], [0.4, 6.0]]))
    np.testing.assert_allclose(scaled.front, [[0, 0]])
    np.testing.assert_allclose(scaled.candidates, [[0, 0], [1, 1]])
    np.testing.assert_allclose(Scaled.of(same, same).candidates, [[0, 0]])
    for rule in (least_regret, most_volume):
        assert rule([scaled], np.ones(1), 1) == (0,)


def test_refusals_say_what_to_do():
    p = problem()
    front = front_of(p)
    with pytest.raises(BadInputError, match="n must be at least 1"):
        front.compromise(0)
    with pytest.raises(UnknownNameError, match="did you mean 'worst'"):
        front.compromise(rule="wrst")
    with pytest.raises(UnknownNameError, match="did you mean 'phone'"):
        front.compromise(weights={"phne": 1})
    for other in (front.for_target("phone"), Front(front.points, p)):
        with pytest.raises(BadInputError, match="there is no compromise"):
            other.compromise()


def test_there_is_none_where_no_network_suits_all_targets():
    p = problem({("latency_ms", "board"): 0.2, ("latency_ms", "phone"): 0.5}, targets=2)
    allowed = p.allows(ROWS)
    front = front_of(p, ROWS[allowed.sum(axis=1) == 1])
    assert len(front) > 0
    with pytest.raises(BadInputError, match="keeps the limits of all targets"):
        front.compromise()
    assert len(front_of(p, ROWS[:0])) == 0


def test_a_compromise_is_shown_by_latency_and_what_it_loses():
    found = front_of(problem()).compromise(2)
    title, *lines, last = str(found).splitlines()
    assert title == "2 networks for board, phone, camera (rule 'worst')"
    assert len(lines) == 2
    assert all(line.count(" ms, ") == 3 for line in lines)
    assert f"camera {100 * found.regret['camera']:.1f} %" in last


def test_a_search_measures_once_what_counts_for_all_targets():
    p = problem()
    front = search(p, evaluations=30, strategy=NSGA2(TINY, population_size=10), seed=1)
    assert len(p.accuracy.seen) == len(set(p.accuracy.seen)) == 30
    found = front.compromise(2)
    assert {network.genes for network in found} <= set(p.accuracy.seen)
