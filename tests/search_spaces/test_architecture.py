import numpy as np
import pytest

from records import BadInputError
from search_spaces import Architecture, HybridSpace

SMALL = Architecture("CNNSpace", 1, (("stem.width", 8), ("stage0.layer0.kernel", 3),
                                     ("stage0.layer0.expansion", 1.5)))  # fmt: skip


def test_values_are_read_by_name():
    assert SMALL["stage0.layer0.expansion"] == 1.5
    with pytest.raises(KeyError, match=r"stage9\.width"):
        SMALL["stage9.width"]


def test_prints_a_line_a_group():
    assert str(SMALL).splitlines() == [
        "CNNSpace (version 1)",
        "stem           width=8",
        "stage0.layer0  kernel=3  expansion=1.5",
    ]
    assert "network  depth=2" in str(Architecture("ViTSpace", 1, (("depth", 2),)))


@pytest.mark.parametrize(
    "value",
    [None, [], "text", {}, {"space": "A", "version": 1}, {"space": "A", "choices": {}},
     {"space": "A", "version": "one", "choices": {}}, {"space": "A", "version": 1, "choices": 3}],
)  # fmt: skip
def test_files_that_are_no_architecture_are_refused(value):
    with pytest.raises(BadInputError, match="an architecture has 'space', 'version' and 'choices"):
        Architecture.from_json(value)


def test_differences_are_the_choices_that_differ_in_order():
    space = HybridSpace(image_size=16)
    genes = space.sample(60, np.random.default_rng(0))
    active = space.active(genes)
    architectures = space.decode(genes)
    for i in range(0, 60, 2):
        j = i + 1
        diff = architectures[i].diff(architectures[j])
        expected = [
            (
                c.name,
                c.values[genes[i, k]] if active[i, k] else None,
                c.values[genes[j, k]] if active[j, k] else None,
            )
            for k, c in enumerate(space.choices)
            if active[i, k] != active[j, k] or genes[i, k] != genes[j, k]
        ]
        assert len(diff) == len(expected)
        assert sorted(diff.changes, key=str) == sorted(expected, key=str)
        shared = [name for name, a, b in expected if a is not None and b is not None]
        mine = [name for name, a, _ in expected if a is not None]
        theirs = [name for name, _, b in expected if b is not None]
        names = [name for name, _, _ in diff.changes]
        for part in (shared, mine, theirs):
            assert [n for n in names if n in part] == part
        back = architectures[j].diff(architectures[i])
        assert {(n, b, a) for n, a, b in back.changes} == set(diff.changes)


def test_a_difference_prints_as_a_table():
    first = Architecture("A", 1, (("stem.width", 8), ("depth", 2), ("layer1.kernel", 5)))
    second = Architecture("A", 1, (("stem.width", 16), ("depth", 2), ("kind", "conv")))
    assert str(first.diff(second)).splitlines() == [
        "A: 3 choices differ",
        "stem.width     8  16",
        "layer1.kernel  5  -",
        "kind           -  conv",
    ]
    assert str(first.diff(first)) == "A: no difference"
    assert len(first.diff(first)) == 0
    swapped = Architecture("A", 1, second.items[::-1])  # a file in another order
    assert len(swapped.diff(second)) == 0


def test_architectures_of_different_spaces_are_not_compared():
    for other in (Architecture("ViTSpace", 1, ()), Architecture("CNNSpace", 2, SMALL.items)):
        with pytest.raises(BadInputError, match="'CNNSpace' version 1 cannot be compared with"):
            SMALL.diff(other)
