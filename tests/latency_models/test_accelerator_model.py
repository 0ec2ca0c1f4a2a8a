from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest

from hardware_profiles import (
    Accelerator,
    AcceleratorSpace,
    AccessEnergies,
    divided,
    eyeriss_like,
)
from latency_models.accelerator import AcceleratorCostModel, DoesNotFitError
from latency_models.accelerator.work import products
from records import BadInputError, ExistingRunError, UnknownNameError, read_json
from search_spaces import (
    CNNSpace,
    HybridSpace,
    Restricted,
    SearchSpace,
    ViTSpace,
    WithPlatform,
)
from search_spaces.blocks import classifier
from search_spaces.choice import Choice
from search_spaces.primitives import PRIMITIVES, Primitive
from supernet import Subnet

ARRAY = Accelerator(name="array", rows=16, columns=16, dram_gbps=4.0, **divided(384 * 1024))
DEVICES = AcceleratorSpace(
    base=ARRAY,
    values={
        "rows": (4, 16), "columns": (4, 16), "dataflow": ("output", "weight", "row"),
        "input_buffer_bytes": (256, 65536),
    },
)  # fmt: skip
HYBRID = HybridSpace(image_size=16)
BOTH = WithPlatform(base=HYBRID, platform=DEVICES.platform)


@dataclass(frozen=True, kw_only=True)
class EveryProduct(SearchSpace):
    """Dense, grouped, depthwise, dilated and strided convolution, attention of both kinds."""

    def build(self, net, images):
        width = net.choice("width", (16, 32))
        x = net.conv2d(images, width, kernel=3, stride=2, name="stem")
        x = net.conv2d(x, width, kernel=3, groups=4, name="grouped")
        x = net.channel_shuffle(x, 4)
        x = net.depthwise(x, kernel=net.choice("kernel", (3, 5)))
        x = net.conv2d(x, width, kernel=3, dilation=2, name="dilated")
        x = net.max_pool(x, kernel=2, stride=2, name="half")
        gate = net.squeeze(x)
        x = net.multiply(x, gate)
        x = net.resize(x, 4)
        x = net.concat(x, net.zeros(x))
        t = net.position(net.to_tokens(x))
        mixing = net.choice("mixing", ("softmax", "linear"))
        t = net.attention(t, heads=net.choice("heads", (2, 4)), qk_dim=8, v_dim=4, mixing=mixing)
        t = net.attention(net.layer_norm(t), heads=2, qk_dim=4, window=2, name="windows")
        return classifier(net, net.scale(t), self.num_classes)


def fits(values):
    return values[np.isfinite(values)]


def test_products_have_the_macs_of_the_layer_table():
    for space in (EveryProduct(image_size=16), HYBRID, CNNSpace(image_size=16)):
        columns = {name: column.copy() for name, column in space.layers.columns.items()}
        for batch in (1, 3):
            macs = np.zeros(space.layers.variants, np.int64)
            for here, product in products(columns, batch):
                macs[here] += product.macs
            np.testing.assert_array_equal(macs, batch * columns["macs"])


@pytest.mark.parametrize("space", [HYBRID, BOTH, EveryProduct(image_size=16)])
def test_tables_and_direct_costs_agree(space):
    device = DEVICES.device if space is BOTH else eyeriss_like()
    genes = space.sample(150, np.random.default_rng(0))
    looked_up = AcceleratorCostModel(space, device, tabulated=True).predict(genes)
    direct = AcceleratorCostModel(space, device, tabulated=False).predict(genes)
    for name in ("latency_ms", "energy_mj", "area_kgates"):
        np.testing.assert_allclose(looked_up[name], direct[name], rtol=1e-12)
        assert fits(direct[name]).min() > 0
    assert np.isfinite(direct["latency_ms"]).mean() > 0.2


def test_a_chosen_device_costs_what_the_same_fixed_device_does():
    model = AcceleratorCostModel(BOTH, DEVICES.device)
    genes = BOTH.sample(8, np.random.default_rng(1))
    together = model.predict(genes)
    for i, row in enumerate(genes):
        device = model.device_of(row)
        assert device == DEVICES.chosen(dict(BOTH.decode(row)[0].items))
        layers = HYBRID.layer_table(BOTH.to_base(row[None]))
        assert layers.macs > 0
        if np.isfinite(together["latency_ms"][i]):
            alone = AcceleratorCostModel(HYBRID, device).predict(BOTH.to_base(row[None]))
            for name, values in alone.items():
                assert values[0] == pytest.approx(together[name][i], rel=1e-12)


