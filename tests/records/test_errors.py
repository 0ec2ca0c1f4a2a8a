import errno
import pickle

import pytest

from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    HwnasError,
    LockedRunError,
    MissingFileError,
    StorageError,
    UnknownNameError,
    storage_error,
    unknown_name,
)


@pytest.mark.parametrize(
    ("error", "built_in"),
    [
        (BadInputError, ValueError),
        (UnknownNameError, KeyError),
        (CorruptFileError, ValueError),
        (MissingFileError, FileNotFoundError),
        (ExistingRunError, FileExistsError),
        (StorageError, OSError),
        (LockedRunError, StorageError),
    ],
)
def test_every_error_is_ours_and_the_built_in_and_survives_pickling(error, built_in):
    raised = error("what, allowed, do this")
    assert isinstance(raised, HwnasError)
    assert isinstance(raised, built_in)
    copy = pickle.loads(pickle.dumps(raised))  # workers send errors to the driver this way
    assert type(copy) is error
    assert str(copy) == str(raised) == "what, allowed, do this"


def test_unknown_name_lists_sorted_names_and_the_closest():
    message = str(unknown_name("device", "raspbery-pi", ["raspberry-pi", "jetson", "jetson"]))
    assert message == (
        "unknown device 'raspbery-pi'; did you mean 'raspberry-pi'? Known: jetson, raspberry-pi"
    )


def test_unknown_name_suggests_nothing_when_nothing_is_close():
    message = str(unknown_name("device", "zzz", ["jetson"]))
    assert "did you mean" not in message
    assert message.endswith("Known: jetson")
    assert str(unknown_name("device", "zzz", [])).endswith("None is known")


def test_storage_error_keeps_the_number_and_advises():
    error = storage_error("/runs/a", OSError(errno.ENOSPC, "No space left on device"))
    assert error.errno == errno.ENOSPC
    assert str(error) == (
        "cannot write /runs/a: No space left on device; free some space or choose another folder"
    )
