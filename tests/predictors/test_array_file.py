import numpy as np
import pytest
from safetensors.numpy import save_file

from predictors.array_file import read_arrays, write_arrays
from records import BadInputError, CorruptFileError, MissingFileError, StorageError


def test_round_trip(tmp_path):
    arrays = {
        "grid": np.arange(12.0).reshape(3, 4).T,  # not contiguous
        "infinite": np.array([np.inf, 1], np.float32),
        "none": np.zeros((0, 3), np.int32),
    }
    content = {"number": 0.1 + 0.2, "names": ["ä", "b"], "nothing": None}
    write_arrays(tmp_path / "a.safetensors", "test", 1, content, arrays)
    found, got = read_arrays(tmp_path / "a.safetensors", "test", 1)
    assert found == content
    assert set(got) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_another_kind_or_format(tmp_path):
    write_arrays(tmp_path / "a", "test", 2, {}, {"x": np.ones(2)})
    for kind, version in (("other", 2), ("test", 1)):
        with pytest.raises(CorruptFileError, match="'test' in format 2"):
            read_arrays(tmp_path / "a", kind, version)


def test_foreign_safetensors(tmp_path):
    save_file({"x": np.ones(2)}, tmp_path / "weights")
    with pytest.raises(CorruptFileError, match="something else"):
        read_arrays(tmp_path / "weights", "test", 1)
    for text in ("no json", "[]", "{}", '{"hash":"x","kind":"test","format":1,"content":3}'):
        save_file({"x": np.ones(2)}, tmp_path / "weights", {"hwnas": text})
        with pytest.raises(CorruptFileError, match="damaged metadata"):
            read_arrays(tmp_path / "weights", "test", 1)


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(MissingFileError):
        read_arrays(tmp_path / "none", "test", 1)
    with pytest.raises((StorageError, CorruptFileError)):
        read_arrays(tmp_path, "test", 1)


def test_a_failure_leaves_the_old_file(tmp_path):
    write_arrays(tmp_path / "a", "test", 1, {}, {"x": np.ones(2)})
    with pytest.raises(BadInputError):
        write_arrays(tmp_path / "a", "test", 1, {"x": float("nan")}, {})
    assert read_arrays(tmp_path / "a", "test", 1)[1]["x"].sum() == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
