import pytest
import torch

from records import BadInputError
from supernet import ImageData, Split
from tests.supernet.doubles import easy_data, split_of


def split(images=4, labels=None, shape=(1, 8, 8), dtype=torch.float32):
    labels = [i % 2 for i in range(images)] if labels is None else labels
    return Split(
        torch.zeros((images, *shape), dtype=dtype), torch.tensor(labels, dtype=torch.long)
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: split(0, []), "a split is empty"),
        (lambda: split(3, [0, 1]), r"got shapes \(3, 1, 8, 8\) and \(2,\)"),
        (lambda: split(shape=(8, 8)), r"n x channels x height x width images"),
        (lambda: split(2, [[0], [1]]), r"labels must be of length n, got \(2, 1\)"),
        (lambda: split(dtype=torch.float64), r"and int64 labels, got torch\.float64"),
        (lambda: split(dtype=torch.uint8), r"got torch\.uint8"),
        (lambda: Split(torch.zeros(2, 1, 8, 8), torch.zeros(2)), "and torch.float32"),
    ],
)  # fmt: skip
def test_splits_that_are_none_are_refused(make, why):
    with pytest.raises(BadInputError, match=why):
        make()


@pytest.mark.parametrize(
    ("splits", "why"),
    [
        ({"test": split(shape=(1, 8, 9))}, "the splits of 'toy' differ in shape"),
        ({"train": split(4, [1, 1, 1, 1])}, "training images of 'toy' are all of one class"),
        ({"validation": split(4, [0, 1, 2, 0])}, "label 2 in 'toy', but 2 classes are named"),
        ({"test": split(4, [0, 1, -1, 0])}, "label -1 in 'toy', but 2 classes are named"),
        ({"train": split(4, [0, 1, -100, 0])}, "label -100 in 'toy'.*labels are 0 to 1"),
        ({"class_names": ("a",)}, "'toy' has 1 class; classification needs two"),
        ({"class_names": ()}, "'toy' has 0 class"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(splits, why):
    good = {n: split() for n in ("train", "validation", "test")} | {"class_names": ("a", "b")}
    ImageData(name="toy", **good)
    with pytest.raises(BadInputError, match=why):
        ImageData(name="toy", **(good | splits))


def test_data_tell_their_sizes():
    data = easy_data()
    assert (data.num_classes, data.channels, data.image_size) == (4, 1, 8)
    assert len(split_of(17, 0)) == 17
