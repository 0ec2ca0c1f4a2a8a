import numpy as np
import pytest
import torch

from experiments.benchmarks.deployment_cells import (
    EAGER,
    EXPORT,
    FP32,
    INT8,
    OPENVINO,
    OPENVINO_INT8,
    fused_file,
    timed_cell,
    torch_file,
)
from experiments.benchmarks.deployment_networks import (
    NETWORKS,
    UNTRAINED,
    design_front,
    drawn_network,
)
from experiments.benchmarks.deployment_speed import goals, key_of, ratios
from latency_models import RooflineCostModel
from predictors import entropy
from strategies.dominance import is_non_dominated
from tests.deployment.doubles import VIT, rows_of, shaken_subnet


def cell(network, latencies, *, lost=None, batch_size=1, threads=1):
    files = {name: {"latency_ms": ms, "status": "timed"} for name, ms in latencies.items()}
    for name, value in (lost or {}).items():
        files[name]["accuracy_lost"] = value
    return {"network": network, "batch_size": batch_size, "threads": threads, "files": files}


CELLS = [
    cell("cnn-32", {FP32: 1.0, EAGER: 4.0, EXPORT: 1.1, OPENVINO: 0.99}),
    cell("vit-64", {FP32: 2.0, EAGER: 4.0, EXPORT: 2.4, INT8: 2.0}, lost={INT8: 0.004}),
    cell("vit-96", {FP32: 1.0, EAGER: 2.0, EXPORT: 1.2, INT8: 0.8}, lost={INT8: 0.001}),
]


def test_ratios_are_geometric_means_with_their_least_by_family():
    found = ratios(CELLS)
    assert found["cnn"][EAGER] == pytest.approx([4, 4, 1])
    assert found["vit"][EAGER] == pytest.approx([2, 2, 2])
    assert found["all"][EAGER] == pytest.approx([16 ** (1 / 3), 2, 3])
    assert found["vit"][INT8] == pytest.approx([0.8**0.5, 0.8, 2])
    assert OPENVINO not in found["vit"]
    assert found["hybrid"] == {}


def test_goals_are_judged_by_the_best_peer_the_export_and_the_loss():
    worst, average, vits = goals(CELLS)
    assert worst["reached"]
    assert "+1.0%" in worst["found"]
    assert "cnn-32 b1 t1" in worst["found"]
    assert average["found"] == f"{(1.1 * 1.2 * 1.2) ** (1 / 3):.3f}x"
    assert average["reached"]
    assert vits["found"] == f"{(1.2 * 1.5) ** 0.5:.3f}x, at most 0.40 points lost"
    assert vits["reached"]


def test_goals_that_are_missed_say_so():
    slow = cell("vit-64", {FP32: 1.1, EAGER: 2.0, EXPORT: 1.0, INT8: 0.9}, lost={INT8: 0.006})
    assert [goal["reached"] for goal in goals([slow])] == [False, False, False]
    assert "slower in 1 of 1 cells" in goals([slow])[0]["found"]


def test_a_loss_that_is_not_known_does_not_reach_the_goal():
    unknown = cell("vit-64", {FP32: 1.0, EAGER: 2.0, EXPORT: 2.0, INT8: 0.5})
    assert not goals([unknown])[2]["reached"]


def test_cells_are_named_by_network_batch_and_threads():
    assert key_of("vit-64", 8, 2) == "vit-64 b8 t2"
    assert len(set(NETWORKS)) == 10


def test_a_designed_front_has_no_dominated_network_and_is_sorted_by_latency():
    from experiments.benchmarks.deployment_networks import PROFILE
    from hardware_profiles import Target, device

    space = UNTRAINED["vit-64"]()
    rows = design_front(space, seed=0, generations=5)
    latency = RooflineCostModel(space, Target(profile=device(PROFILE))).costs(rows).latency_ms
    score = entropy(space.layer_table(rows)).score
    assert len(rows) >= 5
    assert (np.diff(latency) >= 0).all()
    assert is_non_dominated(np.column_stack([-score, latency])).all()
    np.testing.assert_array_equal(rows, design_front(space, seed=0, generations=5))


def test_peers_files_compute_what_torch_computes(tmp_path):
    from deployment import open_session

    subnet = shaken_subnet(VIT, rows_of(VIT, 4)[-1])
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = subnet(images).numpy()
    exported = torch_file(subnet, 2)
    for data in (exported, fused_file(exported)):
        found = open_session(data).run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_drawn_network_is_kept(tmp_path, monkeypatch):
    from experiments.datasets import load_dataset

    data = load_dataset("digits")
    monkeypatch.setattr("experiments.benchmarks.deployment_networks._data", lambda: data)
    row = UNTRAINED["vit-64"]().extremes("smallest")[:1]
    monkeypatch.setattr("experiments.benchmarks.deployment_networks.design_front", lambda *_: row)
    first = drawn_network("vit-64", tmp_path, tmp_path / "none", 0)
    assert not first.is_trained
    assert first.family == "vit"
    assert first.judged.images.shape[1:] == (3, 64, 64)
    monkeypatch.setattr(
        "experiments.benchmarks.deployment_networks.design_front", lambda *_: pytest.fail("again")
    )
    again = drawn_network("vit-64", tmp_path, tmp_path / "none", 0)
    assert again.subnet.graph == first.subnet.graph
    assert (again.judged.labels == first.judged.labels).all()


@pytest.mark.slow
def test_a_cell_times_all_files_that_can_be_opened():
    from experiments.benchmarks.deployment_networks import Drawn
    from supernet import Split

    generator = torch.Generator().manual_seed(0)
    subnet = shaken_subnet(VIT, rows_of(VIT, 4)[-1])
    images = torch.randn(64, 3, 16, 16, generator=generator)
    with torch.no_grad():
        labels = subnet(images).argmax(1)
    drawn = Drawn(
        name="vit-16",
        subnet=subnet,
        is_trained=False,
        source="made up",
        judged=Split(images, labels),
        calibration=images,
    )
    found = timed_cell(drawn, 2, 1, selection_s=3.0, max_seconds=5.0)
    timed = [name for name, file in found["files"].items() if file["status"] == "timed"]
    assert {FP32, INT8, EAGER, EXPORT} <= set(timed)
    for name, file in found["files"].items():
        if name in timed:
            assert file["latency_ms"] > 0, name
        else:
            assert "pip install 'hwnas[openvino]'" in file["status"], name
    assert found["files"][FP32]["largest_difference"] < 1e-3
    assert 0 <= found["files"][INT8]["accuracy_lost"] <= 0.05
    assert found["macs"] == subnet.graph.macs
    assert goals([found])


def test_openvino_int8_is_judged_by_what_it_loses():
    from experiments.benchmarks.deployment_cells import PEERS_FP32, ROUNDED

    assert OPENVINO_INT8 in ROUNDED
    assert not set(ROUNDED) & set(PEERS_FP32)
