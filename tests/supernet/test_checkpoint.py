import json
from dataclasses import replace

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors import safe_open
from safetensors.torch import save_file

from records import BadInputError, CorruptFileError, StorageError, versions
from search_spaces import HybridSpace
from supernet import Supernet, load_supernet, save_supernet, train
from supernet.checkpoint import Checkpoint
from supernet.training_rules import RULES
from tests.search_spaces.doubles import NestedSpace
from tests.supernet.doubles import RECIPE, TINY, easy_data


@pytest.fixture
def run(tmp_path):
    """Starts or continues a short run; keyword arguments change one thing."""

    def start(space=TINY, epochs=1, recipe=RECIPE, seed=0, data=None):
        return train(
            Supernet(space),
            data or easy_data(),
            epochs=epochs,
            recipe=recipe,
            seed=seed,
            checkpoint=tmp_path / "run.safetensors",
        )

    return start


OTHER = {
    "epochs": {"epochs": 2},
    "recipe label_smoothing": {"recipe": replace(RECIPE, label_smoothing=0.2)},
    "seed": {"seed": 1},
    "data": {"data": easy_data(name="other")},
    "images": {"data": easy_data(n=200)},
    "space parameters stem_widths": {"space": replace(TINY, stem_widths=(16,))},
}


@pytest.mark.parametrize("fact", OTHER)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(run, tmp_path, fact):
    run()
    before = (tmp_path / "run.safetensors").read_bytes()
    with pytest.raises(BadInputError, match=rf"written by another run \({fact}: .* there, "):
        run(**OTHER[fact])
    assert (tmp_path / "run.safetensors").read_bytes() == before


def test_other_labels_are_another_run(run):
    run()
    data = easy_data()
    data.train.labels[[0, 1]] = data.train.labels[[1, 0]]
    with pytest.raises(BadInputError, match="labels_hash"):
        run(data=data)


