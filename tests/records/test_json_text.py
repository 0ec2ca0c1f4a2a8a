import json

import numpy as np
import pytest

from records import BadInputError, json_text, parse_json


def test_numpy_and_tuples_become_plain():
    value = {
        "a": np.arange(4, dtype=np.int16).reshape(2, 2),
        "b": np.float32(0.5),
        "c": (np.int64(3), np.bool_(True), np.str_("x")),
        "d": None,
    }
    assert json.loads(json_text(value)) == {
        "a": [[0, 1], [2, 3]],
        "b": 0.5,
        "c": [3, True, "x"],
        "d": None,
    }


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"costs": [1.0, {"ms": float("nan")}]}, "$.costs[1].ms is nan"),
        ([np.array([0.0, np.inf])], "$[0][1] is inf"),
        ({"bits": {8: 0.5}}, "$.bits has the key 8"),
        ({"path": {1, 2}}, "$.path is a set"),
        (["\ud800"], "$[0] has the text"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value, place):
    with pytest.raises(BadInputError) as caught:
        json_text(value)
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize("text", ["[NaN]", "[-Infinity]", "{", "[" * 100_000])
def test_parse_refuses_what_json_is_not(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)
