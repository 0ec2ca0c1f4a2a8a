import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError
from search_spaces import HybridSpace, HybridStage
from supernet import Subnet, Supernet, load_supernet, save_supernet
from tests.supernet.doubles import SPACES, images_of, perturbed

spaces = pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)


def state(supernet):
    return {k: v.clone() for k, v in supernet.state_dict().items()}


def assert_same_state(first, second):
    assert list(first) == list(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


@spaces
def test_extracted_networks_equal_the_supernets_slices(space):
    supernet = perturbed(space)
    images, batches = images_of(space, 3), [images_of(space, 6, seed=7)]
    rows = np.concatenate([
        space.sample(50, np.random.default_rng(0)),
        space.extremes("largest"),
        space.extremes("smallest"),
    ])  # fmt: skip
    worst = 0.0
    with torch.no_grad():
        for row in rows:
            statistics = supernet.recalibrate(row, batches)
            subnet = supernet.extract(row, statistics)
            sliced = supernet(images, row, statistics)
            assert not subnet.training
            assert sliced.shape == (3, space.num_classes)
            assert sliced.std() > 0.01
            worst = max(worst, float((sliced - subnet(images)).abs().max()))
    assert worst <= 1e-5


@spaces
def test_extracted_networks_equal_after_saving_subnet_and_supernet(space, tmp_path):
    supernet = perturbed(space)
    save_supernet(supernet, tmp_path / "supernet.safetensors")
    read = load_supernet(tmp_path / "supernet.safetensors")
    assert read.space == space
    assert not read.training
    assert read.weights_hash() == supernet.weights_hash()
    images, batches = images_of(space, 3), [images_of(space, 6, seed=7)]
    for i, row in enumerate(space.sample(10, np.random.default_rng(1))):
        statistics = supernet.recalibrate(row, batches)
        subnet = supernet.extract(row, statistics)
        again = Subnet.load(subnet.save(tmp_path / f"subnet{i}"))
        with torch.no_grad():
            sliced = supernet(images, row, statistics)
            assert (sliced - again(images)).abs().max() <= 1e-5
            assert torch.equal(again(images), subnet(images))
            assert torch.equal(read(images, row, statistics), sliced)
        assert again.graph == subnet.graph == space.graph(row)


@pytest.mark.parametrize("block", ["conv", "attention"])
def test_a_space_of_one_kind_of_block_extracts(block):
    space = HybridSpace(image_size=8, stages=(HybridStage(blocks=(block,)),))
    supernet, images = perturbed(space), images_of(space, 4)
    for row in space.sample(10, np.random.default_rng(0)):
        statistics = supernet.recalibrate(row, [images])
        subnet = supernet.extract(row, statistics)
        with torch.no_grad():
            difference = supernet(images, row, statistics) - subnet(images)
        assert difference.abs().max() <= 1e-5


@spaces
def test_a_row_an_architecture_and_a_graph_are_the_same_subnet(space):
    supernet, images = perturbed(space), images_of(space, 4)
    row = space.sample(1, np.random.default_rng(3))[0]
    (architecture,) = space.decode(row)
    expected = supernet(images, row)
    assert torch.equal(supernet(images, architecture), expected)
    assert torch.equal(supernet(images, space.graph(row)), expected)


def test_many_architectures_are_not_confused_by_the_memory_of_graphs():
    space = SPACES[2]
    supernet = Supernet(space)
    genes = space.sample(400, np.random.default_rng(0))
    for row in np.concatenate([genes, genes]):
        assert supernet.graph(row) == space.graph(row)


@spaces
def test_an_extracted_network_owns_its_weights(space):
    supernet, images = perturbed(space), images_of(space, 4)
    row = space.extremes("largest")[0]
    before = state(supernet)
    subnet = supernet.extract(row, supernet.recalibrate(row, [images]))
    with torch.no_grad():
        for p in subnet.parameters():
            p.zero_()
    assert_same_state(state(supernet), before)


@spaces
def test_recalibration_leaves_the_supernet_untouched(space):
    supernet = perturbed(space).train()
    before = state(supernet)
    for row in space.sample(5, np.random.default_rng(0)):
        supernet.recalibrate(row, [images_of(space, 6)])
    assert_same_state(state(supernet), before)
    assert all(p.grad is None for p in supernet.parameters())
    assert supernet.training
    assert not [name for name in before if "running" in name]


@pytest.mark.parametrize("space", [SPACES[0], SPACES[2]], ids=lambda s: s.name)
def test_statistics_equal_torchs_cumulative_average(space):
    """Against the extracted module in train mode with `momentum=None`."""
    supernet = perturbed(space)
    batches = [images_of(space, 8, seed) + seed for seed in range(3)]
    for row in space.sample(4, np.random.default_rng(0)):
        statistics = supernet.recalibrate(row, batches)
        subnet = supernet.extract(row, statistics)
        norms = {n: m for n, m in subnet.layers.items() if isinstance(m, nn.BatchNorm2d)}
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = None
        subnet.train()
        with torch.no_grad():
            for batch in batches:
                subnet(batch)
        assert set(norms) == {name.replace(".", "_") for name in statistics}
        for name, found in statistics.items():
            norm = norms[name.replace(".", "_")]
            close = {"atol": 1e-4, "rtol": 1e-4}
            torch.testing.assert_close(found["running_mean"], norm.running_mean, **close)
            torch.testing.assert_close(found["running_var"], norm.running_var, **close)


def test_a_small_last_batch_counts_by_its_images():
    space = SPACES[0]
    supernet = perturbed(space)
    row = space.extremes("smallest")[0]
    first, last = images_of(space, 30), 5 + images_of(space, 2)
    both, one, two = (supernet.recalibrate(row, b) for b in ([first, last], [first], [last]))
    for name in both:
        for part in ("running_mean", "running_var"):
            expected = (30 * one[name][part] + 2 * two[name][part]) / 32
            torch.testing.assert_close(both[name][part], expected)


def test_a_subnets_statistics_do_not_depend_on_what_was_recalibrated_before():
    space = SPACES[2]
    rows, batches = space.sample(6, np.random.default_rng(0)), [images_of(space, 8)]
    supernet = perturbed(space)
    forward = [supernet.recalibrate(row, batches) for row in rows]
    backward = [supernet.recalibrate(row, batches) for row in rows[::-1]][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert_same_state(a[name], b[name])


def test_a_network_without_batch_norm_needs_no_statistics():
    space = SPACES[1]
    supernet, row = perturbed(space), space.extremes("smallest")[0]
    assert supernet.recalibrate(row, []) == {}
    images = images_of(space, 2)
    with torch.no_grad():
        torch.testing.assert_close(supernet.extract(row)(images), supernet(images, row))


def test_missing_statistics_are_refused_with_what_to_do():
    space = SPACES[0]
    supernet, row = perturbed(space), space.extremes("largest")[0]
    with pytest.raises(BadInputError, match=r"'stem\.norm' has no batch-norm.*recalibrate"):
        supernet.extract(row)
    statistics = dict(supernet.recalibrate(row, [images_of(space, 4)]))
    del statistics["stage0.layer1.project.norm"]
    with pytest.raises(BadInputError, match=r"'stage0\.layer1\.project\.norm' has no"):
        supernet.extract(row, statistics)
    with pytest.raises(BadInputError, match="at least one batch"):
        supernet.recalibrate(row, [])


@spaces
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 2, 8, 9), (2, 2, 16, 16), (2, 8, 8)])
def test_images_of_another_shape_are_refused(space, shape):
    supernet = Supernet(space)
    size = space.image_size
    with pytest.raises(BadInputError, match=f"must be n x 2 x {size} x {size}, got shape"):
        supernet(torch.zeros(shape), space.extremes("smallest")[0])


