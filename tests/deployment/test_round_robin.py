import math
from contextlib import contextmanager

import numpy as np
import pytest

from deployment.kit.measure import MAX_ROUNDS
from deployment.runtimes import Opened, time_in_turns
from records import BadInputError


class Fake(Opened):
    """Notes what was done to it, in a log that several share."""

    def __init__(self, name, log, threads=1, seconds=0.0):
        self.log, self.seconds = log, seconds
        super().__init__(name, (2, 1, 4, 4), threads)

    def bind(self, images):
        self.images = images

    def run(self):
        self.log.append((self.name, "run"))

    def logits(self):
        return self.images.reshape(len(self.images), -1)

    @contextmanager
    def visiting(self):
        self.log.append((self.name, "in"))
        yield
        self.log.append((self.name, "out"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only while something sleeps."""
    now = [0.0]
    sleeps = []

    def sleep(seconds):
        now[0] += seconds
        sleeps.append(seconds)

    monkeypatch.setattr("deployment.runtimes.round_robin.time.sleep", sleep)
    monkeypatch.setattr("deployment.runtimes.round_robin.time.perf_counter", lambda: now[0])
    return sleeps


def visits(log):
    return [name for name, what in log if what == "in"]


def test_each_round_visits_every_network_once_in_an_order_of_its_own():
    log = []
    timings = time_in_turns([Fake(n, log) for n in "abcd"], rounds=6, runs=2, seed=3)
    order = visits(log)[4:]  # the first four allocate
    rounds = [order[i : i + 4] for i in range(0, 24, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert [t.rounds for t in timings] == [6] * 4
    assert [len(t.samples_ms) for t in timings] == [12] * 4


def test_a_visit_begins_with_a_run_that_is_not_timed():
    log = []
    time_in_turns([Fake("a", log)], rounds=1, runs=3)
    assert log[3:] == [("a", "in"), *[("a", "run")] * 4, ("a", "out")]


def test_the_order_and_the_images_follow_from_the_seed():
    def done(seed):
        log = []
        networks = [Fake(n, log) for n in "abcde"]
        time_in_turns(networks, rounds=4, runs=1, seed=seed)
        return visits(log), networks[2].images

    (first, images), (again, same), (other, unlike) = done(0), done(0), done(1)
    assert first == again
    np.testing.assert_array_equal(images, same)
    assert first != other
    assert not np.array_equal(images, unlike)


def test_threads_are_given_time_to_go_to_sleep_before_each_visit(clock):
    log = []
    time_in_turns([Fake("a", log, threads=2), Fake("b", log, threads=2)], rounds=3, runs=1)
    assert [s for s in clock if s > 0] == [0.02] * 6
    clock.clear()
    time_in_turns([Fake("a", log)], rounds=3, runs=1)
    assert not [s for s in clock if s > 0]


def test_no_round_begins_after_the_longest_time_once_there_are_three(clock):
    networks = [Fake("a", [])]
    (timing,) = time_in_turns(networks, rounds=50, runs=1, pause_s=1.0, max_seconds=5.0)
    assert timing.rounds == 5
    (timing,) = time_in_turns(networks, rounds=50, runs=1, pause_s=1.0, max_seconds=0.5)
    assert timing.rounds == 3


def test_further_rounds_fill_the_shortest_time_up_to_a_bound(clock):
    (timing,) = time_in_turns([Fake("a", [])], rounds=2, runs=1, min_seconds=4.0)
    assert timing.rounds == MAX_ROUNDS
    assert sum(clock) == pytest.approx(4.0)


def test_progress_is_told_round_by_round():
    told = []
    time_in_turns([Fake("a", [])], rounds=3, runs=1, on_round=lambda *x: told.append(x))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_preemption_is_known_only_where_the_caller_computes():
    fake = Fake("a", [])
    other = Fake("b", [])
    other.in_caller = False
    seen, unseen = time_in_turns([fake, other], rounds=2, runs=2)
    assert 0 <= seen.preempted <= 1
    assert math.isnan(unseen.preempted)
    (threads,) = time_in_turns([Fake("c", [], threads=2)], rounds=1, runs=1, pause_s=0.0)
    assert math.isnan(threads.preempted)


@pytest.mark.parametrize("numbers", [{"rounds": 0}, {"runs": 0}])
def test_no_rounds_or_runs_are_refused(numbers):
    with pytest.raises(BadInputError, match="rounds and runs must be >= 1"):
        time_in_turns([Fake("a", [])], **numbers)


def test_networks_of_different_threads_are_refused():
    with pytest.raises(BadInputError, match=r"one number of threads, got \[1, 2\]"):
        time_in_turns([Fake("a", []), Fake("b", [], threads=2)])
    with pytest.raises(BadInputError, match="got no network"):
        time_in_turns([])


def test_networks_with_threads_run_untimed_until_they_are_awake(clock):
    log = []
    awake = Fake("a", log, threads=2)
    time_in_turns([awake], rounds=1, runs=3)
    first, visit = log[:3], log[3:]
    assert first == [("a", "in"), ("a", "run"), ("a", "out")]
    assert visit.count(("a", "run")) == 1 + 100 + 3  # the clock stands still while it runs
    log.clear()
    time_in_turns([awake], rounds=1, runs=3, pause_s=0.0)
    assert log[3:].count(("a", "run")) == 4
