"""What onnxruntime reports that activations take, and the plan that follows it."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployment import emit
from deployment.emission.chunks import in_chunks
from deployment.memory.arena import ROUNDING, Arena
from deployment.memory.order import Schedule, in_order
from deployment.memory.patches import patch_values
from deployment.memory.plan import planned
from deployment.memory.reading import activation_peak
from deployment.memory.steps import MemorySteps
from deployment.memory.writing import NOBODY
from hardware_profiles.machine import instruction_sets
from records import BadInputError, CorruptFileError, MissingFileError
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from search_spaces.standard import standard_space
from supernet import Subnet

BLOCK = 16 if any(name.startswith("avx512") for name in instruction_sets()) else 8


def model_of(space, row, batch_size=1):
    return emit(Subnet(space.graph(row)).eval(), batch_size).SerializeToString()


def chain(*sizes):
    """Sums of a vector with itself and copies, each a tensor of its own."""
    nodes = [helper.make_node("Concat", ["x"] * sizes[0], ["t0"], axis=0)]
    for i, size in enumerate(sizes[1:], start=1):
        nodes.append(helper.make_node("Concat", [f"t{i - 1}"] * size, [f"t{i}"], axis=0))
    last = f"t{len(sizes) - 1}"
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [64]),
        helper.make_tensor_value_info(last, TensorProto.FLOAT, [64 * int(np.prod(sizes))]),
    ]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def test_reading_of_a_chain_is_the_sum_of_neighbours():
    reading = activation_peak(chain(2, 3, 5))
    # 512, 1536 and 7680 bytes; the first is given back before the last is written
    assert [node.in_use_bytes for node in reading.nodes] == [512, 2048, 1536 + 7680]
    assert reading.activation_bytes == 1536 + 7680
    assert reading.weight_bytes == 0


def test_reading_tells_weights_apart():
    space = CNNSpace(image_size=16)
    row = space.extremes("smallest")[0]
    model = model_of(space, row)
    reading = activation_peak(model)
    stored = onnx.load_from_string(model).graph.initializer
    assert reading.weight_bytes == sum(4 * int(np.prod(entry.dims)) for entry in stored)
    assert reading.activation_bytes == max(node.peak_bytes for node in reading.nodes)
    assert reading.arena_weight_bytes > 0


def test_reading_refuses_what_cannot_be_run():
    with pytest.raises(CorruptFileError, match="cannot open"):
        activation_peak(b"no model")
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "open",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(BadInputError, match="must be fixed"):
        activation_peak(model.SerializeToString())


@pytest.mark.parametrize(
    ("name", "batch_size"), [("cnn", 1), ("vit", 1), ("hybrid", 1), ("hybrid", 3)]
)
def test_plan_is_what_onnxruntime_reports(name, batch_size):
    spaces = {"cnn": CNNSpace, "vit": ViTSpace, "hybrid": HybridSpace}
    space = spaces[name](image_size=32)
    rows = space.sample(10, np.random.default_rng(1))
    steps = MemorySteps(space, batch_size=batch_size, channel_block=BLOCK).steps(rows)
    expected = planned(in_order(steps)).arena_peak_bytes
    reported = [activation_peak(model_of(space, row, batch_size)).activation_bytes for row in rows]
    # what attention takes a sequence beside its sizes is known to a rounding for batches only
    np.testing.assert_allclose(expected, reported, rtol=0, atol=0 if batch_size == 1 else 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ofa-mobilenetv3", "mnasnet", "fbnet", "nas-bench-macro", "autoformer-tiny"]
)
def test_plan_holds_in_standard_spaces(name):
    sizes = {"ofa-mobilenetv3": 224, "autoformer-tiny": 224}
    space = standard_space(name, image_size=sizes.get(name, 32))
    rows = space.sample(4, np.random.default_rng(2))
    schedule = in_order(MemorySteps(space, channel_block=BLOCK).steps(rows))
    reported = [activation_peak(model_of(space, row)).activation_bytes for row in rows]
    error = np.abs(planned(schedule).arena_peak_bytes / np.array(reported) - 1)
    assert np.median(error) < 1e-4  # transformers differ by some hundred bytes of megabytes
    assert error.max() < 0.05


# ---- the arena -------------------------------------------------------------------------------


class SlowArena:
    """The same rules, written for one arena with a list of chunks in order of address."""

    def __init__(self):
        self.regions, self.next_region, self.in_use = [], 1 << 20, 0

    def take(self, size):
        wanted = -(-size // ROUNDING) * ROUNDING
        free = [c for region in self.regions for c in region if c["free"] and c["size"] >= wanted]
        if not free:
            grown = False
            while wanted > self.next_region:
                self.next_region *= 2
                grown = True
            self.regions.append([{"size": self.next_region, "free": True}])
            self.next_region *= 1 if grown else 2
            return self.take(size)
        chunk = min(free, key=lambda c: c["size"])  # the first of equal ones is the lowest
        if chunk["size"] >= 2 * wanted:
            region = next(r for r in self.regions if any(c is chunk for c in r))
            place = next(i for i, c in enumerate(region) if c is chunk)
            region.insert(place + 1, {"size": chunk["size"] - wanted, "free": True})
            chunk["size"] = wanted
        chunk["free"] = False
        self.in_use += chunk["size"]
        return chunk

    def give_back(self, chunk):
        self.in_use -= chunk["size"]
        chunk["free"] = True
        for region in self.regions:
            joined = []
            for c in region:
                if joined and joined[-1]["free"] and c["free"]:
                    joined[-1]["size"] += c["size"]
                else:
                    joined.append(c)
            region[:] = joined


@pytest.mark.parametrize("largest", [3_000, 400_000, 3_000_000])
def test_arenas_together_are_the_same_as_one_by_one(largest):
    n = 6
    rng = np.random.default_rng(largest)
    arena, slow = Arena(n), [SlowArena() for _ in range(n)]
    held = [[] for _ in range(n)]
    for _ in range(120):
        size = rng.integers(1, largest, n)
        on = rng.random(n) < 0.7
        chunks = arena.take(size, on)
        for i in np.flatnonzero(on):
            held[i].append((chunks[i], slow[i].take(int(size[i]))))
        back = np.full(n, -1)
        for i in range(n):
            if held[i] and rng.random() < 0.65:
                back[i], chunk = held[i].pop(rng.integers(len(held[i])))
                slow[i].give_back(chunk)
        arena.give_back(back)
        assert arena.in_use.tolist() == [one.in_use for one in slow]


# ---- the plan --------------------------------------------------------------------------------


def random_schedule(rng, steps=14):
    """One network whose steps read earlier ones, some written over their input."""
    reads = np.full((2, steps, 1), NOBODY)
    over = np.full((steps, 1), NOBODY)
    for s in range(1, steps):
        reads[0, s, 0] = s - 1 if rng.random() < 0.7 else rng.integers(s)
        if rng.random() < 0.4:
            reads[1, s, 0] = rng.integers(s)
        if rng.random() < 0.4:
            over[s, 0] = reads[0, s, 0]
    shape = rng.integers(3, size=(steps, 1))
    return Schedule(
        on=np.ones((steps, 1), bool),
        size=1024 * (1 + shape),
        shape=shape,
        over=np.where(shape == shape[np.maximum(over, 0), 0], over, NOBODY),
        reads=reads,
        scratch=np.zeros((1, steps, 1), np.int64),
    )


def slow_peak(schedule):
    """The planner's rules, step by step, with names for buffers and a list of free ones."""
    steps = len(schedule.on)
    reads = [[int(r) for r in schedule.reads[:, s, 0] if r >= 0] for s in range(steps)]
    uses = [1 + sum(r.count(s) for r in reads) for s in range(steps)]
    buffer, free, count = {}, [], {}
    first, last, size = {}, {}, {}
    for s in range(steps):
        over = int(schedule.over[s, 0])
        is_output = s == steps - 1
        if over >= 0 and not is_output and count[buffer[over]] == 1:
            buffer[s] = buffer[over]
        else:
            alike = (
                []
                if is_output
                else [b for b in free if schedule.shape[b, 0] == schedule.shape[s, 0]]
            )
            if alike:
                buffer[s] = alike[0]
                free.remove(alike[0])
            else:
                buffer[s] = s
                first[s], size[s], count[s] = s, int(schedule.size[s, 0]), 0
        count[buffer[s]] += uses[s]
        for used in [*reads[s], s]:
            b = buffer[used]
            count[b] -= 1
            last[b] = s
            if count[b] == 0:
                free.insert(0, b)
    last[buffer[steps - 1]] = steps - 1
    return max(sum(size[b] for b in first if first[b] <= s <= last[b]) for s in range(steps))


