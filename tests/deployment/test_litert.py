import numpy as np
import pytest

from deployment.runtimes import (
    float_operators,
    int8_litert_file,
    litert_file,
    microcontroller_fit,
    runtime,
)
from deployment.runtimes.litert import LiteRtNetwork, lifetimes
from deployment.runtimes.microcontroller import alive_bytes, planned_bytes
from hardware_profiles import device
from records import BadInputError
from tests.deployment.doubles import CNN, VIT, rows_of, shaken_subnet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not runtime("litert-int8").is_installed, reason=f"no {runtime('litert-int8').missing()}"
    ),
]


@pytest.fixture(scope="module")
def subnet():
    return shaken_subnet(CNN, rows_of(CNN, 4)[-1])


@pytest.fixture(scope="module")
def fp32(subnet):
    return litert_file(subnet)


@pytest.fixture(scope="module")
def int8(subnet):
    images = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)
    return int8_litert_file(subnet, calibration=images)


def test_in_int8_no_operator_sees_a_float(fp32, int8):
    assert {"CONV_2D", "FULLY_CONNECTED"} <= set(float_operators(fp32))
    assert float_operators(int8) == ()
    assert len(int8) < len(fp32)


def test_a_transformer_in_int8_sees_no_float_either():
    vit = shaken_subnet(VIT, rows_of(VIT, 4)[0])
    assert float_operators(int8_litert_file(vit)) == ()


def test_images_that_are_far_too_large_are_clipped(int8):
    opened = LiteRtNetwork("int8", int8)
    large = np.full(opened.shape, 1e6, np.float32)
    np.testing.assert_array_equal(opened.predict(large), opened.predict(2 * large))


def test_activations_live_from_where_they_are_written_to_where_they_are_read(subnet, int8):
    tensors = lifetimes(int8)
    first = subnet.graph.layers[0]
    (image,) = [t for t in tensors if t.first == -1]
    assert image.size_bytes == first.channels * first.height * first.width
    (logits,) = [t for t in tensors if t.last > max(o.first for o in tensors)]
    assert logits.size_bytes == 10
    assert all(t.first <= t.last for t in tensors)
    assert alive_bytes(tensors) <= planned_bytes(tensors) <= 1.5 * alive_bytes(tensors)


def test_int8_needs_about_a_quarter_of_the_memory(fp32, int8):
    board = device("stm32f746")
    large, small = microcontroller_fit(fp32, board), microcontroller_fit(int8, board)
    assert small.fits
    assert 3.5 < large.ram_bytes / small.ram_bytes <= 4.1
    assert small.flash_bytes == len(int8)


def test_bad_calibration_images_are_refused(subnet):
    with pytest.raises(BadInputError, match="calibration needs at least 4 images"):
        int8_litert_file(subnet, 4, np.zeros((3, 3, 16, 16), np.float32))
    with pytest.raises(BadInputError, match="finite"):
        int8_litert_file(subnet, 1, np.full((3, 3, 16, 16), np.nan, np.float32))
