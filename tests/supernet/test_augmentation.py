import math
from dataclasses import fields

import pytest
import torch

from records import BadInputError
from supernet.augment import Augmentation, augment, erase, random_crop

STILL = {"shift": 0.0, "degrees": 0.0, "scale": 0.0}

OPTIONS = {
    "shift": {**STILL, "shift": 0.1},
    "degrees": {**STILL, "degrees": 10.0},
    "scale": {**STILL, "scale": 0.1},
    "flip": {**STILL, "flip": True},
    "crop_padding": {**STILL, "crop_padding": 2},
    "operations": {**STILL, "operations": 1},
    "erase": {**STILL, "erase": 0.5},
    "mixup": {**STILL, "mixup": 0.4},
    "cutmix": {**STILL, "cutmix": 1.0},
    "all": {
        "flip": True, "crop_padding": 2, "operations": 2, "erase": 0.5, "mixup": 0.4,
        "cutmix": 1.0,
    },
}  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=32, channels=3, size=12):
    images = torch.randn(n, channels, size, size, generator=seeded(7))
    return images, torch.arange(n) % 5


def apply(options, seed=0, images=None, labels=None, flip=False):
    if images is None:
        images, labels = batch()
    return Augmentation(**options).apply(images, labels, seeded(seed), flip=flip, num_classes=5)


