import numpy as np

from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.zoo import Zoo


class TestZoo(SearchSpaceContract):
    space = Zoo()

    def other(self):
        return Zoo(num_classes=5)


def test_every_primitive_is_there():
    from search_spaces.primitives import PRIMITIVES

    assert {node.operator for node in Zoo().nodes} == set(PRIMITIVES) - {"position", "to_map"}


def test_sizes_depend_on_the_choices_that_set_them_alone():
    """A padded kernel of odd size leaves the map as it is, so no later layer reads it."""
    space = Zoo()
    strides = space.layers.strides
    read = {c.name for c, used in zip(space.choices, (strides[-1] != 0), strict=True) if used}
    assert read == set()
    rows = [i for i, node in enumerate(space.nodes) if node.name == "grouped.conv"]
    used = np.flatnonzero(strides[rows[0]])
    assert {space.choices[j].name for j in used} == {"resolution", "width"}
