from dataclasses import replace

import pytest
import torch

from records import BadInputError
from supernet.augment import GROWS_FOR, Augmentation
from supernet.training import BatchSource, batches_per_epoch, check_data
from supernet.training.batches import shards_of
from tests.supernet.doubles import RECIPE, TINY, easy_data

STEPS = (0, 2, GROWS_FOR - 2, GROWS_FOR, 2 * GROWS_FOR)


def test_an_epoch_shows_every_image_once():
    source = BatchSource(easy_data(n=130), RECIPE, 3)
    assert source.per_epoch == batches_per_epoch(source.data.train, RECIPE) == 4
    first = torch.cat([source.batch(step)[0] for step in range(4)]).flatten(1)
    assert len(torch.unique(first, dim=0)) == 128
    second = torch.cat([source.batch(step)[0] for step in range(4, 8)]).flatten(1)
    assert not torch.equal(first, second)
    again = BatchSource(easy_data(n=130), RECIPE, 3)
    for step in (6, 1, 3):  # in any order
        for a, b in zip(again.batch(step), source.batch(step), strict=True):
            assert torch.equal(a, b)


def test_labels_stay_with_their_images():
    data = easy_data(n=64)
    images, labels = BatchSource(data, RECIPE, 0).batch(1)
    for image, label in zip(images, labels, strict=True):
        (place,) = (data.train.images == image).flatten(1).all(1).nonzero()
        assert data.train.labels[place] == label


def test_augmentation_depends_on_seed_and_step_alone():
    data = easy_data(n=64)
    for augment in (True, Augmentation(mixup=1.0)):
        recipe = replace(RECIPE, augment=augment)
        first = [BatchSource(data, recipe, 1).batch(step) for step in (0, 2)]
        torch.manual_seed(4)
        again = [BatchSource(data, recipe, 1).batch(step) for step in (0, 2)]
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a[0], b[0])
            assert torch.equal(a[1], b[1])
        assert not torch.equal(BatchSource(data, recipe, 2).batch(0)[0], first[0][0])
    assert first[0][1].shape == (32, 4)  # mixed images have probabilities


def test_every_step_changes_images_anew():
    data = easy_data(n=32)
    same = data.train.images[:1].expand(32, -1, -1, -1)
    data = replace(data, train=replace(data.train, images=same))
    source = BatchSource(data, replace(RECIPE, augment=Augmentation()), 1)
    first, second = source.batch(0)[0], source.batch(1)[0]
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_default_moves_images_the_more_the_more_often_they_were_shown():
    """Not in the first pass, fully from GROWS_FOR on; what is given is the same throughout."""
    data = easy_data(n=32)
    grows, same = (
        [BatchSource(data, replace(RECIPE, augment=augment), 1).batch(step)[0] for step in STEPS]
        for augment in (True, Augmentation())
    )
    plain = [BatchSource(data, RECIPE, 1).batch(step)[0] for step in STEPS]
    assert torch.equal(grows[0], plain[0])
    moved = [float((a - b).norm()) for a, b in zip(grows, plain, strict=True)]
    assert 0 < moved[1] < moved[2] / 2
    for a, b in list(zip(grows, same, strict=True))[-2:]:
        assert torch.equal(a, b)
    assert not torch.allclose(grows[1], same[1], atol=1e-3)


def test_fewer_images_than_a_batch_are_one_batch():
    source = BatchSource(easy_data(n=10), RECIPE, 0)
    assert source.per_epoch == 1
    assert len(source.batch(5)[0]) == 10


@pytest.mark.parametrize(("n", "shards", "sizes"), [(8, 2, [4, 4]), (11, 4, [3, 3, 3, 2])])
def test_shards_are_of_equal_size_but_for_one_image(n, shards, sizes):
    images, labels = torch.arange(n), torch.arange(n) + 100
    parts = shards_of(images, labels, replace(RECIPE, shards=shards))
    assert [len(part) for part, _ in parts] == sizes
    assert torch.equal(torch.cat([part for part, _ in parts]), images)
    assert torch.equal(torch.cat([part for _, part in parts]), labels)


def test_too_few_images_for_the_shards_are_refused():
    data = easy_data(n=10)
    assert batches_per_epoch(data.train, replace(RECIPE, shards=5)) == 1
    with pytest.raises(BadInputError, match="10 training images are too few for 6 shards"):
        BatchSource(data, replace(RECIPE, shards=6), 0)


@pytest.mark.parametrize("size", [{"image_size": 16}, {"channels": 3}, {"num_classes": 5}])
def test_data_that_do_not_fit_the_space_are_refused(size):
    (name, want), = size.items()  # fmt: skip
    check_data(TINY, easy_data())
    with pytest.raises(BadInputError, match=f"'easy' has {name} .* made with {want}"):
        check_data(replace(TINY, **size), easy_data())
