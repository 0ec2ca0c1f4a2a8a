import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from supernet.augment_operations import (
    GEOMETRY,
    VALUES,
    apply_operations,
    operation_names,
    random_operations,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(channels=3, size=24, seed=0):
    """An 8-bit image whose every channel goes from black to white."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size, size, channels), np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    return pixels


def changed(images, name, strength):
    names = operation_names(images.shape[1])
    n = len(images)
    return apply_operations(
        images, torch.full((n,), names.index(name)), torch.full((n,), float(strength))
    )


def as_tensor(pixels):
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def as_pixels(images):
    return (images[0].permute(1, 2, 0) * 255).numpy()


def by_pil(name, pixels, m):
    """The same operation as Pillow does it on the 8-bit image, as an array."""
    image = Image.fromarray(pixels)
    factor = 1 + 0.9 * m
    done = {
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda: ImageOps.posterize(image, round(8 - 4 * abs(m))),
        "solarize": lambda: ImageOps.solarize(image, 255 - round(255 * abs(m))),
        "invert": lambda: ImageOps.invert(image),
        "equalize": lambda: ImageOps.equalize(image),
    }[name]()
    return np.asarray(done, np.float64)


@pytest.mark.parametrize("m", [-1.0, -0.3, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("name", ["brightness", "sharpness", "posterize", "solarize", "invert"])
def test_an_image_from_black_to_white_is_changed_as_pillow_does(name, m):
    pixels = picture()

    got = as_pixels(changed(as_tensor(pixels), name, m))
    want = by_pil(name, pixels, m)

    threshold_is_between = np.abs(got - want) > 2  # one level beside the threshold may differ
    assert threshold_is_between.mean() < (0.01 if name == "solarize" else 1e-9)


def test_equalising_spreads_ranks_as_pillow_does():
    # Pillow counts in whole pixels a step: the image is large, so that rounding hardly matters
    pixels = (picture(size=160).astype(float) ** 2 / 255).astype(np.uint8)  # most are dark

    got = as_pixels(changed(as_tensor(pixels), "equalize", 0.5))
    want = by_pil("equalize", pixels, 0.5)

    assert np.abs(got - want).max() < 4
    for channel in range(3):
        counts, _ = np.histogram(got[..., channel], bins=8, range=(0, 255))
        assert counts.min() > 0.7 * counts.mean()  # nearly flat; before, a third was in the first


def test_contrast_keeps_the_mean_and_moves_values_from_it():
    images = 0.25 + 0.5 * torch.rand(4, 3, 16, 16, generator=seeded())

    more, less = changed(images, "contrast", 0.2), changed(images, "contrast", -0.5)

    mean = images.mean((2, 3), keepdim=True)
    torch.testing.assert_close(less, mean + 0.55 * (images - mean))
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    torch.testing.assert_close(more, (mean + 1.18 * (images - mean)).clamp(low, high))


def test_saturation_leaves_a_grey_image_and_moves_colours_from_grey():
    grey = torch.rand(2, 1, 12, 12, generator=seeded()).repeat(1, 3, 1, 1)
    pixels = as_tensor(picture())

    torch.testing.assert_close(changed(grey, "saturation", 0.8), grey)
    pale = changed(pixels, "saturation", -0.5)
    mean = pixels.mean(1, keepdim=True)
    torch.testing.assert_close(pale, mean + 0.55 * (pixels - mean), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*GEOMETRY, *VALUES])
def test_operations_commute_with_any_normalisation_of_the_channels(name):
    images = torch.rand(6, 3, 16, 16, generator=seeded(1))
    mean = torch.tensor([0.2, 0.5, 0.6]).view(3, 1, 1) if name in VALUES else 0.0
    deviation = torch.tensor([0.5, 0.25, 2.0]).view(3, 1, 1)

    before = changed((images - mean) / deviation, name, 0.45)
    after = (changed(images, name, 0.45) - mean) / deviation

    differ = ~torch.isclose(before, after, atol=2e-3, rtol=1e-3)
    # a value that lies on the edge of a step may be rounded to either side of it
    assert differ.float().mean() < 0.01


@pytest.mark.parametrize("name", list(VALUES))
@pytest.mark.parametrize("m", [-1.0, 1.0])
def test_operations_on_values_stay_in_the_images_range(name, m):
    images = torch.randn(8, 3, 10, 10, generator=seeded(2))

    got = changed(images, name, m)

    assert torch.all(got >= images.amin((2, 3), keepdim=True) - 1e-5)
    assert torch.all(got <= images.amax((2, 3), keepdim=True) + 1e-5)
    assert not torch.equal(got, images)


def test_geometry_moves_a_point_by_the_stated_amount():
    size = 41
    point = torch.zeros(1, 1, size, size)
    point[0, 0, 20, 32] = 1  # 12 pixels right of the centre

    def place(name, m):
        moved = changed(point, name, m)[0, 0]
        index = torch.arange(float(size))
        total = moved.sum()
        return (float((moved.sum(0) @ index) / total), float((moved.sum(1) @ index) / total))

    assert place("translate_x", 0.5) == pytest.approx((32 - 0.225 * size, 20), abs=0.05)
    assert place("translate_y", -0.5) == pytest.approx((32, 20 + 0.225 * size), abs=0.05)
    x, y = place("rotate", 1.0)
    assert (x - 20, y - 20) == pytest.approx((12 * np.cos(np.pi / 6), -6.0), abs=0.1)
    assert place("shear_y", 1.0) == pytest.approx((32, 20 - 0.3 * 12), abs=0.1)
    point = point.transpose(2, 3)
    assert place("shear_x", -1.0) == pytest.approx((20 + 0.3 * 12, 32), abs=0.1)


def test_identity_and_magnitude_zero_change_nothing_but_steps():
    images = torch.randn(3, 3, 9, 9, generator=seeded(3))

    assert torch.equal(changed(images, "identity", 1.0), images)
    for name in ("brightness", "contrast", "saturation", "sharpness", "solarize", *GEOMETRY):
        torch.testing.assert_close(changed(images, name, 0.0), images, atol=1e-5, rtol=1e-4)


def test_tiny_images_are_not_sharpened():
    images = torch.randn(2, 1, 2, 5, generator=seeded(4))

    assert torch.equal(changed(images, "sharpness", 1.0), images)
    assert torch.isfinite(random_operations(images, seeded(), 1.0)).all()


def test_saturation_is_for_three_channels_only():
    assert "saturation" in operation_names(3)
    assert "saturation" not in operation_names(1) + operation_names(4)
    assert set(operation_names(3)) == {*GEOMETRY, *VALUES, "identity"}


def test_each_image_gets_an_operation_of_its_own_with_equal_chances():
    images = torch.randn(1, 3, 12, 12, generator=seeded(5)).repeat(2800, 1, 1, 1)

    got = random_operations(images, seeded(6), 0.5)

    # each operation has at most two outcomes here, one for each sign
    outcomes = {}
    for name in operation_names(3):
        for m in (-0.5, 0.5):
            outcomes.setdefault(changed(images[:1], name, m).numpy().tobytes(), name)
    counts = dict.fromkeys(operation_names(3), 0)
    for image in got:
        counts[outcomes[image[None].numpy().tobytes()]] += 1
    assert sum(counts.values()) == 2800
    assert min(counts.values()) > 140  # 200 expected each
    assert max(counts.values()) < 260


def test_the_smoothing_of_sharpness_is_that_of_pillow():
    pixels = picture(channels=3, size=9)

    blurred = as_pixels(changed(as_tensor(pixels), "sharpness", -1.0))

    smooth = np.asarray(Image.fromarray(pixels).filter(ImageFilter.SMOOTH), np.float64)
    assert np.abs(blurred - (0.9 * smooth + 0.1 * pixels)).max() < 1.5
