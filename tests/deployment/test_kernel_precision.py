"""Kernels that the table says run in 8 bits: those of the mixed file."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from deployment import KINDS, Lowering, Quantiser, emit
from deployment.kernel_tables.descriptions import DescribedLowering
from deployment.quantisation.kernel_precision import IN_INT8, INT8_KINDS, in_int8
from records import BadInputError
from search_spaces import WithBlockPrecision
from supernet import Subnet
from tests.deployment.doubles import SPACES

CASES = [
    WithBlockPrecision(base=SPACES[name], by=by, quantisation=way)
    for name in ("cnn", "vit", "hybrid")
    for by, way in (("stage", "static"), ("block", "dynamic"))
]


def in_8_bits(data):
    """How many nodes of each operator read weights in 8 bits."""
    graph = onnx.load_from_string(data).graph
    small = {entry.name for entry in graph.initializer if entry.data_type == TensorProto.INT8}
    made = {out: node for node in graph.node for out in node.output}
    found = Counter()
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            found["Gemm"] += 1
        elif node.op_type in ("Conv", "Gemm"):
            source = made.get(node.input[1])
            found[node.op_type] += source is not None and source.input[0] in small
    return found


@pytest.mark.parametrize("kind", [Lowering, DescribedLowering], ids=lambda k: k.__name__)
@pytest.mark.parametrize("space", CASES, ids=lambda s: f"{s.base.name}-{s.quantisation}")
def test_the_table_counts_what_the_file_runs_in_8_bits(space, kind):
    rows = space.sample(4, np.random.default_rng(3))
    table = kind.of(space).table(rows)
    kinds, small = table.column("kind"), table.column(IN_INT8) > 0
    for i, row in enumerate(rows):
        subnet = Subnet(space.graph(row)).eval()
        quantiser = Quantiser(emit(subnet).SerializeToString(), mode=space.quantisation)
        found = in_8_bits(quantiser.file(quantiser.present(space.fp32_blocks(row))))
        of = Counter(KINDS[k] for k in kinds[i][small[i]])
        assert set(of) <= set(INT8_KINDS)
        convolutions = sum(of[k] for k in ("convolution", "pointwise", "depthwise", "grouped"))
        assert (convolutions, of["gemm"]) == (found["Conv"], found["Gemm"])


def test_other_columns_are_those_of_the_base():
    space = CASES[0]
    rows = space.sample(20, np.random.default_rng(4))
    mixed, base = Lowering.of(space), Lowering.of(space.base)
    for name in ("kind", "active", "macs", "read_elements"):
        np.testing.assert_array_equal(
            mixed.table(rows).column(name), base.table(space.to_base(rows)).column(name)
        )
    assert in_int8(base.tabulation) is None


def test_a_space_around_one_with_precisions_is_refused():
    space = CASES[0]
    outside = space.freeze({"stem.width": space.choices[0].values[0]})
    with pytest.raises(BadInputError, match="restrict or extend the space of networks first"):
        _ = Lowering(outside).kernels
