"""Spaces travel to other processes: their parameters do, and everything else follows there."""

import pickle

import numpy as np
import pytest

from search_spaces import CNNSpace, HybridSpace, WithPlatform

BASE = CNNSpace(image_size=8)


@pytest.mark.parametrize(
    "space",
    [
        HybridSpace(image_size=8, channels=1),
        BASE.freeze({BASE.choices[0].name: BASE.choices[0].values[0]}),
        WithPlatform(base=BASE, platform=(("device.rows", (8, 16)),)),
    ],
    ids=["plain", "restricted", "with a platform"],
)
def test_a_space_is_the_same_in_another_process(space):
    data = pickle.dumps(space)
    assert len(data) < 10_000, "tables are made again, not sent"
    other = pickle.loads(data)
    assert type(other) is type(space)
    assert other == space
    assert other.hash == space.hash
    rows = space.sample(5, np.random.default_rng(0))
    np.testing.assert_array_equal(other.layer_table(rows).macs, space.layer_table(rows).macs)
