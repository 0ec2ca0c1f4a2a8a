import numpy as np

from records.shared_arrays import add_arrays, named_arrays


def test_owners_get_their_arrays_back_under_their_own_names_and_order():
    first = {"b": np.arange(3), "a": np.ones(3)}
    second = {"a": np.arange(3.0), "c": np.zeros((0, 2)), "b": np.array(2.5)}
    sent = {}
    names = [add_arrays(sent, first, "first/"), add_arrays(sent, second, "second/")]
    assert list(sent) == ["first/b", "first/a", "second/a", "second/c", "second/b"]
    for arrays, own in zip((first, second), names, strict=True):
        found = named_arrays(sent, own)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def test_an_array_that_another_owner_sent_is_not_sent_again():
    images = np.random.default_rng(0).normal(size=(5, 2, 3))
    sent = {}
    add_arrays(sent, {"equal": images.copy(), "same": images, "zero": np.zeros(2)}, "one/")
    names = add_arrays(sent, {"mine": images, "turned": images.copy("F")}, "two/")
    assert names == {"mine": "one/same", "turned": "one/equal"}
    assert len(sent) == 3


def test_arrays_that_only_look_alike_are_both_sent():
    numbers = np.arange(100.0)
    late = numbers.copy()
    late[-1] += 1
    others = {
        "last": late,
        "type": numbers.astype(np.float32),
        "shape": numbers.reshape(10, 10),
        "part": numbers[:50],
        "reversed": numbers[::-1],
        "order": numbers.astype(">f8"),
    }
    sent = {}
    add_arrays(sent, {"numbers": numbers, "zero": np.zeros(2)}, "")
    names = add_arrays(sent, others | {"minus zero": -np.zeros(2)}, "other/")
    assert names == {name: f"other/{name}" for name in [*others, "minus zero"]}


def test_one_owners_equal_arrays_stay_apart():
    sent = {}
    names = add_arrays(sent, {"mean": np.zeros(4), "bias": np.zeros(4)}, "")
    assert names == {"mean": "mean", "bias": "bias"}
