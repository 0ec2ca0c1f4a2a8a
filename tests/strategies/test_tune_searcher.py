"""A searcher in a loop of its own, as Tune has one; nothing here starts Ray."""

import itertools
import json
import pickle
import re
from functools import partial

import numpy as np
import pytest

from records import BadInputError, CorruptFileError, MissingFileError, UnknownNameError
from strategies import (
    NSGA2,
    Bayesian,
    InfeasibleConstraintError,
    PredictorGuided,
    Problem,
    RandomSearch,
    check_feasible,
    pareto_front,
    search,
)
from strategies.by_name import STRATEGIES, strategy_by_name
from strategies.tune_config import genes_of
from tests.strategies.contract import LIMIT_MS
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost

pytest.importorskip("ray")
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher

from strategies.tune_searcher import HwnasSearcher

SLOW = ("bayesian", "predictor-guided", "optuna-tpe", "deepmad", "pymoo-nsga2")
EACH = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in STRATEGIES]


def problem_of(space=SPACE, **limits):
    return Problem(space, FormulaAccuracy(space), [LayerCost(space)], limits)


PROBLEM = problem_of(latency_ms=2 * LIMIT_MS)
FEASIBILITY = check_feasible(PROBLEM, 1)


def searcher_of(name, problem=PROBLEM, **options):
    if name.startswith("pymoo"):
        pytest.importorskip("pymoo")
    if problem is PROBLEM:
        options = {"feasibility": FEASIBILITY} | options
    return HwnasSearcher(partial(strategy_by_name, name), problem, seed=1, **options)


class Loop:
    """What Tune does with a searcher: so many trials at once, which report an accuracy.

    `names` numbers trials; what is under way ends in the order of beginning.
    """

    def __init__(self, searcher, *, at_once=1, space=SPACE, begin=0):
        self.searcher, self.at_once, self.space = searcher, at_once, space
        self.accuracy = FormulaAccuracy(space)
        self.names = itertools.count(begin)
        self.live = {}

    def run(self, trials):
        """The rows of so many trials, or of those there are; the last ones are under way."""
        rows = []
        for _ in range(10 * trials):
            config = None
            if len(rows) < trials and len(self.live) < self.at_once:
                name = f"trial {next(self.names)}"
                config = self.searcher.suggest(name)
                if config == Searcher.FINISHED:
                    break
                assert config is not None or self.live, "it waits for nothing"
            if config is not None:
                self.live[name] = genes_of(config, self.space)
                rows.append(tuple(self.live[name][0].tolist()))
            elif len(rows) == trials:
                break
            else:
                self.end(next(iter(self.live)))
        return rows

    def end(self, name):
        (value,) = self.accuracy.values(self.live.pop(name))
        self.searcher.on_trial_complete(name, {"accuracy": float(value), "time_total_s": 2.0})


# ---- every strategy --------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_one_after_the_other_it_suggests_what_search_measures(name):
    searcher = searcher_of(name)
    front = search(
        PROBLEM,
        evaluations=22,
        strategy=strategy_by_name(name, PROBLEM, 1),
        batch_size=1,
        seed=1,
        feasibility=FEASIBILITY,
    )
    loop = Loop(searcher)
    assert loop.run(22) == [o.genes for o in front.result.observations]
    loop.end("trial 21")
    found = pareto_front(PROBLEM, searcher.observations)
    assert [p.genes for p in found] == [p.genes for p in front]


@pytest.mark.parametrize("name", EACH)
def test_what_is_restored_in_the_middle_goes_on_the_same(name, tmp_path):
    first = searcher_of(name)
    fresh = pickle.dumps(first)
    loop = Loop(first, at_once=3)
    loop.run(20)
    first.save(tmp_path / "state")
    json.loads((tmp_path / "state").read_text())
    first.save_to_dir(str(tmp_path), "2026-01-02")
    kept = dict(loop.live)
    expected = loop.run(5)
    second = pickle.loads(fresh)  # as Tune does
    second.restore_from_dir(tmp_path)
    for other in (pickle.loads(pickle.dumps(second)), second):
        again = Loop(other, at_once=3, begin=1000)
        again.live = dict(kept)
        assert again.run(5) == expected


