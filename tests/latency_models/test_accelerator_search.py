"""Hardware and networks searched together, up to the front."""

import numpy as np

from hardware_profiles import Accelerator, AcceleratorSpace, divided
from latency_models.accelerator import AcceleratorCostModel
from search_spaces import CNNSpace, WithPlatform
from strategies import NSGA2, is_non_dominated

PES = 1024


def codesign():
    """Arrays of different sides and dataflows, and small convolutional networks."""
    devices = AcceleratorSpace(
        base=Accelerator(name="array", rows=16, columns=16, dram_gbps=8.0, **divided(192 << 10)),
        values={
            "rows": (4, 8, 16, 32),
            "columns": (4, 8, 16, 32),
            "dataflow": ("output", "weight", "row"),
        },
    )
    space = WithPlatform(base=CNNSpace(image_size=32), platform=devices.platform)
    return space, devices


def test_a_front_of_networks_and_devices_holds_different_arrays():
    space, devices = codesign()
    model = AcceleratorCostModel(space, devices.device)
    strategy = NSGA2(space, population_size=60, seed=3)

    def objectives(genes):
        costs = model.predict(genes)
        size = -np.log(space.layer_table(genes).macs)  # stands for the error
        return np.column_stack([size, costs["latency_ms"], costs["area_kgates"]])

    for _ in range(20):
        genes = strategy.ask(60)
        values = objectives(genes)
        assert np.isfinite(values).all()
        strategy.tell(genes, values)
    population = strategy.population
    front = population[is_non_dominated(objectives(population))]
    arrays = {(d.rows, d.columns, d.dataflow) for d in map(model.device_of, front)}
    networks = np.unique(space.to_base(front), axis=0)
    assert len(arrays) >= 5
    assert len({(rows, columns) for rows, columns, _ in arrays}) >= 4
    assert len(networks) >= 10
    # evolution found better trade-offs than as many random pairs
    drawn = space.sample(1260, np.random.default_rng(0))
    everything = np.concatenate([objectives(front), objectives(drawn)])
    share = is_non_dominated(everything)
    assert share[: len(front)].mean() > 0.75
    assert share[len(front) :].mean() < 0.2


def test_no_single_array_is_best_for_all_networks():
    """Wide arrays suit networks of many channels; a small network is faster on a smaller one."""
    space, devices = codesign()
    model = AcceleratorCostModel(space, devices.device)
    networks = space.base.sample(40, np.random.default_rng(1))
    platforms = np.unique(space.sample(4000, np.random.default_rng(2))[:, -3:], axis=0)
    assert len(platforms) == 48
    pairs = np.concatenate(
        [np.repeat(networks, 48, axis=0), np.tile(platforms, (40, 1))], axis=1
    ).astype(np.int16)
    costs = model.predict(pairs)
    product = (costs["energy_mj"] * costs["latency_ms"] * costs["area_kgates"]).reshape(40, 48)
    assert len(set(product.argmin(axis=1).tolist())) > 1
