"""Patches: regions, work and memory, against a real execution patch by patch."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from latency_models.memory_patches import PatchPlan
from records import BadInputError, UnknownNameError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from supernet import Subnet


@dataclass(frozen=True, kw_only=True)
class TinySpace(SearchSpace):
    """Convolutions of several kernels, strides and depths, a residual, then a classifier."""

    image_size: int = 20

    def build(self, net, images):
        kernel = net.choice("kernel", (1, 3, 5))
        stride = net.choice("stride", (1, 2))
        x = net.conv2d(images, 8, kernel=kernel, stride=stride, name="stem")
        y = net.conv2d(x, 6, kernel=3, name="inner")
        y = net.conv2d(y, 8, kernel=3, name="back")
        x = net.add(y, x, name="sum")
        with net.when(net.choice("deep", (0, 1)) > 0):
            x = net.conv2d(x, 12, kernel=3, stride=2, name="deep")
        x = net.conv2d(x, 4, kernel=3, name="last")
        x = net.conv2d(x, 16, kernel=3, name="after")
        return classifier(net, x, self.num_classes)


SPACE = TinySpace()
ROWS = SPACE.enumerate()


def boxes(layers, until, area):
    """For each layer the bounding box of what is needed for an area, found pixel by pixel."""
    needed = {i: np.zeros((layer.height, layer.width), bool) for i, layer in enumerate(layers)}
    needed[until][area] = True
    for index in range(until, 0, -1):
        layer = layers[index]
        spots = np.argwhere(needed[index])
        if not len(spots):
            continue
        # the box is computed as a whole, so its corners and all between are needed
        (top, left), (bottom, right) = spots.min(axis=0), spots.max(axis=0)
        needed[index][top : bottom + 1, left : right + 1] = True
        for r in range(top, bottom + 1):
            for c in range(left, right + 1):
                for source in layer.inputs:
                    if layer.operator != "conv2d":
                        needed[source][r, c] = True
                        continue
                    for i in range(layer.kernel):
                        for j in range(layer.kernel):
                            y = r * layer.stride - layer.padding + i
                            x = c * layer.stride - layer.padding + j
                            if 0 <= y < layer.in_height and 0 <= x < layer.in_width:
                                needed[source][y, x] = True
    found = {}
    for index, mask in needed.items():
        spots = np.argwhere(mask)
        if len(spots):
            found[index] = (*spots.min(axis=0), *(spots.max(axis=0) + 1))
    return found


def run_patch(subnet, layers, until, box, image):
    """The layers on their boxes alone, and the MACs of it."""
    top, left, bottom, right = box[0]
    values, macs = {0: image[:, :, top:bottom, left:right]}, 0
    for index in range(1, until + 1):
        layer = layers[index]
        if index not in box:
            continue
        t, le, b, r = box[index]
        if layer.operator == "add":
            parts = []
            for source in layer.inputs:
                y, x = box[source][:2]
                parts.append(values[source][:, :, t - y : b - y, le - x : r - x])
            values[index] = parts[0] + parts[1]
            continue
        source = layer.inputs[0]
        y0, x0 = t * layer.stride - layer.padding, le * layer.stride - layer.padding
        y1 = (b - 1) * layer.stride - layer.padding + layer.kernel
        x1 = (r - 1) * layer.stride - layer.padding + layer.kernel
        sy, sx = box[source][:2]
        low, high = max(y0, 0), min(y1, layer.in_height)
        near, far = max(x0, 0), min(x1, layer.in_width)
        part = values[source][:, :, low - sy : high - sy, near - sx : far - sx]
        part = functional.pad(part, (near - x0, x1 - far, low - y0, y1 - high))
        own = subnet.arrays(layer)
        bias = torch.from_numpy(own["bias"]) if "bias" in own else None
        values[index] = functional.conv2d(
            part, torch.from_numpy(own["weight"]), bias, stride=layer.stride
        )
        macs += values[index].numel() * layer.in_channels * layer.kernel**2
    return values[until], macs


@pytest.mark.parametrize("patches", [2, 3])
@pytest.mark.parametrize("index", range(0, len(ROWS), 2))
def test_patches_compute_the_same_with_the_counted_work(index, patches):
    row = ROWS[index]
    costs = PatchPlan(SPACE, "last", patches).costs(row[None])
    subnet = Subnet(SPACE.graph(row)).eval()
    layers = subnet.graph.layers
    until = next(i for i, layer in enumerate(layers) if layer.name == "last")
    image = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    everything = {
        i: (0, 0, layer.height, layer.width) for i, layer in enumerate(layers[: until + 1])
    }
    with torch.no_grad():
        whole, whole_macs = run_patch(subnet, layers, until, everything, image)
    side = layers[until].height
    cuts = [i * side // patches for i in range(patches + 1)]
    joined, macs, tiles = torch.zeros_like(whole), 0, []
    for i in range(patches):
        for j in range(patches):
            area = (slice(cuts[i], cuts[i + 1]), slice(cuts[j], cuts[j + 1]))
            box = boxes(layers, until, area)
            with torch.no_grad():
                part, own = run_patch(subnet, layers, until, box, image)
            joined[:, :, area[0], area[1]] = part
            macs += own
            tiles.append({k: (b[2] - b[0]) * (b[3] - b[1]) for k, b in box.items()})
        assert costs.input_rows[i, 0] == box[0][2] - box[0][0]
    torch.testing.assert_close(joined, whole, rtol=1e-4, atol=1e-5)
    assert costs.extra_macs[0] == macs - whole_macs
    assert costs.macs[0] == SPACE.graph(row).macs + macs - whole_macs
    expected = max(peak_of(layers, until, tile) for tile in tiles)
    expected += layers[until].channels * side**2
    images = layers[0].channels * 400
    assert costs.peak_activation_bytes[0] == images + max(expected, rest_of(layers, until))


def peak_of(layers, until, area):
    """The most alive in a patch; the image is counted elsewhere."""
    last = {
        i: max([i, *(k for k in range(until + 1) if i in layers[k].inputs)])
        for i in range(until + 1)
    }
    size = {i: layers[i].channels * area.get(i, 0) for i in range(1, until + 1)}
    return max(sum(size[i] for i in size if i <= t <= last[i]) for t in range(1, until + 1))


def rest_of(layers, until):
    """The most alive behind the patches."""
    sizes = {i: la.channels * la.height * la.width for i, la in enumerate(layers) if i >= until}
    own = {
        i: 0 if layers[i].operator in ("batch_norm", "activation", "scale") else s
        for i, s in sizes.items()
    }
    last = {i: max([i, *(k for k in sizes if i in layers[k].inputs)]) for i in sizes}
    return max(sum(own[i] for i in own if i <= t <= last[i]) for t in own)


def test_one_patch_does_nothing_twice_and_more_patches_need_less_memory():
    space = TinySpace(image_size=64)
    rows = space.enumerate()
    one, two, four = (PatchPlan(space, "last", p).costs(rows) for p in (1, 2, 4))
    assert (one.extra_macs == 0).all()
    assert (two.extra_macs > 0).all()
    assert (four.extra_macs > two.extra_macs).all()
    # where the layers behind the patches hold most, patches do not help
    assert (four.peak_activation_bytes <= two.peak_activation_bytes).all()
    assert (four.peak_activation_bytes < two.peak_activation_bytes).any()
    deep = rows[:, 2] > 0
    assert (two.peak_activation_bytes < two.whole_peak_bytes)[deep].all()
    wide = PatchPlan(space, "last", 2, bytes_per_value=4).costs(rows)
    np.testing.assert_array_equal(wide.peak_activation_bytes, 4 * two.peak_activation_bytes)


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(UnknownNameError, match="layer"):
        PatchPlan(SPACE, "first", 2)
    with pytest.raises(BadInputError, match="needs the whole map"):
        PatchPlan(SPACE, "classifier", 2)
    with pytest.raises(BadInputError, match="patches and bytes_per_value"):
        PatchPlan(SPACE, "last", 0)
    with pytest.raises(BadInputError, match="cannot be cut into 64"):
        PatchPlan(SPACE, "last", 64).costs(ROWS[:2])
    with pytest.raises(BadInputError, match="no shortcut is open"):
        PatchPlan(SPACE, "inner", 2).costs(ROWS[:2])