@pytest.mark.parametrize("name", EACH)
def test_many_at_once_are_distinct_and_keep_the_limits(name):
    searcher = searcher_of(name)
    rows = Loop(searcher, at_once=24).run(40)
    assert len(set(rows)) == len(rows) == 40
    genes = np.array(rows, np.int16)
    np.testing.assert_array_equal(genes, SPACE.gene_space.check(genes))
    strategy = searcher.trials.proposals.strategy
    assert strategy.measures_infeasible or (PROBLEM.violations(genes) <= 0).all()
    pending = {tuple(row) for row in strategy.pending.tolist()}
    assert pending >= set(rows[-len(searcher.trials.under_way) :]), "the strategy knows of them"


@pytest.mark.parametrize("name", EACH)
def test_a_small_space_is_tried_to_its_last_network_and_finished(name):
    problem = problem_of(TINY)
    searcher = searcher_of(name, problem)
    loop = Loop(searcher, at_once=4, space=TINY)
    rows = loop.run(TINY.cardinality)
    assert len(set(rows)) == len(rows) == TINY.cardinality
    assert loop.live, "the last ones are under way"
    assert searcher.suggest("one more") is None
    for trial in tuple(loop.live):
        loop.end(trial)
    assert searcher.suggest("one more") == Searcher.FINISHED


# ---- limits and targets ----------------------------------------------------------------------


def test_impossible_limits_are_said_before_anything_is_suggested():
    with pytest.raises(InfeasibleConstraintError, match="latency_ms"):
        HwnasSearcher(NSGA2, problem_of(latency_ms=1e-6))


def test_networks_that_miss_the_limits_are_told_to_the_strategy_without_a_trial():
    class Recorded(RandomSearch):
        def tell(self, genes, objectives, violations=None):
            told.append((genes, objectives, violations))
            super().tell(genes, objectives, violations)

    told = []
    searcher = HwnasSearcher(Recorded, PROBLEM, feasibility=FEASIBILITY)
    Loop(searcher).run(60)
    missed = [t for t in told if (t[2] > 0).all()]
    assert missed, "a random row misses the limit now and then"
    assert all(np.isnan(objectives[:, 0]).all() for _, objectives, _ in missed)
    assert len(told) - len(missed) == len(searcher.outcomes) == 59


def test_the_config_has_the_latency_on_each_target():
    costs = [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone", per_layer=0.02)]
    problem = Problem(SPACE, FormulaAccuracy(SPACE), costs, {("latency_ms", "board"): LIMIT_MS})
    searcher = HwnasSearcher(PredictorGuided, problem)
    config = searcher.suggest("a")
    expected = problem.cheap_objectives(genes_of(config, SPACE))[0]
    assert list(config["latency_ms"].values()) == expected.tolist()
    assert list(config["latency_ms"]) == ["board", "phone"]
    searcher.on_trial_complete("a", {"accuracy": 0.5})
    assert len(pareto_front(problem, searcher.observations)) == 2


def test_what_is_to_be_first_is_suggested_first():
    rows = SPACE.extremes("largest")
    searcher = HwnasSearcher(NSGA2, PROBLEM, initial=rows, feasibility=FEASIBILITY)
    assert (genes_of(searcher.suggest("a"), SPACE) == rows[0]).all()
    reported = HwnasSearcher(NSGA2, SPACE, metrics={"error": "min"}, initial=rows)
    assert (genes_of(reported.suggest("a"), SPACE) == rows[0]).all()
    assert "latency_ms" not in reported.suggest("b")


# ---- what trials report ----------------------------------------------------------------------


def ended(*reports, error=False, last=()):
    """What becomes of a trial with these reports; the last is told with its end."""
    searcher = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    searcher.suggest("a")
    for report in reports:
        searcher.on_trial_result("a", report)
    searcher.on_trial_complete("a", *last, error=error)
    outcome = searcher.outcomes["a"]
    (observation,) = searcher.observations
    assert (observation.status == "failed") == bool(outcome.reason)
    assert observation.value == (None if outcome.reason else outcome.values[0])
    assert searcher.trials.proposals.strategy.pending.shape[0] == 0
    return outcome


def test_what_was_reported_last_counts():
    low, high = {"accuracy": 0.3}, {"accuracy": 0.5, "time_total_s": 3.5}
    assert ended(low, last=(high,)).values == (0.5,)
    assert ended(low, last=(high,)).seconds == 3.5
    assert ended(high, last=(low,)).values == (0.3,)
    assert ended(low, high).values == (0.5,), "stopped while it was paused"
    assert ended(high, {"loss": 1.0}, last=({"loss": 1.0},)).values == (0.5,)
    assert ended(low, last=({"accuracy": np.float32(0.5)},)).values == (0.5,)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"accuracy": float("nan")}, "nan was reported; it must be a share"),
        ({"accuracy": None}, "nan was reported"),
        ({"accuracy": "0.5"}, "nan was reported"),
        ({"accuracy": True}, "nan was reported"),
        ({"accuracy": float("inf")}, "nan was reported"),
        ({"accuracy": 93.5}, "divide percentages by 100"),
        ({"accuracy": -0.1}, "must be a share in 0..1$"),
        ({}, "it never reported accuracy"),
        (None, "it never reported accuracy"),
    ],
)
def test_what_is_no_accuracy_counts_as_failed(report, said, caplog):
    outcome = ended(last=(report,))
    assert re.search(said, outcome.reason)
    assert np.isnan(outcome.values).all()
    assert "trial a counts as failed" in caplog.text


