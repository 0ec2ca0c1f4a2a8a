import numpy as np
import pytest

from experiments.datasets import load_dataset
from experiments.measuring import calibrated, record_calibration
from experiments.spaces import make_space
from hardware_profiles import local_target
from records import Ledger
from search_spaces import SearchSpace


def test_cost_models_are_rebuilt_from_the_ledger(formula_run):
    """A resumed run has the same cost model, so it continues the same search."""
    space = SearchSpace.from_json(formula_run.front["space"]["definition"])
    with Ledger.open(formula_run.folder / "evaluations.db", read_only=True) as ledger:
        cost = calibrated(
            space, local_target(threads=1, batch_size=1), ledger, networks=20, seed=0
        )
        rows = ledger.observations("calibration.latency_ms", "local-t1-b1")

    assert cost.timings == ()
    assert np.array_equal(cost.genes, [o.genes for o in rows])
    assert cost.measured_ms.tolist() == [o.value for o in rows]
    reach = cost.extremes("latency_ms")
    (lowest, _), (highest, _) = reach
    said = formula_run.front["targets"][0]["reachable"][0]
    assert (said["lowest"], said["highest"]) == pytest.approx((lowest, highest))


def test_what_came_from_a_ledger_is_not_written_there_again(formula_run, tmp_path):
    space = SearchSpace.from_json(formula_run.front["space"]["definition"])
    target = local_target(threads=1, batch_size=1)
    with Ledger.open(formula_run.folder / "evaluations.db", read_only=True) as ledger:
        cost = calibrated(space, target, ledger, networks=20, seed=0)
    with Ledger.create(tmp_path / "other.db", {}) as other:
        record_calibration(other, cost)
        assert len(other) == 0


def test_timings_of_a_new_calibration_are_written_with_their_samples(tmp_path, by_formula):
    space = make_space("cnn", load_dataset("digits"))
    target = local_target(threads=1, batch_size=16)
    cost = calibrated(space, target, None, networks=12, seed=3)
    with Ledger.create(tmp_path / "run.db", {}) as ledger:
        record_calibration(ledger, cost)
        observations = ledger.observations()

    assert {(o.metric, o.target, o.unit) for o in observations} == {
        ("calibration.latency_ms", "local-t1-b16", "ms")
    }
    assert [o.genes for o in observations] == [tuple(row) for row in cost.genes.tolist()]
    assert [o.raw for o in observations] == [t.samples_ms for t in cost.timings]
    assert {o.space_hash for o in observations} == {space.hash}
