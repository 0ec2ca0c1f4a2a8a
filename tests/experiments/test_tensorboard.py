import builtins
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.tensorboard import TensorBoardLog, describe_panel, draw_panel, scalars
from records import BadInputError
from supernet import Step, Supernet, SupernetEvaluator, train
from tests.supernet.doubles import RECIPE, TINY, easy_data

DATA = easy_data()  # 8 steps an epoch


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(folder):
    """Every scalar by name, as a list of (step, value)."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(e.step, e.value) for e in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def step(number=1, total=9, **facts):
    return Step(number=number, total=total, **facts)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run with a log, and all that its steps told."""
    folder = tmp_path_factory.mktemp("board")
    supernet = Supernet(TINY, seed=3)
    told = []
    with TensorBoardLog(folder, supernet, DATA, panel=3, every=5) as log:

        def on_step(step):
            told.append(step)
            log(step)

        train(
            supernet, DATA, epochs=2, recipe=RECIPE, seed=1, on_step=on_step, watch_gradients=True
        )
    return folder, supernet, told, log


def test_the_weights_are_the_same_with_and_without_the_log(logged):
    _, supernet, _, _ = logged
    without = Supernet(TINY, seed=3)
    train(without, DATA, epochs=2, recipe=RECIPE, seed=1, watch_gradients=True)

    assert without.weights_hash() == supernet.weights_hash()


def test_the_events_are_what_the_steps_told(logged):
    folder, _, told, _ = logged
    found = read(folder)

    for name in ("learning_rate", "dropped", "loss/largest", "loss/random", "loss/smallest"):
        want = [(s.number, scalars(s)[name]) for s in told if name in scalars(s)]
        assert [n for n, _ in found[name]] == [n for n, _ in want]
        np.testing.assert_allclose([v for _, v in found[name]], [v for _, v in want], rtol=1e-6)
    assert len(found["loss/largest"]) == 16
    assert 0 < len(found["loss/random"]) < 16  # at first the largest trains alone
    assert found["gradient/cosine"]
    assert all(-1 <= value <= 1 for _, value in found["gradient/cosine"])


def test_the_panel_is_measured_as_the_evaluator_does(logged):
    folder, supernet, _, log = logged
    found = read(folder)
    names = sorted(name for name in found if name.startswith("accuracy/"))
    want = [m.value for m in SupernetEvaluator(supernet, DATA).evaluate(log.panel)]

    assert names == [f"accuracy/{rank:02d}" for rank in range(1, len(log.panel) + 1)]
    for name, value in zip(names, want, strict=True):
        assert [n for n, _ in found[name]] == [5, 10, 15, 16]  # the last step too
        assert found[name][-1][1] == pytest.approx(value)
    assert [m.value for m in log.measure()] == want


def test_the_panel_is_described_in_a_text(logged):
    folder, _, _, log = logged
    events = EventAccumulator(str(folder))
    events.Reload()
    text = events.Tensors("panel/text_summary")[0].tensor_proto.string_val[0].decode()

    assert text == describe_panel(TINY, log.panel)
    assert text.count("\n") == len(log.panel) + 1
    assert f"{TINY.graph(log.panel[0]).macs:,} |" in text.splitlines()[2]
    assert "stage0.block=attention" in text


def test_the_panel_holds_the_extremes_and_the_seed_draws_the_rest():
    panel = draw_panel(TINY, 6, 0)
    rows = {row.tobytes() for row in panel}
    macs = [TINY.graph(row).macs for row in panel]

    for which in ("largest", "smallest"):
        assert {row.tobytes() for row in TINY.extremes(which)} <= rows
    assert len(rows) == len(panel)
    assert macs == sorted(macs)
    assert np.array_equal(panel, draw_panel(TINY, 6, 0))
    assert not np.array_equal(panel, draw_panel(TINY, 6, 1))
    alone = np.concatenate([TINY.extremes("largest"), TINY.extremes("smallest")])
    assert len(draw_panel(TINY, 0, 0)) == len(np.unique(alone, axis=0))


def test_a_role_is_the_mean_of_its_members_without_those_that_were_dropped():
    told = step(
        losses=(2.0, 1.0, math.nan, 4.0, math.inf),
        roles=("largest", "random", "random", "random", "smallest"),
        dropped=2,
        learning_rate=0.5,
    )

    assert scalars(told) == {
        "loss/largest": 2.0,
        "loss/random": 2.5,
        "learning_rate": 0.5,
        "dropped": 2.0,
    }
    assert scalars(replace(told, cosine=-0.25))["gradient/cosine"] == -0.25
    assert "gradient/cosine" not in scalars(replace(told, cosine=math.nan))


def test_a_continued_run_replaces_what_lay_beyond_its_checkpoint(tmp_path):
    def write(numbers, rate):
        with TensorBoardLog(tmp_path, Supernet(TINY), DATA, panel=0, every=1000) as log:
            for number in numbers:
                log(step(number, 100, losses=(), roles=(), learning_rate=rate))

    write(range(1, 8), 0.25)
    write(range(5, 11), 0.5)

    found = read(tmp_path)["learning_rate"]
    assert found == [(n, 0.25 if n < 5 else 0.5) for n in range(1, 11)]


def test_a_log_may_go_on_after_it_was_closed_and_is_not_opened_for_nothing(tmp_path):
    log = TensorBoardLog(tmp_path / "board", Supernet(TINY), DATA, panel=0)
    log.close()
    assert not (tmp_path / "board").exists()
    log(step(1, losses=(), roles=()))
    log.close()
    log(step(2, losses=(), roles=()))
    log.close()

    assert [n for n, _ in read(tmp_path / "board")["learning_rate"]] == [1, 2]


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    log = TensorBoardLog(tmp_path / "board", Supernet(TINY), DATA, panel=0)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank in (1, 0):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        log(step(1, losses=(), roles=()))
        assert (tmp_path / "board").exists() is (rank == 0)
    log.close()


@pytest.mark.parametrize("options", [{"panel": -1}, {"every": 0}])
def test_a_panel_or_period_that_cannot_be_is_refused(tmp_path, options):
    with pytest.raises(BadInputError, match="panel must be >= 0 and every >= 1"):
        TensorBoardLog(tmp_path, Supernet(TINY), DATA, **options)


def test_data_of_another_size_are_refused_at_once(tmp_path):
    with pytest.raises(BadInputError, match="has image_size 8, but the space"):
        TensorBoardLog(tmp_path, Supernet(replace(TINY, image_size=16)), DATA)


def test_a_missing_tensorboard_is_named_with_the_remedy(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInputError, match="'pip install tensorboard'"):
        TensorBoardLog(tmp_path, Supernet(TINY), DATA)
