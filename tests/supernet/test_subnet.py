import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from records import CorruptFileError, ExistingRunError
from supernet import Subnet
from tests.supernet.doubles import SPACES, TINY, images_of


def subnet(seed=0):
    return Subnet(TINY.graph(TINY.extremes("largest")[1]), seed=seed).eval()


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = subnet(1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second, other = subnet(1).state_dict(), subnet(2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(torch.isfinite(value).all() for value in first.values())


def test_arrays_are_the_weights_by_layer():
    network = subnet()
    seen = 0
    for layer in network.graph.layers[1:]:
        arrays = network.arrays(layer)
        assert "num_batches_tracked" not in arrays
        for name, array in arrays.items():
            assert array.dtype == np.float32
            state = network.state_dict()[f"layers.{layer.name.replace('.', '_')}.{name}"]
            np.testing.assert_array_equal(array, state.numpy())
            seen += array.size * (not name.startswith("running"))
    assert seen == network.graph.parameters


def test_a_saved_network_is_not_overwritten(tmp_path):
    subnet().save(tmp_path / "net")
    with pytest.raises(ExistingRunError):
        subnet(1).save(tmp_path / "net")
    images = images_of(TINY, 2)
    assert torch.equal(Subnet.load(tmp_path / "net")(images), subnet()(images))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "graph.json").unlink(),
        lambda f: (f / "weights.safetensors").unlink(),
        lambda f: (f / "graph.json").write_text("{"),
        lambda f: (f / "graph.json").write_text("{}"),
        lambda f: (f / "weights.safetensors").write_bytes(b"12345678 not tensors"),
        lambda f: save_file({"a": torch.zeros(3)}, f / "weights.safetensors"),
        lambda f: (f / "weights.safetensors").write_bytes(
            (f / "weights.safetensors").read_bytes()[:-100]
        ),
        lambda f: edit(f, lambda layers: layers[1].update(channels=99)),
        lambda f: edit(f, lambda layers: layers[1].update(channels="8")),
        lambda f: edit(f, lambda layers: layers[1].update(groups=3)),
        lambda f: edit(f, lambda layers: layers[1].update(inputs=[7])),
        lambda f: edit(f, lambda layers: layers.clear()),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    folder = subnet().save(tmp_path / "net")
    damage(folder)
    with pytest.raises(CorruptFileError, match=str(folder)):
        Subnet.load(folder)


def edit(folder, change):
    value = json.loads((folder / "graph.json").read_text())
    change(value["layers"])
    (folder / "graph.json").write_text(json.dumps(value))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CorruptFileError, match="no such file"):
        Subnet.load(tmp_path / "none")


def test_modules_carry_the_layers_names_and_no_trace_of_elasticity():
    for space in SPACES:
        graph = space.graph(space.extremes("largest")[0])
        network = Subnet(graph)
        names = [layer.name.replace(".", "_") for layer in graph.layers[1:]]
        assert list(network.layers) == names
        assert not [m for m in network.modules() if "elastic" in type(m).__module__]
