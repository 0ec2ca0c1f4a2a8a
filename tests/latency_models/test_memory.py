"""Memory of subnets on targets, and limits on it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from deployment import emit, quantise
from deployment.memory.reading import activation_peak
from hardware_profiles import Target, device, local_target
from latency_models import RooflineCostModel, device_limits
from latency_models.costs import channel_block
from latency_models.memory import MemoryModel
from latency_models.on_demand import OnDemand
from records import BadInputError
from search_spaces import CNNSpace, HybridSpace, SearchSpace
from search_spaces.blocks import classifier
from search_spaces.expression import is_equal
from strategies import InfeasibleConstraintError, Problem, check_feasible
from supernet import Subnet
from tests.latency_models.doubles import CNN, PROFILE, TARGET
from tests.strategies.doubles import FormulaAccuracy

INT8 = replace(TARGET, precision="int8")
STM32 = Target(profile=device("stm32h743"), runtime="tflite-micro", precision="int8")


@dataclass(frozen=True, kw_only=True)
class ShortcutSpace(SearchSpace):
    """Three convolutions; their input is added again if so chosen."""

    image_size: int = 8

    def build(self, net, images):
        begin = net.conv2d(images, 16, kernel=3, name="begin")
        x = net.conv2d(begin, 64, kernel=3, name="wide")
        x = net.conv2d(x, 64, kernel=3, name="as_wide")
        x = net.conv2d(x, 16, kernel=3, name="narrow")
        with net.when(is_equal(net.choice("shortcut", ("no", "yes")), "yes")):
            x = net.add(x, begin, name="add")
        return classifier(net, x, self.num_classes)


def test_a_shortcut_that_is_not_there_holds_nothing():
    genes = np.array([[0], [1]], np.int16)
    without, with_it = MemoryModel(ShortcutSpace(), STM32).activation_bytes(genes)
    size = 8 * 8
    assert without == (64 + 64) * size
    assert with_it == (16 + 64 + 64) * size
    two = MemoryModel(ShortcutSpace(), replace(STM32, batch_size=2)).activation_bytes(genes)
    assert two.tolist() == [2 * without, 2 * with_it]


def test_int8_takes_a_byte_for_a_value():
    genes = CNN.sample(20, np.random.default_rng(0))
    wide = MemoryModel(CNN, replace(STM32, precision="fp32")).activation_bytes(genes)
    np.testing.assert_array_equal(4 * MemoryModel(CNN, STM32).activation_bytes(genes), wide)


@pytest.mark.parametrize("way", ["dynamic", "static"])
@pytest.mark.parametrize("space", [CNNSpace(image_size=16), HybridSpace(image_size=16)],
                         ids=["cnn", "hybrid"])  # fmt: skip
def test_int8_files_of_onnxruntime_hold_float_values(space, way):
    rows = space.sample(4, np.random.default_rng(1))
    block = channel_block(local_target(threads=1, batch_size=1))
    planned = MemoryModel(space, INT8, block).activation_bytes(rows)
    reported = [
        activation_peak(quantise(emit(Subnet(space.graph(row)).eval()).SerializeToString(),
                                 mode=way)).activation_bytes
        for row in rows
    ]  # fmt: skip
    ratios = np.array(reported) / planned
    if way == "dynamic":
        np.testing.assert_array_equal(ratios, 1.0)
    assert (ratios > 0.5).all()  # with a byte for a value they would be a quarter
    assert (ratios < 2).all()


def test_a_microcontroller_keeps_weights_in_flash():
    model = RooflineCostModel(CNN, STM32)
    genes = CNN.sample(20, np.random.default_rng(0))
    predicted = model.predict(genes)
    images = 3 * CNN.image_size**2
    np.testing.assert_array_equal(
        predicted["peak_memory_bytes"], model.memory.activation_bytes(genes) + images
    )
    assert (predicted["flash_bytes"] > 0).all()
    elsewhere = RooflineCostModel(CNN, INT8)
    np.testing.assert_array_equal(
        elsewhere.peak_memory_bytes(genes),
        elsewhere.memory.activation_bytes(genes) + 4 * images + elsewhere.flash_bytes(genes),
    )
    assert "1 bytes a value" in model.memory.source
    assert "onnxruntime" in RooflineCostModel(CNN, TARGET).memory.source


def test_many_networks_are_planned_as_one_by_one():
    genes = CNN.sample(600, np.random.default_rng(0))
    model = MemoryModel(CNN, TARGET)
    together = model.activation_bytes(genes)
    for i in (0, 511, 512, 599):
        assert model.activation_bytes(genes[i : i + 1])[0] == together[i]
    assert model.activation_bytes(genes[:0]).shape == (0,)


def test_ram_and_flash_of_a_board_can_be_limits():
    space = CNNSpace(image_size=32)
    costs = RooflineCostModel(space, STM32)
    accuracy = FormulaAccuracy(space)
    profile = STM32.profile
    limits = {
        "peak_memory_bytes": profile.ram_bytes.value / 16,
        "flash_bytes": profile.flash_bytes.value / 16,
    }
    kept = check_feasible(Problem(space, accuracy, [costs], limits))
    assert (costs.peak_memory_bytes(kept.feasible_genes) <= limits["peak_memory_bytes"]).all()
    assert (costs.flash_bytes(kept.feasible_genes) <= limits["flash_bytes"]).all()
    with pytest.raises(InfeasibleConstraintError, match="flash_bytes <= 100"):
        check_feasible(Problem(space, accuracy, [costs], {"flash_bytes": 100}))


def test_values_are_computed_once_and_only_if_asked_for():
    asked = []
    values = OnDemand({"a": lambda: asked.append("a") or np.ones(1), "b": lambda: 1 / 0})
    assert list(values) == ["a", "b"]
    assert len(values) == 2
    assert values["a"] is values["a"]
    assert asked == ["a"]
    with pytest.raises(KeyError):
        values["c"]


def test_limits_of_a_device_are_its_ram_and_flash():
    small = Target(profile=device("stm32f746"), runtime="tflite-micro", precision="int8")
    assert device_limits(small) == {"peak_memory_bytes": 327680, "flash_bytes": 1048576}
    assert device_limits(TARGET) == {"peak_memory_bytes": 1 << 30}
    with pytest.raises(BadInputError, match="tells the size of no memory"):
        device_limits(Target(profile=replace(PROFILE, memory=(), pj_per_byte={})))
    with pytest.raises(BadInputError, match="a Target is needed"):
        device_limits(device("stm32f746"))
