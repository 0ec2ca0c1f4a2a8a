"""The rounding that a network learns to bear is that of its int8 file."""

import numpy as np
import pytest
import torch

from deployment import emit, open_session, quantise
from supernet import FakeQuantised, Int8Scheme, fine_tune
from supernet.training import Recipe
from tests.deployment.doubles import GATED, RESNET, SPACES, rows_of, shaken_subnet
from tests.supernet.doubles import images_of
from tests.supernet.test_reparameterisation import SPACE as BRANCHES

ALL = {**SPACES, "gated": GATED, "resnet": RESNET, "branches": BRANCHES}


def file_logits(subnet, calibration, images, **options):
    model = emit(subnet, 8).SerializeToString()
    session = open_session(quantise(model, mode="static", images=calibration.numpy(), **options))
    batches = images.numpy().reshape(-1, 8, *images.shape[1:])
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])


@torch.no_grad()
def distances(subnet, scheme, calibration, images, **options):
    """Root mean squares: file to rounded torch, and file to torch in fp32."""
    theirs = torch.from_numpy(file_logits(subnet, calibration, images, **options))
    network = FakeQuantised(subnet, scheme)
    network.calibrate(calibration)
    ours = network(images)
    return [float((theirs - x).square().mean().sqrt()) for x in (ours, subnet(images))]


def test_rounded_torch_computes_what_the_int8_file_computes():
    """Rounding makes an error; where torch rounds likewise, most of the time nothing is left.

    Values on the edge between two steps go to the other one, where sums differ in the last bit.
    """
    ratios = []
    for space in ALL.values():
        calibration, images = images_of(space, 64), images_of(space, 32, seed=1)
        for seed, row in enumerate(rows_of(space, 2)[-2:]):
            left, error = distances(shaken_subnet(space, row, seed), None, calibration, images)
            ratios.append(left / error)
    assert max(ratios) < 0.6
    assert np.median(ratios) < 0.1


def test_blocks_in_fp32_are_those_of_the_file():
    space = SPACES["hybrid"]
    calibration, images = images_of(space, 64), images_of(space, 32, seed=1)
    subnet = shaken_subnet(space, rows_of(space, 1)[-1], 3)
    blocks = ("stem", "classifier")
    scheme = Int8Scheme(fp32_blocks=blocks)
    left, error = distances(subnet, scheme, calibration, images, fp32_blocks=blocks)
    assert left < 0.3 * error
    other, _ = distances(subnet, None, calibration, images, fp32_blocks=blocks)
    assert left < other


def test_the_file_of_a_network_that_learned_rounding_is_the_one_that_was_judged(images_data):
    """Accuracy of rounded torch and of the file, on the same images."""
    data, subnet = images_data
    tuned = fine_tune(subnet, data, epochs=1, quantised=Int8Scheme(), recipe=Recipe(batch_size=32))
    logits = file_logits(tuned.subnet, data.train.images[:256], data.validation.images)
    right = float((logits.argmax(1) == data.validation.labels.numpy()).mean())
    assert right == pytest.approx(tuned.record.accuracy_after, abs=0.011)


@pytest.fixture
def images_data():
    from supernet import Supernet, train
    from tests.supernet.doubles import RECIPE, TINY, easy_data

    data = easy_data()
    supernet = train(Supernet(TINY), data, epochs=2, recipe=RECIPE)
    return data, supernet.evaluator(data).subnet(TINY.extremes("largest")[0])
