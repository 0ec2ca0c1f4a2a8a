import numpy as np
import pytest

from experiments.benchmarks.sparsity import (
    BY_BLOCKS,
    PATTERNS,
    STACKS,
    Stack,
    blocks_of_16,
    check,
    gains,
    onnx_file,
    patterns_of,
    square_blocks,
    two_of_four,
    ways,
)

RNG = np.random.default_rng(0)
LINEAR = Stack(name="linear", shape=(5, 32), widths=(32, 64, 32))
CONV = Stack(name="conv", shape=(1, 16, 6, 6), widths=(16, 32, 16), kernel=3)


def test_two_of_four_keeps_the_two_largest():
    weight = np.array([[1, -4, 3, 2, 0.5, 0.1, -0.2, 9]], np.float32)
    np.testing.assert_array_equal(two_of_four(weight), [[0, -4, 3, 0, 0.5, 0, 0, 9]])


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_blocks_are_zero_as_a_whole_and_those_of_the_least_norm(share):
    weight = RNG.standard_normal((32, 64)).astype(np.float32)
    pruned = blocks_of_16(weight, share)
    blocks, before = pruned.reshape(-1, 16), weight.reshape(-1, 16)
    gone = (blocks == 0).all(axis=1)
    assert gone.mean() == pytest.approx(share, abs=1 / len(blocks))
    np.testing.assert_array_equal(blocks[~gone], before[~gone])
    norms = np.linalg.norm(before, axis=1)
    assert norms[gone].max() <= norms[~gone].min()


@pytest.mark.parametrize("stack", STACKS, ids=lambda s: s.name.replace(" ", "-"))
def test_patterns_have_the_zeros_they_say(stack):
    weights = stack.weights(np.random.default_rng(1))
    wanted = {"dense": 0.0, "2:4": 0.5, "1x16, 50%": 0.5, "1x16, 70%": 0.7, "1x16, 90%": 0.9}
    for pattern, prune in PATTERNS.items():
        zeros = np.mean([np.mean(prune(w) == 0) for w in weights])
        assert zeros == pytest.approx(wanted[pattern], abs=0.001), pattern


@pytest.mark.parametrize("stack", [LINEAR, CONV], ids=["linear", "conv"])
def test_every_way_computes_the_stack(stack):
    dense = stack.weights(np.random.default_rng(2))
    images = RNG.standard_normal((2, *stack.shape)).astype(np.float32)
    names = []
    for name, make in ways(stack, 1, images).items():
        weights = [patterns_of(name)["1x16, 50%"](w) for w in dense]
        if "int8" not in name:
            check(stack, make(weights), weights, images[0])
            names.append(name)
    assert {"onnxruntime fp32", "torch dense"} <= set(names)
    assert ("torch csr" in names) == (not stack.kernel)


def test_square_blocks_are_zero_as_a_whole():
    weight = RNG.standard_normal((32, 64)).astype(np.float32)
    pruned = square_blocks(weight, 0.75).reshape(8, 4, 16, 4).transpose(0, 2, 1, 3)
    zeros = (pruned == 0).reshape(128, 16)
    assert zeros.all(axis=1).sum() == 96
    assert zeros.any(axis=1).sum() == 96
    assert list(patterns_of(BY_BLOCKS)) == ["1x16, 50%", "1x16, 70%", "1x16, 90%"]
    assert "dense" not in patterns_of("torch csr")
    assert patterns_of("torch dense") == PATTERNS


def test_the_check_sees_other_weights():
    weights = LINEAR.weights(np.random.default_rng(3))
    other = [w + 0.1 for w in weights]
    images = RNG.standard_normal((2, *LINEAR.shape)).astype(np.float32)
    opened = ways(LINEAR, 1, images)["torch dense"](other)
    with pytest.raises(AssertionError):
        check(LINEAR, opened, weights, images[0])
    assert onnx_file(LINEAR, weights) != onnx_file(LINEAR, other)


def test_gains_are_against_the_dense_weights_of_the_same_way():
    found = {"a": {"dense": 2.0, "2:4": 1.0}, "torch dense": {"dense": 3.0, "2:4": 3.0},
             "torch csr": {"2:4": 6.0}}  # fmt: skip
    assert gains(found) == {
        "a": {"2:4": 2.0}, "torch dense": {"2:4": 1.0}, "torch csr": {"2:4": 0.5},
    }  # fmt: skip
