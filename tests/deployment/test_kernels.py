from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from deployment import KINDS, Lowering, emit
from deployment.kernel_tables.kernels import COLUMNS
from experiments.baselines import ScaledResNet
from hardware_profiles.machine import instruction_sets
from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace, ConvStage, HybridSpace, SearchSpace
from search_spaces.blocks import classifier
from supernet import Subnet
from tests.deployment.doubles import CNN, GATED, HYBRID, SPACES, ZOO, rows_of
from tests.deployment.runtime_graph import kinds_run

ROUGH = CNNSpace(
    image_size=12,
    stem_widths=(5, 12),
    stages=(ConvStage(widths=(9, 20)), ConvStage(widths=(17, 30), stride=2)),
)
"""Widths that fill no block of channels."""

WIDE = {
    "cnn": CNNSpace(image_size=16, stem_widths=(16, 24)),
    "vit": SPACES["vit"],
    "hybrid": HybridSpace(image_size=16, stem_widths=(16, 24)),
    "resnet": ScaledResNet(image_size=16, multipliers=(1.0, 1.5, 2.0)),
    "gated": GATED,
    "deep resnet": ScaledResNet(image_size=8, channels=1, blocks=3, multipliers=(1.0, 2.0)),
}
"""Networks whose maps fill the blocks of 8 and of 16 channels."""


def assert_counts_agree(space, tmp_path):
    """The table's kernels per kind are the runtime's; nothing interrupts the convolutions."""
    for declared, run, interruptions in counts(space, rows_of(space, 12), tmp_path):
        assert run == declared
        assert interruptions == 0


def counts(space, rows, folder):
    """For each row the table's kernels per kind, the runtime's, and the runtime's reorderings."""
    table = Lowering(space).table(rows)
    kinds, active = table.column("kind"), table.column("active") > 0
    for i, row in enumerate(rows):
        graph = space.graph(row)
        run, interruptions = kinds_run(
            emit(Subnet(graph).eval()), graph.layers, folder / f"{i}.onnx"
        )
        yield Counter(KINDS[kind] for kind in kinds[i][active[i]]), run, interruptions


@pytest.mark.parametrize("name", WIDE)
def test_kernels_are_those_that_the_runtime_runs(name, tmp_path):
    assert_counts_agree(WIDE[name], tmp_path)


narrow = pytest.mark.skipif(
    any(name.startswith("avx512") for name in instruction_sets()),
    reason="8 channels fill no block of 16: reorderings that the table does not count",
)


@narrow
@pytest.mark.parametrize("name", SPACES)
def test_kernels_are_those_that_the_runtime_runs_on_narrow_networks(name, tmp_path):
    assert_counts_agree(SPACES[name], tmp_path)


@narrow
def test_kernels_of_every_primitive_are_those_that_the_runtime_runs(tmp_path):
    """The chains of convolutions are interrupted here, which the table does not count."""
    rows = rows_of(ZOO, 60)
    pools = [j for j, choice in enumerate(ZOO.choices) if choice.name.endswith("pool")]
    cut = (rows[:, pools] == 2).all(axis=1)  # from there on nothing but constants
    interrupted = 0
    seen = Counter()
    for declared, run, interruptions in counts(ZOO, rows[~cut], tmp_path):
        assert run == declared
        interrupted += interruptions
        seen += run
    assert interrupted > 0
    assert set(seen) == set(KINDS) - {"other"}
    for declared, run, _ in counts(ZOO, rows[cut][:3], tmp_path):
        assert sum(run.values()) < sum(declared.values())


@pytest.mark.parametrize("name", SPACES)
def test_every_layer_is_in_one_kernel(name):
    space = SPACES[name]
    covered = [node for kernel in Lowering(space).kernels for node in kernel.nodes]
    assert sorted(covered) == list(range(1, len(space.nodes)))


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", SPACES)
def test_totals_are_those_of_the_layer_table(name, batch_size):
    space = SPACES[name]
    rows = rows_of(space, 200)
    table = Lowering(space, batch_size=batch_size).table(rows)
    layers = space.layer_table(rows)
    np.testing.assert_array_equal(table.total("macs"), batch_size * layers.macs)
    norms = [node.operator == "batch_norm" for node in space.nodes]
    folded = layers.column("parameters")[:, norms].sum(axis=1)
    np.testing.assert_array_equal(table.total("weight_elements"), layers.parameters - folded)


def test_batch_multiplies_work_and_traffic_but_not_weights():
    rows = rows_of(HYBRID, 50)
    one, four = (Lowering(HYBRID, batch_size=b).table(rows) for b in (1, 4))
    for name in COLUMNS:
        per_run = name.endswith("macs") or name.split("_")[0] in ("score", "read", "write")
        np.testing.assert_array_equal(
            four.column(name), (4 if per_run else 1) * one.column(name), err_msg=name
        )


