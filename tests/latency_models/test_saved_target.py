"""Targets that were measured elsewhere, kept and loaded."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles import own_devices_folder
from latency_models import (
    MeasuredCostModel,
    load_target,
    save_target,
    saved_targets,
)
from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    MissingFileError,
    UnknownNameError,
)
from tests.latency_models.doubles import (
    CNN,
    TARGET,
    VIT,
    WeighingRunner,
    planted_ms,
    sampled,
)


def model_of(space, target=TARGET, n=30):
    genes = sampled(space, n)
    return MeasuredCostModel(space, target, genes, planted_ms(space, genes, noise=0.01))


@pytest.fixture(scope="module")
def models():
    return [model_of(CNN), model_of(VIT)]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return own_devices_folder()


def test_a_target_comes_back_with_the_same_predictions(own, models):
    saved = save_target(own / TARGET.name, models, {"raw.json": b"{}"})
    assert saved_targets() == [TARGET.name]
    loaded = load_target(TARGET.name)
    assert loaded == saved
    assert loaded.target == TARGET
    assert (own / TARGET.name / "raw.json").read_bytes() == b"{}"
    for model in models:
        again = loaded.cost_model(model.space)
        genes = sampled(model.space, 40, seed=3)
        np.testing.assert_array_equal(again.latency_ms(genes), model.latency_ms(genes))
        np.testing.assert_array_equal(again.genes, model.genes)
        assert again.runner is None
    runner = WeighingRunner()
    assert loaded.cost_model(CNN, runner).runner is runner


def test_a_path_is_as_good_as_a_name(own, models, tmp_path):
    use = {"batch_size": 4, "threads": 2}
    target = replace(TARGET, **use)
    save_target(tmp_path / "board", [model_of(CNN, target)])
    for path in (tmp_path / "board", str(tmp_path / "board")):
        assert load_target(path).target == target
    assert saved_targets() == []


def test_another_space_is_refused_with_those_that_were_timed(own, models):
    saved = save_target(own / "x", models)
    with pytest.raises(BadInputError) as caught:
        saved.cost_model(replace(CNN, num_classes=7))
    assert "no network of CNNSpace(image_size=16, channels=3, num_classes=7" in str(caught.value)
    assert "timed were: CNNSpace(image_size=16, channels=3, num_classes=10" in str(caught.value)
    assert "; ViTSpace(" in str(caught.value)


def test_an_unknown_name_lists_the_known(own, models):
    with pytest.raises(UnknownNameError, match="unknown measured target 'x'; None is known"):
        load_target("x")
    save_target(own / "board-t1-b1", models)
    with pytest.raises(UnknownNameError, match="did you mean 'board-t1-b1'"):
        load_target("board-t1-b2")
    with pytest.raises(MissingFileError, match=r"is no saved target: it has no target\.json"):
        load_target(own / "none")


def test_a_target_is_never_overwritten(own, models):
    save_target(own / "x", models)
    before = (own / "x" / "target.json").read_bytes()
    with pytest.raises(ExistingRunError):
        save_target(own / "x", models[:1])
    assert (own / "x" / "target.json").read_bytes() == before


def test_models_of_one_target_and_different_spaces_are_needed(own, models):
    other = model_of(CNN, replace(TARGET, threads=2))
    for wrong, said in (
        ([], "got none"),
        ([models[0], models[0]], "bench-t1-b1/CNNSpace, bench-t1-b1/CNNSpace"),
        ([models[1], other], "bench-t1-b1/ViTSpace, bench-t2-b1/CNNSpace"),
    ):
        with pytest.raises(BadInputError, match=said):
            save_target(own / "x", wrong)
    assert saved_targets() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(format="hwnas-target-0"), "format is 'hwnas-target-0'"),
        (lambda v: v.pop("threads"), "damaged: 'threads'"),
        (lambda v: v.update(threads=0), "threads must be a positive whole number"),
        (lambda v: v.update(threads=99), "more than the 4 cores"),
        (lambda v: v.update(runtime="x"), "unknown runtime"),
        (lambda v: v.pop("spaces"), "damaged: 'spaces'"),
        (lambda v: v["spaces"][0].pop("hash"), "damaged: 'hash'"),
        (lambda v: v.update(spaces=[3]), "damaged"),
    ],
)
def test_a_damaged_target_is_refused(own, models, change, said):
    save_target(own / "x", models)
    path = own / "x" / "target.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(CorruptFileError) as caught:
        load_target("x")
    assert said in str(caught.value)


def test_a_file_that_holds_a_list_or_a_broken_profile_is_refused(own, models):
    save_target(own / "x", models)
    (own / "x" / "profile.yaml").write_text("name: x")
    with pytest.raises(CorruptFileError, match=r"profile\.yaml"):
        load_target("x")
    (own / "x" / "target.json").write_text("[]")
    with pytest.raises(CorruptFileError, match="format is 'list'"):
        load_target("x")


def test_measurements_of_another_machine_are_refused(own, models):
    save_target(own / "x", models)
    entry = next(iter(load_target("x").spaces))
    path = own / "x" / entry["file"]
    path.write_text(path.read_text().replace(TARGET.name, "other-t1-b1"))
    with pytest.raises(CorruptFileError, match="target is 'other-t1-b1'"):
        load_target("x").cost_model(CNN)
