import json

import numpy as np
import pytest

from deployment.emission.emit import emit
from deployment.runtimes import RUNTIMES, OnnxRuntimeNetwork, Opened, Runtime, time_beside
from records import BadInputError, UnknownNameError
from tests.deployment.doubles import CNN, rows_of, shaken_subnet

SUBNET = shaken_subnet(CNN, rows_of(CNN, 4)[-1])
FAST = {"rounds": 2, "min_seconds": 0.0}


class Absent(Runtime):
    name = "absent"
    title = "a runtime that is not there"
    modules = ("no_such_module",)
    package = "no-such-package"
    extra = "nothing"

    def _open(self, subnet, batch_size, threads, calibration):
        raise AssertionError


class Refusing(Absent):
    name = "refusing"
    title = "a runtime that refuses"
    modules = ()

    def _open(self, subnet, batch_size, threads, calibration):
        raise RuntimeError("no such operator")


class Zero(Opened):
    def bind(self, images):
        self.n = len(images)

    def run(self):
        pass

    def logits(self):
        return np.zeros((self.n, 10), np.float32)


class Wrong(Refusing):
    name = "wrong"
    title = "a runtime that is wrong"

    def _open(self, subnet, batch_size, threads, calibration):
        return Zero("wrong", (batch_size, 3, 16, 16), threads)


@pytest.fixture(autouse=True)
def others(monkeypatch):
    for one in (Absent(), Refusing(), Wrong()):
        monkeypatch.setitem(RUNTIMES, one.name, one)


def opened_file(batch_size=1, threads=1):
    return OnnxRuntimeNetwork("file", emit(SUBNET, batch_size).SerializeToString(), threads)


def test_the_file_comes_first_and_ratios_refer_to_it():
    rows = time_beside(SUBNET, ["torch", "onnxruntime"], file=opened_file(), **FAST)
    assert [row.runtime for row in rows] == ["this file", "torch", "onnxruntime"]
    assert all(row.status == "timed" for row in rows)
    first = rows[0].timing.latency_ms
    for row in rows:
        assert row.ratio == row.timing.latency_ms / first
        assert row.agreement.largest_difference < 1e-4
        assert len(row.timing.samples_ms) == 6
    assert rows[0].ratio == 1


def test_what_cannot_be_timed_is_told_in_its_row():
    rows = time_beside(SUBNET, ["absent", "torch", "refusing", "wrong"], **FAST)
    absent, torch_row, refusing, wrong = rows
    assert absent.status.startswith("not installed: a runtime that is not there needs no_such_mod")
    assert "hwnas[nothing]" in absent.status
    assert refusing.status == (
        "refused: a runtime that refuses cannot take this network: no such operator"
    )
    assert wrong.status == "differs: by 1 of the largest logit"
    assert torch_row.ratio == 1
    assert [row.timing is None for row in rows] == [True, False, True, True]
    assert wrong.agreement.largest_difference == pytest.approx(1)


def test_rows_are_ready_for_a_bundles_record():
    rows = time_beside(SUBNET, ["torch", "absent"], batch_size=2, **FAST)
    timed, absent = json.loads(json.dumps([row.to_json() for row in rows]))
    assert timed["latency_ms"] > 0
    assert timed["agreement"]["images"] == 16
    assert timed["version"]
    assert absent["latency_ms"] is None
    assert absent["ratio"] is None
    assert absent["agreement"] is None


def test_a_single_sample_has_no_dispersion():
    (row,) = time_beside(SUBNET, ["torch"], rounds=1, min_seconds=0.0)
    assert row.to_json()["dispersion_ms"] is not None
    samples = row.timing.samples_ms[:1]
    one = type(row.timing)(samples_ms=samples, rounds=1, preempted=float("nan"))
    assert (
        type(row)(runtime="x", version="", status="timed", timing=one).to_json()["dispersion_ms"]
        is None
    )


def test_where_nothing_can_be_timed_rows_are_given_all_the_same():
    (row,) = time_beside(SUBNET, ["absent"])
    assert row.timing is None


def test_a_file_of_another_batch_size_or_threads_is_refused():
    with pytest.raises(BadInputError, match="batches of 2 on 1 threads"):
        time_beside(SUBNET, ["torch"], file=opened_file(batch_size=2))
    with pytest.raises(BadInputError, match="would be for 1 on 2"):
        time_beside(SUBNET, ["torch"], file=opened_file(), threads=2)


def test_an_unknown_runtime_is_refused_before_anything_is_opened():
    with pytest.raises(UnknownNameError, match="unknown runtime 'tensorflow'"):
        time_beside(SUBNET, ["torch", "tensorflow"])
