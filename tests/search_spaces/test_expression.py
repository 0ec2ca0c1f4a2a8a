import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.expression import (
    Expression,
    both,
    choices_of,
    divide_up,
    either,
    evaluate,
    is_equal,
    negate,
    round_to,
    same,
    where,
)

A, B = Expression("choice", ("a",)), Expression("choice", ("b",))
integers = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 20)), min_size=1)


@given(integers, st.integers(1, 9))
def test_arithmetic_equals_numpy(pairs, k):
    a, b = np.array(pairs).T
    cases = {
        "a+b": (A + B, a + b),
        "k+a": (k + A, k + a),
        "a-k": (A - k, a - k),
        "k-a": (k - A, k - a),
        "a*b": (A * B, a * b),
        "k*a": (k * A, k * a),
        "a//b": (A // B, a // b),
        "k//b": (k // B, k // b),
        "a>b": (A > B, a > b),
        "a>=b": (A >= B, a >= b),
        "k<a": (k < A, k < a),
        "a=b": (A.equals(B), a == b),
        "and": ((A > B) & (B > A + 5), (a > b) & (b > a + 5)),
        "or": ((A > B) | (B > A + 5), (a > b) | (b > a + 5)),
        "not": (~(A > B), a <= b),
        "where": (where(A > B, A, k), np.where(a > b, a, k)),
        "nested": (((A + B) * (A + B)) // B - A, (a + b) ** 2 // b - a),
    }
    for name, (expression, expected) in cases.items():
        found = expression.evaluate({"a": a, "b": b})
        np.testing.assert_array_equal(found, expected, err_msg=name)


@given(st.integers(-100, 1000), st.integers(1, 64))
def test_divide_up_and_round_to_agree_for_numbers_and_arrays(a, b):
    values = {"a": np.array([a]), "b": np.array([b])}
    assert divide_up(a, b) == divide_up(A, B).evaluate(values)[0] == -((-a) // b)
    expected = max(b, (2 * a + b) // (2 * b) * b)  # halves go up, in integers
    assert round_to(a, b) == round_to(A, b).evaluate(values)[0] == expected


def test_round_to_of_ratios_is_an_integer():
    ratio = Expression("choice", ("ratio",))
    found = round_to(24 * ratio, 8).evaluate({"ratio": np.array([0.1, 1.5, 2, 2.5])})
    np.testing.assert_array_equal(found, [8, 40, 48, 64])
    assert found.dtype == np.int64
    assert isinstance(round_to(24 * 1.5, 8), int)


def test_conditions_fold_and_agree_with_logic():
    condition = A > 1
    for p, q in itertools.product((True, False, condition), repeat=2):
        for x in (0, 5):
            values = {"a": np.array([x])}
            truth = [bool(evaluate(c, values, 1)[0]) for c in (p, q)]
            assert evaluate(both(p, q), values, 1)[0] == all(truth)
            assert evaluate(either(p, q), values, 1)[0] == any(truth)
            assert evaluate(negate(p), values, 1)[0] == (not truth[0])
    assert both(True, condition) is condition
    assert both(condition, True) is condition
    assert both(False, condition) is False
    assert both(condition, False) is False
    assert either(True, condition) is True
    assert either(condition, True) is True
    assert either(False, condition) is condition
    assert either(condition, False) is condition
    assert both(condition, A > 1) is condition
    assert either(condition, A > 1) is condition
    assert negate(True) is False


def test_where_and_is_equal_fold():
    assert where(True, 3, A) == 3
    assert where(False, 3, A) is A
    assert where(A > 1, 7, 7) == 7
    assert same(where(A > 1, A + 1, A + 1), A + 1)
    assert is_equal("conv", "conv") is True
    assert is_equal(3, 4) is False
    for equal in (is_equal(A, 3), is_equal(3, A)):
        np.testing.assert_array_equal(equal.evaluate({"a": np.array([2, 3])}), [False, True])


def test_choices_of_names_what_is_read():
    assert choices_of(3) == choices_of("conv") == frozenset()
    assert choices_of(A * 2 + 1) == {"a"}
    assert choices_of(where(A > 1, B, 0)) == {"a", "b"}
    assert choices_of(where(A > 1, 5, 5)) == frozenset()


def test_plain_numbers_are_repeated():
    np.testing.assert_array_equal(evaluate(3, {}, 4), [3, 3, 3, 3])


def test_a_choice_that_is_not_given_is_an_error():
    with pytest.raises(KeyError, match="b"):
        (A + B).evaluate({"a": np.array([1])})


def test_shared_parts_are_evaluated_once():
    x = A
    for _ in range(200):  # 2^200 evaluations if they were not shared
        x = x + x - x
    np.testing.assert_array_equal(x.evaluate({"a": np.array([3, 4])}), [3, 4])
