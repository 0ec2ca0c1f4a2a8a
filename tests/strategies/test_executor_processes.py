import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from records import BadInputError, Ledger
from strategies import EvaluationError, LocalProcesses, Problem, RandomSearch, search
from strategies.executor_shipment import AsItIs, check_can_travel, shipment_of, write_arrays
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost
from tests.strategies.misbehaving import Misbehaving

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Workers import the classes of these tests."""
    monkeypatch.syspath_prepend(str(ROOT))


def fixed_rows(n):
    rows = SPACE.sample(2 * n, np.random.default_rng(3), "architectures")
    return np.unique(rows, axis=0)[:n]


def searched(accuracy, rows, executor, **options):
    p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
    strategy = RandomSearch(SPACE)
    options = {"evaluations": len(rows), "initial": rows, "strategy": strategy} | options
    return {o.genes: o for o in search(p, executor=executor, **options).result.observations}


class Shipped:
    """An accuracy whose formula is an array, and what it needs to go on in another process."""

    metric = "accuracy"
    weights_hash = "shipped"

    def __init__(self, weights):
        self.weights = weights

    def evaluate(self, genes):
        from records import Measured

        if self.weights.flags.writeable:
            raise ValueError("workers must not write to what they share")
        return [Measured(value=float(row @ self.weights) % 1) for row in genes]

    def shipment(self):
        return ShippedRecipe(), {"weights": self.weights, "unused": np.zeros((0, 3))}


class ShippedRecipe:
    def __call__(self, arrays, threads):
        assert threads == int(os.environ["OMP_NUM_THREADS"]) == 1
        return Shipped(arrays["weights"])


def test_processes_give_what_this_process_gives():
    rows = fixed_rows(20)
    weights = np.random.default_rng(0).integers(0, 1024, len(SPACE.choices)) / 1024  # exact sums
    with LocalProcesses(workers=1, batch_size=3).open(Shipped(weights)) as session:
        found = {}
        for part in (rows[:12], rows[12:]):
            session.submit(part)
        while len(found) < len(rows):
            for finished in session.wait():
                values = (result.value for result in finished.results)
                found.update(zip(map(tuple, finished.genes.tolist()), values, strict=True))
    expected = (rows @ weights) % 1
    np.testing.assert_array_equal([found[tuple(row)] for row in rows.tolist()], expected)


@pytest.mark.slow
def test_whatever_a_worker_does_the_search_goes_on(tmp_path):
    rows = fixed_rows(24)
    keys = [tuple(row) for row in rows.tolist()]
    always = {1: "raises", 3: "hangs", 5: "dies", 7: "is NaN"}
    once = {9: "raises", 11: "hangs", 13: "dies"}
    faults = {keys[i]: (kind, 9) for i, kind in always.items()}
    faults |= {keys[i]: (kind, 1) for i, kind in once.items()}
    accuracy = Misbehaving(SPACE, tmp_path, faults)
    executor = LocalProcesses(workers=2, batch_size=2, timeout_s=4.0, retries=1)
    found = searched(accuracy, rows, executor)
    assert set(found) == set(keys)
    failed = {key: o.reason for key, o in found.items() if o.status == "failed"}
    assert failed[keys[1]] == "MemoryError: no room (2 tries)"
    assert failed[keys[3]] == "no answer within 4 s (2 tries)"
    assert "ended by SIGKILL; out of memory is a common cause (2 tries)" in failed[keys[5]]
    assert "needs a finite value, got nan" in failed[keys[7]]
    assert set(failed) == {keys[i] for i in always}
    expected = FormulaAccuracy(SPACE).values(rows)
    for key, value in zip(keys, expected, strict=True):
        assert key in failed or found[key].value == pytest.approx(value)


@pytest.mark.slow
def test_a_worker_killed_from_outside_costs_nothing_but_time(tmp_path):
    rows = fixed_rows(16)
    accuracy = Misbehaving(SPACE, tmp_path, {}, seconds=0.3)
    killed = []

    def kill_one(progress):
        if not killed:
            newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            killed.append(int(newest.suffix[1:]))
            os.kill(killed[0], signal.SIGKILL)

    found = searched(accuracy, rows, LocalProcesses(workers=2), on_progress=kill_one)
    assert killed
    assert len(found) == 16
    assert all(o.status == "ok" for o in found.values())


@pytest.mark.slow
def test_an_evaluator_that_cannot_be_made_is_told():
    class Local(FormulaAccuracy):
        pass

    rows = fixed_rows(4)
    with pytest.raises(BadInputError, match="cannot be sent to another process"):
        searched(Local(SPACE), rows, LocalProcesses())
    with pytest.raises(EvaluationError, match=r"cannot be made: KeyError: 'weights'"):
        searched(Incomplete(np.ones(len(SPACE.choices))), rows, LocalProcesses(workers=1))


class Incomplete(Shipped):
    def shipment(self):
        return ShippedRecipe(), {}


DRIVER = """
import sys
from pathlib import Path
from records import Ledger
from strategies import LocalProcesses, Problem, RandomSearch, search
from tests.strategies.doubles import SPACE, LayerCost
from tests.strategies.misbehaving import Misbehaving

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    accuracy = Misbehaving(SPACE, folder / "tries", {}, seconds=0.2)
    p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
    with Ledger.create(folder / "run.sqlite", {}) as ledger:
        search(p, evaluations=200, strategy=RandomSearch(SPACE), ledger=ledger,
               executor=LocalProcesses(workers=2))
