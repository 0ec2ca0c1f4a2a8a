import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import BadInputError, generator, spawn, torch_seed

PINNED = (2210958834, 2095111452, 4148982357, 2670513690)
PINNED_TORCH = 3511170730236822125

parts = st.text(max_size=4) | st.integers(-3, 10)
paths = st.tuples(st.integers(0, 2**70), st.lists(parts, max_size=3).map(tuple))


def state(sequence):
    return tuple(sequence.generate_state(4))


def test_streams_are_equal_in_another_process():
    script = (
        "from records import generator, torch_seed;"
        "print(generator(7, 'search', 3).integers(2**62), torch_seed(7, 'train'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(found[0]) == generator(7, "search", 3).integers(2**62)
    assert int(found[1]) == torch_seed(7, "train")


def test_streams_never_change():
    """Pinned: another derivation would silently change every published run."""
    assert state(spawn(0, "search", 1)) == PINNED
    assert torch_seed(0, "train") == PINNED_TORCH


@given(paths, paths)
def test_streams_are_equal_exactly_when_their_names_are(one, other):
    is_equal = state(spawn(one[0], *one[1])) == state(spawn(other[0], *other[1]))
    assert is_equal == (one == other)


def test_text_numbers_and_nesting_are_different_names():
    streams = [(), ("1",), (1,), (1, 1), ("1", "1"), ("11",), (11,), ("a", "b"), ("ab",)]
    assert len({state(spawn(0, *path)) for path in streams}) == len(streams)
    assert state(spawn(0, np.int64(1))) == state(spawn(0, 1))


def test_no_path_is_the_seed_itself():
    assert state(spawn(5)) == state(np.random.SeedSequence(5))


def test_children_of_a_stream_are_not_its_named_streams():
    children = {state(child) for child in spawn(0, "a").spawn(20)}
    assert not children & {state(spawn(0, "a", index)) for index in range(20)}


@given(st.integers(0, 2**40))
def test_torch_seed_has_63_bits(seed):
    assert 0 <= torch_seed(seed, "train") < 2**63


@pytest.mark.parametrize(("seed", "path"), [(-1, ()), (0.5, ()), (0, (1.5,)), (0, (None,))])
def test_bad_names_are_refused(seed, path):
    with pytest.raises(BadInputError, match="got"):
        spawn(seed, *path)
