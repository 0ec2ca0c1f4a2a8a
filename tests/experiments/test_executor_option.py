import pytest

from experiments.config import QuickstartConfig
from experiments.executor_option import EXECUTORS, executor_by_name
from records import BadInputError, UnknownNameError
from strategies import InProcess, LocalProcesses, RayWorkers


def test_names_mean_executors():
    assert executor_by_name("in-process", 3, "auto") == InProcess()
    assert executor_by_name("processes", 3, "auto") == LocalProcesses(workers=3)
    assert executor_by_name("ray", 3, "head:6379") == RayWorkers(workers=3, address="head:6379")
    assert len(EXECUTORS) == 3


def test_options_that_cannot_be_used_are_refused_at_once():
    with pytest.raises(UnknownNameError, match=r"unknown executor 'rai'; did you mean 'ray'\?"):
        QuickstartConfig(executor="rai")
    with pytest.raises(BadInputError, match="--workers must be at least 1, got 0"):
        QuickstartConfig(executor="ray", workers=0)


def test_a_run_in_process_says_nothing_of_workers():
    assert not {"executor", "workers", "address"} & set(QuickstartConfig().to_json())
    said = QuickstartConfig(executor="processes", workers=4).to_json()
    assert (said["executor"], said["workers"]) == ("processes", 4)