"""


def committed(path):
    with Ledger.open(path, read_only=True) as ledger:
        return len(ledger)


@pytest.mark.slow
def test_a_killed_driver_loses_and_repeats_nothing_that_was_committed(tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)]
    driver = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 300
    while len(list(tries.iterdir())) < 12 or committed(tmp_path / "run.sqlite") < 4:
        assert time.monotonic() < end
        time.sleep(0.1)
    workers = {int(path.suffix[1:]) for path in tries.iterdir()}
    driver.kill()
    driver.wait()
    while time.monotonic() < end and any(map(psutil.pid_exists, workers)):
        time.sleep(0.1)
    alive = [worker for worker in workers if psutil.pid_exists(worker)]
    assert not alive, f"workers outlive their driver: {alive}"
    accuracy = Misbehaving(SPACE, tries, {})
    with Ledger.open(tmp_path / "run.sqlite") as ledger:
        before = ledger.observations()
        assert before
        p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
        total = len(before) + 10
        result = search(p, evaluations=total, strategy=RandomSearch(SPACE), ledger=ledger).result
        assert ledger.observations() == list(result.observations)
    assert list(result.observations)[: len(before)] == before
    assert len({o.genes for o in result.observations}) == total
    assert all(accuracy.tries(o.genes) == 1 for o in before), "committed rows are not repeated"


# ---- what is sent ----------------------------------------------------------------------------


def test_arrays_in_a_file_are_those_that_were_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": rng.normal(size=(3, 5)).astype(np.float32),
        "turned": rng.normal(size=(4, 6)).T,
        "codes": np.arange(7, dtype=np.int8),
        "one": np.array(2.5),
        "none": np.zeros((0, 4)),
        "big end first": np.arange(5, dtype=">i4"),
    }
    mapped = write_arrays(tmp_path / "arrays", arrays).mapped()
    assert list(mapped) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array, strict=True)
        assert not mapped[name].flags.writeable
        assert mapped[name].size == 0 or mapped[name].ctypes.data % 64 == 0
    assert write_arrays(tmp_path / "nothing", {}).mapped() == {}


def test_an_evaluator_without_a_shipment_is_sent_whole():
    evaluator = FormulaAccuracy(SPACE)
    shipment = shipment_of(evaluator)
    assert shipment.arrays == {}
    assert shipment.recipe({}, 1) is evaluator
    check_can_travel(shipment.recipe)
    with pytest.raises(BadInputError, match=r"cannot be sent .*: define its class in a module"):
        check_can_travel(AsItIs(lambda genes: genes))


def test_arrays_of_objects_are_refused():
    evaluator = FormulaAccuracy(SPACE)
    evaluator.shipment = lambda: (AsItIs(evaluator), {"names": np.array(["a", None], object)})
    with pytest.raises(BadInputError, match="'names' of the evaluator holds objects"):
        shipment_of(evaluator)
