from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from records import BadInputError, CorruptFileError
from search_spaces import HybridSpace
from supernet import Supernet, load_supernet, save_supernet, train
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
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def damage(path, how):
    data = path.read_bytes()
    header, tensors = header_of(path)
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
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
    ["empty", "cut", "text", "foreign", "version", "no facts", "facts", "step", "weights", "shape",
     "folder"],
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
