"""Accelerators against what others published or simulate; every number says where it is from."""

import numpy as np
import pytest

from hardware_profiles import Accelerator, eyeriss_like
from latency_models.accelerator import Product, count, mapping

# Chen et al., Eyeriss, JSSC 52(1), 2017, tables V (AlexNet, 4 images) and VI (VGG-16, 3 images):
# processing latency in ms at 200 MHz, active PEs. Read in a transcript of the tables
# (github.com/cucapra/fodlam, raw/ and data/). Two of its entries are plainly misread: the latency
# of CONV3 (21.3 there, 21.8 recalled; they sum to the published 103.5 ms only with the latter) and
# the PEs of CONV2-1 of VGG-16 (150 with 93 %, which is 156).
ALEXNET = {
    # name: groups, filters, channels, kernel, stride, output side, input side, ms, PEs
    "CONV1": (1, 96, 3, 11, 4, 55, 227, 16.5, 154),
    "CONV2": (2, 128, 48, 5, 1, 27, 27, 39.2, 135),
    "CONV3": (1, 384, 256, 3, 1, 13, 13, 21.8, 156),
    "CONV4": (2, 192, 192, 3, 1, 13, 13, 16.0, 156),
    "CONV5": (2, 128, 192, 3, 1, 13, 13, 10.0, 156),
}
VGG16 = {
    # name: channels, filters, side, ms, PEs
    "CONV1-2": (64, 64, 224, 810.6, 156),
    "CONV2-1": (64, 128, 112, 405.3, 156),
    "CONV3-1": (128, 256, 56, 204.0, 156),
    "CONV4-1": (256, 512, 28, 105.1, 168),
    "CONV4-2": (512, 512, 28, 210.0, 168),
    "CONV5-1": (512, 512, 14, 48.3, 168),
}


def columns(device):
    return {name: np.asarray(value) for name, value in device.columns_of_table.items()}


def alexnet(name, images):
    groups, filters, channels, kernel, stride, side, in_side, *_ = ALEXNET[name]
    return Product.of(
        groups=groups, filters=filters, channels=channels, kernel=kernel, stride=stride,
        rows=images * side, columns=side, in_rows=images * in_side, in_columns=in_side,
    )  # fmt: skip


def vgg16(name, images):
    channels, filters, side, *_ = VGG16[name]
    return Product.of(
        filters=filters, channels=channels, kernel=3, rows=images * side, columns=side
    )


def test_published_latencies_of_alexnet_add_up():
    assert sum(row[-2] for row in ALEXNET.values()) == pytest.approx(103.5)


@pytest.mark.parametrize("name", ALEXNET)
def test_pes_of_eyeriss_that_work_on_alexnet_are_the_published_ones(name):
    active = mapping(alexnet(name, 1), columns(eyeriss_like())).active
    assert active == ALEXNET[name][-1]


@pytest.mark.parametrize("name", ALEXNET)
def test_latency_of_eyeriss_on_alexnet_is_up_to_16_percent_below_the_measured(name):
    """The chip also fills its array anew in every pass, which is not modelled."""
    ms = count(alexnet(name, 4), columns(eyeriss_like())).cycles / 0.2e6
    assert 0.84 < ms / ALEXNET[name][-2] < 1.0


def test_latency_of_eyeriss_on_all_of_alexnet():
    ms = sum(count(alexnet(n, 4), columns(eyeriss_like())).cycles for n in ALEXNET) / 0.2e6
    assert ms / 103.5 == pytest.approx(0.872, abs=0.01)


@pytest.mark.parametrize("name", ["CONV4-1", "CONV4-2", "CONV5-1"])
def test_latency_of_eyeriss_on_late_vgg_layers_is_up_to_22_percent_below_the_measured(name):
    ms = count(vgg16(name, 3), columns(eyeriss_like())).cycles / 0.2e6
    assert 0.78 < ms / VGG16[name][-2] < 1.0


@pytest.mark.parametrize("name", ["CONV1-2", "CONV2-1", "CONV3-1"])
def test_early_vgg_layers_of_eyeriss_are_slower_than_modelled(name):
    """What the model does not explain: the chip needs 2.5 to 5 times as long.

    Published accesses of the global buffer (2402.8 MB for CONV1-2) over an assumed 16 bytes a
    cycle would take 93 % of the measured 810.6 ms. That the chip waits for its buffer there is a
    guess; nothing that was read says so.
    """
    ms = count(vgg16(name, 3), columns(eyeriss_like())).cycles / 0.2e6
    assert 0.2 < ms / VGG16[name][-2] < 0.41


# Fold by fold, what SCALE-Sim 3.0.0 (the package `scalesim`, run on these sizes) gives: pixels,
# depth, filters, rows, columns, then cycles and reads of inputs, of weights, and writes of sums,
# weight-stationary, and the cycles, reads of inputs and weights, output-stationary.
SCALE_SIM = [
    ((10, 7, 5, 4, 4), (80, 140, 35, 100), (78, 140, 105)),
    ((4, 4, 4, 4, 4), (14, 16, 16, 16), (10, 16, 16)),
    ((9, 16, 6, 8, 4), (108, 288, 96, 108), (104, 288, 192)),
    ((30, 20, 17, 8, 5), (588, 2400, 340, 1530), (496, 2400, 1360)),
]


def systolic_counts(sizes, dataflow):
    pixels, depth, filters, rows, cols = sizes
    roomy = dict.fromkeys(
        ("weight_buffer_bytes", "input_buffer_bytes", "output_buffer_bytes"), 1 << 20
    )
    device = Accelerator(name="a", rows=rows, columns=cols, dataflow=dataflow, **roomy)
    nest = Product.of(filters=filters, channels=depth, rows=pixels)
    return count(nest, columns(device))


@pytest.mark.parametrize(("sizes", "weight", "output"), SCALE_SIM)
def test_systolic_arrays_agree_with_scale_sim(sizes, weight, output):
    pixels, _, filters, rows, cols = sizes
    got = systolic_counts(sizes, "weight")
    sums = got.output_buffer // 2  # each is read again: by the next fold, or for DRAM
    reads = (got.input_buffer - got.dram_inputs, got.weight_buffer - got.dram_weights)
    assert (got.cycles, *reads, sums) == weight
    got = systolic_counts(sizes, "output")
    folds = -(-pixels // rows) * -(-filters // cols)
    # its traces of output-stationary arrays leave out the `rows` cycles that shift outputs out,
    # which its paper's formula, 2 rows + columns + depth - 2 a fold, has
    cycles = got.cycles - folds * rows
    reads = (got.input_buffer - got.dram_inputs, got.weight_buffer - got.dram_weights)
    assert (cycles, *reads) == output