def test_a_trial_that_fails_has_failed_whatever_it_reported():
    assert ended({"accuracy": 0.5}, error=True).reason == "the trial failed"
    assert ended({"accuracy": 0.5}, last=({"accuracy": float("nan")},)).reason


def test_a_trial_that_is_tried_again_counts_by_its_later_outcome():
    searcher = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("a", {"accuracy": 0.5})
    assert [o.value for o in searcher.observations] == [0.5]


def test_strange_trials_are_left_alone(caplog):
    searcher = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    before = searcher.get_state()
    searcher.on_trial_result("b", {"accuracy": 0.5})
    searcher.on_trial_complete("b", {"accuracy": 0.5})
    assert searcher.get_state() == before
    assert "trial b is none that was suggested here" in caplog.text


# ---- another Tuner ---------------------------------------------------------------------------


def test_what_was_under_way_is_suggested_again_in_a_new_tuner(tmp_path):
    first = searcher_of("sensitivity")
    loop = Loop(first, at_once=3)
    rows = loop.run(30)[-3:]
    first.save(tmp_path / "state")
    second = searcher_of("sensitivity")
    second.restore(tmp_path / "state")
    new = Loop(second, at_once=3, begin=1000)
    assert new.run(3) == rows
    assert set(new.run(20)).isdisjoint(rows)
    for name in tuple(loop.live):  # an old one that ends after all counts, and breaks nothing
        second.on_trial_complete(name, {"accuracy": 0.25})
    new.run(5)
    first.set_search_properties(None, None, {"epochs": 3})
    assert first.trials.under_way == ()


def test_a_state_of_something_else_is_refused(tmp_path):
    searcher = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    searcher.save(tmp_path / "state")
    for other, said in (
        (HwnasSearcher(RandomSearch, PROBLEM, feasibility=FEASIBILITY), "strategy 'NSGA2'"),
        (HwnasSearcher(NSGA2, problem_of(TINY)), "space_hash"),
        (HwnasSearcher(NSGA2, SPACE, metrics={"b": "min", "a": "min"}), "report"),
    ):
        with pytest.raises(BadInputError, match=said):
            other.restore(tmp_path / "state")
    swapped = HwnasSearcher(NSGA2, SPACE, metrics={"a": "min", "b": "min"})
    swapped.save(tmp_path / "swapped")
    with pytest.raises(BadInputError, match="here they report"):
        HwnasSearcher(NSGA2, SPACE, metrics={"b": "min", "a": "min"}).restore(tmp_path / "swapped")
    (tmp_path / "state").write_text('{"format": "other"}')
    with pytest.raises(CorruptFileError, match="no state of a HwnasSearcher"):
        searcher.restore(tmp_path / "state")
    with pytest.raises(MissingFileError):
        searcher.restore_from_dir(tmp_path / "nothing")


def test_a_pickled_searcher_holds_no_evaluator():
    searcher = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    accuracy = PROBLEM.accuracy
    for held in (pickle.dumps(searcher), pickle.dumps(searcher.trials.proposals.strategy)):
        assert b"FormulaAccuracy" in pickle.dumps(accuracy)
        assert b"FormulaAccuracy" not in held
    again = pickle.loads(pickle.dumps(searcher))
    again.suggest("a")
    again.on_trial_complete("a", {"accuracy": 0.5})
    assert again.observations[0].weights_hash == accuracy.weights_hash
    assert again.metric == "accuracy"