def header_of(path):
    """What a checkpoint holds, without its hash: what is changed looks as if written so."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return {k: v for k, v in file.metadata().items() if k != "sha256"}, tensors


def damage(path, how):
    data = path.read_bytes()
    header, tensors = header_of(path)
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "bit":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif how == "version":
        save_file(tensors, path, header | {"format": "hwnas-supernet-0"})
    elif how == "no facts":
        save_file(tensors, path, {k: v for k, v in header.items() if k != "facts"})
    elif how == "facts":
        save_file(tensors, path, header | {"facts": "{"})
    elif how == "rules":
        save_file(tensors, path, header | {"rules": "one"})
    elif how == "step":
        save_file(tensors, path, header | {"step": "many"})
    elif how == "weights":
        tensors.pop("weights/primitives.classifier.weight")
        save_file(tensors, path, header)
    elif how == "shape":
        tensors["weights/primitives.classifier.weight"] = torch.zeros(1)
        save_file(tensors, path, header)
    elif how == "average":
        tensors.pop("average/primitives.classifier.weight")
        save_file(tensors, path, header)
    elif how == "state":
        save_file(tensors, path, header | {"state": '{"guard": {}}'})
    elif how == "optimiser":
        save_file({**tensors, "optimiser/one/exp_avg": torch.zeros(1)}, path, header)
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "how",
    ["empty", "cut", "bit", "text", "foreign", "version", "no facts", "facts", "rules", "step",
     "weights", "shape", "folder"],
)  # fmt: skip
def test_damaged_and_foreign_files_are_refused(run, tmp_path, how):
    path = tmp_path / "run.safetensors"
    run()
    damage(path, how)
    for read in (run, lambda: load_supernet(path)):
        with pytest.raises(CorruptFileError, match=str(path)):
            read()


@pytest.mark.parametrize("how", ["average", "state", "optimiser"])
def test_a_run_with_damaged_notes_cannot_be_continued(run, tmp_path, how):
    path = tmp_path / "run.safetensors"
    averaged = replace(RECIPE, ema=0.9)
    run(recipe=averaged)
    damage(path, how)
    with pytest.raises(CorruptFileError, match=str(path)):
        run(recipe=averaged)


def test_a_checkpoint_is_a_supernet(run, tmp_path):
    supernet = run()
    read = load_supernet(tmp_path / "run.safetensors")
    assert read.weights_hash() == supernet.weights_hash()
    assert read.space == TINY


def test_a_users_space_is_read_too(tmp_path):
    supernet = Supernet(NestedSpace(image_size=8))
    save_supernet(supernet, tmp_path / "a.safetensors")
    assert load_supernet(tmp_path / "a.safetensors", (NestedSpace,)).space == supernet.space


def test_an_unknown_space_is_refused(tmp_path):
    class Gone(HybridSpace):
        pass

    path = tmp_path / "a.safetensors"
    save_supernet(Supernet(Gone(image_size=8)), path)
    Gone.__name__ = "Renamed"
    with pytest.raises(CorruptFileError, match=r"a space that cannot be made.*'Gone'"):
        load_supernet(path)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(CorruptFileError, match=r"none\.safetensors"):
        load_supernet(tmp_path / "none.safetensors")


def test_a_saved_supernet_is_no_checkpoint_to_continue(run, tmp_path):
    save_supernet(Supernet(TINY), tmp_path / "run.safetensors")
    with pytest.raises(BadInputError, match="written by another run"):
        run()


def test_a_checkpoint_of_another_space_names_the_parameter_that_differs(tmp_path):
    path = tmp_path / "run.safetensors"
    train(Supernet(TINY), easy_data(), epochs=1, recipe=RECIPE, checkpoint=path)
    other = replace(TINY, head_dim=4)
    with pytest.raises(BadInputError, match=r"space parameters head_dim: 8 there, 4 here"):
        train(Supernet(other), easy_data(), epochs=1, recipe=RECIPE, checkpoint=path)
    recipe = replace(RECIPE, learning_rate=1e-3)
    with pytest.raises(BadInputError, match=r"recipe learning_rate: 0.003 there, 0.001 here"):
        train(Supernet(TINY), easy_data(), epochs=1, recipe=recipe, checkpoint=path)


# ---- the one before the last -------------------------------------------------------------------


class Stop(Exception):  # noqa: N818
    pass


def stop_at(number):
    def on_step(step):
        if step.number == number:
            raise Stop

    return on_step


def train_to(where, stop=None, recipe=RECIPE, **options):
    """A run of 8 steps with a checkpoint after each second one, stopped or not."""
    options = {"epochs": 1, "checkpoint_every": 2} | options
    on_step = None if stop is None else stop_at(stop)
    supernet = Supernet(TINY)
    try:
        train(supernet, easy_data(), recipe=recipe, checkpoint=where, on_step=on_step, **options)
    except Stop:
        assert stop is not None
    return supernet


@pytest.fixture(params=["path", "memory"])
def where(request, tmp_path):
    if request.param == "path":
        return str(tmp_path / "run.safetensors")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/runs/run.safetensors"


@pytest.fixture(scope="module")
def uninterrupted():
    return train(Supernet(TINY), easy_data(), epochs=1, recipe=RECIPE).weights_hash()


def spoil(where, how=lambda data: data[: len(data) // 2]):
    with fsspec.open(where, "rb") as file:
        data = file.read()
    with fsspec.open(where, "wb") as file:
        file.write(how(data))


def test_an_interrupted_run_goes_on_from_a_path_or_url(where, uninterrupted):
    train_to(where, stop=5)
    assert steps_in(where) == 4
    assert steps_in(previous(where)) == 2
    assert train_to(where).weights_hash() == uninterrupted
    assert load_supernet(where).weights_hash() == uninterrupted


def previous(where):
    return where.replace("run.", "run.previous.")


def steps_in(where):
    return int(Checkpoint(where).read().header["step"])


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_and_that_is_said(
    where, uninterrupted, caplog
):
    train_to(where, stop=5)
    spoil(where)
    assert train_to(where, stop=3).weights_hash() != uninterrupted
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "was cut off or damaged" in said
    assert "continuing from the one before it" in said
    spoil(where)  # the next one was never written, so the one before is still the good one
    assert train_to(where).weights_hash() == uninterrupted


@pytest.mark.parametrize("where", ["path"], indirect=True)
def test_a_good_checkpoint_is_never_replaced_by_a_damaged_one(where):
    train_to(where, stop=5)
    spoil(where)
    train_to(where, stop=4)  # continued at step 2, so the next checkpoint is that of step 4
    assert steps_in(where) == 4
    assert steps_in(previous(where)) == 2


@pytest.mark.parametrize("where", ["memory"], indirect=True)
def test_a_lost_checkpoint_is_replaced_by_the_one_before(where, uninterrupted):
    train_to(where, stop=5)
    fs, path = fsspec.core.url_to_fs(where)
    fs.rm_file(path)
    assert train_to(where).weights_hash() == uninterrupted


@pytest.mark.parametrize("where", ["path"], indirect=True)
def test_two_damaged_checkpoints_are_refused(where):
    train_to(where, stop=5)
    spoil(where)
    spoil(previous(where), lambda data: b"")
    with pytest.raises(CorruptFileError, match=r"cut off or damaged.*and the one before it"):
        train_to(where)


@pytest.mark.parametrize("where", ["path"], indirect=True)
def test_a_damaged_supernet_is_refused_and_no_other_taken(where):
    train_to(where)
    spoil(where)
    with pytest.raises(CorruptFileError, match="cut off or damaged"):
        load_supernet(where)


def test_a_failure_while_a_checkpoint_is_written_costs_two_steps(monkeypatch, uninterrupted):
    where = "memory://bucket/runs/run.safetensors"
    fsspec.filesystem("memory").store.clear()
    original = MemoryFileSystem.pipe_file
    written = []

    def broken(self, path, value, **kwargs):
        original(self, path, value[: len(value) // 2], **kwargs)
        written.append(path)
        raise ConnectionResetError("the network is gone")

    train_to(where, stop=3)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", broken)
    with pytest.raises(StorageError, match=r"cannot write memory://.*the network is gone"):
        train_to(where)
    monkeypatch.undo()
    assert len(written) == 1
    assert steps_in(where) == 2
    assert train_to(where).weights_hash() == uninterrupted


# ---- what changed since ------------------------------------------------------------------------


def rewrite(path, **changes):
    header, tensors = header_of(path)
    save_file(tensors, path, header | {k: json.dumps(v) for k, v in changes.items()})


def test_a_run_of_other_rules_is_not_continued(tmp_path):
    path = tmp_path / "run.safetensors"
    train_to(path, stop=5)
    rewrite(path, rules={**RULES, "augmentation": 0}, versions={"hwnas": "0.0.9"})
    with pytest.raises(BadInputError, match=r"other rules of training \(augmentation: rule 0 "
                                            r"there, 1 here\).*version 0\.0\.9"):  # fmt: skip
        train_to(path)


def test_other_versions_are_warned_of(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    train_to(path, stop=5)
    rewrite(path, versions={**versions(), "torch": "1.0"})
    train_to(path)
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert f"begun with other versions (torch 1.0 there, {versions()['torch']} here)" in said


def test_a_run_of_before_rules_were_noted_is_warned_of(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    train_to(path, stop=5)
    header, tensors = header_of(path)
    save_file(tensors, path, {k: v for k, v in header.items() if k != "rules"})
    train_to(path)
    assert [r.getMessage() for r in caplog.records if "before its rules were noted" in r.message]


def test_a_finished_run_of_other_rules_is_what_it_is(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    trained = train_to(path)
    rewrite(path, rules={**RULES, "augmentation": 0}, versions={"torch": "1.0"})
    assert train_to(path).weights_hash() == trained.weights_hash()
    assert not caplog.records
