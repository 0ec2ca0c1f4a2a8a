import itertools
import threading
import time

import numpy as np
import pytest

from records import BadInputError, Measured
from strategies import EvaluationError
from strategies.executor_pool import START_TRIES, Pool
from strategies.executor_workers import Ready
from tests.strategies.threads_executor import DiesError, Threads, ThreadWorker


class Clock:
    """Stands still until a row hangs, which takes a second of it: no other row is too slow."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of the pools of a test, for the rows that hang in it."""
    clock = Clock()
    monkeypatch.setattr("strategies.executor_pool.time", clock)
    return clock


class Scripted:
    """Does for a row what a script says; the first gene is the row's name and its value."""

    metric = "accuracy"
    weights_hash = ""

    def __init__(self, script=None, seconds=None, clock=None):
        self.script = {row: list(todo) for row, todo in (script or {}).items()}
        self.seconds = seconds or {}
        self.tries = []
        self.gate = threading.Event()
        self.clock = clock or Clock()

    def evaluate(self, genes):
        return [self._evaluate(int(row[0])) for row in genes]

    def _evaluate(self, row):
        self.tries.append(row)
        time.sleep(self.seconds.get(row, 0))
        todo = self.script.get(row) or ["answer"]
        kind = todo.pop(0)
        if kind == "raise":
            raise ValueError(f"row {row} is odd")
        if kind == "die":
            raise DiesError
        if kind == "hang":
            self.clock.now += 1.0
            self.gate.wait(60)
        if kind == "nan":
            return Measured(value=float("nan"))
        if kind == "percent":
            return Measured(value=87.5)
        if kind == "failed":
            return Measured(value=None, status="failed", reason="too large")
        return Measured(value=row / 100)


def rows(*names):
    return np.array([[name, 0] for name in names], np.int16)


def collected(session, batches):
    """Submits all batches and waits for everything: by row its result and its worker."""
    batches, found = list(batches), {}
    total = sum(map(len, batches))
    while len(found) < total:
        while batches and session.has_room:
            session.submit(batches.pop(0))
        for finished in session.wait():
            for row, result in zip(finished.genes.tolist(), finished.results, strict=True):
                assert row[0] not in found, "every row comes back once"
                found[row[0]] = (result, finished.worker)
    return found


def run(evaluator, batches, **settings):
    with Threads(**settings).open(evaluator) as session:
        return collected(session, batches)


def test_every_row_comes_back_once_with_its_own_result():
    batches = [rows(*range(start, start + 5)) for start in range(0, 100, 5)]
    found = run(Scripted(), batches, workers=3)
    assert {row: result.value for row, (result, _) in found.items()} == {
        row: row / 100 for row in range(100)
    }
    assert len({worker for _, worker in found.values()}) == 3


def test_every_row_comes_back_whatever_goes_wrong():
    rng = np.random.default_rng(0)
    kinds = ("raise", "die", "nan", "percent", "answer", "answer")
    script = {row: rng.choice(kinds, 4).tolist() for row in range(60)}
    batches = [rows(*range(start, start + 4)) for start in range(0, 60, 4)]
    found = run(Scripted(script), batches, workers=4)
    assert set(found) == set(range(60))
    for row, (result, _) in found.items():
        assert (result.value == row / 100) if result.status == "ok" else result.reason


def test_a_slow_row_holds_nobody_up():
    evaluator = Scripted({0: ["hang"]})
    with Threads(workers=2, queued=2).open(evaluator) as session:
        for name in range(4):
            session.submit(rows(name))
        early = []
        while len(early) < 3:
            early += [int(f.genes[0, 0]) for f in session.wait()]
        assert sorted(early) == [1, 2, 3]
        evaluator.gate.set()
        assert session.wait()[0].genes[0, 0] == 0


def test_what_is_in_flight_is_bounded():
    evaluator = Scripted({0: ["hang"]})
    with Threads(workers=1, queued=1).open(evaluator) as session:
        session.submit(rows(0))
        session.submit(rows(1))
        assert not session.has_room
        with pytest.raises(BadInputError, match="2 batches are in flight"):
            session.submit(rows(2))
        assert session.ready() == []
        evaluator.gate.set()
        session.wait()
        assert session.has_room