def test_a_limiter_lets_so_many_run():
    limited = ConcurrencyLimiter(HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY), 2)
    assert (limited.metric, limited.mode) == ("accuracy", "max")
    first, second, third = (limited.suggest(name) for name in "abc")
    assert None not in (first, second)
    assert third is None
    limited.on_trial_complete("a", {"accuracy": 0.5})
    assert limited.suggest("c") not in (None, first, second)


# ---- objectives that are all reported --------------------------------------------------------


def test_two_reported_objectives_lead_to_their_front():
    """Error and latency both come from trials; the front is near that of all networks."""
    costs, accuracy = LayerCost(TINY), FormulaAccuracy(TINY, noise=0.0)
    metrics = {"accuracy": "max", "latency": "min"}
    for make in (partial(NSGA2, population_size=6), Bayesian):
        searcher = HwnasSearcher(make, TINY, metrics=metrics)
        assert (searcher.metric, searcher.mode) == (["accuracy", "latency"], ["max", "min"])
        for i in range(10):
            row = genes_of(searcher.suggest(str(i)), TINY)
            report = {
                "accuracy": accuracy.values(row)[0],
                "latency": costs.predict(row)["latency_ms"][0],
            }
            searcher.on_trial_complete(str(i), report)
        strategy = searcher.trials.proposals.strategy
        told = {tuple(o.genes): o.value for o in searcher.observations if o.metric == "accuracy"}
        assert len(told) == 10
        if make is not Bayesian:
            population = {tuple(row) for row in strategy.state()["learned"]["population"]}
            best = max(told, key=told.get)
            assert best in population, "what is to be max was not taken for min"


def test_what_is_no_number_fails_the_whole_trial():
    searcher = HwnasSearcher(NSGA2, TINY, metrics={"a": "min", "b": "max"})
    searcher.suggest("x")
    searcher.on_trial_complete("x", {"a": -3.0, "b": float("nan")})
    assert searcher.outcomes["x"].reason == "-3, nan was reported"
    assert [o.status for o in searcher.observations] == ["failed", "failed"]
    searcher.suggest("y")
    searcher.on_trial_complete("y", {"a": -3.0, "b": 1e9})
    assert searcher.outcomes["y"].values == (-3.0, 1e9)


def test_strategies_that_need_costs_say_so():
    with pytest.raises(BadInputError, match="use Bayesian"):
        HwnasSearcher(PredictorGuided, TINY, metrics={"a": "min", "b": "min"})
    single = HwnasSearcher(PredictorGuided, TINY, metrics={"a": "min"})
    assert single.suggest("x")["genes"]
    with pytest.raises(BadInputError, match="another space"):
        HwnasSearcher(lambda space, seed: NSGA2(SPACE, seed=seed), TINY, metrics={"a": "min"})


# ---- the Tuner's own parameters --------------------------------------------------------------

RANGES = {
    "epochs": 3,
    "optimiser": {"rate": tune.loguniform(1e-4, 1e-1), "decay": tune.choice([0.0, 1e-4])},
    "width": tune.randint(8, 65),
}


def parameters(**options):
    options = {"metrics": {"loss": "min"}, "seed": 1} | options
    return HwnasSearcher(partial(NSGA2, population_size=10), **options)


def loss_of(config):
    return abs(np.log10(config["optimiser"]["rate"]) + 3) + abs(config["width"] - 40) / 20


def test_parameters_come_from_the_tuner_and_are_learned():
    searcher = parameters()
    with pytest.raises(BadInputError, match="no parameters yet"):
        searcher.suggest("early")
    assert searcher.set_search_properties("loss", "min", RANGES)
    losses = []
    for i in range(120):
        config = searcher.suggest(str(i))
        assert 1e-4 <= config["optimiser"]["rate"] <= 1e-1
        assert config["width"] in range(8, 65)
        assert config["optimiser"]["decay"] in (0.0, 1e-4)
        losses.append(loss_of(config))
        searcher.on_trial_complete(str(i), {"loss": losses[-1]})
    assert np.mean(losses[-30:]) < 0.75 * np.mean(losses[:20])


