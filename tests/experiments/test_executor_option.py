import pytest

from experiments.config import QuickstartConfig, SearchConfig
from experiments.executor_option import EXECUTORS, ExecutorOptions, parse_resource
from records import BadInputError, UnknownNameError
from strategies import InProcess, LocalProcesses, RayWorkers


def test_names_mean_executors():
    assert ExecutorOptions().make() == InProcess()
    assert ExecutorOptions(name="processes", workers=3).make() == LocalProcesses(workers=3)
    ray = ExecutorOptions(name="ray", workers=3, address="head:6379").make()
    assert ray == RayWorkers(workers=3, address="head:6379")
    assert len(EXECUTORS) == 3


def test_options_become_settings():
    own = {"threads": 2, "timeout_s": 5.0, "retries": 0}
    processes = SearchConfig(executor="processes", **own).make_executor()
    assert processes == LocalProcesses(**own)
    ray = SearchConfig(
        executor="ray", cpus=0, gpus=0.5, resources=("device:rpi4=1", "x=0.5"), **own
    ).make_executor()
    resources = {"device:rpi4": 1.0, "x": 0.5}
    assert ray == RayWorkers(cpus=0, gpus=0.5, resources=resources, **own)


def test_options_that_cannot_be_used_are_refused_at_once():
    with pytest.raises(UnknownNameError, match=r"unknown executor 'rai'; did you mean 'ray'\?"):
        QuickstartConfig(executor="rai")
    with pytest.raises(BadInputError, match="--workers must be at least 1, got 0"):
        QuickstartConfig(executor="ray", workers=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_s": 5.0}, "--timeout is for workers: use it with --executor processes or ray"),
        ({"retries": 0}, "--retries is for workers"),
        ({"workers": 4}, "--workers is for workers: use it with --executor processes or ray"),
        ({"address": "local"}, "--address is .* with --executor ray"),
        ({"executor": "processes", "address": "local"}, "--address is .* with --executor ray"),
        ({"executor": "processes", "gpus": 0.0}, "--gpus is .* with --executor ray"),
        ({"executor": "processes", "resources": ("a=1",)}, "--resource is .* with --executor ray"),
        ({"executor": "ray", "timeout_s": 0.0}, "--timeout must be positive, in seconds, got 0"),
        ({"executor": "ray", "threads": 0}, "--threads must be at least 1, got 0"),
        ({"executor": "ray", "cpus": -1.0}, "--cpus must be at least 0, got -1"),
        ({"executor": "ray", "cpus": float("nan")}, "--cpus must be at least 0, got nan"),
        ({"executor": "ray", "gpus": float("inf")}, "--gpus must be finite, got inf"),
        ({"executor": "ray", "resources": ("device:rpi4",)}, "NAME=AMOUNT .* got 'device:rpi4'"),
        ({"executor": "ray", "resources": ("GPU=1",)}, "a worker's GPUs are --gpus"),
    ],
)
def test_an_option_that_does_not_fit_says_where_it_does(options, said):
    with pytest.raises(BadInputError, match=said):
        SearchConfig(**options)


@pytest.mark.parametrize("text", ["=1", "a=", "a=one", "a=0", "a=-1", "a=inf", "a=nan", ""])
def test_a_resource_is_a_name_and_a_positive_amount(text):
    with pytest.raises(BadInputError, match="must be NAME=AMOUNT"):
        parse_resource(text)
    assert parse_resource("a=b=2") == ("a=b", 2.0)


def test_a_run_in_process_says_nothing_of_workers():
    assert not {"executor", "workers", "address", "cpus"} & set(QuickstartConfig().to_json())
    said = QuickstartConfig(executor="processes", workers=4, retries=0).to_json()
    assert (said["executor"], said["workers"], said["retries"]) == ("processes", 4, 0)
    assert "timeout_s" not in said