def test_a_row_that_failed_once_is_measured():
    evaluator = Scripted({1: ["raise"]})
    assert run(evaluator, [rows(1)], workers=2)[1][0].value == 0.01
    assert evaluator.tries == [1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_take_turns_with_a_row_that_always_fails(workers):
    served = []

    class Watching(ThreadWorker):
        def evaluate(self, genes):
            served.append(self.name)
            super().evaluate(genes)

    evaluator = Scripted({7: ["raise"] * 9})
    settings = Threads(workers=workers, retries=3)
    with Pool(lambda name, report: Watching(name, report, evaluator), settings) as session:
        session.submit(rows(7))
        result = session.wait()[0].results[0]
    assert result.status == "failed"
    assert result.reason == "ValueError: row 7 is odd (4 tries)"
    assert len(served) == 4
    assert all(a != b for a, b in itertools.pairwise(served)) == (workers == 2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "ValueError: row 1 is odd"),
        ("nan", "BadInputError: an ok measurement needs a finite value"),
        ("percent", "returned accuracy 87.5; it must be a share in 0..1 (divide percentages"),
        ("die", "it died"),
    ],
)
def test_a_row_at_fault_fails_alone_with_its_reason(kind, reason):
    evaluator = Scripted({1: [kind] * 9})
    found = run(evaluator, [rows(0, 1, 2)], workers=2, retries=1)
    assert found[1][0].status == "failed"
    assert reason in found[1][0].reason
    assert found[1][0].reason.endswith("(2 tries)")
    assert [found[row][0].value for row in (0, 2)] == [0.0, 0.02]


def test_an_evaluator_that_says_itself_that_a_row_failed_is_not_asked_again():
    evaluator = Scripted({1: ["failed"]})
    found = run(evaluator, [rows(0, 1)], workers=2)
    assert found[1][0].reason == "too large"
    assert evaluator.tries == [0, 1]


def test_a_row_that_hangs_fails_when_its_time_is_up(clock):
    evaluator = Scripted({1: ["hang"] * 9}, clock=clock)
    found = run(evaluator, [rows(0, 1, 2)], workers=1, retries=1, timeout_s=0.1)
    assert found[1][0].reason == "no answer within 0.1 s (2 tries)"
    assert found[1][0].seconds == 2.0  # of the clock, for both tries
    assert [found[row][0].value for row in (0, 2)] == [0.0, 0.02]


def test_a_row_that_hung_once_is_measured_by_the_next_worker(clock):
    evaluator = Scripted({1: ["hang"]}, clock=clock)
    found = run(evaluator, [rows(1)], workers=1, timeout_s=0.1)
    assert found[1][0].value == 0.01
    assert found[1][1] == "worker 1 (2)"


def test_the_late_answer_of_a_replaced_worker_is_not_counted(clock):
    evaluator = Scripted({1: ["hang"]}, clock=clock)
    with Threads(workers=1, timeout_s=0.1).open(evaluator) as session:
        session.submit(rows(1))
        assert session.wait()[0].worker == "worker 1 (2)"
        evaluator.gate.set()  # the first worker answers now
        session.submit(rows(2))
        finished = session.wait()
        assert [f.genes[0, 0] for f in finished] == [2]


def test_different_reasons_are_all_told():
    evaluator = Scripted({1: ["raise", "die", "percent"]})
    reason = run(evaluator, [rows(1)], workers=2, retries=2)[1][0].reason
    assert reason.startswith("ValueError: row 1 is odd; then it died; then the evaluator returned")


def test_workers_that_cannot_start_are_an_error_with_the_reason():
    settings = Threads(workers=2)
    started = []

    def start(name, report):
        started.append(name)
        return ThreadWorker(name, report, Scripted(), lives=False)

    with Pool(start, settings) as session:
        session.submit(rows(1))
        with pytest.raises(EvaluationError, match="no worker can be started: no luck"):
            session.wait()
    assert len(started) == 2 * START_TRIES


def test_a_worker_that_never_gets_ready_is_given_up():
    class Silent(ThreadWorker):
        def __init__(self, name, report):
            self.name = name

        def kill(self):
            pass

    with Pool(Silent, Threads(workers=1, start_s=0.02)) as session:
        session.submit(rows(1))
        with pytest.raises(EvaluationError, match=r"not ready within 0.02 s"):
            session.wait()