def test_parameters_go_on_the_same_after_restoring(tmp_path):
    first, second, third = parameters(), parameters(), parameters()
    first.set_search_properties(None, None, RANGES)
    for i in range(15):
        first.on_trial_complete(str(i), {"loss": loss_of(first.suggest(str(i)))})
    first.save(tmp_path / "state")
    second.restore(tmp_path / "state")  # before a Tuner tells the ranges
    second.set_search_properties(None, None, RANGES)
    third.set_search_properties(None, None, RANGES)
    third.restore(tmp_path / "state")
    expected = [first.suggest(f"n{i}") for i in range(5)]
    for other in (second, third, pickle.loads(pickle.dumps(third))):
        assert [other.suggest(f"n{i}") for i in range(5)][:3] == expected[
            :3
        ] or other is not second
    with pytest.raises(BadInputError, match="not the one that this searcher"):
        second.set_search_properties(None, None, {"width": tune.uniform(0, 1)})


def test_where_all_parts_were_tried_values_are_drawn_anew():
    searcher = parameters(parts=2)
    searcher.set_search_properties(None, None, {"x": tune.uniform(0, 1)})
    values = []
    for i in range(6):
        values.append(searcher.suggest(str(i))["x"])
        searcher.on_trial_complete(str(i), {"loss": values[-1]})
    assert len(set(values)) == 6


def test_points_tried_elsewhere_are_taken_in():
    searcher = parameters()
    searcher.set_search_properties(None, None, RANGES)
    config = {"epochs": 3, "optimiser": {"rate": 1e-3, "decay": 0.0}, "width": 40}
    searcher.add_evaluated_point(config, 0.25)
    searcher.add_evaluated_point(config | {"width": 8}, 0.0, error=True)
    assert [(o.value, o.status) for o in searcher.observations] == [(0.25, "ok"), (None, "failed")]
    for wrong in (config | {"width": 80}, {"width": 40}):
        with pytest.raises(BadInputError, match="within their ranges"):
            searcher.add_evaluated_point(wrong, 0.25)
    networks = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY)
    first = HwnasSearcher(NSGA2, PROBLEM, feasibility=FEASIBILITY).suggest("a")
    networks.add_evaluated_point(first, 0.5)
    assert networks.suggest("a") != first, "it is known"
    with pytest.raises(BadInputError, match="a point has one value"):
        parameters(metrics={"a": "min", "b": "min"}).add_evaluated_point(config, 0.5)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"x": tune.grid_search([1, 2])}, "[Gg]rid"),
        ({"x": tune.randn(0, 1)}, "something unfit"),
        ({"x": tune.choice([3])}, "single value"),
        ({"x": 3}, "no ranges"),
    ],
)
def test_ranges_that_cannot_be_used_are_named(ranges, said):
    with pytest.raises(BadInputError, match=said):
        parameters().set_search_properties(None, None, ranges)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((NSGA2, SPACE), {}, "say what trials report"),
        ((NSGA2,), {"metrics": {}}, "say what trials report"),
        ((NSGA2, PROBLEM), {"metrics": {"accuracy": "max", "ms": "min"}}, "accuracy alone"),
        ((NSGA2, PROBLEM), {"metrics": {"error": "min"}}, "accuracy alone"),
        ((NSGA2, SPACE), {"metrics": {"a": "min"}, "feasibility": FEASIBILITY}, "of a problem"),
        ((NSGA2,), {"metrics": {"a": "min"}, "initial": [[0]]}, "initial is genes"),
        ((NSGA2,), {"metrics": {"a": "min"}, "parts": 1}, "parts must be at least 2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, options, said):
    with pytest.raises(BadInputError, match=said):
        HwnasSearcher(*arguments, **options)


def test_modes_are_min_and_max_and_those_of_the_tuner():
    with pytest.raises(UnknownNameError, match="min"):
        HwnasSearcher(NSGA2, SPACE, metrics={"a": "minimise"})
    searcher = HwnasSearcher(NSGA2, PROBLEM, metrics={"top1": "max"}, feasibility=FEASIBILITY)
    with pytest.raises(BadInputError, match="top1 is to be min in TuneConfig, max"):
        searcher.set_search_properties("top1", "min", {})
    for metric, mode in (("top1", "max"), ("loss", "min"), (None, None), (None, "min")):
        assert not searcher.set_search_properties(metric, mode, {"epochs": 3})
