import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from supernet import TrainingError
from supernet.training import make_optimiser
from supernet.training.guard import MOST_RESTORED, MOST_SKIPPED, Guard
from supernet.training.optimisation import MovingAverage
from tests.supernet.doubles import RECIPE


class Run:
    """A small network that is trained by hand."""

    def __init__(self, total=1000, **options):
        self.network = nn.Linear(3, 2)
        recipe = replace(RECIPE, **options)
        self.optimiser = make_optimiser(self.network, recipe)
        self.average = MovingAverage(self.network, 0.9)
        self.guard = Guard(recipe, self.network, self.optimiser, total, self.average)
        self.steps = 0

    def good(self, count=1):
        for _ in range(count):
            for p in self.network.parameters():
                generator = torch.Generator().manual_seed(self.steps)
                p.grad = torch.randn(p.shape, generator=generator)
            self.optimiser.step()
            self.average.update(self.steps)
            self.guard.good_step()
            self.steps += 1

    def bad(self, count=1):
        for _ in range(count):
            self.guard.bad_step(self.steps)
            self.steps += 1

    def state(self):
        """All that a good state consists of, as plain lists."""
        moments = [v.tolist() for s in self.optimiser.state.values() for v in s.values()]
        weights = [p.tolist() for p in self.network.parameters()]
        return weights, moments, {k: v.tolist() for k, v in self.average.weights.items()}


def test_a_loss_far_above_what_is_usual_is_a_spike():
    guard = Run(spike_factor=10).guard
    assert guard.accepts("largest", 5.0)  # nothing is known yet
    for _ in range(200):
        assert guard.accepts("largest", 1.0)
    assert guard.usual["largest"] == pytest.approx(1.0, abs=1e-3)
    assert guard.accepts("largest", 10.9)
    assert guard.accepts("smallest", 500.0)  # each role has its own
    assert not guard.accepts("largest", 1000.0)


def test_negative_losses_are_judged_by_their_size():
    guard = Run(spike_factor=10).guard
    for _ in range(100):
        assert guard.accepts("random", -0.5)
    assert guard.accepts("random", 0.5)
    assert not guard.accepts("random", -50.0)


def test_one_spike_changes_little_and_a_level_that_lasts_becomes_usual():
    guard = Run().guard
    for _ in range(100):
        guard.accepts("random", 0.01)
    assert not guard.accepts("random", 1e9)
    assert guard.usual["random"] < 0.2
    accepted = [guard.accepts("random", 5.0) for _ in range(10)]
    assert not accepted[0]
    assert accepted[3:] == [True] * 7


def test_after_too_many_bad_steps_the_last_good_state_returns(caplog):
    run = Run()
    run.good()
    kept = run.state()
    run.good(run.guard.copy_every - 1)
    assert run.state() != kept
    run.bad(MOST_SKIPPED - 1)
    assert run.state() != kept
    run.good()  # the count begins anew; this is the second copy
    kept = run.state()
    run.good(5)
    assert run.state() != kept
    with caplog.at_level(logging.WARNING):
        run.bad(MOST_SKIPPED)
    assert run.state() == kept
    assert "back to the last good weights" in caplog.text


@pytest.mark.parametrize(("total", "every"), [(1, 1), (120, 6), (10_000, 100)])
def test_short_runs_are_copied_more_often(total, every):
    assert Run(total).guard.copy_every == every


def test_a_state_that_returned_stays_good_when_training_goes_on():
    run = Run()
    run.good()
    kept = run.state()
    for _ in range(MOST_RESTORED):
        run.good(3)  # must not write into the copy
        run.bad(MOST_SKIPPED)
        assert run.state() == kept


def test_repeated_trouble_ends_the_training():
    run = Run(learning_rate=0.125)
    run.good()
    run.bad(MOST_RESTORED * MOST_SKIPPED)
    run.bad(MOST_SKIPPED - 1)
    why = rf"{MOST_SKIPPED} steps in a row.*not finite.*step 60.*lower learning_rate \(now 0.125\)"
    with pytest.raises(TrainingError, match=why):
        run.bad()


@pytest.mark.parametrize(("total", "most"), [(1000, MOST_SKIPPED), (7, 7)])
def test_without_a_good_state_the_training_ends_at_once(total, most):
    run = Run(total)
    run.bad(most - 1)
    with pytest.raises(TrainingError, match=f"of {most} steps in a row"):
        run.bad()


def test_it_continues_from_its_state():
    run = Run()
    run.good(2)
    run.guard.accepts("largest", 2.0)
    run.guard.dropped = 3
    run.bad(5)
    again = Run()
    again.guard.restore(run.guard.state())
    assert again.guard.state() == run.guard.state()
    loaded = again.state()
    again.bad(MOST_SKIPPED - 5 - 1)
    with torch.no_grad():
        again.network.weight.fill_(9)
    again.bad()  # returns to what was resumed from
    assert again.state() == loaded