@pytest.mark.parametrize("flip", [False, True])
def test_the_default_is_augment_and_draws_nothing_more(flip):
    images, labels = batch()
    first, second = seeded(3), seeded(3)

    got, targets = Augmentation().apply(images, labels, first, flip=flip, num_classes=5)

    assert torch.equal(got, augment(images, second, flip=flip))
    assert torch.equal(targets, labels)
    assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_images_by_the_generator_alone(name, channels):
    images, labels = batch(channels=channels)
    before = images.clone()

    got, targets = apply(OPTIONS[name], 1, images, labels)
    again = apply(OPTIONS[name], 1, images, labels)
    other = apply(OPTIONS[name], 2, images, labels)

    assert torch.equal(images, before)
    assert got.shape == images.shape
    assert got.dtype == torch.float32
    assert torch.isfinite(got).all()
    assert not torch.equal(got, images)
    assert torch.equal(got, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(got, other[0])


def test_every_field_is_an_option_that_was_tried():
    assert {f.name for f in fields(Augmentation)} - {"magnitude"} == set(OPTIONS) - {"all"}


@pytest.mark.parametrize("value", [0.0, 3.5])
@pytest.mark.parametrize("name", OPTIONS)
def test_images_of_one_value_stay_finite(name, value):
    images = torch.full((16, 3, 8, 8), value)

    got, targets = apply(OPTIONS[name], 0, images, torch.arange(16) % 5)

    assert torch.isfinite(got).all()
    assert torch.isfinite(targets.float()).all()


def test_nothing_set_changes_nothing_and_draws_nothing():
    images, labels = batch()
    source = seeded()

    got, targets = Augmentation(**STILL).apply(images, labels, source, flip=False, num_classes=5)

    assert torch.equal(got, images)
    assert torch.equal(targets, labels)
    assert torch.equal(source.get_state(), seeded().get_state())


@pytest.mark.parametrize(
    ("option", "dataset", "expected"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_the_dataset_decides_on_mirroring_unless_the_option_does(option, dataset, expected):
    images, labels = batch(n=200)

    got, _ = apply({**STILL, "flip": option}, 0, images, labels, flip=dataset)

    mirrored = (got == images.flip(3)).flatten(1).all(1)
    same = (got == images).flatten(1).all(1)
    assert torch.all(mirrored | same)
    assert (70 < mirrored.sum() < 130) if expected else not mirrored.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shift": -0.1}, "shift must be 0 to 1, got -0.1"),
        ({"shift": math.nan}, "shift must be 0 to 1"),
        ({"degrees": 181}, "degrees must be 0 to 180"),
        ({"scale": 1.0}, "scale must be below 1"),
        ({"scale": -1.0}, "scale must be at least 0"),
        ({"magnitude": 1.5}, "magnitude must be 0 to 1"),
        ({"erase": 2}, "erase must be 0 to 1"),
        ({"mixup": -1}, "mixup must be at least 0"),
        ({"cutmix": math.inf}, "cutmix must be at least 0"),
        ({"crop_padding": -1}, "crop_padding must be a whole number"),
        ({"crop_padding": 1.5}, "crop_padding must be a whole number"),
        ({"operations": -2}, "operations must be a whole number"),
    ],
)
def test_amounts_that_cannot_be_are_refused(options, said):
    with pytest.raises(BadInputError, match=said):
        Augmentation(**options)


# ---- crops -----------------------------------------------------------------------------------


def test_a_crop_is_a_window_of_the_image_with_a_border_of_zeros():
    images = 1 + torch.arange(64.0).view(1, 1, 8, 8).repeat(300, 2, 1, 1)
    padding = 3
    padded = torch.zeros(2, 14, 14)
    padded[:, 3:11, 3:11] = images[0]
    windows = {
        padded[:, y : y + 8, x : x + 8].numpy().tobytes(): (y, x)
        for y in range(7)
        for x in range(7)
    }

    cropped = random_crop(images, seeded(), padding)

    places = [windows[image.numpy().tobytes()] for image in cropped]
    assert {y for y, _ in places} == {x for _, x in places} == set(range(7))


def test_a_crop_that_could_miss_the_image_is_refused():
    with pytest.raises(BadInputError, match="crop_padding is 8, but the images are 8 x 9"):
        random_crop(torch.zeros(2, 1, 8, 9), seeded(), 8)


# ---- erasing ---------------------------------------------------------------------------------


def test_erasing_fills_one_rectangle_of_the_published_sizes_with_noise():
    images = torch.full((500, 2, 20, 30), 9.0)

    erased = erase(images, seeded(), 1.0)

    shares, ratios = [], []
    for image in erased:
        changed = (image != 9).any(0)
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() == tall * wide  # a full rectangle
        shares.append(float(changed.sum()) / 600)
        ratios.append(float(tall / wide))
    shares = torch.tensor(shares)
    # 2 % to 40 %, give or take the rounding to pixels; 21 % on average, a little less where cut
    assert 0.01 < shares.min() < 0.05
    assert 0.36 < shares.max() < 0.44
    assert 0.18 < shares.mean() < 0.22
    assert min(ratios) < 0.4
    assert max(ratios) > 2
    noise = erased[erased != 9]
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_the_chance_of_erasing_is_that_of_an_image():
    images = torch.full((2000, 1, 8, 8), 9.0)

    changed = (erase(images, seeded(), 0.25) != 9).flatten(1).any(1)

    assert 0.22 < float(changed.float().mean()) < 0.28


# ---- mixing ----------------------------------------------------------------------------------


def recognisable(n, size=16):
    """Image i is of value i everywhere, and of class i."""
    images = torch.arange(float(n)).view(n, 1, 1, 1).repeat(1, 3, size, size)
    return images, torch.arange(n)


def test_mixup_mixes_targets_as_it_mixes_images():
    images, labels = recognisable(64)

    mixed, targets = Augmentation(**STILL, mixup=1.0).apply(
        images, labels, seeded(), flip=False, num_classes=64
    )

    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    assert targets.dtype == torch.float32
    assert torch.all((targets > 0).sum(1) <= 2)
    # what the image shows is what the target says: value i stands for class i
    expected = (targets * torch.arange(64.0)).sum(1)
    for place in (mixed[:, 0, 0, 0], mixed[:, 2, 15, 3]):
        torch.testing.assert_close(place, expected, atol=1e-4, rtol=1e-5)
    own = targets[torch.arange(64), labels]
    assert 0 < own.min() < 0.2  # weights of their own, all over [0, 1] for alpha 1
    assert own.max() > 0.8
    assert len(own.unique()) > 50


@pytest.mark.parametrize(("alpha", "deviation"), [(0.2, 0.4226), (1.0, 0.2887), (8.0, 0.1213)])
def test_weights_are_of_the_beta_distribution(alpha, deviation):
    images, labels = recognisable(4000, size=1)

    mixed, _ = Augmentation(**STILL, mixup=alpha).apply(
        images * 0 + 1, labels, seeded(), flip=False, num_classes=4000
    )
    _, targets = Augmentation(**STILL, mixup=alpha).apply(
        images, labels, seeded(), flip=False, num_classes=4000
    )

    weight = targets[torch.arange(4000), labels]
    torch.testing.assert_close(mixed, torch.ones_like(mixed))  # weights sum to 1
    # sqrt(1 / (4 (2 alpha + 1))) is the deviation of Beta(alpha, alpha), and 1/2 its mean
    assert math.sqrt(1 / (4 * (2 * alpha + 1))) == pytest.approx(deviation, abs=1e-4)
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.025)
    assert float(weight.std()) == pytest.approx(deviation, abs=0.012)


