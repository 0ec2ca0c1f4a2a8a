"""The table of limits before a run."""

import numpy as np

from experiments.closing import picture_of_limits, warned_already
from latency_models import MeasuredCostModel, RooflineCostModel
from strategies import Feasibility, Problem
from tests.latency_models.doubles import CNN, TARGET
from tests.strategies.doubles import FormulaAccuracy


def shown(limits, capsys):
    roofline = RooflineCostModel(CNN, TARGET)
    genes = CNN.sample(20, np.random.default_rng(0))
    costs = MeasuredCostModel(CNN, TARGET, genes, roofline.latency_ms(genes))
    problem = Problem(CNN, FormulaAccuracy(CNN), [costs], limits)
    nothing = Feasibility(ranges=(), feasible_genes=genes[:0])
    picture_of_limits(nothing, problem)
    return " ".join(capsys.readouterr().out.split())


def test_a_limit_on_a_modelled_energy_is_warned_of_on_the_console(capsys):
    said = shown({"energy_mj": 100.0}, capsys)
    assert "warning: energy_mj <= 100 on 'bench-t1-b1': this cost is modelled" in said


def test_what_the_table_says_is_not_logged_as_well(capsys, caplog):
    with warned_already():
        shown({"energy_mj": 100.0}, capsys)
    assert not caplog.records
    shown({"energy_mj": 100.0}, capsys)
    assert len(caplog.records) == 1


def test_a_limit_on_a_measured_latency_is_not(capsys):
    assert "warning" not in shown({"latency_ms": 100.0}, capsys)
