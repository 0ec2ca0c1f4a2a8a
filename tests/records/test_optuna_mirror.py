import json
import logging
import warnings
from datetime import UTC, datetime

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from records import BadInputError, Ledger, Observation, StorageError, mirror_to_optuna

NAMES = ("kernel", "width", "block")
OBJECTIVES = (("accuracy", "", "maximize"), ("latency_ms", "board", "minimize"))


def label(column, code):
    return [np.int64(3 + 2 * code), code / 4, f"block{code}"][column]


def load(path, study_name="run"):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=study_name, storage=storage)


def mirror(ledger, path, **changed):
    settings = {
        "study_name": "run",
        "gene_names": NAMES,
        "gene_labels": label,
        "objectives": OBJECTIVES,
    }
    return mirror_to_optuna(ledger, path, **{**settings, **changed})


def fill(ledger, count, seed=0):
    """Appends both objectives of `count` distinct rows and returns their values by genes."""
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, 5, size=(4 * count, 3)), axis=0)
    values = {}
    for row in rng.permutation(rows)[:count]:
        genes = tuple(row.tolist())
        values[genes] = tuple(rng.integers(1, 30, size=2) / 8)  # coarse, so that ties occur
        accuracy, latency = values[genes]
        ledger.append(
            [
                Observation(genes=genes, metric="accuracy", value=accuracy, seconds=2.0),
                Observation(genes=genes, metric="latency_ms", target="board", value=latency),
            ]
        )
    return values


@pytest.fixture
def ledger():
    with Ledger.create("sqlite://", {"seed": 0}) as ledger:
        yield ledger


def test_best_trials_are_the_brute_force_front(ledger, tmp_path):
    values = fill(ledger, 60)
    assert mirror(ledger, tmp_path / "study.log") == 60
    study = load(tmp_path / "study.log")
    front = {
        genes
        for genes, (accuracy, latency) in values.items()
        if not any(
            a >= accuracy and t <= latency and (a, t) != (accuracy, latency)
            for a, t in values.values()
        )
    }
    assert {tuple(trial.user_attrs["genes"]) for trial in study.best_trials} == front
    assert len(front) > 1
    assert study.metric_names == ["accuracy", "latency_ms@board"]
    for trial, genes in zip(study.trials, values, strict=True):
        assert tuple(trial.values) == values[genes]
        assert trial.params == {
            "kernel": 3 + 2 * genes[0],
            "width": genes[1] / 4,
            "block": f"block{genes[2]}",
        }


def test_parameters_offer_the_codes_seen(ledger, tmp_path):
    for genes in ((2, 0, 1), (0, 0, 1)):
        ledger.append([Observation(genes=genes, metric="accuracy", value=0.5)])
    mirror(ledger, tmp_path / "a", objectives=OBJECTIVES[:1])
    for trial in load(tmp_path / "a").trials:
        choices = {name: found.choices for name, found in trial.distributions.items()}
        assert choices == {"kernel": (3, 7), "width": (0.0,), "block": ("block1",)}


def test_trials_are_complete_architectures_with_their_last_values(ledger, tmp_path):
    def observe(genes, metric, value, target=""):
        reason = "" if value is not None else "no memory"
        status = "ok" if value is not None else "failed"
        ledger.append(
            [
                Observation(
                    genes=genes,
                    metric=metric,
                    target=target,
                    value=value,
                    status=status,
                    reason=reason,
                )
            ]
        )

    observe((), "loss", 1.0)  # of the run, not of an architecture
    observe((0, 0, 0), "accuracy", 0.1)
    observe((1, 1, 1), "accuracy", 0.2)  # never timed on the board
    observe((1, 1, 1), "latency_ms", 9.0, "phone")
    observe((0, 0, 0), "latency_ms", 5.0, "board")
    observe((0, 0, 0), "latency_ms", 4.0, "board")  # timed again
    observe((0, 0, 0), "latency_ms", None, "board")  # and the third time failed
    observe((0, 0, 0), "energy_mj", 7.0, "board")
    observe((2, 2, 2), "latency_ms", None, "board")
    observe((2, 2, 2), "accuracy", 0.3)
    assert mirror(ledger, tmp_path / "a") == 1
    [trial] = load(tmp_path / "a").trials
    assert trial.values == [0.1, 4.0]
    assert trial.user_attrs == {
        "genes": [0, 0, 0],
        "energy_mj@board": 7.0,
        "latency_ms@board failed": "no memory",
    }


def test_trials_carry_the_times_of_their_observations(ledger, tmp_path):
    fill(ledger, 3)
    dated = ledger.dated_observations()
    for genes in {observation.genes for _, observation in dated}:  # says nothing of a trial's time
        ledger.append([Observation(genes=genes, metric="energy_mj", value=1.0, seconds=900.0)])
    mirror(ledger, tmp_path / "a")
    for index, trial in enumerate(load(tmp_path / "a").trials):
        ended_at = trial.datetime_complete.astimezone(UTC)
        assert ended_at == dated[2 * index + 1][0]
        assert (dated[2 * index][0] - trial.datetime_start.astimezone(UTC)).total_seconds() == 2
    assert dated[0][0] <= datetime.now(UTC)


