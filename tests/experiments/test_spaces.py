import numpy as np
import pytest
import torch

from experiments.spaces import SPACES, ImageSizes, baseline_space, make_space
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from records import BadInputError, UnknownNameError
from supernet import ImageData, Split, Subnet


def images(size, channels=1, classes=10):
    labels = torch.arange(2 * classes) % classes
    split = Split(torch.zeros(len(labels), channels, size, size), labels)
    return ImageData(
        name="zeros",
        train=split,
        validation=split,
        test=split,
        class_names=tuple(map(str, range(classes))),
    )


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (32, 3)])
def test_the_predicted_latencies_of_a_space_differ_at_least_five_times(name, size, channels):
    space = make_space(name, images(size, channels))
    target = Target(profile=device("raspberry-pi-4"), batch_size=1, threads=1)

    (lowest, fast), (highest, slow) = RooflineCostModel(space, target).extremes("latency_ms")

    assert highest >= 5 * lowest
    costs = RooflineCostModel(space, target).latency_ms(np.array([np.ravel(fast), np.ravel(slow)]))
    assert costs == pytest.approx([lowest, highest], rel=1e-5)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("size", [8, 24, 32])
def test_the_extremes_of_a_space_take_its_images(name, size):
    data = images(size, channels=3, classes=7)
    space = make_space(name, data)

    for which in ("smallest", "largest"):
        subnet = Subnet(space.graph(space.extremes(which)[0])).eval()
        assert subnet(data.test.images[:2]).shape == (2, 7)


@pytest.mark.parametrize("size", [9, 21, 50])
@pytest.mark.parametrize("name", ["cnn", "hybrid"])
def test_sizes_that_do_not_halve_evenly_are_taken_by_convolutions(name, size):
    data = images(size)
    space = make_space(name, data)

    subnet = Subnet(space.graph(space.extremes("largest")[0])).eval()

    assert subnet(data.test.images[:1]).shape == (1, 10)


def test_patches_that_do_not_divide_the_images_say_which_there_are():
    with pytest.raises(BadInputError, match=r"no patch size \(4, 7, 8\) divides .* 30 pixels"):
        make_space("vit", images(30))


@pytest.mark.parametrize("name", SPACES)
def test_images_of_less_than_eight_pixels_are_refused(name):
    with pytest.raises(BadInputError, match="at least 8 x 8 pixels, got 7"):
        make_space(name, images(7))


def test_an_unknown_space_lists_the_known():
    with pytest.raises(UnknownNameError, match=r"did you mean 'cnn'\? Known: cnn, hybrid, vit"):
        make_space("cn", images(8))


def test_the_baseline_has_the_stem_of_the_spaces():
    assert baseline_space(images(8)).stem_stride == 1
    assert baseline_space(images(32)).stem_stride == 2


@pytest.mark.parametrize("name", SPACES)
def test_sizes_alone_make_the_space_that_images_of_these_sizes_make(name):
    assert make_space(name, ImageSizes(24, 1, 7)) == make_space(name, images(24, 1, 7))
    assert make_space(name, ImageSizes()) == make_space(name, images(32, 3, 10))
