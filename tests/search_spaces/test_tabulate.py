import numpy as np
import pytest

from records import BadInputError
from search_spaces import Choice, tabulate
from search_spaces.expression import round_to, where
from search_spaces.tabulate import MAX_VARIANTS, all_genes

CHOICES = [
    Choice(name="a", values=(2, 3, 5)),
    Choice(name="b", values=("x", "y")),
    Choice(name="c", values=(0.5, 1, 1.5, 4)),
    Choice(name="d", values=(1, 7)),
]
A, B, C, D = (c.value for c in CHOICES)


def test_codes_find_what_each_row_evaluates_to():
    rows = [
        {"first": A + D, "second": 4},
        {"first": where(B.equals("y"), A * 10, D), "second": round_to(16 * C, 8)},
        {"first": 7, "second": 8},
    ]
    genes = all_genes([3, 2, 4, 2])
    table = tabulate(CHOICES, rows)
    codes = table.codes(genes)
    first, second = table.columns["first"][codes], table.columns["second"][codes]
    assert table.rows == 3
    assert table.variants == 3 * 2 + 3 * 2 * 4 * 2 + 1
    np.testing.assert_array_equal(np.bincount(table.row_of_variant()), [6, 48, 1])
    for i, row in enumerate(genes):
        a, b, c, d = (choice.values[g] for choice, g in zip(CHOICES, row, strict=True))
        rounded = {0.5: 8, 1: 16, 1.5: 24, 4: 64}[c]
        assert list(first[:, i]) == [a + d, a * 10 if b == "y" else d, 7]
        assert list(second[:, i]) == [4, rounded, 8]


def test_codes_of_no_rows_and_no_genes():
    assert tabulate(CHOICES, [{"v": A}]).codes(np.zeros((0, 4), np.int16)).shape == (1, 0)


def test_codes_are_exact_at_the_largest_table():
    choices = [Choice(name=str(i), values=tuple(range(2**5))) for i in range(4)]
    total = sum((c.value for c in choices[1:]), choices[0].value)
    table = tabulate(choices, [{"v": 1}, {"v": total}])
    assert table.variants == MAX_VARIANTS + 1
    genes = np.random.default_rng(0).integers(0, 32, (5000, 4)).astype(np.int16)
    genes[0] = 31
    np.testing.assert_array_equal(
        table.columns["v"][table.codes(genes)], [np.ones(5000), genes.sum(axis=1)]
    )


def test_a_row_of_too_many_choices_is_refused_by_name():
    choices = [Choice(name=f"width{i}", values=tuple(range(1, 9))) for i in range(7)]
    with pytest.raises(BadInputError, match=r"row 0 .*2097152 combinations.*width0, width1"):
        tabulate(choices, [{"v": sum((c.value for c in choices[1:]), choices[0].value)}])


def test_fractions_are_refused_where_integers_are_asked_for():
    with pytest.raises(BadInputError, match=r"row 1 has a v of 1\.5.*depends on: a, c"):
        tabulate(CHOICES, [{"v": 1}, {"v": (A + 1) * C}])
    table = tabulate(CHOICES, [{"v": A * C}], np.float64)
    assert table.columns["v"].max() == 20
