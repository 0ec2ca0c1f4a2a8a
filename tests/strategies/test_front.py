import json

import numpy as np
import pytest

from records import BadInputError, Observation, UnknownNameError, json_text
from strategies import Front, FrontPoint, Problem, is_non_dominated, pareto_front
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

GENES = SPACE.sample(60, np.random.default_rng(0))
ARCHITECTURE = SPACE.decode(GENES[:1])[0]


def two_targets(limits=None, **options):
    costs = [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone", per_layer=0.2)]
    return Problem(SPACE, FormulaAccuracy(SPACE), costs, limits or {}, **options)


def observed(problem):
    values = problem.accuracy.values(GENES)
    rows = [
        Observation(genes=tuple(row), metric="accuracy", value=value, dispersion=0.01)
        for row, value in zip(GENES.tolist(), values, strict=True)
    ]
    failed = Observation(
        genes=rows[0].genes, metric="accuracy", value=None, status="failed", reason="broken"
    )
    return [failed, *rows]


def front_of(*points):
    """A front of one target from (accuracy, latency_ms) pairs."""
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    made = [
        FrontPoint(
            architecture=ARCHITECTURE,
            genes=tuple(GENES[i].tolist()),
            target="board",
            accuracy=accuracy,
            accuracy_dispersion=None,
            costs={"latency_ms": latency},
            cost_bounds={"latency_ms": latency},
            problem=problem,
        )
        for i, (accuracy, latency) in enumerate(points)
    ]
    return Front(made, problem)


@pytest.mark.parametrize("together", [False, True])
def test_each_target_has_its_non_dominated_feasible_points(together):
    problem = two_targets({("latency_ms", "phone"): 3.5}, together=together)
    front = pareto_front(problem, observed(problem))
    objectives = problem.objectives(GENES, problem.accuracy.values(GENES))
    on_phone = 1.1 * objectives[:, 2] <= 3.5
    assert 0 < on_phone.sum() < len(GENES)
    assert len(front) == sum(len(front.for_target(t)) for t in problem.targets)
    for t, target in enumerate(problem.targets):
        keeps = on_phone if together or target == "phone" else on_phone | True
        best = GENES[keeps][is_non_dominated(objectives[keeps][:, [0, t + 1]])]
        points = list(front.for_target(target))
        assert {p.genes for p in points} == {tuple(row) for row in best.tolist()}
        assert [p.latency_ms for p in points] == sorted(p.latency_ms for p in points)
        assert all(p.target == target for p in points)
        for p in points:
            assert p.architecture == SPACE.decode(np.array(p.genes))[0]
            assert p.cost_bounds["latency_ms"] == pytest.approx(1.1 * p.latency_ms)


def test_costs_that_nobody_asks_for_are_not_computed():
    problem = two_targets()
    asked = []

    class Watched(LayerCost):
        def bound(self, metric, genes, probability=0.95):
            asked.append(len(genes))
            return super().bound(metric, genes, probability)

    watched = Problem(SPACE, problem.accuracy, [Watched(SPACE, t) for t in problem.targets])
    front = pareto_front(watched, observed(watched))
    networks = {p.genes for p in front} | {
        point.genes for points in front.shared for point in points.values()
    }
    assert set(asked) == {len(networks)}
    assert len(networks) < len(GENES) / 2
    assert len(pareto_front(watched, observed(watched)[:1])) == 0, "what failed is on no front"


def test_knee_is_farthest_from_the_line_between_the_ends():
    front = front_of((0.5, 1.0), (0.8, 2.0), (0.84, 4.0), (0.9, 9.0))
    assert front.knee().accuracy == 0.8
    assert front_of((0.9, 9.0), (0.8, 2.0), (0.5, 1.0)).knee().accuracy == 0.8


def test_a_front_without_a_bend_has_no_knee_and_gives_its_fastest():
    flat = [
        [(0.5, 1.0)],
        [(0.5, 1.0), (0.6, 2.0)],
        [(0.5, 1.0), (0.6, 2.0), (0.7, 3.0)],
        [(0.5, 1.0), (0.55, 2.0), (0.7, 3.0)],
        [(0.5, 1.0)] * 3,
        [(0.994, 0.018), (0.997, 0.252), (1.0, 0.269)],
    ]
    for points in flat:
        front = front_of(*points)
        assert not front.has_knee()
        assert front.knee() == front[0]
    assert front_of((0.5, 1.0), (0.61, 2.0), (0.7, 3.0)).has_knee()


def test_spread_takes_the_ends_then_what_lies_farthest():
    front = front_of((0.5, 1.0), (0.6, 1.1), (0.7, 3.0), (0.8, 7.0), (0.9, 9.0))

    def picked(k):
        return [p.accuracy for p in front.spread(k)]

    assert picked(1) == [0.9]
    assert picked(2) == [0.5, 0.9]
    assert picked(3) == [0.5, 0.7, 0.9]
    assert picked(4) == [0.5, 0.7, 0.8, 0.9]
    assert picked(9) == [0.5, 0.6, 0.7, 0.8, 0.9]
    with pytest.raises(BadInputError, match="at least 1"):
        front.spread(0)


def test_several_targets_have_no_single_knee():
    problem = two_targets()
    front = pareto_front(problem, observed(problem))
    with pytest.raises(BadInputError, match=r"board, phone; use front.for_target\('board'\).knee"):
        front.knee()
    assert front.for_target("phone").knee().target == "phone"
    with pytest.raises(UnknownNameError, match="did you mean 'phone'"):
        front.for_target("phon")
    with pytest.raises(BadInputError, match="empty front has no knee"):
        Front([], problem).knee()


def test_export_hands_the_subnet_and_the_facts_to_the_target(tmp_path):
    problem = two_targets({"latency_ms": 8.0})
    point = pareto_front(problem, observed(problem)).for_target("phone").knee()
    folder, subnet, architecture = point.export(str(tmp_path / "knee"))
    assert subnet == ("subnet", point.architecture)
    assert architecture == point.architecture
    facts = json.loads((folder / "facts.json").read_text())
    assert facts == json.loads(json_text(point.facts))
    assert facts["accuracy"] == point.accuracy
    assert facts["predicted_costs"] == point.costs
    assert facts["limits"] == {"latency_ms": 8.0}
    assert facts["weights_hash"] == problem.accuracy.weights_hash
    rebuilt = type(SPACE).from_json(facts["space"]).decode(np.array(facts["genes"]))[0]
    assert rebuilt == point.architecture


def test_table_has_a_line_for_each_point_under_its_target():
    problem = two_targets()
    front = pareto_front(problem, observed(problem))
    tables = str(front).split("\n\n")
    for target, table in zip(problem.targets, tables, strict=True):
        title, head, *lines = table.splitlines()
        assert title.startswith(target)
        assert head.split()[:3] == ["accuracy", "+-", "latency_ms"]
        points = list(front.for_target(target))
        assert [line.split()[1] for line in lines] == [f"{p.accuracy:.4f}" for p in points]
    assert "board: 0 networks" in str(Front([], problem))
    assert str(front[0]).splitlines()[1:] == str(front[0].architecture).splitlines()
