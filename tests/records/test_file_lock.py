import os

import pytest

from records import LockedRunError, StorageError
from records.file_lock import FileLock


def run_in_fork(action):
    """Runs an action in a forked child and returns its exit status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def takes_lock(path):
    try:
        FileLock(path)
    except LockedRunError as error:
        return 1 if f"process {os.getppid()} on " in str(error) else 2
    return 0


def test_one_holder_at_a_time_in_one_process(tmp_path):
    lock = FileLock(tmp_path / "a")
    with pytest.raises(LockedRunError, match="this process"):
        FileLock(tmp_path / "a")
    FileLock(tmp_path / "b").release()
    lock.release()
    lock.release()
    FileLock(tmp_path / "a").release()
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_the_folder_is_the_same_lock(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    lock = FileLock(tmp_path / "real" / "a")
    with pytest.raises(LockedRunError):
        FileLock(tmp_path / "link" / "a")
    lock.release()


def test_a_forked_child_neither_breaks_nor_inherits_the_lock(tmp_path):
    lock = FileLock(tmp_path / "a")

    def release_copy():
        lock.release()
        return 0

    assert run_in_fork(release_copy) == 0
    assert (tmp_path / "a.lock").exists()
    lock.release()


def test_the_holder_is_named_to_another_process(tmp_path):
    lock = FileLock(tmp_path / "a")

    def take_from_outside():
        from records import file_lock

        file_lock._held_here.clear()  # as a process that was not forked from the holder
        return takes_lock(tmp_path / "a")

    assert run_in_fork(take_from_outside) == 1
    lock.release()
    assert run_in_fork(lambda: takes_lock(tmp_path / "a")) == 0


def test_a_dead_holder_leaves_nothing_locked(tmp_path):
    def take_and_die():
        FileLock(tmp_path / "a")
        os.kill(os.getpid(), 9)

    assert run_in_fork(take_and_die) == -9
    assert (tmp_path / "a.lock").exists()
    FileLock(tmp_path / "a").release()


def test_no_lock_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot lock"):
        FileLock(tmp_path / "file" / "a")
