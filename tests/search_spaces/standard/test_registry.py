import pytest

from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.standard import STANDARD, FBNetSpace, NASBench201, standard_space

LARGE = {"nasvit", "attentive-nas", "ofa-mobilenetv3", "ascan", "mnasnet", "nas-bench-201"}
"""Those that take long to make; small ones of their classes are read back in their own tests."""
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
    for name in sorted(STANDARD)
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_a_space_that_reads_back_from_its_file(name):
    space = standard_space(name)
    assert isinstance(space, SearchSpace)
    assert SearchSpace.from_json(space.to_json()) == space


def test_parameters_change_the_published_space():
    assert standard_space("nas-bench-201", cells=1) == NASBench201(cells=1)
    assert standard_space("fbnet-cifar100") == FBNetSpace.cifar100() != FBNetSpace()


def test_unknown_names_and_parameters_are_refused_with_those_that_are_known():
    with pytest.raises(BadInputError, match="unknown standard space 'nasbench201'; did you mean"):
        standard_space("nasbench201")
    with pytest.raises(BadInputError, match=r"Known: .*fbnet.*nas-bench-201.*ofa-mobilenetv3"):
        standard_space("")
    with pytest.raises(BadInputError, match="unknown parameter of mnasnet 'widht'; did you mean"):
        standard_space("mnasnet", widht=0.5)
    with pytest.raises(BadInputError, match="num_classes must be an integer"):
        standard_space("nas-bench-macro", num_classes=1)
