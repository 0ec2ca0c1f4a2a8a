"""The mirror of a run, as Optuna reads it."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from experiments import mirror as mirrors
from experiments.mirror import MIRROR, Mirror
from experiments.run_identity import input_hashes, target_hashes
from hardware_profiles import Quantity, Target, device
from latency_models import RooflineCostModel
from records import Ledger, Observation
from search_spaces import HybridSpace

SPACE = HybridSpace(image_size=8, channels=1)


def cost(**changes):
    profile = replace(device("raspberry-pi-4"), **changes)
    return RooflineCostModel(SPACE, Target(profile=profile))


@pytest.fixture
def ledger():
    """A ledger with the accuracies of twelve networks."""
    with Ledger.create("sqlite://", {}) as ledger:
        for index, genes in enumerate(SPACE.sample(12, np.random.default_rng(0)).tolist()):
            ledger.append(
                [
                    Observation(
                        genes=tuple(genes),
                        metric="accuracy",
                        value=index / 20,
                        space_hash=SPACE.hash,
                    )
                ]
            )
        yield ledger


def trials(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / MIRROR)))
    return optuna.load_study(study_name=folder.name, storage=storage).trials


def test_a_trial_is_a_network_with_its_choices_by_name_and_its_predicted_costs(ledger, tmp_path):
    model = cost()

    Mirror(tmp_path, SPACE, ledger, [model]).write()

    found = trials(tmp_path)
    assert len(found) == 12
    for trial, observation in zip(found, ledger.observations(), strict=True):
        genes = np.array([observation.genes], np.int16)
        predicted = model.predict(genes)
        assert trial.values == [observation.value, predicted["latency_ms"][0]]
        energy = trial.user_attrs[f"predicted energy_mj@{model.target_name}"]
        assert energy == predicted["energy_mj"][0]
        active = SPACE.active(genes)[0]
        assert trial.params == {
            choice.name: choice.values[code]
            for choice, code, own in zip(SPACE.choices, observation.genes, active, strict=True)
            if own
        }


def test_a_running_search_is_mirrored_now_and_then(ledger, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(mirrors.time, "monotonic", lambda: now[0])
    mirror = Mirror(tmp_path, SPACE, ledger, [cost()])
    write = mirror.write

    seconds = iter([2.0, 2.0, 6.0])  # a fiftieth of the time until the next; then too long

    def slow_write():
        now[0] += next(seconds)
        return write()

    monkeypatch.setattr(mirror, "write", slow_write)
    written = []
    for second in range(1000, 1400):
        now[0] = max(now[0], float(second))
        if mirror.refresh():
            written.append(second)

    assert written == [1020, 1122, 1224]
    assert len(trials(tmp_path)) == 12


def test_the_hash_of_a_target_is_that_of_its_profile_and_use():
    model = cost()
    (name,) = target_hashes([model])
    other_use = RooflineCostModel(SPACE, replace(model.target, batch_size=2))
    clock = Quantity(value=1.4, source="somebody's", measured=False)

    assert name == f"target {model.target_name}"
    assert target_hashes([cost()]) == target_hashes([model])
    assert target_hashes([cost(clock_ghz=clock)])[name] != target_hashes([model])[name]
    assert [*target_hashes([other_use]).values()] != [*target_hashes([model]).values()]


def test_this_machine_counts_by_its_kind_and_not_by_what_was_measured_anew(monkeypatch):
    monkeypatch.setattr("hardware_profiles.target.machine_fingerprint", lambda: "mine")
    clock = Quantity(value=1.4, source="measured now", measured=True)

    assert target_hashes([cost(machine="mine")]) == target_hashes(
        [cost(machine="mine", clock_ghz=clock)]
    )


def test_the_hash_of_the_data_follows_the_labels_and_their_order():
    from experiments.datasets import load_dataset

    first = load_dataset("digits", seed=0, train_images=100)

    assert input_hashes(first, SPACE)["search space"] == SPACE.hash
    assert input_hashes(first, SPACE) == input_hashes(
        load_dataset("digits", seed=0, train_images=100), SPACE
    )
    other = load_dataset("digits", seed=1, train_images=100)
    assert input_hashes(other, SPACE)["data"] != input_hashes(first, SPACE)["data"]
