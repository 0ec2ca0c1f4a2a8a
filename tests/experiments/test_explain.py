"""`hwnas explain`: the table, the ceiling, the picture."""

import json

import numpy as np
import pytest

from deployment import LocalRunner, emit
from deployment.node_profile import NodeProfile
from experiments.explain import explain_file, explained
from experiments.explain_command import explain
from experiments.explain_picture import save_picture
from records import BadInputError, MissingFileError, StorageError
from search_spaces import CNNSpace
from supernet import Subnet
from tests.latency_models.doubles import TARGET

SPACE = CNNSpace(image_size=16)
ROW = SPACE.sample(1, np.random.default_rng(0))[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    subnet = Subnet(SPACE.graph(ROW)).eval()
    (folder / "model.onnx").write_bytes(emit(subnet, 1).SerializeToString())
    return folder


def node(name, *, macs, read, write, weights, ms=1.0):
    return NodeProfile(
        name=name, operator="Conv", inputs=((1, 3, 8, 8),), outputs=((1, 8, 8, 8),),
        weight_bytes=weights, read_bytes=read, write_bytes=write, macs=macs, ms=ms,
    )  # fmt: skip


def test_ceiling_is_the_roofline_of_the_levels_that_hold_the_data():
    nodes = [
        node("busy", macs=50_000_000, read=8_000, write=8_000, weights=4_000),
        node("wide", macs=1_000, read=100_000, write=100_000, weights=0),
        node("heavy", macs=1_000, read=100, write=100, weights=4_000_000),
    ]
    busy, wide, heavy = explained(nodes, TARGET)
    assert busy.compute_ms == pytest.approx(2 * 50e6 / 10e9 * 1e3)
    # tensors of 16 kB come from the 32 KiB level at 100 GB/s, all weights from main memory at 10
    assert busy.memory_ms == pytest.approx(16e3 / 100e9 * 1e3 + 4e3 / 10e9 * 1e3)
    assert busy.bound == "compute"
    assert wide.memory_ms == pytest.approx(200e3 / 40e9 * 1e3)
    assert heavy.memory_ms == pytest.approx(200 / 100e9 * 1e3 + 4e6 / 10e9 * 1e3)
    assert (wide.bound, heavy.bound) == ("memory", "memory")
    assert wide.ms == wide.ceiling_ms == 0.002 + wide.memory_ms  # 2 us to launch
    assert sum(kernel.share for kernel in (busy, wide, heavy)) == pytest.approx(1)
    tiny = explained([node("tiny", macs=1, read=4, write=4, weights=0)], TARGET, total_ms=1.0)[0]
    assert tiny.bound == "launch"
    assert tiny.gap == pytest.approx(1.0 / tiny.ceiling_ms)


def test_the_total_is_shared_out_by_the_profilers_times():
    sizes = {"macs": 1000, "read": 400, "write": 400, "weights": 40}
    nodes = [node("a", ms=0.06, **sizes), node("b", ms=0.03, **sizes), node("c", ms=0, **sizes)]
    a, b, c = explained(nodes, TARGET, total_ms=0.06)
    assert (a.ms, b.ms, c.ms) == pytest.approx((0.04, 0.02, 0))
    assert (a.share, b.share) == pytest.approx((2 / 3, 1 / 3))
    assert a.gap == pytest.approx(0.04 / a.ceiling_ms)
    even = explained([node(n, **{**sizes, "ms": 0}) for n in "ab"], TARGET, total_ms=0.06)
    assert [kernel.ms for kernel in even] == pytest.approx([0.03, 0.03])


def test_another_device_is_predicted_with_its_precision(model):
    wide = explain_file(model, "raspberry-pi-4")
    narrow = explain_file(model / "model.onnx", "stm32h743", precision="int8")
    assert wide.source.startswith("predicted")
    assert narrow.total_ms > wide.total_ms
    assert narrow.target.endswith("int8")
    assert all(kernel.gap == pytest.approx(1) for kernel in wide.kernels if kernel.gap is not None)
    assert sum(wide.bound_ms.values()) == pytest.approx(wide.total_ms)


def test_here_it_is_measured_and_the_images_way_is_added(model, tmp_path, capsys):
    found = explain(model, "local", image="64x48", out=tmp_path / "a.png", top=3)
    assert found.source.startswith("measured")
    assert [name for name, _ in found.pipeline_parts()] == [
        "decode", "resize", "normalise", "transfer", "network",
    ]  # fmt: skip
    assert found.side == 16
    assert found.total_ms == pytest.approx(found.pipeline_parts()[-1][1])
    (alone,) = LocalRunner().time([(model / "model.onnx").read_bytes()], threads=1, rounds=15)
    # a machine may be several times as fast a second later, for what else runs on it
    assert 1 / 20 < found.total_ms / alone.latency_ms < 20
    assert found.profiled_ms > alone.latency_ms / 20
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "gap to ceiling" in printed
    assert "held back by" in printed
    assert f"the kernels add up to {found.profiled_ms:.4f} ms" in printed
    assert "decode" in printed


@pytest.mark.slow  # meaningful only while nothing else runs
def test_the_total_is_that_of_a_run_without_the_profiler(model):
    found = explain(model, "local")
    (alone,) = LocalRunner().time([(model / "model.onnx").read_bytes()], threads=1, rounds=15)
    assert found.total_ms == pytest.approx(alone.latency_ms, rel=0.3)
    assert found.profiled_ms > 1.05 * alone.latency_ms  # why its times are shares only


def test_an_architecture_is_explained_like_its_file(model, tmp_path):
    genes = tmp_path / "genes.json"
    content = {"space": SPACE.to_json(), "genes": ROW.tolist()}
    genes.write_text(json.dumps(content))
    found = explain(None, "raspberry-pi-4", genes_file=genes)
    assert found.total_ms == pytest.approx(explain_file(model, "raspberry-pi-4").total_ms)
    twice = explain(None, "raspberry-pi-4", genes_file=genes, batch=2)
    assert twice.total_ms > 1.5 * found.total_ms
    drawn = explain(None, "raspberry-pi-4", space="cnn")
    assert drawn.pipeline is None
    assert drawn.pipeline_parts() == []
    save_picture(drawn, tmp_path / "b.svg")
    assert "Where" in (tmp_path / "b.svg").read_text()


def test_what_cannot_be_explained_is_refused(model, tmp_path):
    with pytest.raises(MissingFileError, match="there is no model"):
        explain_file(tmp_path / "none.onnx")
    with pytest.raises(BadInputError, match="either a model or"):
        explain(model, "local", space="cnn")
    with pytest.raises(BadInputError, match="either a model or"):
        explain(None, "local")


def test_predicted_times_show_the_roofline_instead_of_a_gap(model, capsys):
    explain(model, "raspberry-pi-4")
    printed = capsys.readouterr().out
    assert "compute ms" in printed
    assert "memory ms" in printed
    assert "gap to ceiling" not in printed


def test_options_that_cannot_be_are_refused_before_any_work(model, tmp_path):
    with pytest.raises(BadInputError, match="top must be 0"):
        explain(model, "local", top=-1)
    with pytest.raises(BadInputError, match=r"\.png, \.svg, \.pdf by its suffix"):
        explain(tmp_path / "none.onnx", "local", out=tmp_path / "a.txt")
    with pytest.raises(BadInputError, match="quantise the file"):
        explain_file(model, "local", precision="int8")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        explain(model, "raspberry-pi-4", out=tmp_path / "file" / "a.png")


def test_the_longest_kernels_are_printed_and_the_sum_of_the_others(model, capsys):
    found = explain(model, "raspberry-pi-4", top=2)
    count = len(found.kernels)
    assert count > 3
    line = next(x for x in capsys.readouterr().out.splitlines() if f"{count - 2} others" in x)
    rest = sum(sorted(k.ms for k in found.kernels)[:-2])
    assert f"{rest:.4f}" in line
    explain(model, "raspberry-pi-4", top=0)
    assert "others" not in capsys.readouterr().out
