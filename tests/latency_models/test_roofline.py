import itertools
from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles import Target, device, device_names
from latency_models import RooflineCostModel
from records import json_text, read_json
from supernet import Subnet
from tests.latency_models.contract import CostModelContract
from tests.latency_models.doubles import (
    CNN,
    HYBRID,
    PROFILE,
    TARGET,
    VIT,
    WeighingRunner,
    sampled,
    weighed_ms,
)


class TestRoofline(CostModelContract):
    def make(self, space, target):
        return RooflineCostModel(space, target)

    def test_it_is_the_sum_of_the_ceilings(self, model, genes):
        codes = model.lowering.tabulation.codes(genes)
        by_hand = model.ceiling.latency_ms[codes].sum(axis=0)
        np.testing.assert_allclose(model.latency_ms(genes), by_hand, rtol=1e-6)

    def test_it_rests_on_the_data_sheet_alone(self, model, genes):
        assert (model.costs(genes).analytic == 1).all()
        assert model.latency_source.startswith("modelled: roofline, a lower bound")
        np.testing.assert_array_equal(
            model.bound("latency_ms", genes, 0.99), model.latency_ms(genes)
        )

    def test_energy_is_dynamic_and_static(self, model, genes):
        codes = model.lowering.tabulation.codes(genes)
        dynamic = model.ceiling.energy_mj[codes].sum(axis=0)
        costs = model.costs(genes)
        np.testing.assert_allclose(costs.energy_mj, dynamic + 0.5 * costs.latency_ms)


class TestRooflineOnCNN(TestRoofline):
    space = CNN


class TestRooflineOnViT(TestRoofline):
    space = VIT


def uses():
    """Every precision of every shipped device, with its runtimes in turn."""
    for name in device_names():
        profile = device(name)
        runtimes = itertools.cycle(profile.runtimes or ("onnxruntime",))
        for precision, runtime in zip(profile.peak_gflops, runtimes, strict=False):
            yield pytest.param(name, runtime, precision, id=f"{name}-{runtime}-{precision}")


@pytest.mark.parametrize(("name", "runtime", "precision"), list(uses()))
def test_every_shipped_device_has_costs(name, runtime, precision):
    target = Target(profile=device(name), runtime=runtime, precision=precision)
    model = RooflineCostModel(HYBRID, target)
    genes = sampled(HYBRID, 10)
    costs = model.costs(genes)
    macs = HYBRID.layer_table(genes).macs
    least = 2 * macs / (target.peak_gflops().value * 1e6)
    assert (costs.latency_ms >= least * (1 - 1e-6)).all()
    assert (costs.energy_mj > 0).all()
    assert np.isfinite(costs.energy_mj).all()
    record = model.record(genes[0])
    json_text(record)
    for missing in model.ceiling.missing:
        assert missing in record["latency_source"]
    (least_ms, _), (most_ms, _) = model.extremes("latency_ms")
    assert least_ms < most_ms


def test_share_of_the_profile_that_was_read_is_told():
    model = RooflineCostModel(HYBRID, Target(profile=PROFILE))
    assert "0% of the profile read" in model.latency_source
    assert "unknown" not in model.latency_source


def test_bundle_holds_what_was_predicted(tmp_path):
    runner = WeighingRunner()
    target = replace(TARGET, threads=2, batch_size=3)
    model = RooflineCostModel(HYBRID, target, runner)
    row = sampled(HYBRID, 5)[-1:]
    subnet = Subnet(HYBRID.graph(row)).eval()
    bundle = model.deploy(subnet, HYBRID.decode(row)[0], tmp_path / "net", {"accuracy": 0.5})
    record = read_json(bundle.folder / "bundle.json", kind="bundle")
    assert record["predicted"] == model.record(row)
    assert record["facts"] == {"accuracy": 0.5}
    assert record["target"]["name"] == target.name == "bench-t2-b3"
    (call,) = runner.calls
    assert call["threads"] == 2
    assert record["measured"]["latency_ms"] == weighed_ms(call["models"][0])
    only = RooflineCostModel(HYBRID, target).deploy(
        subnet, HYBRID.decode(row)[0], tmp_path / "c", {}
    )
    assert only.record["measured"]["latency_ms"] is None
