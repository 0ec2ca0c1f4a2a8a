"""Fine-tuning the network that `hwnas export` was asked for."""

import json
from types import SimpleNamespace

import pytest
import torch

from experiments.export import INHERITED
from experiments.export_command import Candidate, Exporter, ExportOptions
from experiments.export_tuning import TuningOptions, in_words, largest_subnet, tuned
from records import BadInputError, read_json
from supernet import Supernet, accuracy, train
from tests.experiments.test_export_command import TINY as OPTIONS
from tests.supernet.doubles import RECIPE, TINY, easy_data


@pytest.fixture(scope="module")
def run():
    """What fine-tuning reads of a finished run."""
    data = easy_data()
    supernet = train(Supernet(TINY), data, epochs=1, recipe=RECIPE)
    return SimpleNamespace(data=data, supernet=supernet, config=SimpleNamespace(seed=3))


@pytest.fixture(scope="module")
def subnet(run):
    return run.supernet.evaluator(run.data).subnet(TINY.extremes("smallest")[0])


def test_nothing_is_done_unless_asked(run, subnet):
    assert tuned(subnet, run, TuningOptions()) is None
    assert in_words(None) == INHERITED


def test_the_network_is_trained_further_and_the_bundle_will_say_so(run, subnet, capsys):
    found = tuned(subnet, run, TuningOptions(epochs=2))
    record = found.record
    assert record.accuracy_after > record.accuracy_before
    assert record.epochs == 2
    assert record.seed == 3
    text = in_words(found)
    assert "fine-tuned for 2 passes" in text
    assert f"{record.accuracy_after:.2%}" in text
    assert "largest subnet" not in text
    assert "fine-tuned for 2 passes" in " ".join(capsys.readouterr().out.split())


def test_the_largest_subnet_teaches_and_rounding_is_learned(run, subnet):
    options = TuningOptions(epochs=1, distil=True, quantisation_aware=True)
    found = tuned(subnet, run, options)
    teacher = largest_subnet(run)
    assert found.record.teacher["parameters"] == teacher.graph.parameters
    assert found.record.quantised["weight_steps"] == 64
    assert "predictions of the largest subnet, rounded as its static int8" in in_words(found)
    assert found.record.quantised["fp32_blocks"] == []


def test_blocks_that_the_file_leaves_in_fp32_learn_no_rounding(run, subnet):
    options = TuningOptions(epochs=1, quantisation_aware=True)
    found = tuned(subnet, run, options, ("stem", "classifier"))
    assert found.record.quantised["fp32_blocks"] == ["stem", "classifier"]


def test_the_largest_subnet_is_the_best_of_them(run):
    evaluator = run.supernet.evaluator(run.data)
    networks = [evaluator.subnet(TINY.graph(row)) for row in TINY.extremes("largest")]
    assert len(networks) > 1
    best = max(accuracy(network, run.data.validation) for network in networks)
    assert accuracy(largest_subnet(run), run.data.validation) == best


def test_the_facts_of_the_bundle_are_those_of_the_weights_in_it(run, subnet, monkeypatch):
    monkeypatch.setattr("experiments.export_command.data_source", lambda config: {})
    run.folder, run.front_file = SimpleNamespace(resolve=lambda: SimpleNamespace(name="run")), {}
    exporter = Exporter.__new__(Exporter)
    exporter.run, exporter.options = run, ExportOptions(run="run")
    monkeypatch.setattr(Exporter, "limits", {})
    point = SimpleNamespace(accuracy=0.5, genes=(0, 1))
    for found in (None, tuned(subnet, run, TuningOptions(epochs=1))):
        one = Candidate(point=point, subnet=subnet, selection=None, timing=None, tuned=found)
        facts = json.loads(json.dumps(exporter._facts(one, 0)))
        assert facts["training"] == in_words(found)
        if found is None:
            assert facts["fine_tuning"] is None
            assert facts["validation_accuracy"] == 0.5
        else:
            assert facts["fine_tuning"] == found.record.to_json()
            assert facts["validation_accuracy"] == found.record.accuracy_after


def test_the_command_tunes_exports_and_writes_down_what_it_did(hwnas, tmp_path):
    """From the command line to the bundle, for a target that nothing is timed on."""
    searched, out = tmp_path / "run", tmp_path / "bundle"
    assert hwnas("search", "--out", searched, *OPTIONS).code == 0
    outcome = hwnas(
        "export", searched, "--target", "raspberry-pi-4", "--out", out, "--fine-tune", "1",
        "--distil", "--quantisation-aware",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    facts = read_json(out / "bundle.json", kind="bundle")["facts"]
    told = facts["fine_tuning"]
    assert told["epochs"] == 1
    assert told["quantised"]["calibration_images"] > 0
    assert told["teacher"]["parameters"] > 0
    assert told["accuracy_after"] >= told["accuracy_before"]
    assert facts["validation_accuracy"] == told["accuracy_after"]
    assert "fine-tuned for 1 pass over" in facts["training"]
    wrong = hwnas("export", searched, "--target", "raspberry-pi-4", "--distil")
    assert wrong.code == 2
    assert "belong to --fine-tune EPOCHS" in wrong.err


@pytest.mark.parametrize(
    "options", [{"epochs": -1}, {"distil": True}, {"quantisation_aware": True}]
)
def test_bad_options(options):
    with pytest.raises(BadInputError, match="--fine-tune"):
        TuningOptions(**options)


def test_the_given_network_stays_as_it_is(run, subnet):
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    tuned(subnet, run, TuningOptions(epochs=1))
    assert all(torch.equal(v, before[n]) for n, v in subnet.state_dict().items())
