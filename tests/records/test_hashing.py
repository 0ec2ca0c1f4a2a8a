import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import BadInputError, MissingFileError, array_hash, content_hash, file_hash

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=6,
)


def test_content_hash_is_the_published_recipe():
    text = '{"a":[1,2.5],"ü":null}'
    expected = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    assert content_hash({"ü": None, "a": (1, np.float64(2.5))}) == expected


def test_hashes_are_equal_in_another_process():
    script = (
        "import numpy as np; from records import array_hash, content_hash;"
        "print(content_hash({'b': {'y', }.pop(), 'a': [1, 2]}),"
        "array_hash({'w': np.arange(3.0), 'b': np.zeros(2, np.int8)}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    here = {"b": np.zeros(2, np.int8), "w": np.arange(3.0)}
    assert found == [content_hash({"a": (1, 2), "b": "y"}), array_hash(here)]


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_content_hash_ignores_the_order_of_keys(value):
    assert content_hash(dict(reversed(value.items()))) == content_hash(value)


@given(json_values, json_values)
def test_content_hash_tells_contents_apart(one, other):
    assert (content_hash(one) == content_hash(other)) == (repr_of(one) == repr_of(other))


def repr_of(value):
    """An independent canonical form: dictionaries sorted, everything else as Python shows it."""
    if isinstance(value, dict):
        return repr(sorted((key, repr_of(item)) for key, item in value.items()))
    if isinstance(value, list):
        return repr(["list", *map(repr_of, value)])
    return repr(value)


def test_content_hash_refuses_nan():
    with pytest.raises(BadInputError, match=r"\$\.a is nan"):
        content_hash({"a": float("nan")})


def test_array_hash_sees_everything_but_order_and_layout():
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    reference = array_hash({"w": weights, "b": np.zeros(2)})
    assert array_hash({"b": np.zeros(2), "w": np.asfortranarray(weights)}) == reference
    assert array_hash({"b": np.zeros(2), "w": weights.astype(">f4")}) == reference
    changed = weights.copy()
    changed[1, 2] += 1e-3
    others = [
        {"w": changed, "b": np.zeros(2)},
        {"w": weights.reshape(3, 2), "b": np.zeros(2)},
        {"w": weights.astype(np.float64), "b": np.zeros(2)},
        {"v": weights, "b": np.zeros(2)},
        {"w": weights},
        {"w": weights, "b": np.zeros(3)},
        {"w": weights.view(np.int32), "b": np.zeros(2)},
    ]
    hashes = {array_hash(other) for other in others}
    assert len(hashes) == len(others)
    assert reference not in hashes
    assert array_hash({"s": np.array(1.0)}) != array_hash({"s": np.array([1.0])})


def test_array_hash_refuses_objects():
    with pytest.raises(BadInputError, match="dtype object"):
        array_hash({"w": np.array([None])})


def test_file_hash_is_the_start_of_sha256(tmp_path):
    data = bytes(range(256)) * 10_000  # more than one block
    (tmp_path / "a").write_bytes(data)
    assert file_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()[:16]
    with pytest.raises(MissingFileError):
        file_hash(tmp_path / "b")
