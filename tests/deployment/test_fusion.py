"""What the fusion rules say, against the graphs that onnxruntime makes."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from deployment import KINDS, Lowering, emit
from deployment.kernel_tables.data_flow import MOST_COMBINATIONS, combinations
from deployment.kernel_tables.descriptions import DescribedLowering
from deployment.kernel_tables.fusion import Fusion, fusion_of
from search_spaces import CNNSpace, SearchSpace
from search_spaces.blocks import classifier
from search_spaces.primitives import ACTIVATIONS
from search_spaces.standard import NASBench201
from supernet import Subnet
from tests.deployment.doubles import rows_of, shaken_subnet
from tests.deployment.runtime_graph import attributes_of, kinds_run, optimised

KINDS_OF_ACTIVATION = ACTIVATIONS[1:]


def body_space(body, **fields):
    """A space whose network is `body(net, images)` and a classifier; one choice is for show."""

    @dataclass(frozen=True, kw_only=True)
    class Body(SearchSpace):
        image_size: int = 8
        choose: tuple[str, ...] = field(default=())

        def build(self, net, images):
            x = body(net, images)
            net.choice("threads", (1, 2), scope="platform")
            return classifier(net, x, self.num_classes)

    return Body(**fields)


def run_and_stated(space, row, tmp_path):
    """Kernels per kind that run, and those that the table states."""
    graph = space.graph(row)
    run, _ = kinds_run(emit(Subnet(graph).eval()), graph.layers, tmp_path / "net.onnx")
    table = Lowering(space).table(np.atleast_2d(row))
    stated = {}
    for kind, active in zip(table.column("kind")[0], table.column("active")[0], strict=True):
        if active:
            stated[KINDS[kind]] = stated.get(KINDS[kind], 0) + 1
    return dict(run), stated


def behind_convolution(net, x, kind):
    return net.activation(net.conv2d(x, 32, kernel=3), kind)


def behind_sum(net, x, kind):
    x = net.conv2d(x, 32, kernel=3, name="first")
    return net.activation(net.add(x, net.conv2d(x, 32, kernel=1)), kind)


def behind_pooling(net, x, kind):
    x = net.max_pool(net.conv2d(x, 32, kernel=3), kernel=3, padding=1, name="maximum")
    return net.conv2d(net.activation(x, kind), 32, kernel=1, name="after")


def behind_unfolded_norm(net, x, kind):
    x = net.max_pool(net.conv2d(x, 32, kernel=3), kernel=3, padding=1, name="maximum")
    return net.activation(net.batch_norm(x), kind)


def behind_plain_groups(net, x, kind):
    x = net.conv2d(net.conv2d(x, 12, kernel=3, name="stem"), 12, kernel=3, groups=2)
    return net.activation(x, kind)


def behind_sum_of_plain_groups(net, x, kind):
    x = net.conv2d(x, 12, kernel=3, name="stem")
    return net.activation(net.add(net.conv2d(x, 12, kernel=3, groups=2), x), kind)


def behind_linear(net, x, kind):
    x = net.to_tokens(net.conv2d(x, 16, kernel=3))
    return net.activation(net.linear(x, 24, name="wide"), kind)


FOLDED = {
    behind_convolution: {"relu", "relu6", "sigmoid", "hardsigmoid", "hardswish"},
    behind_sum: {"relu", "sigmoid", "hardsigmoid", "hardswish"},
    behind_pooling: set(),
    behind_unfolded_norm: {"relu", "sigmoid", "hardsigmoid", "hardswish"},
    behind_plain_groups: {"relu", "relu6", "sigmoid", "hardsigmoid"},
    behind_sum_of_plain_groups: {"relu", "relu6", "sigmoid", "hardsigmoid"},
    behind_linear: {"relu", "sigmoid", "hardsigmoid"},
}


@pytest.mark.parametrize("kind", KINDS_OF_ACTIVATION)
@pytest.mark.parametrize("place", FOLDED, ids=lambda place: place.__name__)
def test_activations_are_folded_where_the_runtime_folds_them(place, kind, tmp_path):
    def chosen(net, images):
        return place(net, images, net.choice("activation", KINDS_OF_ACTIVATION))

    space = body_space(lambda net, images: place(net, images, kind))
    run, stated = run_and_stated(space, [0], tmp_path)
    assert run == stated
    without = body_space(chosen)
    row = np.array([KINDS_OF_ACTIVATION.index(kind), 0])
    assert run_and_stated(without, row, tmp_path) == (run, stated)  # as a choice, the same
    alone = 1 if place is behind_unfolded_norm else 0
    assert stated.get("elementwise", 0) == alone + (kind not in FOLDED[place])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sum_goes_into_the_convolution_of_its_first_input(order, tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        branches = (
            net.conv2d(net.activation(x, "gelu", name="gelu"), 16, kernel=1, name="one"),
            net.conv2d(x, 16, kernel=5, name="five"),
        )  # of different inputs, since convolutions of the same are one
        return net.activation(net.add(*(branches[i] for i in order)), "relu")

    space = body_space(body)
    graph = optimised(emit(Subnet(space.graph([0])).eval()), tmp_path / "net.onnx")
    with_sum = [
        attributes_of(node)["kernel_shape"]
        for node in graph.node
        if node.op_type == "Conv" and len(node.input) == 4 and node.input[3]
    ]
    host = ("one", "five")[order[0]]
    assert with_sum == [[[1, 1], [5, 5]][order[0]]]
    lowering = Lowering(space)
    (kernel,) = [k for k in lowering.kernels if k.name == "activation"]
    assert space.nodes[kernel.nodes[0]].name == host
    assert run_and_stated(space, [0], tmp_path)[0] == run_and_stated(space, [0], tmp_path)[1]


def test_a_sum_that_depends_on_a_choice_is_read_where_it_is_there(tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        h = net.batch_norm(net.conv2d(x, 16, kernel=1, name="branch"))
        with net.when(net.choice("shortcut", ("no", "yes")) == "yes"):
            h = net.add(h, x)
        return net.activation(h, "hardswish")

    space = body_space(body)
    table = Lowering(space).table(np.array([[0, 0], [1, 0]]))
    at = [k.name for k in Lowering(space).kernels].index("activation")
    assert table.column("read_elements")[:, at].tolist() == [16 * 64, 2 * 16 * 64]
    for row in ([0, 0], [1, 0]):
        run, stated = run_and_stated(space, row, tmp_path)
        assert run == stated == {"convolution": 1, "pointwise": 1, "pool": 1, "gemm": 1}


def test_a_value_that_two_read_is_not_folded(tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        y = net.activation(x, "relu")
        with net.when(net.choice("second", ("no", "yes")) == "yes"):
            y = net.add(y, x)
        return net.conv2d(y, 16, kernel=1, name="last")

    space = body_space(body)
    for row, elementwise in (([0, 0], 0), ([1, 0], 2)):
        run, stated = run_and_stated(space, row, tmp_path)
        assert run == stated
        assert stated.get("elementwise", 0) == elementwise


def test_zeros_and_what_they_make_needless_do_not_run(tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        kind = net.choice("kind", ("none", "skip", "conv", "pool"))
        with net.scope("branch"):
            h = net.conv2d(x, 16, kernel=5, name="before")
            with net.when(kind == "none"):
                h = net.zeros(h)
            with net.when(kind == "conv"):
                h = net.activation(net.conv2d(h, 16, kernel=1), "relu")
            with net.when(kind == "pool"):
                h = net.avg_pool(h, kernel=3, padding=1)
        return net.activation(net.add(x, h, name="sum"), "relu", name="after")

    space = body_space(body)
    seen = []
    for kind in range(4):
        run, stated = run_and_stated(space, [kind, 0], tmp_path)
        assert run == stated
        seen.append(stated)
    assert seen[0] == {"convolution": 1, "pool": 1, "gemm": 1}
    assert seen[1] == {"convolution": 2, "pool": 1, "gemm": 1}
    assert seen[2] == {"convolution": 2, "pointwise": 1, "elementwise": 2, "pool": 1, "gemm": 1}


def test_equal_work_on_one_value_is_done_once(tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        parts = []
        for name in "ab":
            with net.scope(name):
                kind = net.choice("kind", ("mean", "maximum", "relu"))
                h = x
                with net.when(kind == "mean"):
                    h = net.avg_pool(h, kernel=3, padding=1, name="mean")
                with net.when(kind == "maximum"):
                    h = net.max_pool(h, kernel=3, padding=1, name="maximum")
                with net.when(kind == "relu"):
                    h = net.activation(h, "relu")
                parts.append(h)
        return net.concat(*parts)

    space = body_space(body)
    for first in range(3):
        for second in range(3):
            run, stated = run_and_stated(space, [first, second, 0], tmp_path)
            assert run == stated, (first, second)


def test_maps_that_become_tokens_again_are_not_made(tmp_path):
    def body(net, images):
        x = net.conv2d(images, 16, kernel=3, name="stem")
        for name in "ab":
            with net.scope(name):
                kind = net.choice("kind", ("conv", "tokens"))
                with net.when(kind == "conv"):
                    x = net.conv2d(x, 16, kernel=3)
                with net.when(kind == "tokens"):
                    t = net.layer_norm(net.to_tokens(x))
                    x = net.to_map(t)
        return net.conv2d(x, 16, kernel=1, name="last")

    space = body_space(body)
    layouts = []
    for genes in ([0, 0], [0, 1], [1, 0], [1, 1]):
        run, stated = run_and_stated(space, [*genes, 0], tmp_path)
        assert run == stated, genes
        layouts.append(stated.get("layout", 0))
    assert layouts == [0, 2, 2, 2]


def test_a_learned_factor_that_cannot_be_folded_runs_alone(tmp_path):
    def body(net, images):
        x = net.activation(net.conv2d(images, 16, kernel=3, name="stem"), "relu")
        return net.conv2d(net.scale(x), 16, kernel=1, name="last")

    run, stated = run_and_stated(body_space(body), [0], tmp_path)
    assert run == stated
    assert stated["elementwise"] == 1


def test_all_convolutions_of_a_cell_are_counted(tmp_path):
    """The cell of NAS-Bench-201 with six convolutions: sums and shared activations."""
    space = NASBench201(cells=1, image_size=8)
    for name in ("nor_conv_1x1", "nor_conv_3x3"):
        text = f"|{name}~0|+|{name}~0|{name}~1|+|{name}~0|{name}~1|{name}~2|"
        run, stated = run_and_stated(space, space.genes_of([text])[0], tmp_path)
        # one activation between the stages is folded that the table takes for one of its own
        assert run["elementwise"] <= stated.pop("elementwise") <= run.pop("elementwise") + 1
        assert run == stated


def test_conditions_stay_small():
    space = NASBench201(cells=1, image_size=8)
    fusion = Fusion(space.nodes, space.choices, 8)
    sizes = [combinations(space.choices, [alone]) for alone in fusion.alone]
    assert 1 < max(sizes) <= MOST_COMBINATIONS
    assert Lowering(space).tabulation.variants < 100_000


def test_a_kernel_that_too_many_choices_decide_about_stands_alone():
    """The table does not refuse what the space allows: here 2^12 shapes times 2^5 neighbours."""

    def body(net, images):
        shape = 8
        for i in range(12):
            shape = shape + 8 * net.choice(f"width{i}", (0, 2**i))
        x = net.conv2d(images, shape, kernel=3, name="stem")
        total = 0
        for i in range(5):
            total = total + net.choice(f"kind{i}", (0, 1))
        h = net.activation(net.conv2d(x, shape, kernel=1, name="branch"), "gelu", name="first")
        with net.when(total > 2):
            h = net.conv2d(h, shape, kernel=3, name="second")
        return net.add(h, x)

    space = body_space(body)
    lowering = Lowering(space)
    rows = rows_of(space, 20)
    table = lowering.table(rows)
    np.testing.assert_array_equal(table.total("macs"), space.layer_table(rows).macs)
    (add,) = [k for k in lowering.kernels if k.name == "add"]
    alone = table.column("active")[:, lowering.kernels.index(add)]
    assert (alone == 1).all()  # though the second convolution would take the sum
    assert lowering.tabulation.variants < 1 << 20


def test_equal_spaces_share_their_lowering_and_those_without_a_hash_are_lowered_anew():
    first, equal = (CNNSpace(image_size=8) for _ in range(2))
    assert fusion_of(first, 8) is fusion_of(equal, 8)
    assert fusion_of(first, 8) is not fusion_of(first, 16)
    lowering = Lowering.of(first, batch_size=2)
    assert lowering is Lowering.of(equal, batch_size=2)
    assert lowering is not Lowering.of(first)
    assert type(DescribedLowering.of(first, batch_size=2)) is DescribedLowering

    space = CNNSpace(image_size=8, stages=list(first.stages))  # a list has no hash
    again = Lowering.of(space, batch_size=2)
    assert again is not Lowering.of(space, batch_size=2)
    rows = rows_of(first, 20)
    for name, column in lowering.table(rows).flat.items():
        np.testing.assert_array_equal(again.table(rows).flat[name], column)


def test_shaken_networks_of_the_cells_are_computed_right(tmp_path):
    """Zeros, dead branches and shared work change nothing in the result."""
    from deployment import verify

    space = NASBench201(cells=1, image_size=8, channels_first=8)
    for seed, row in enumerate(rows_of(space, 12)):
        subnet = shaken_subnet(space, row, seed)
        verify(subnet, emit(subnet, 2))