class Waiting(ThreadWorker):
    """Has no room until its gate opens."""

    gate: threading.Event
    is_up: threading.Event

    def __init__(self, name, report, evaluator):
        self.name, self.report, self.evaluator = name, report, evaluator
        self.killed = threading.Event()
        self.waits = True
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def is_waiting(self):
        return self.waits

    def _wait(self):
        self.gate.wait(60)
        self.report(Ready(self))
        self.waits = False  # once it is ready: between the two it would be a fault
        self.is_up.set()


def test_a_worker_without_room_waits_while_others_measure(caplog):
    started = []

    class Later(Waiting):
        gate, is_up = threading.Event(), threading.Event()

    def start(name, report):
        started.append(name)
        kind = ThreadWorker if name == "worker 1" else Later
        return kind(name, report, Scripted(seconds=dict.fromkeys(range(99), 0.02)))

    with Pool(start, Threads(workers=2, start_s=0.05)) as session:
        alone = collected(session, [rows(name) for name in range(12)])
        assert {worker for _, worker in alone.values()} == {"worker 1"}
        Later.gate.set()
        assert Later.is_up.wait(60)
        both = collected(session, [rows(name) for name in range(20, 40)])
    assert {worker for _, worker in both.values()} == {"worker 1", "worker 2"}
    assert started == ["worker 1", "worker 2"], "waiting is no fault"
    assert "stays empty" not in caplog.text


def test_a_search_does_not_wait_for_ever_for_its_only_worker():
    class Never(Waiting):
        gate, is_up = threading.Event(), threading.Event()

    def start(name, report):
        return Never(name, report, Scripted())

    with Pool(start, Threads(workers=2, start_s=0.02)) as session:
        session.submit(rows(1))
        with pytest.raises(EvaluationError, match=r"no room for it, or not up, within 0.02 s"):
            session.wait()
    Never.gate.set()


def test_the_others_go_on_where_one_place_stays_empty():
    def start(name, report):
        return ThreadWorker(name, report, Scripted(), lives=name == "worker 2")

    with Pool(start, Threads(workers=2)) as session:
        found = collected(session, [rows(i) for i in range(10)])
    assert {worker for _, worker in found.values()} == {"worker 2"}


def test_another_try_does_not_wait_for_workers_that_are_not_ready():
    class NotReady(ThreadWorker):
        def __init__(self, name, report):
            self.name = name
            self.killed = threading.Event()

    evaluator = Scripted({1: ["raise"]})

    def start(name, report):
        if name == "worker 1":
            return ThreadWorker(name, report, evaluator)
        return NotReady(name, report)

    with Pool(start, Threads(workers=2)) as session:
        session.submit(rows(1))
        finished = session.wait()[0]
    assert finished.results[0].value == 0.01
    assert finished.worker == "worker 1"


def test_answers_that_make_no_sense_end_the_pool():
    class Short(Scripted):
        def evaluate(self, genes):
            return super().evaluate(genes)[1:]

    with Threads().open(Short()) as session:
        session.submit(rows(1, 2))
        with pytest.raises(EvaluationError, match="given 2 architectures and returned 1"):
            session.wait()


def test_a_fault_of_the_pool_itself_is_told():
    def start(name, report):
        raise OSError("no more processes")

    with Pool(start, Threads()) as session:
        session.submit(rows(1))
        with pytest.raises(EvaluationError, match="broke down: OSError: no more processes"):
            session.wait()


def test_closing_ends_workers_that_are_busy_and_cleans_once():
    workers, cleaned = [], []

    def start(name, report):
        workers.append(ThreadWorker(name, report, evaluator))
        return workers[-1]

    evaluator = Scripted({1: ["hang"]})
    session = Pool(start, Threads(workers=2), lambda: cleaned.append(True))
    session.submit(rows(1))
    session.close()
    session.close()
    assert all(worker.killed.is_set() for worker in workers)
    assert cleaned == [True]


def test_nothing_to_wait_for_is_an_error():
    with (
        Threads().open(Scripted()) as session,
        pytest.raises(BadInputError, match="nothing is in flight"),
    ):
        session.wait()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ({"threads": 1.5}, "threads must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"retries": -1}, "retries must be a whole number of at least 0"),
        ({"queued": -1}, "queued must be a whole number of at least 0"),
        ({"timeout_s": 0}, "timeout_s must be positive, in seconds, got 0"),
        ({"start_s": float("nan")}, "start_s must be positive"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message):
        Threads(**settings)
