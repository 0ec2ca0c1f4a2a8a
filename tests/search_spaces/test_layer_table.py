import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import BadInputError
from search_spaces import HybridSpace, peak_alive


def naive_peak(sizes, active, edges):
    """One architecture: which tensors does each step find in memory?"""
    written = {}  # step -> the step whose tensor stands for its output
    read = {}  # running step -> the tensors that it reads
    for step, inputs in enumerate(edges):
        if active[step]:
            written[step] = step
            read[step] = {written[i] for i in inputs}
        else:
            written[step] = written[inputs[0]]
    peak = 0
    for step in read:
        later = {t for other, tensors in read.items() if other >= step for t in tensors}
        alive = {t for t in later if t < step} | {step}
        peak = max(peak, sum(sizes[t] for t in alive))
    return peak


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_peak_alive_equals_a_simulation_of_each_architecture(steps, seed):
    rng = np.random.default_rng(seed)
    edges = [()] + [
        tuple(int(i) for i in rng.integers(0, s, rng.integers(1, 3))) for s in range(1, steps)
    ]
    active = rng.random((steps, 6)) < 0.7
    active[0] = True
    sizes = rng.integers(1, 100, (steps, 6)) * active
    expected = [naive_peak(sizes[:, i], active[:, i], edges) for i in range(6)]
    np.testing.assert_array_equal(peak_alive(sizes, active, edges), expected)


def test_peak_of_a_residual_block_by_hand():
    # image 4, hidden 10, sum 4: the image waits for the sum
    sizes = np.array([[4], [10], [10], [4]])
    edges = [(), (0,), (1,), (0, 2)]
    np.testing.assert_array_equal(peak_alive(sizes, sizes > 0, edges), [4 + 10 + 10])


def test_unknown_columns_are_refused():
    space = HybridSpace(image_size=8)
    table = space.layer_table(space.sample(2, np.random.default_rng(0)))
    for read in (table.column, table.total):
        with pytest.raises(BadInputError, match="unknown column 'mac'; did you mean 'macs'"):
            read("mac")


def test_columns_have_a_row_an_architecture():
    space = HybridSpace(image_size=8)
    table = space.layer_table(space.sample(5, np.random.default_rng(0)))
    assert table.column("macs").shape == (5, len(space.nodes))
    np.testing.assert_array_equal(table.column("macs").sum(axis=1), table.macs)
