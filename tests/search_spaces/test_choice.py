import pytest

from records import BadInputError
from search_spaces import Choice


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((), "two or more distinct"),
        ((3,), "two or more distinct"),
        ((3, 3), "two or more distinct"),
        ((1, 1.0), "two or more distinct"),
        ((1, "conv"), "of one type"),
        ((5, 3), "ascending order"),
        ((1, 2.5, 2), "ascending order"),
    ],
)
def test_values_that_are_no_choice_are_refused_by_name(values, why):
    with pytest.raises(BadInputError, match=f"'stage1.width'.*{why}"):
        Choice(name="stage1.width", values=values)


def test_names_have_no_order_and_numbers_may_mix():
    assert Choice(name="block", values=("conv", "attention")).is_categorical
    assert not Choice(name="ratio", values=(1, 1.5, 2)).is_categorical


def test_other_mistakes_are_refused():
    with pytest.raises(BadInputError, match="needs a name"):
        Choice(name="", values=(1, 2))
    with pytest.raises(BadInputError, match=r"scope 'device'; allowed: \('architecture'"):
        Choice(name="threads", values=(1, 2), scope="device")