def test_a_second_mirror_replaces_the_first(ledger, tmp_path):
    fill(ledger, 5)
    mirror(ledger, tmp_path / "a")
    first = [(t.number, t.values, t.params) for t in load(tmp_path / "a").trials]
    assert mirror(ledger, tmp_path / "a") == 5
    assert [(t.number, t.values, t.params) for t in load(tmp_path / "a").trials] == first
    ledger.append(
        [
            Observation(genes=(4, 4, 4), metric="accuracy", value=99.0),
            Observation(genes=(4, 4, 4), metric="latency_ms", target="board", value=0.01),
        ]
    )
    mirror(ledger, tmp_path / "a", study_name="later")
    study = load(tmp_path / "a", "later")
    assert [trial.values for trial in study.best_trials] == [[99.0, 0.01]]
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "a")))
    assert optuna.get_all_study_names(storage) == ["later"]
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_the_file_is_json_lines(ledger, tmp_path):
    fill(ledger, 5)
    mirror(ledger, tmp_path / "a")
    lines = (tmp_path / "a").read_text().splitlines()
    assert len(lines) >= 6
    assert all(isinstance(json.loads(line), dict) for line in lines)


def slowness(genes):
    """A latency that follows from the genes; where the first is 4, nobody knows it."""
    return np.where(genes[:, 0] == 4, np.nan, genes.sum(axis=1) + 1.0)


def test_computed_objectives_and_attributes_follow_from_the_genes(ledger, tmp_path):
    values = fill(ledger, 30)
    known = {genes for genes in values if genes[0] != 4}
    count = mirror(
        ledger,
        tmp_path / "a",
        objectives=OBJECTIVES[:1],
        computed={"predicted latency_ms": slowness},
        attributes={"double": lambda genes: 2.0 * genes.sum(axis=1)},
    )
    study = load(tmp_path / "a")
    assert study.metric_names == ["accuracy", "predicted latency_ms"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert count == len(known) < 30
    for trial in study.trials:
        genes = tuple(trial.user_attrs["genes"])
        assert trial.values == [values[genes][0], sum(genes) + 1.0]
        assert trial.user_attrs["double"] == 2.0 * sum(genes)
        assert trial.user_attrs["latency_ms@board"] == values[genes][1]
    assert {tuple(trial.user_attrs["genes"]) for trial in study.trials} == known


def test_genes_without_a_meaning_are_no_parameters(ledger, tmp_path):
    fill(ledger, 30)

    def active(genes):  # the block's kind means something only where the width is not the least
        marks = np.ones(genes.shape, np.bool_)
        marks[:, 2] = genes[:, 1] > 0
        return marks

    mirror(ledger, tmp_path / "a", active=active)
    for trial in load(tmp_path / "a").trials:
        genes = trial.user_attrs["genes"]
        expected = {name: label(column, genes[column]) for column, name in enumerate(NAMES)}
        if genes[1] == 0:
            del expected["block"]
        assert trial.params == expected


def test_a_later_mirror_goes_on_where_the_earlier_one_ended(ledger, tmp_path):
    def measure(width):
        for kernel in range(5):
            genes = (kernel, width, 0)
            ledger.append([Observation(genes=genes, metric="accuracy", value=kernel / 5)])

    def again():
        objectives = OBJECTIVES[:1]
        return mirror(ledger, tmp_path / "a", gene_sizes=(7, 5, 5), objectives=objectives)

    measure(width=0)
    assert again() == 5
    first = (tmp_path / "a").read_text()
    opened = load(tmp_path / "a")
    assert len(opened.trials) == 5
    measure(width=4)
    assert again() == 10
    assert (tmp_path / "a").read_text().startswith(first)
    assert len(opened.trials) == 10  # as a dashboard sees it that is open all the time
    assert opened.trials[0].distributions["kernel"].choices == (3, 5, 7, 9, 11, 13, 15)


def test_nothing_observed_is_an_empty_study(ledger, tmp_path):
    assert mirror(ledger, tmp_path / "a") == 0
    assert load(tmp_path / "a").trials == []


def test_optuna_is_silent_and_its_settings_are_restored(ledger, tmp_path, caplog):
    fill(ledger, 2)
    optuna.logging.enable_propagation()
    verbosity = optuna.logging.get_verbosity()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
            warnings.simplefilter("error")
            mirror(ledger, tmp_path / "a")
    finally:
        optuna.logging.disable_propagation()
    assert caplog.records == []
    assert optuna.logging.get_verbosity() == verbosity


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gene_names": ("a", "b")}, "rows of 3 genes, but 2 gene_names"),
        ({"gene_names": ("a", "b", "a")}, "gene_names must differ from each other, got twice: a"),
        ({"objectives": ()}, "at least one"),
        ({"objectives": (("accuracy", "", "max"),)}, "'minimize' or 'maximize', got 'max'"),
        ({"objectives": OBJECTIVES + OBJECTIVES[:1]}, "got twice: accuracy"),
        ({"computed": {"latency_ms@board": slowness}}, "got twice: latency_ms@board"),
    ],
)
def test_what_does_not_fit_is_refused_before_writing(ledger, tmp_path, changed, message):
    fill(ledger, 2)
    with pytest.raises(BadInputError, match=message):
        mirror(ledger, tmp_path / "a", **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_storage_error(ledger, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        mirror(ledger, tmp_path / "file" / "a")
