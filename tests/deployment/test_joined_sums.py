"""Sums of convolutions: one kernel in the file, in the kernel table, in memory."""

import numpy as np
import pytest

from deployment import Lowering, emit, verify, verify_space
from deployment.emission.joined_sums import joined_sums
from deployment.kernel_tables.data_flow import DataFlow
from deployment.memory.order import in_order
from deployment.memory.plan import planned
from deployment.memory.reading import activation_peak
from deployment.memory.steps import MemorySteps
from search_spaces.blocks import conv_norm_act, rep_conv
from supernet import reparameterise
from tests.deployment.doubles import rows_of, shaken_subnet
from tests.deployment.test_fusion import body_space, run_and_stated
from tests.deployment.test_memory import BLOCK
from tests.supernet.doubles import images_of
from tests.supernet.test_reparameterisation import SPACE


@pytest.mark.parametrize("seed", range(4))
def test_the_file_has_one_convolution_for_all_branches(seed):
    subnet = shaken_subnet(SPACE, rows_of(SPACE, 4)[seed - 4], seed)
    model = emit(subnet, 2)
    assert verify(subnet, model, images_of(SPACE, 4)).relative_difference < 1e-4
    operators = [node.op_type for node in model.graph.node]
    assert "Add" not in operators
    assert "BatchNormalization" not in operators
    joined = reparameterise(subnet)
    convolutions = [la for la in joined.graph.layers if la.operator == "conv2d"]
    assert operators.count("Conv") == len(convolutions)


def test_all_readers_of_the_space_agree():
    report = verify_space(SPACE, architectures=3)
    assert report.ok, str(report)


@pytest.mark.parametrize("place", range(-6, 0))
def test_the_kernel_table_states_the_kernels_that_run(place, tmp_path):
    row = np.concatenate([rows_of(SPACE, 4), SPACE.extremes("smallest")[:2]])[place]
    run, stated = run_and_stated(SPACE, row, tmp_path)
    assert run == stated


def test_the_kernel_table_counts_the_products_of_what_runs():
    rows = rows_of(SPACE, 5)
    table = Lowering(SPACE).table(rows)
    for place, row in enumerate(rows):
        subnet = shaken_subnet(SPACE, row)
        runs = reparameterise(subnet).graph.macs
        assert int(table.column("macs")[place].sum()) == runs
        assert runs < subnet.graph.macs


def in_stem(net, x, build):
    x = conv_norm_act(net, x, 16, kernel=3)
    with net.scope("rep"):
        return build(net, x, net.choice("kernel", (3, 5)))


BODIES = {
    "dense": lambda net, x, kernel: rep_conv(net, x, net.choice("width", (8, 16)), kernel=kernel),
    "strided": lambda net, x, kernel: rep_conv(net, x, 24, kernel=kernel, stride=2),
    "depthwise": lambda net, x, kernel: rep_conv(net, x, 16, kernel=kernel, groups=16),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_memory_plan_is_that_of_the_file(name):
    space = body_space(lambda net, x: in_stem(net, x, BODIES[name]))
    rows = rows_of(space, 2)
    plan = planned(in_order(MemorySteps(space, channel_block=BLOCK).steps(rows)))
    for row, expected in zip(rows, plan.arena_peak_bytes, strict=True):
        data = emit(shaken_subnet(space, row)).SerializeToString()
        assert activation_peak(data).activation_bytes == expected


def names_of(space):
    joined = joined_sums(space.nodes, DataFlow(space.nodes, space.choices))
    names = [node.name for node in space.nodes]
    return {names[i]: [(names[h], on) for h, on in parts] for i, parts in joined.items()}


def test_branches_are_part_of_the_wide_convolution():
    space = body_space(lambda net, x: rep_conv(net, x, x.channels, kernel=3), channels=8)
    wide = [("wide.conv", True)]
    assert names_of(space) == {
        "point.conv": wide, "point.norm": wide, "sum": wide,
        "identity.norm": wide, "identity.sum": wide,
    }  # fmt: skip


def test_a_branch_that_depends_on_a_choice_is_part_of_it_where_it_is_there():
    def body(net, x):
        x = conv_norm_act(net, x, 8, kernel=3)
        with net.scope("rep"):
            return rep_conv(net, x, net.choice("width", (8, 16)), kernel=3)

    found = names_of(body_space(body))
    ((host, on),) = found["rep.identity.norm"]
    assert host == "rep.wide.conv"
    assert on is not True
    assert found["rep.point.conv"] == [("rep.wide.conv", True)]


OTHERS = {
    "the smaller first": lambda net, x: net.add(
        net.conv2d(x, 8, kernel=1, name="a"), net.conv2d(x, 8, kernel=3, name="b")),
    "other groups": lambda net, x: net.add(
        net.conv2d(x, 8, kernel=3, name="a"), net.conv2d(x, 8, kernel=1, groups=2, name="b")),
    "off centre": lambda net, x: net.add(
        net.conv2d(x, 8, kernel=3, stride=2, name="a"),
        net.conv2d(x, 8, kernel=2, stride=2, padding=0, name="b")),
    "another input": lambda net, x: net.add(
        net.conv2d(x, 8, kernel=3, name="a"),
        net.conv2d(net.activation(x, "relu"), 8, kernel=1, name="b")),
    "read by another": lambda net, x: net.add(
        net.add(net.conv2d(x, 8, kernel=3, name="a"), net.conv2d(x, 8, kernel=1, name="b"),
                name="inner"),
        net.activation(net.conv2d(x, 8, kernel=3, name="c"), "relu")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_are_left_as_they_are_declared(name):
    space = body_space(OTHERS[name], channels=8)
    expected = {"b", "inner"} if name == "read by another" else set()
    assert set(names_of(space)) == expected