@pytest.mark.parametrize("seed", range(40))
def test_plan_follows_the_rules_of_the_planner(seed):
    schedule = random_schedule(np.random.default_rng(seed))
    assert planned(schedule).peak_bytes.tolist() == [slow_peak(schedule)]


def test_without_kept_buffers_tensors_live_from_writing_to_last_reading():
    rng = np.random.default_rng(3)
    for _ in range(20):
        schedule = random_schedule(rng)
        schedule.over[:] = NOBODY
        steps = len(schedule.on)
        ends = [
            max([s, *(t for t in range(steps) if s in schedule.reads[:, t, 0])])
            for s in range(steps)
        ]
        alive = [
            sum(int(schedule.size[s, 0]) for s in range(t + 1) if ends[s] >= t)
            for t in range(steps)
        ]
        assert planned(schedule, keeps_buffers=False).peak_bytes.tolist() == [max(alive)]


def test_a_file_that_is_not_there_is_missed(tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no model .*none\.onnx"):
        activation_peak(tmp_path / "none.onnx")


# ---- scratch space of convolutions with groups -------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grouped(SearchSpace):
    """Convolutions whose groups do not fill blocks of channels, and some that do."""

    image_size: int = 16

    def build(self, net, images):
        width = net.choice("width", (12, 16, 30))
        x = net.activation(net.conv2d(images, width, kernel=3, name="first"), "relu")
        kernel, stride = net.choice("kernel", (1, 3, 5)), net.choice("stride", (1, 2))
        x = net.conv2d(x, 2 * width, kernel=kernel, stride=stride, groups=2, name="halves")
        x = net.activation(x, "relu", name="later")
        x = net.depthwise(net.conv2d(x, width, kernel=1, name="mix"), kernel=kernel)
        return classifier(net, x, self.num_classes)


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 1), (1, 2), (2, 4)])
def test_convolutions_with_groups_take_the_scratch_space_that_onnxruntime_reports(
    batch_size, threads
):
    space = Grouped()
    rows = space.sample(12, np.random.default_rng(0))
    steps = MemorySteps(space, batch_size=batch_size, channel_block=BLOCK, threads=threads)
    expected = planned(in_order(steps.steps(rows))).arena_peak_bytes
    reported = [
        activation_peak(model_of(space, row, batch_size), threads).activation_bytes for row in rows
    ]
    np.testing.assert_array_equal(expected, reported)
    none = MemorySteps(space, batch_size=batch_size, channel_block=BLOCK, threads=None)
    without = planned(in_order(none.steps(rows))).arena_peak_bytes
    assert (without < expected).any()
    assert (without <= expected).all()