def test_all_weights_are_float32_on_the_cpu():
    for space in SPACES:
        for p in Supernet(space).parameters():
            assert (p.dtype, p.device.type) == (torch.float32, "cpu")


@spaces
def test_slices_that_are_kept_follow_every_change_of_the_weights(space):
    """Without gradients a slice is cut once; it must not outlive what it is cut from."""
    supernet = perturbed(space)
    row = space.sample(1, np.random.default_rng(3))[0]
    graph = supernet.graph(row)
    images = images_of(space, 4)

    def fresh():
        other = Supernet(space).eval()
        other.load_state_dict(supernet.state_dict())
        with torch.no_grad():
            return other(images, row)

    def run():
        with torch.no_grad():
            return supernet(images, graph)

    before = run()
    for p in supernet.parameters():  # behind autograd's back
        p.data.mul_(1.1)
    assert torch.equal(run(), fresh())
    assert not torch.equal(run(), before)
    with torch.no_grad():
        for p in supernet.parameters():
            p.add_(0.01)
    assert torch.equal(run(), fresh())
    for p in supernet.parameters():  # moved in memory
        p.data = p.data * 0.9
    assert torch.equal(run(), fresh())
    supernet.load_state_dict(perturbed(space, seed=7).state_dict())
    assert torch.equal(run(), fresh())
    supernet.double()
    with torch.no_grad():
        assert supernet(images.double(), graph).dtype == torch.float64
