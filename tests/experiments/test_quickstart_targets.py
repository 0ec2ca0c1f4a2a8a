"""Runs for several named targets and for int8 ones, and what is refused beforehand."""

import numpy as np
import pytest

from experiments import load_dataset, make_space
from experiments.config import QuickstartConfig
from experiments.quickstart_costs import cost_models
from experiments.quickstart_problem import make_problem
from hardware_profiles import Target, device
from latency_models import MeasuredCostModel, RooflineCostModel, save_target
from records import BadInputError, UnknownNameError
from supernet import Supernet

PI, PHONE = "raspberry-pi-4-t4-b1", "pixel-3-t1-b1"


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", train_images=200)


@pytest.fixture(scope="module")
def space(data):
    return make_space("cnn", data)


@pytest.fixture(scope="module")
def problem_for(data, space):
    def made(*targets, **options):
        config = QuickstartConfig(targets=targets, **options)
        return make_problem(config, data, Supernet(space), cost_models(config, space, None))

    return made


def test_each_target_has_its_own_limits_and_weight(problem_for):
    made = problem_for(
        "raspberry-pi-4:threads=4,max_latency_ms=0.05,weight=2", "pixel-3", max_latency_ms=3.0
    )
    assert made.targets == (PI, PHONE)
    assert {(c.metric, c.target): c.limit for c in made.constraints} == {
        ("latency_ms", PI): 0.05,
        ("latency_ms", PHONE): 3.0,
    }
    assert dict(made.weights) == {PI: 2.0, PHONE: 1.0}
    assert not made.together
    assert problem_for("pixel-3", "raspberry-pi-5", together=True).together


def test_int8_targets_read_the_accuracy_of_int8_files(problem_for):
    fp32 = problem_for("raspberry-pi-5")
    int8 = problem_for("raspberry-pi-5:precision=int8", "apple-m1:precision=int8")
    assert type(fp32.accuracy).__name__ == "SupernetEvaluator"
    assert (type(int8.accuracy).__name__, int8.accuracy.mode) == ("QuantisedEvaluator", "static")
    with pytest.raises(BadInputError, match=r"files of one precision.*WithPrecision"):
        problem_for("raspberry-pi-5", "raspberry-pi-5:precision=int8")


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("raspbery-pi-4", UnknownNameError, "did you mean 'raspberry-pi-4'"),
        ("pixel-3:command_file=board.yaml", BadInputError, "was never measured"),
        ("local:command_file=board.yaml", BadInputError, "no command file"),
        ("local:runtime=tflite", BadInputError, "no other runtime"),
        ("raspberry-pi-4:threads=64", BadInputError, "more than the 4 cores"),
    ],
)
def test_targets_that_do_not_fit_are_refused(problem_for, target, error, said):
    with pytest.raises(error, match=said):
        problem_for(target)


def test_a_measured_target_is_used_as_it_was_measured(problem_for, space, tmp_path):
    target = Target(profile=device("raspberry-pi-4"), threads=4)
    genes = space.sample(20, np.random.default_rng(0))
    latencies = 0.02 + 3 * RooflineCostModel(space, target).latency_ms(genes)
    save_target(tmp_path / "pi", [MeasuredCostModel(space, target, genes, latencies)])
    with pytest.raises(BadInputError, match="used as it was measured: leave out threads"):
        problem_for(f"{tmp_path / 'pi'}:threads=2")
    measured = problem_for(f"{tmp_path / 'pi'}:max_latency_ms=5", "pixel-3")
    assert [type(c).__name__ for c in measured.costs] == ["MeasuredCostModel", "RooflineCostModel"]


@pytest.fixture(scope="module")
def several(tmp_path_factory, finish):
    return finish(
        tmp_path_factory.mktemp("several") / "run", "--space", "cnn",
        "--target", "raspberry-pi-4:threads=4,weight=2", "--target", "pixel-3",
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_for_several_targets_has_a_front_for_each(several):
    front = several.front
    assert [t["name"] for t in front["targets"]] == [PI, PHONE]
    for target in front["targets"]:
        assert target["cost_model"]["networks"] == 0
        assert target["cost_model"]["source"].startswith("modelled: roofline")
        own = [p for p in front["points"] if p["target"] == target["name"]]
        assert [p["kind"] for p in own].count("searched") == 3
        assert [p["kind"] for p in own].count("baseline") == 1
        assert all(p["measured"]["latency_ms"] is None for p in own)
    assert front["compromise"]["weights"] == {PI: 2.0, PHONE: 1.0}
    assert len(front["compromise"]["networks"]) >= 1


@pytest.mark.slow
def test_tables_and_report_call_modelled_what_was_never_measured(several):
    said = " ".join(several.outcome.out.split())
    assert "modelled ms" in said
    assert "predicted ms" not in said
    assert f"Good on all targets (validation accuracy, predicted latency; weights {PI} 2" in said
    assert f"no runner reaches {PI}, {PHONE}, so no file was timed there" in said
    report = (several.folder / "report.html").read_text()
    assert "none of them timed on its target" in report
    assert "Good on every target" in report
    assert "&ndash; measured" not in report
    assert "– measured" not in report


@pytest.mark.slow
def test_an_int8_run_reports_the_accuracy_of_its_files(tmp_path, finish, data):
    from deployment import open_session

    target = "raspberry-pi-5:precision=int8"
    run = finish(tmp_path / "run", "--space", "cnn", "--target", target)
    for point in run.front["points"]:
        assert point["precision"] == "int8"
        session = open_session(run.folder / point["file"])
        name = session.get_inputs()[0].name
        images, labels = data.test.images.numpy(), data.test.labels.numpy()
        found = [session.run(None, {name: image[None]})[0].argmax() for image in images]
        assert point["test_accuracy"] == pytest.approx((np.array(found) == labels).mean())
