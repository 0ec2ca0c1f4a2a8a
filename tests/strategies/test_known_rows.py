import numpy as np

from strategies.known_rows import KnownRows, row_keys
from tests.strategies.doubles import SPACE

PINNED = [8468108138951505757, 17229611792364529089]
GENES = SPACE.sample(20000, np.random.default_rng(0))


def test_keys_are_equal_for_equal_rows_alone():
    distinct = len(np.unique(GENES, axis=0))
    assert len(np.unique(row_keys(GENES))) == distinct
    np.testing.assert_array_equal(row_keys(GENES[::-1]), row_keys(GENES)[::-1])


def test_keys_never_change():
    """Pinned: states hold them."""
    keys = row_keys(np.arange(12, dtype=np.int16).reshape(2, 6))
    assert keys.tolist() == PINNED


def test_add_agrees_with_a_plain_set():
    rng = np.random.default_rng(1)
    known, plain = KnownRows(), set()
    for _ in range(20):
        rows = GENES[rng.integers(300, size=60)]
        expected = []
        for i, row in enumerate(map(tuple, rows.tolist())):
            if row not in plain:
                expected.append(i)
                plain.add(row)
        marks = known.is_new(rows)
        assert known.add(rows).tolist() == expected == np.flatnonzero(marks).tolist()
    assert len(known) == len(plain)


def test_limit_takes_the_first_new_rows_and_forgets_the_others():
    known = KnownRows()
    rows = np.unique(GENES[:50], axis=0)
    assert known.add(rows, 3).tolist() == [0, 1, 2]
    assert known.add(rows, 0).tolist() == []
    assert known.add(rows).tolist() == list(range(3, len(rows)))


def test_text_round_trip():
    known = KnownRows()
    known.add(GENES[:100])
    again = KnownRows.from_text(known.to_text())
    assert len(again) == len(known)
    assert not again.is_new(GENES[:100]).any()
    assert len(KnownRows.from_text(KnownRows().to_text())) == 0