@pytest.mark.parametrize("block", [8, 16])
def test_padded_macs_fill_the_blocks_of_channels(block):
    rows = rows_of(ROUGH, 30)
    table = Lowering(ROUGH, batch_size=2, channel_block=block).table(rows)
    for row, padded in zip(rows, table.total("padded_macs"), strict=True):
        by_hand = 0
        for layer in ROUGH.graph(row).layers:
            channels = layer.channels
            if layer.operator == "conv2d":
                channels = (channels + block - 1) // block * block
            by_hand += layer.macs // layer.channels * channels
        assert padded == 2 * by_hand
    assert (table.total("padded_macs") > table.total("macs")).all()


def test_whole_blocks_need_no_padding():
    rows = rows_of(CNN, 50)
    table = Lowering(CNN, channel_block=8).table(rows)
    np.testing.assert_array_equal(table.column("padded_macs"), table.column("macs"))


def test_row_of_an_attention_kernel_by_hand():
    space = SPACES["vit"]
    row = space.extremes("largest")[0]  # patches of 8 in 16x16: 4 tokens of 96, 4 heads of 16
    lowering = Lowering(space, batch_size=3)
    table = lowering.table(row[None])
    at = [kernel.name for kernel in lowering.kernels].index("layer0.attention.attention")
    found = {name: int(table.column(name)[0, at]) for name in COLUMNS}
    tokens, embed, width = 4, 96, 3 * 4 * 16
    assert found == {
        "kind": KINDS.index("attention"),
        "active": 1,
        "macs": 3 * (tokens * embed * width + 2 * tokens * tokens * 4 * 16),
        "padded_macs": 3 * (tokens * embed * width + 2 * tokens * tokens * 4 * 16),
        "score_elements": 3 * 4 * tokens * tokens,
        "read_elements": 3 * tokens * embed,
        "write_elements": 3 * tokens * 4 * 16,
        "weight_elements": (embed + 1) * width,
        "in_channels": embed,
        "channels": 4 * 16,
        "positions": tokens,
        "kernel": 0,
    }


def test_fused_shortcut_is_read_as_well():
    space = SPACES["resnet"]
    lowering = Lowering(space)
    table = lowering.table(np.array([[3]], np.int16))  # 16 channels at 16x16 in the first stage
    kernels = [kernel.name for kernel in lowering.kernels]
    at = kernels.index("stage0.block0.activation")  # named as the last layer that it covers
    plain = kernels.index("stage0.block0.first.activation")
    assert table.column("read_elements")[0, plain] == 16 * 16 * 16
    assert table.column("read_elements")[0, at] == 2 * 16 * 16 * 16
    assert table.column("write_elements")[0, at] == 16 * 16 * 16


@pytest.mark.parametrize("name", SPACES)
def test_absent_kernels_are_zero(name):
    table = Lowering(SPACES[name]).table(rows_of(SPACES[name], 100))
    absent = table.column("active") == 0
    for column in COLUMNS:
        assert not table.column(column)[absent].any()


def test_rows_do_not_depend_on_each_other():
    rows = rows_of(HYBRID, 20)
    lowering = Lowering(HYBRID)
    together = lowering.table(rows)
    for i, row in enumerate(rows):
        alone = lowering.table(row[None])
        for column in COLUMNS:
            np.testing.assert_array_equal(together.column(column)[i], alone.column(column)[0])


@dataclass(frozen=True, kw_only=True)
class LateShortcut(SearchSpace):
    """The shortcut is computed after the convolution that it is added to."""

    def build(self, net, images):
        width = net.choice("width", (16, 32))
        x = net.conv2d(images, width, kernel=3, name="stem")
        with net.scope("branch"):
            h = net.batch_norm(net.conv2d(x, width, kernel=3))
        with net.scope("shortcut"):
            x = net.max_pool(x, kernel=3, padding=1)  # convolutions of one input would be one
            shortcut = net.conv2d(x, width, kernel=1)
        x = net.activation(net.add(shortcut, h), "relu")
        return classifier(net, x, self.num_classes)


def test_kernels_run_after_what_they_read(tmp_path):
    space = LateShortcut(image_size=8)
    lowering = Lowering(space)
    names = [kernel.name for kernel in lowering.kernels]
    # the sum goes into the convolution of its first input, which is declared last
    pool = "shortcut.pool"
    assert names == ["stem", "branch.norm", pool, "activation", "pool", "classifier"]
    written = {0}
    for kernel in lowering.kernels:
        assert set(kernel.inputs) <= written
        written.update(kernel.nodes)
    assert_counts_agree(space, tmp_path)


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(UnknownNameError, match=r"runtime 'onxruntime'.*Known: onnxruntime"):
        Lowering(CNN, runtime="onxruntime")
    with pytest.raises(BadInputError, match="got 0, 8"):
        Lowering(CNN, batch_size=0)
    with pytest.raises(BadInputError, match="got 1, 0"):
        Lowering(CNN, channel_block=0)
    table = Lowering(CNN).table(rows_of(CNN, 0))
    for method in (table.column, table.total):
        with pytest.raises(UnknownNameError, match=r"column 'mac'.*'macs'.*positions"):
            method("mac")
