import errno
import os
import sys

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    StorageError,
    UnknownNameError,
)
from records.stored_file import absolute, stored_file


@pytest.fixture
def folder(request, tmp_path):
    """A folder of each kind of storage, empty, as a path or URL."""
    if request.param == "path":
        return str(tmp_path)
    if request.param == "file":
        return f"file://{tmp_path}"
    fsspec.filesystem("memory").store.clear()
    return f"{request.param}://bucket/runs"


every = pytest.mark.parametrize("folder", ["path", "file", "memory", "puts"], indirect=True)


class Puts(MemoryFileSystem):
    """A store of objects: what is put is there as a whole, and there is nothing to move."""

    protocol = "puts"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("puts://"))

    def mv(self, *_, **__):
        raise AssertionError("an object is put under its name")


@pytest.fixture(autouse=True)
def _puts(monkeypatch):
    fsspec.register_implementation("puts", Puts, clobber=True)
    monkeypatch.setattr("records.stored_file.OBJECT_STORES", frozenset({"puts"}))
    Puts.store.clear()


@every
def test_what_is_written_is_read(folder):
    file = stored_file(f"{folder}/deep/a.bin")
    assert not file.exists()
    file.write(b"one")
    file.write(b"two, longer")
    assert file.exists()
    assert file.read() == b"two, longer"
    assert file.name == "a.bin"


@every
def test_a_file_beside_another_takes_its_content(folder):
    file = stored_file(f"{folder}/a.bin")
    other = file.beside("b.bin")
    file.write(b"one")
    file.copy_to(other)
    file.write(b"two")
    assert (file.read(), other.read()) == (b"two", b"one")
    assert other.where.rpartition("/")[0] == file.where.rpartition("/")[0]
    other.remove()
    other.remove()
    assert not other.exists()
    assert file.exists()


@every
def test_missing_files_are_said(folder):
    with pytest.raises(MissingFileError, match=r"none\.bin: there is no such file"):
        stored_file(f"{folder}/none.bin").read()


@pytest.mark.parametrize("folder", ["path", "file", "memory"], indirect=True)
def test_a_folder_is_no_file(folder):
    stored_file(f"{folder}/sub/a.bin").write(b"x")
    with pytest.raises(CorruptFileError, match=r"sub: (it is a folder|there is no such file)"):
        stored_file(f"{folder}/sub").read()


def listed(name):
    return sorted(fsspec.filesystem(name).store)


@pytest.mark.parametrize("name", ["memory", "puts"])
@pytest.mark.parametrize("fails", ["pipe_file", "info", "short"])
def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(monkeypatch, name, fails):
    fsspec.filesystem(name).store.clear()
    file = stored_file(f"{name}://bucket/a.bin")
    file.write(b"old")
    kind = type(fsspec.filesystem(name))
    original = MemoryFileSystem.pipe_file

    def broken(self, *args, **kwargs):
        raise ConnectionResetError("the network is gone")

    def short(self, path, value, **kwargs):
        original(self, path, value[:2], **kwargs)

    if fails == "short":
        monkeypatch.setattr(kind, "pipe_file", short)
    else:
        monkeypatch.setattr(kind, fails, broken)
    with pytest.raises(
        StorageError, match=rf"cannot write {name}://bucket/a\.bin: .*(gone|2 of 7)"
    ):
        file.write(b"another")
    monkeypatch.undo()
    if name == "memory" or fails == "pipe_file":
        assert file.read() == b"old"
    assert listed(name) == ["/bucket/a.bin"]


def test_a_killed_writer_leaves_the_old_file(monkeypatch):
    """What dies while data are sent has written to the temporary name only."""
    fsspec.filesystem("memory").store.clear()
    file = stored_file("memory://bucket/a.bin")
    file.write(b"old")
    original = MemoryFileSystem.pipe_file

    def killed(self, path, value, **kwargs):
        original(self, path, value[:3], **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", killed)
    monkeypatch.setattr(MemoryFileSystem, "rm_file", lambda *_: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        file.write(b"another")
    monkeypatch.undo()
    assert file.read() == b"old"
    partial = [name for name in listed("memory") if ".partial-" in name]
    assert len(partial) == 1
    assert len(listed("memory")) == 2


def test_a_file_system_that_moves_over_nothing_is_written_to_all_the_same(monkeypatch):
    fsspec.filesystem("memory").store.clear()
    file = stored_file("memory://bucket/a.bin")
    original = MemoryFileSystem.mv

    def mv(self, source, target, **kwargs):
        if self.exists(target):
            raise FileExistsError(target)
        original(self, source, target, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "mv", mv)
    file.write(b"one")
    file.write(b"two")
    assert file.read() == b"two"
    assert listed("memory") == ["/bucket/a.bin"]


def test_a_move_that_fails_otherwise_is_told(monkeypatch):
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setattr(MemoryFileSystem, "mv", lambda *_, **__: 1 / 0)
    with pytest.raises(StorageError, match="ZeroDivisionError"):
        stored_file("memory://bucket/a.bin").write(b"one")
    assert listed("memory") == []


def test_a_disk_without_links_copies(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    file = stored_file(tmp_path / "a.bin")
    file.write(b"one")
    file.copy_to(file.beside("b.bin"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == b"one"


def test_a_disk_that_refuses_to_be_read_is_said(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot read .*a/b.*a part of the path is a file"):
        stored_file(tmp_path / "a" / "b").read()


def test_storage_that_cannot_be_asked_is_said(monkeypatch):
    file = stored_file("memory://bucket/a.bin")
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *_: 1 / 0)
    with pytest.raises(StorageError, match=r"cannot look for memory://.*ZeroDivisionError.*check"):
        file.exists()


def test_unknown_protocols_are_refused():
    with pytest.raises(UnknownNameError, match="unknown protocol 'gcss'; did you mean 'gcs'"):
        stored_file("gcss://bucket/a")


def test_a_url_without_a_name_is_refused():
    with pytest.raises(
        BadInputError, match=r"memory:// names no file: write memory://FOLDER/NAME"
    ):
        stored_file("memory://")


def test_a_package_that_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(BadInputError, match=r"s3://bucket/a needs a package .*pip install s3fs"):
        stored_file("s3://bucket/a")


def test_without_fsspec_paths_still_work(monkeypatch, tmp_path):
    for name in ("fsspec", "fsspec.core", "fsspec.registry"):
        monkeypatch.setitem(sys.modules, name, None)
    stored_file(tmp_path / "a").write(b"x")
    assert stored_file(f"file://{tmp_path}/a").read() == b"x"
    with pytest.raises(BadInputError, match=r"memory://b/a needs fsspec .*pip install fsspec"):
        stored_file("memory://b/a")


def test_storage_that_cannot_be_reached_is_said():
    class Unreachable(MemoryFileSystem):
        protocol = "unreachable"

        def __init__(self, *_, **__):
            raise RuntimeError("no credentials")

    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(StorageError, match=r"cannot reach unreachable://b/a: .*no credentials"):
        stored_file("unreachable://b/a")


def test_paths_are_made_absolute_and_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("run/a.bin") == str(tmp_path / "run" / "a.bin")
    assert absolute("s3://bucket/a.bin") == "s3://bucket/a.bin"
