import pytest

from records import BadInputError, UnknownNameError
from search_spaces import HybridSpace, HybridStage
from search_spaces.standard.named import architecture_from

SPACE = HybridSpace(
    image_size=16,
    stem_widths=(8,),
    stages=(HybridStage(depths=(0, 1), widths=(16, 24), expansions=(2,)),),
)
CONV = {
    "stem.width": 8,  # a single value, no gene
    "stage0.width": 24,
    "stage0.depth": 1,
    "stage0.block": "conv",
    "stage0.layer0.kernel": 5,
    "stage0.layer0.expansion": 2,
}


def test_an_architecture_has_the_given_values():
    architecture = architecture_from(SPACE, CONV)
    genes = {c.name for c in SPACE.choices}
    assert dict(architecture.items) == {n: v for n, v in CONV.items() if n in genes}
    assert len(architecture.items) == len(CONV) - 2
    assert SPACE.decode(SPACE.encode(architecture)) == [architecture]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stage0.block": "covn"}, r"'stage0.block' cannot be restricted to \('covn',\)"),
        ({"stage0.width": 20}, r"'stage0.width' cannot be restricted to \(20,\)"),
        ({"stem.width": 16}, r"'stem.width' cannot be restricted to \(16,\)"),
        ({"stage0.block": "attention"}, "'stage0.layer0.kernel' means nothing here"),
        ({"stage0.depth": 0}, "'stage0.block' means nothing here"),
        ({"stage0.layer0.heads": 1}, "'stage0.layer0.heads' means nothing here"),
    ],
)
def test_values_that_make_no_architecture_are_refused(change, why):
    with pytest.raises(BadInputError, match=why):
        architecture_from(SPACE, CONV | change)


def test_a_choice_that_is_missing_is_named():
    values = {n: v for n, v in CONV.items() if not n.endswith("kernel")}
    with pytest.raises(BadInputError, match=r"'stage0\.layer0\.kernel' is missing"):
        architecture_from(SPACE, values)


def test_names_that_the_space_does_not_have_are_refused():
    with pytest.raises(UnknownNameError, match=r"'stem\.widht'; did you mean 'stem\.width'"):
        architecture_from(SPACE, CONV | {"stem.widht": 8})