def convolution(channels, filters, groups, side, kernel, stride, padding, batch_size):
    """A file with one convolution, and the positions of its output."""
    weights = np.ones((filters, channels // groups, kernel, kernel), np.float32)
    out = (side + 2 * padding - kernel) // stride + 1
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=groups, kernel_shape=[kernel] * 2, strides=[stride] * 2,
        pads=[padding] * 4,
    )  # fmt: skip
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch_size, c, s, s])
        for name, c, s in (("x", channels, side), ("y", filters, out))
    ]
    stored = [numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph([node], "one", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), out**2


@pytest.mark.parametrize(
    ("channels", "filters", "groups", "side", "kernel", "stride", "padding", "batch_size"),
    [
        (6, 6, 2, 8, 1, 1, 0, 1), (6, 6, 2, 8, 1, 2, 0, 1), (6, 12, 3, 16, 5, 2, 2, 1),
        (6, 12, 3, 64, 3, 1, 1, 2), (10, 10, 10, 48, 3, 1, 1, 1), (60, 120, 3, 6, 3, 1, 1, 1),
        (10, 50, 10, 2, 3, 1, 1, 4), (14, 14, 7, 112, 3, 2, 1, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_scratch_space_of_one_convolution_is_what_onnxruntime_reports(
    channels, filters, groups, side, kernel, stride, padding, batch_size, threads
):
    model, positions = convolution(
        channels, filters, groups, side, kernel, stride, padding, batch_size
    )
    own = -(-4 * batch_size * filters * positions // ROUNDING) * ROUNDING
    values = patch_values(
        batch_groups=np.array([batch_size * groups]),
        filters=np.array([filters // groups]),
        inputs=np.array([channels // groups]),
        positions=np.array([positions]),
        kernel=np.array([kernel]),
        is_plain_product=np.array([(kernel, stride, padding) == (1, 1, 0)]),
        threads=threads,
    )
    scratch = -(-4 * int(values[0]) // ROUNDING) * ROUNDING
    assert activation_peak(model, threads).activation_bytes == own + scratch


def test_weights_of_a_file_in_chunks_are_counted_once():
    space = CNNSpace(image_size=16)
    part = emit(Subnet(space.graph(space.extremes("smallest")[0])).eval(), 2)
    alone = activation_peak(part.SerializeToString())
    found = activation_peak(in_chunks(part, 6).SerializeToString())
    assert found.weight_bytes == alone.weight_bytes > 0
