from pathlib import Path

import pytest

from experiments.config import QuickstartConfig, SearchConfig
from records import BadInputError


@pytest.mark.parametrize("name", ["max_latency_ms", "max_energy_mj", "max_memory_kb"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_limit_is_a_positive_number(name, value):
    with pytest.raises(BadInputError, match=f"--{name.replace('_', '-')} must be a positive"):
        QuickstartConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("evaluations", 19, "at least 20"),
        ("points", 2, "at least 3"),
        ("calibration_networks", 19, "at least 20"),
        ("seed", -1, "at least 0"),
        ("seed", 2**63, "at most 9223372036854775807"),
        ("epochs", 0, "at least 1"),
        ("image_size", 7, "8 to 1024"),
        ("image_size", 1025, "8 to 1024"),
        ("refit_threshold", -0.1, ">= 0"),
        ("refit_threshold", float("nan"), ">= 0"),
    ],
)
def test_an_option_out_of_range_names_itself_and_what_is_allowed(name, value, said):
    with pytest.raises(BadInputError, match=f"--{name.replace('_', '-')} .*{said}"):
        QuickstartConfig(**{name: value})


def test_limits_are_by_metric_and_kib_become_bytes():
    config = QuickstartConfig(max_latency_ms=2.0, max_memory_kb=10.0)

    assert config.limits == {"latency_ms": 2.0, "peak_memory_bytes": 10240.0}
    assert QuickstartConfig().limits == {}


def test_epochs_follow_the_dataset_and_are_kept_as_a_number():
    demonstration = QuickstartConfig(dataset="digits", space="cnn").training_epochs
    assert demonstration > QuickstartConfig(dataset="cifar-10").training_epochs >= 1
    assert QuickstartConfig(dataset="digits", epochs=2).training_epochs == 2
    kept = QuickstartConfig(dataset="digits", space="cnn", out=Path("a") / "b").to_json()
    assert (kept["out"], kept["epochs"]) == ("a/b", demonstration)


def test_a_search_in_brought_weights_has_no_epochs():
    with pytest.raises(BadInputError, match=r"--epochs is for training, and --supernet brings"):
        SearchConfig(epochs=2, supernet=Path("weights"))
    searched = SearchConfig(supernet=Path("weights"))
    assert not searched.trains
    assert "epochs" not in searched.to_json()


def test_with_brought_weights_the_epochs_of_a_quickstart_are_those_of_its_baseline():
    config = QuickstartConfig(epochs=2, supernet=Path("weights"))
    assert config.trains
    assert config.to_json()["epochs"] == 2
