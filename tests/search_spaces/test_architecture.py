import pytest

from records import BadInputError
from search_spaces import Architecture

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
