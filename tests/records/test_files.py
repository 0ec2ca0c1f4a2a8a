import contextlib
import errno
import os
import resource

import pytest

from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    MissingFileError,
    StorageError,
    new_folder,
    read_json,
    replace_file,
    write_bytes,
    write_json,
    write_text,
)


def refuse(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def largest_file(size):
    """Lets the kernel refuse to let any file of this process grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder):
    return sorted(item.name for item in folder.iterdir())


def test_written_files_read_back(tmp_path):
    write_bytes(tmp_path / "deep" / "a.bin", b"\x00\r\n")
    write_text(tmp_path / "a.txt", "Länge\r\n")
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None]})
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"\x00\r\n"
    assert (tmp_path / "a.txt").read_bytes() == "Länge\r\n".encode()
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1,\n "a": [\n  0.1,\n  null\n ]\n}\n'
    assert read_json(tmp_path / "a.json", kind="table") == {"b": 1, "a": [0.1, None]}
    assert names(tmp_path) == ["a.json", "a.txt", "deep"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function):
    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(StorageError, match="free some space") as caught:
        write_text(tmp_path / "a.txt", "new")
    assert str(tmp_path / "a.txt") in str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_disk_that_really_refuses_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    with largest_file(50_000), pytest.raises(StorageError, match=r"a\.bin"):
        write_bytes(tmp_path / "a.bin", bytes(100_000))
    assert names(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_an_impossible_folder_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another"):
        write_bytes(tmp_path / "file" / "a.bin", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        write_bytes(tmp_path / "folder", b"")
    assert names(tmp_path) == ["file", "folder"]


def test_nan_never_reaches_a_file(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(BadInputError, match=r"\$\.ms is nan"):
        write_json(tmp_path / "a.json", {"ms": float("nan")})
    assert read_json(tmp_path / "a.json", kind="table") == [1]


def test_replace_file_keeps_the_suffix_and_forgets_a_failed_block(tmp_path):
    with replace_file(tmp_path / "a.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"1")
        assert not (tmp_path / "a.onnx").exists()

    def fail(temporary):
        temporary.write_bytes(b"2")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "a.onnx") as temporary:
        fail(temporary)
    assert names(tmp_path) == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == b"1"


@pytest.mark.parametrize("content", [b"{", b"[NaN]", b"\xff\xfe", b""])
def test_a_damaged_json_file_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptFileError) as caught:
        read_json(tmp_path / "a.json", kind="bundle")
    assert f"cannot read the bundle {tmp_path / 'a.json'}: not valid JSON, " in str(caught.value)


def test_missing_and_unreadable_json(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_json(tmp_path / "none.json", kind="bundle")
    with pytest.raises(StorageError, match="cannot read the bundle"):
        read_json(tmp_path, kind="bundle")


def test_new_folder_appears_whole(tmp_path):
    with new_folder(tmp_path / "models" / "knee") as folder:
        assert folder.parent == tmp_path / "models"
        assert folder.name.startswith(".knee.partial-")
        write_text(folder / "a.txt", "a")
        assert not (tmp_path / "models" / "knee").exists()
    assert names(tmp_path / "models") == ["knee"]
    assert names(tmp_path / "models" / "knee") == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_new_folder_vanishes_when_its_block_raises(tmp_path, error):
    def fail(folder):
        write_text(folder / "a.txt", "a")
        raise error

    with pytest.raises(error), new_folder(tmp_path / "knee") as folder:
        fail(folder)
    assert names(tmp_path) == []


def test_new_folder_takes_an_empty_folder_and_refuses_a_full_one(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        write_text(folder / "a.txt", "a")
    with (
        pytest.raises(ExistingRunError, match="empty already exists"),
        new_folder(tmp_path / "empty"),
    ):
        pytest.fail("the block must not run")
    with pytest.raises(ExistingRunError), new_folder(tmp_path / "empty" / "a.txt"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["empty"]
    assert (tmp_path / "empty" / "a.txt").read_text() == "a"


def test_new_folder_yields_to_one_made_meanwhile(tmp_path):
    with pytest.raises(ExistingRunError, match="meanwhile"), new_folder(tmp_path / "a"):
        write_text(tmp_path / "a" / "theirs", "")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["theirs"]


def test_new_folder_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="free some space"), new_folder(tmp_path / "a"):
        pass
    assert names(tmp_path) == []
