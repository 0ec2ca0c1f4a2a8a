import logging

import pytest

from strategies import executor_ray_code
from strategies.executor_ray import reason_of
from strategies.executor_ray_code import difference, missing_module, own_code, sources_hash


def rooms(folder, **files):
    for name, content in files.items():
        path = folder / "strategies" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return sources_hash(folder)


def test_a_hash_of_sources_tells_content_and_names_and_nothing_else(tmp_path):
    first = rooms(tmp_path / "a", one="x = 1", two="y = 2")
    assert rooms(tmp_path / "b", two="y = 2", one="x = 1") == first
    assert rooms(tmp_path / "c", one="x = 1", two="y = 3") != first
    assert rooms(tmp_path / "d", one="x = 1", too="y = 2") != first
    assert rooms(tmp_path / "e", one="y = 2", two="x = 1") != first
    (tmp_path / "a" / "strategies" / "__pycache__").mkdir()
    (tmp_path / "a" / "strategies" / "__pycache__" / "one.pyc").write_bytes(b"compiled")
    (tmp_path / "a" / "experiments").mkdir()
    (tmp_path / "a" / "experiments" / "plot.py").write_text("not part of an evaluation")
    assert sources_hash(tmp_path / "a") == first


def test_another_version_is_refused_and_other_sources_are_said(caplog):
    caplog.set_level(logging.WARNING)
    mine = dict(own_code())
    assert difference(mine) == ""
    assert difference({**mine, "node": "elsewhere"}) == ""
    assert not caplog.records
    said = difference({"version": "9.9", "sources": "0", "node": "board"})
    assert "node board runs another hwnas (version 9.9, sources 0) than the search" in said
    assert f"({mine['version']}, {mine['sources']})" in said
    assert "ray job submit --working-dir ." in said
    assert not caplog.records
    assert difference({**mine, "sources": "0", "node": "board"}) == ""
    assert "node board runs another hwnas" in caplog.text


def test_a_folder_of_sources_is_a_version_of_its_own(monkeypatch):
    def missing(name):
        raise executor_ray_code.metadata.PackageNotFoundError

    monkeypatch.setattr(executor_ray_code.metadata, "version", missing)
    assert own_code.__wrapped__()["version"] == "not installed"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("...\nModuleNotFoundError: No module named 'strategies'\n", "no hwnas (strategies):"),
        ("No module named 'supernet.subnet'", "no hwnas (supernet.subnet):"),
        ("No module named 'supernets'", "no supernets:"),
        ("No module named 'mine.evaluator'", "no mine.evaluator:"),
    ],
)
def test_a_missing_module_is_named_with_what_to_do(said, what):
    assert f"its node has {what} install on every node" in missing_module(said)
    assert reason_of(RuntimeError(said)) == missing_module(said)


def test_other_errors_are_left_as_they_are():
    assert missing_module("The actor died") == ""
    assert reason_of(RuntimeError("died\nhow")) == "its actor was lost: RuntimeError: died"