@pytest.mark.parametrize("size", [(16, 16), (7, 12)])
def test_cutmix_weighs_the_partner_by_the_pixels_that_it_took(size):
    n = 400
    images = torch.arange(float(n)).view(n, 1, 1, 1).repeat(1, 2, *size)

    mixed, targets = Augmentation(**STILL, cutmix=1.0).apply(
        images, torch.arange(n), seeded(), flip=False, num_classes=n
    )

    torch.testing.assert_close(targets.sum(1), torch.ones(n))
    shares = torch.stack(
        [torch.bincount(image[0].long().flatten(), minlength=n) for image in mixed]
    ) / (size[0] * size[1])
    torch.testing.assert_close(targets, shares)
    for row, image in enumerate(mixed[:, 0]):
        foreign = image != row
        if foreign.any():
            rows, columns = foreign.any(1).nonzero()[:, 0], foreign.any(0).nonzero()[:, 0]
            box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert len(box.unique()) == 1  # one rectangle of one partner
    own = targets[torch.arange(n), torch.arange(n)]
    assert own.min() < 0.3
    assert own.max() > 0.97
    # a side is s, s^2 uniform in [0, 1], and s - s^2 / 4 of it lies inside on average; squared
    # and averaged over s that is 1/2 - 1/5 + 1/48
    assert float(own.mean()) == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=0.03)


def test_a_batch_has_mixup_or_cutmix_by_a_fair_coin():
    images, labels = recognisable(32)
    both = Augmentation(**STILL, mixup=1.0, cutmix=1.0)

    blended = 0
    for seed in range(200):
        mixed, _ = both.apply(images, labels, seeded(seed), flip=False, num_classes=32)
        blended += bool((mixed != mixed.round()).any())  # cutmix leaves whole values

    assert 75 < blended < 125


def test_only_mixing_turns_labels_into_probabilities():
    images, labels = batch()

    hard = apply({"operations": 1, "erase": 1.0}, 0, images, labels)[1]
    soft = apply({"mixup": 0.2}, 0, images, labels)[1]

    assert torch.equal(hard, labels)
    assert soft.shape == (32, 5)
    assert [Augmentation().is_mixing, Augmentation(mixup=1).is_mixing] == [False, True]
    assert Augmentation(cutmix=0.5).is_mixing


def test_a_single_image_has_no_partner_but_itself():
    images, labels = recognisable(1)

    for options in ({"mixup": 1.0}, {"cutmix": 1.0}):
        mixed, targets = apply({**STILL, **options}, 0, images, labels)
        assert torch.equal(mixed, images)
        assert targets.tolist() == [[1, 0, 0, 0, 0]]
