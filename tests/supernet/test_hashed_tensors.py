import hashlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from records import CorruptFileError
from supernet.hashed_tensors import notes_of, tensors_of, to_bytes

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([7], dtype=torch.int64)}
NOTES = {"format": "test", "facts": '{"sha256":"no"}'}


@pytest.fixture(scope="module")
def data():
    return to_bytes(TENSORS, NOTES)


def test_what_is_written_is_read(data):
    assert notes_of(data, "here") == NOTES
    found = tensors_of(data, "here")
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in TENSORS.items()}


def test_it_is_a_safetensors_file(data, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        digest = file.metadata()["sha256"]
    assert set(load(data)) == set(TENSORS)
    blank = data.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest


def test_any_byte_that_is_wrong_is_found(data):
    name = data.index(b'"sha256":"')  # without its name the hash is a note like others
    for place in set(range(len(data))) - set(range(name + 1, name + 7)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(CorruptFileError, match="here is not a readable checkpoint"):
            notes_of(bytes(damaged), "here"), tensors_of(bytes(damaged), "here")


def test_any_cut_is_found(data):
    for length in range(len(data)):
        with pytest.raises(CorruptFileError, match="here is not a readable checkpoint"):
            notes_of(data[:length], "here")


def test_more_bytes_than_were_written_are_found(data):
    with pytest.raises(CorruptFileError, match="cut off or damaged"):
        notes_of(data + b"\0", "here")


def test_a_hash_of_another_form_is_refused():
    with pytest.raises(CorruptFileError, match=r"hash \(none\) and was written with 'short'"):
        notes_of(save(TENSORS, {"sha256": "short"}), "here")


def test_files_of_before_there_were_hashes_are_read():
    assert notes_of(save(TENSORS, NOTES), "here") == NOTES
    assert notes_of(save(TENSORS), "here") == {}


def test_tensors_that_cannot_be_read_are_refused():
    with pytest.raises(CorruptFileError, match="here is not a readable checkpoint"):
        tensors_of(b"12345678 not tensors", "here")


def test_another_kind_of_file_is_called_so_in_words_of_its_own():
    with pytest.raises(CorruptFileError, match="it is no safetensors file") as error:
        notes_of(b"# A heading\n\nand text below it, as in any file of words", "README.md")
    assert "Expecting" not in str(error.value)