def test_parts_add_up_and_name_every_layer():
    model = AcceleratorCostModel(HYBRID, ARRAY, batch_size=2)
    for row in HYBRID.sample(5, np.random.default_rng(2)):
        parts = model.parts(row)
        costs = model.predict(row[None])
        assert sum(p.latency_ms for p in parts) == pytest.approx(costs["latency_ms"][0])
        assert sum(p.energy_mj for p in parts) == pytest.approx(costs["energy_mj"][0])
        assert sum(p.macs for p in parts) == 2 * HYBRID.layer_table(row[None]).macs[0]
        assert len(parts) == HYBRID.layer_table(row[None]).column("active").sum()
        free = {p.operator for p in parts if p.latency_ms == 0}
        assert free <= {"input", "to_tokens", "to_map"}
        busy = [p for p in parts if p.macs]
        assert all(0 < p.utilisation <= 1 for p in busy)


def test_extremes_are_those_of_all_networks_and_devices():
    small = ViTSpace(image_size=8)
    few = small.restrict({c.name: c.values[:1] for c in small.choices[3:]})
    space = WithPlatform(base=few, platform=DEVICES.platform)
    model = AcceleratorCostModel(space, DEVICES.device)
    everything = model.predict(space.enumerate())
    for metric in model.metrics:
        (low, low_genes), (high, high_genes) = model.extremes(metric)
        finite = fits(everything[metric])
        assert low == pytest.approx(finite.min())
        assert high == pytest.approx(finite.max())
        ends = model.predict(np.stack([low_genes, high_genes]))[metric]
        np.testing.assert_allclose(ends, [low, high])
    assert (
        AcceleratorCostModel(space, DEVICES.device, tabulated=False).extremes("energy_mj") is None
    )


def test_a_slower_memory_or_clock_costs_time_and_a_dearer_access_energy():
    genes = HYBRID.sample(50, np.random.default_rng(3))
    base = AcceleratorCostModel(HYBRID, ARRAY).predict(genes)

    def changed(**changes):
        return AcceleratorCostModel(HYBRID, replace(ARRAY, **changes)).predict(genes)

    assert (changed(dram_gbps=0.5)["latency_ms"] > base["latency_ms"]).all()
    assert (changed(buffer_bytes_per_cycle=1)["latency_ms"] > base["latency_ms"]).all()
    half = changed(clock_ghz=0.5, dram_gbps=2.0)["latency_ms"]
    np.testing.assert_allclose(half, 2 * base["latency_ms"])
    dearer = AccessEnergies().scaled(2.0, "twice")
    np.testing.assert_allclose(changed(energies=dearer)["energy_mj"], 2 * base["energy_mj"])
    idle = changed(idle_power_w=2.0)["energy_mj"]
    np.testing.assert_allclose(idle, base["energy_mj"] + 2.0 * base["latency_ms"])
    assert (changed(weight_buffer_bytes=1 << 20)["area_kgates"] > base["area_kgates"]).all()


def test_one_layer_costs_what_the_formulas_say():
    """A 1x1 convolution of 8 to 16 channels at 4x4 on 4x4 PEs, everything worked by hand."""

    @dataclass(frozen=True, kw_only=True)
    class One(SearchSpace):
        def build(self, net, images):
            x = net.conv2d(images, net.choice("width", (16, 32)), kernel=1)
            return classifier(net, x, self.num_classes)

    device = Accelerator(name="a", rows=4, columns=4, dram_gbps=1000.0)
    model = AcceleratorCostModel(One(image_size=4, channels=8), device)
    part = next(p for p in model.parts(np.array([0], np.int16)) if p.operator == "conv2d")
    folds = 4 * 4  # 16 pixels by 16 filters
    assert part.cycles == folds * (2 * 4 + 4 + 8 - 2)
    assert part.macs == 16 * 8 * 16
    assert part.dram == 16 * 8 + 8 * 16 + 16 * 16
    reads = 16 * 8 * 4 + 8 * 16 * 4 + 16 * 16  # inputs, weights, sums
    assert part.buffers == reads + part.dram
    scale = (64 / 108) ** 0.5
    pj = part.macs * (1 + 4 * 1 + 2 * 2) + part.buffers * 6 * scale + part.dram * 200
    assert part.energy_mj == pytest.approx(pj * 1e-9)


def test_a_layer_that_never_fits_is_an_error_that_names_layer_and_buffer():
    for changes, message in (
        ({"input_buffer_bytes": 64}, "layer 'stem.*input_buffer_bytes = 64 bytes"),
        ({"output_buffer_bytes": 8}, "layer 'stem.*output_buffer_bytes = 8 bytes"),
        ({"dataflow": "row", "register_inputs": 2}, "register_inputs = 2 values a PE"),
        ({"dataflow": "row", "register_weights": 2}, "register_weights = 2 values a PE"),
    ):
        with pytest.raises(DoesNotFitError, match=message):
            AcceleratorCostModel(HYBRID, replace(ARRAY, **changes))


