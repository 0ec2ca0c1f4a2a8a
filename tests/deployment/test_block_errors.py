"""The error of each block, and which ones stay in fp32: against files made one by one."""

import numpy as np
import pytest
import torch

from deployment import block_errors, emit, int8_accuracy, most_sensitive, open_session, quantise
from deployment.network_blocks import blocks_of
from records import BadInputError, json_text
from search_spaces import CNNSpace, ViTSpace
from supernet import Split, Subnet
from tests.deployment.doubles import shaken_subnet
from tests.search_spaces.test_block_precision import Convolutional

SPACES = {"cnn": CNNSpace(image_size=8), "vit": ViTSpace(image_size=8, depths=(2,))}


def pictures(n, seed):
    return torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


SCALING, IMAGES = pictures(16, 0).numpy(), pictures(21, 1).numpy()


@pytest.fixture(scope="module", params=["cnn", "vit"])
def subnet(request):
    """A network with random weights, whose classes are equally frequent."""
    space = SPACES[request.param]
    made = shaken_subnet(space, space.extremes("smallest")[0], seed=4)
    with torch.no_grad():
        made.state_dict()["layers.classifier.bias"] -= made(pictures(200, 3)).mean(0)
    return made


def answers(data, images):
    session = open_session(data)
    return np.concatenate([session.run(None, {"images": x[None]})[0] for x in images])


def weighted_blocks(subnet):
    """Blocks with convolutions or linear maps."""
    operators = {layer.name: layer.operator for layer in subnet.graph.layers}
    return [
        block
        for block, layers in blocks_of(subnet).items()
        if any(operators[layer] in ("conv2d", "linear") for layer in layers)
    ]


def test_errors_are_those_of_files_with_one_block_in_int8(subnet):
    found = block_errors(subnet, calibration_images=SCALING, images=IMAGES, batch_size=8)
    names = weighted_blocks(subnet)
    assert [b.block for b in found.blocks] == names
    emitted = emit(subnet, 1).SerializeToString()
    exact = answers(emitted, IMAGES)
    for one in (*found.blocks, found.together):
        others = [name for name in names if name != one.block] if one.block else []
        data = quantise(emitted, mode="static", images=SCALING, fp32_blocks=others)
        rough = answers(data, IMAGES)
        error = np.sqrt(np.mean((rough - exact) ** 2)) / exact.std()
        assert one.relative_error == pytest.approx(error, rel=0.02)
        assert one.top1_changes == pytest.approx((rough.argmax(1) != exact.argmax(1)).mean())
    assert (found.images, found.calibration_images, found.mode) == (21, 16, "static")
    ranked = sorted(found.blocks, key=lambda b: -b.relative_error)
    assert found.by_error == tuple(b.block for b in ranked)


def test_the_last_block_puts_out_the_logits_and_all_weights_are_counted(subnet):
    found = block_errors(subnet, calibration_images=SCALING, images=IMAGES)
    last = found.blocks[-1]
    assert last.output_error == pytest.approx(last.relative_error, rel=1e-6)
    assert all(b.output_error > 0 for b in found.blocks)
    assert found.together.weights == sum(b.weights for b in found.blocks)
    sizes = {
        name: value.numel()
        for name, value in subnet.state_dict().items()
        if name.endswith("weight") and value.dim() > 1
    }
    packed = sum(n for name, n in sizes.items() if name.endswith("attention_attention.weight"))
    assert found.together.weights == sum(sizes.values()) - packed


def test_dynamic_errors_need_no_scales(subnet):
    found = block_errors(subnet, mode="dynamic", images=IMAGES)
    operators = {layer.name: layer.operator for layer in subnet.graph.layers}
    linear = [
        block
        for block, layers in blocks_of(subnet).items()
        if any(operators[layer] == "linear" for layer in layers)
    ]
    assert [b.block for b in found.blocks] == linear
    assert found.calibration_images == 0
    assert all(b.relative_error > 0 for b in found.blocks)


def test_it_prints_as_a_table_and_is_written_as_json(subnet):
    found = block_errors(subnet, calibration_images=SCALING, images=IMAGES)
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(found.blocks)
    assert lines[0].split() == ["block", "logits", "classes", "output", "weights"]
    assert lines[-1].startswith("all")
    assert [line.split()[0] for line in lines[1:-1]] == [b.block for b in found.blocks]
    value = found.to_json()
    json_text(value)
    assert [b["block"] for b in value["blocks"]] == [b.block for b in found.blocks]


def test_blocks_go_to_fp32_in_their_order_until_the_bound_is_kept(subnet):
    """Labels are what fp32 predicts, so that its accuracy is 1 and int8 loses what it changes.

    The images are those on which two classes are nearest to each other, so that it changes some.
    """
    with torch.no_grad():
        images = pictures(2000, 2)
        first, second = subnet(images).topk(2).values.T
        images = images[(first - second).argsort()[:100]]
        validation = Split(images, subnet(images).argmax(1))
    errors = block_errors(subnet, calibration_images=SCALING, images=IMAGES)
    options = {"calibration_images": SCALING, "batch_size": 16}
    found = most_sensitive(subnet, errors, validation, largest_loss=0.0, **options)
    kept = len(found.fp32_blocks)
    assert found.fp32_blocks == errors.by_error[:kept]
    assert found.fp32_accuracy == 1.0
    assert kept > 0
    by_hand = [
        int8_accuracy(
            subnet, validation, images=SCALING, batch_size=16, fp32_blocks=errors.by_error[:k]
        )
        for k in range(kept + 1)
    ]
    assert found.tried == pytest.approx(by_hand)
    assert found.accuracy == found.tried[-1] == 1.0
    assert all(value < 1.0 for value in found.tried[:-1])
    assert found.int8_accuracy == found.tried[0]
    loose = most_sensitive(subnet, errors, validation, largest_loss=1.0, **options)
    assert loose.fp32_blocks == ()


def test_a_network_with_nothing_to_quantise_is_refused():
    space = Convolutional(image_size=8)
    plain = Subnet(space.graph(space.extremes("smallest")[0])).eval()
    with pytest.raises(BadInputError, match="nothing that dynamic quantisation"):
        block_errors(plain, mode="dynamic", images=IMAGES)
    assert [b.block for b in block_errors(plain, calibration_images=SCALING, images=IMAGES).blocks]


def test_what_cannot_be_compared_is_refused(subnet):
    with pytest.raises(BadInputError, match="no images to compare"):
        block_errors(subnet, calibration_images=SCALING, images=IMAGES[:0])
    with pytest.raises(BadInputError, match=r"calibration_images=data.train.images"):
        block_errors(subnet, images=IMAGES)
    errors = block_errors(subnet, mode="dynamic", images=IMAGES)
    split = Split(torch.from_numpy(IMAGES), torch.zeros(len(IMAGES), dtype=torch.int64))
    with pytest.raises(BadInputError, match="at least 0"):
        most_sensitive(subnet, errors, split, largest_loss=-0.1)
