import dataclasses

import numpy as np
import pytest

from records import BadInputError, Observation

GOOD = {"genes": (1, 0, 2), "metric": "latency_ms", "value": 1.5}


def test_numpy_numbers_become_plain_ones():
    observation = Observation(
        genes=tuple(np.array([1, 0, 2])),
        metric="latency_ms",
        value=np.float32(1.5),
        dispersion=np.float64(0.1),
        step=np.int64(3),
        raw=tuple(np.array([1.4, 1.6])),
    )
    plain = Observation(**GOOD, dispersion=0.1, step=3, raw=(1.4, 1.6))
    assert observation == plain
    assert hash(observation) == hash(plain)
    for field in dataclasses.fields(Observation):
        assert type(getattr(observation, field.name)) is type(getattr(plain, field.name))
    assert {type(gene) for gene in observation.genes} == {int}
    assert {type(value) for value in observation.raw} == {float}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": None}, "ok but has no value"),
        ({"value": float("nan")}, "value must be finite"),
        ({"value": float("-inf")}, "value must be finite"),
        ({"value": "fast"}, "value must hold numbers"),
        ({"dispersion": float("nan")}, "dispersion must be finite"),
        ({"dispersion": -0.1}, "dispersion must be at least 0"),
        ({"seconds": -1.0}, "seconds must be at least 0"),
        ({"raw": (1.0, float("nan"))}, "raw must be finite"),
        ({"genes": (1, 2.5)}, "genes must hold integers"),
        ({"step": -1}, "step must be in"),
        ({"step": 2**63}, "step must be in"),
        ({"metric": ""}, "metric must be named"),
        ({"status": "maybe"}, "'ok' or 'failed'"),
        ({"status": "failed", "reason": "crashed"}, "value is None"),
        ({"status": "failed", "value": None}, "reason must say why"),
        ({"status": "failed", "value": float("nan"), "reason": "crashed"}, "value is None"),
        (
            {"status": "failed", "value": None, "reason": "crashed", "raw": (float("nan"),)},
            "raw must be finite",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(BadInputError, match=message):
        Observation(**{**GOOD, **fields})


def test_a_failure_says_why_even_with_undecodable_text():
    output = b"sensor \xff".decode("utf-8", "surrogateescape")
    observation = Observation(genes=(1,), metric="a", value=None, status="failed", reason=output)
    assert observation.reason.startswith("sensor ")
    assert observation.reason.encode("utf-8")


def test_observations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Observation(**GOOD).value = 2.0