def test_networks_that_do_not_fit_cost_infinitely_much_and_say_why():
    model = AcceleratorCostModel(BOTH, DEVICES.device)
    genes = BOTH.sample(200, np.random.default_rng(4))
    costs = model.predict(genes)
    lost = ~np.isfinite(costs["latency_ms"])
    assert 0 < lost.sum() < 200
    np.testing.assert_array_equal(lost, ~np.isfinite(costs["energy_mj"]))
    assert np.isfinite(costs["area_kgates"]).all()
    for row in genes[lost][:5]:
        with pytest.raises(DoesNotFitError, match=r"layer '.*_bytes = \d+ bytes"):
            model.parts(row)
    for row in genes[~lost][:5]:
        assert model.parts(row)
    everywhere = AcceleratorSpace(
        base=ARRAY, values={"rows": (4, 8), "input_buffer_bytes": (16, 32)}
    )
    space = WithPlatform(base=HYBRID, platform=everywhere.platform)
    with pytest.raises(DoesNotFitError, match="no network of WithPlatform fits on 'array'"):
        AcceleratorCostModel(space, everywhere.device).extremes("latency_ms")


def test_a_users_own_operator_is_never_free(monkeypatch):
    own = Primitive(macs=lambda a: 100 * a["channels"] * a["height"] * a["width"])
    monkeypatch.setitem(PRIMITIVES, "own", own)

    @dataclass(frozen=True, kw_only=True)
    class Own(SearchSpace):
        def build(self, net, images):
            x = net.conv2d(images, net.choice("width", (16, 32)), kernel=1)
            return classifier(net, net.primitive("own", (x,)), self.num_classes)

    space = Own(image_size=8)
    model = AcceleratorCostModel(space, replace(ARRAY, dram_gbps=1e3))
    part = next(p for p in model.parts(np.array([0], np.int16)) if p.operator == "own")
    assert part.cycles == 101 * 16 * 64 / ARRAY.vector_lanes
    assert part.macs == 0  # none in the array
    assert part.dram == 2 * 16 * 64


def test_what_the_device_reads_must_be_choices_of_the_platform():
    foreign = replace(ARRAY, rows=Choice(name="device.side", values=(8, 16)).value)
    with pytest.raises(UnknownNameError, match=r"'device\.side'"):
        AcceleratorCostModel(BOTH, foreign)
    name = HYBRID.choices[0].name
    wrong = replace(ARRAY, rows=HYBRID.choices[0].value)
    with pytest.raises(BadInputError, match=f"{name!r} of scope 'architecture'"):
        AcceleratorCostModel(HYBRID, wrong)
    with pytest.raises(BadInputError, match="batch_size must be at least 1"):
        AcceleratorCostModel(HYBRID, ARRAY, batch_size=0)


def test_a_frozen_device_choice_is_refused_with_its_name():
    frozen = Restricted(base=BOTH, allowed=(("device.rows", (16,)),))
    with pytest.raises(UnknownNameError, match=r"'device\.rows'"):
        AcceleratorCostModel(frozen, DEVICES.device)


def test_bounds_are_predictions_and_unknown_metrics_list_the_known():
    model = AcceleratorCostModel(HYBRID, ARRAY)
    genes = HYBRID.sample(10, np.random.default_rng(5))
    for metric in model.metrics:
        np.testing.assert_array_equal(model.bound(metric, genes), model.predict(genes)[metric])
    np.testing.assert_array_equal(model.latency_ms(genes), model.predict(genes)["latency_ms"])
    direct = AcceleratorCostModel(HYBRID, ARRAY, tabulated=False)
    np.testing.assert_allclose(direct.latency_ms(genes), model.latency_ms(genes))
    for ask in (lambda: model.bound("latency", genes), lambda: model.extremes("latency")):
        with pytest.raises(UnknownNameError, match="'latency'"):
            ask()
    assert model.target_name == "array"
    assert AcceleratorCostModel(HYBRID, ARRAY, batch_size=4).target_name == "array-b4"


def test_deploying_writes_the_network_and_the_device(tmp_path):
    model = AcceleratorCostModel(BOTH, DEVICES.device)
    row = BOTH.extremes("smallest")[:1].copy()
    row[:, -1] = 1  # the larger input buffer
    (architecture,) = BOTH.decode(row)
    graph = BOTH.graph(row)
    assert graph == HYBRID.graph(BOTH.to_base(row))  # so a supernet of the base will do
    subnet = Subnet(graph).eval()
    folder = model.deploy(subnet, architecture, tmp_path / "best", {"accuracy": 0.5})
    record = read_json(folder / "accelerator.json", kind="accelerator")
    assert record["predicted"]["latency_ms"] == model.predict(row)["latency_ms"][0]
    assert record["predicted"]["latency_source"].startswith("modelled")
    assert record["device"]["rows"] == model.device_of(row).rows
    assert record["facts"] == {"accuracy": 0.5}
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    with pytest.raises(ExistingRunError):
        model.deploy(subnet, architecture, tmp_path / "best", {})
