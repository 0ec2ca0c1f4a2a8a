import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from experiments.datasets import DATASETS, load_dataset, read_cifar, read_idx
from records import BadInputError, CorruptFileError, UnknownNameError

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(values):
    values = np.asarray(values, np.uint8)
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_fashion(folder, train=40, test=20, size=(28, 28), labels=None):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, n in (("train", train), ("t10k", test)):
        y = np.arange(n) % 10 if labels is None else np.full(n, labels)
        pixels = rng.integers(0, 256, (n, *size))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y), mtime=0))
    return folder


def write_images(folder, colour=(), classes=("cat", "dog"), count=10, suffix=".png"):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20 + i, 24, *colour), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}{suffix}")
    return folder


def rows(split):
    """The images as bytes, to be looked up."""
    return [image.numpy().tobytes() for image in split.images]


def same(a, b):
    return all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels)
        for x, y in ((a.train, b.train), (a.validation, b.validation), (a.test, b.test))
    )


# ---- digits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", seed=3)


def test_digits_are_divided_completely_and_without_overlap(digits):
    splits = (digits.train, digits.validation, digits.test)
    mean, scale = _normalisation(digits)
    pixels = np.concatenate([s.images.numpy()[:, 0] for s in splits]) * scale + mean
    labels = np.concatenate([s.labels.numpy() for s in splits])
    original = load_digits()

    # Every image once, with its label: as sorted lists they are the originals.
    got = sorted(
        (np.round(p * 16).astype(int).tobytes(), int(y))
        for p, y in zip(pixels, labels, strict=True)
    )
    want = sorted(
        (p.astype(int).tobytes(), int(y))
        for p, y in zip(original.images, original.target, strict=True)
    )
    assert got == want
    # Some of the originals are equal to each other; so no more than those are in two splits.
    equal = len(want) - len({p for p, _ in want})
    overlap = sum(len(set(rows(a)) & set(rows(b))) for a, b in itertools.pairwise(splits))
    assert overlap <= equal


def _normalisation(data):
    """Mean and scale that undo the normalisation of digits: black is 0, white is 1."""
    low, high = float(data.train.images.min()), float(data.train.images.max())
    return -low / (high - low), 1 / (high - low)


def test_digits_are_stratified_in_60_20_20(digits):
    sizes = [len(s) for s in (digits.train, digits.validation, digits.test)]
    total = np.bincount(load_digits().target)

    assert sum(sizes) == 1797
    for split, share in ((digits.train, 0.6), (digits.validation, 0.2), (digits.test, 0.2)):
        counts = np.bincount(split.labels.numpy(), minlength=10)
        assert np.abs(counts - share * total).max() <= 1


def test_the_seed_decides_the_division(digits):
    assert same(digits, load_dataset("digits", seed=3))
    assert not same(digits, load_dataset("digits", seed=4))


def test_only_the_training_images_decide_the_normalisation(digits):
    assert float(digits.train.images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(digits.train.images.std()) == pytest.approx(1, abs=1e-3)
    assert abs(float(digits.test.images.mean())) > 1e-5  # normalised by another split's mean
    fewer = load_dataset("digits", seed=3, train_images=100)
    assert float(fewer.train.images.mean()) == pytest.approx(0, abs=1e-5)
    assert torch.equal(fewer.test.labels, digits.test.labels)
    assert not torch.equal(fewer.test.images, digits.test.images)


def test_fewer_training_images_are_stratified_and_leave_the_other_splits(digits):
    fewer = load_dataset("digits", seed=3, train_images=200)

    counts = np.bincount(fewer.train.labels.numpy(), minlength=10)
    assert abs(len(fewer.train) - 200) <= 5
    assert counts.min() >= 18
    assert torch.equal(fewer.validation.labels, digits.validation.labels)
    with pytest.raises(BadInputError, match=r"train_images must be 2 to 1079, got 1080"):
        load_dataset("digits", seed=3, train_images=1080)
    with pytest.raises(BadInputError, match="got 1"):
        load_dataset("digits", train_images=1)


def test_digits_are_resized(digits):
    assert (digits.image_size, digits.channels, digits.num_classes) == (8, 1, 10)
    assert load_dataset("digits", image_size=12).image_size == 12
    with pytest.raises(BadInputError, match="image_size must be at least 1"):
        load_dataset("digits", image_size=0)


def test_an_unknown_name_lists_the_known_and_a_path_is_no_name(tmp_path):
    with pytest.raises(UnknownNameError) as error:
        load_dataset("fashion_mnist")
    assert all(name in str(error.value) for name in DATASETS)
    with pytest.raises(BadInputError, match="not a folder of images"):
        load_dataset(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match="not a folder of images"):
        load_dataset(tmp_path / "file")


# ---- IDX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path, suffix):
    values = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx(values), mtime=0) if suffix else idx(values))

    assert np.array_equal(read_idx(path, 3), values)
    with pytest.raises(CorruptFileError, match="with 1 dimensions"):
        read_idx(path, 1)


def _broken_stream():
    data = bytearray(gzip.compress(idx(np.zeros((9, 9, 9))), mtime=0))
    data[14:24] = b"\xff" * 10
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty", b"", "not a readable IDX file"),
        ("empty.gz", b"", "IDX file"),
        ("short-header", b"\0\0\x08", "not a readable IDX file"),
        ("no-sizes", b"\0\0\x08\x03\0\0", "not a readable IDX file"),
        ("truncated", idx(np.zeros((4, 5, 5)))[:-1], "has 99 values"),
        ("longer", idx(np.zeros((4, 5, 5))) + b"\0", "has 101 values"),
        ("floats", b"\0\0\x0d\x01\0\0\0\1\0\0\0\0", "unsigned bytes"),
        ("text", b"Dear reader, this is no picture", "IDX file"),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(60), "IDX file"),
        ("plain.gz", idx(np.zeros((4, 5, 5))), "not a readable IDX file"),
        (
            "cut.gz",
            gzip.compress(idx(np.arange(125).reshape(5, 5, 5)), mtime=0)[:-30],
            "not a readable",
        ),
        ("broken.gz", _broken_stream(), "not a readable IDX file"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(CorruptFileError, match=said) as error:
        read_idx(tmp_path / name, 3)
    assert name in str(error.value)


def test_fashion_mnist_is_read_from_hand_made_files_and_padded(tmp_path):
    data = load_dataset("fashion-mnist", folder=write_fashion(tmp_path, train=200))

    assert (data.image_size, data.channels, data.num_classes) == (32, 1, 10)
    assert (len(data.train), len(data.validation), len(data.test)) == (180, 20, 20)
    assert data.flip
    border = data.train.images[:, :, :2]
    assert torch.all(border == border[0, 0, 0, 0])  # black, which is the normalised zero
    unpadded = load_dataset("fashion-mnist", folder=tmp_path, image_size=28)
    assert unpadded.image_size == 28
    assert float(unpadded.train.images.mean()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"train": 0}, BadInputError, "no training images"),
        ({"test": 0}, BadInputError, "no test images"),
        ({"labels": 4}, BadInputError, "all of one class"),
        ({"labels": 11}, BadInputError, "label 11|all of one class"),
        ({"size": (28, 20)}, BadInputError, "32 x 24, not square"),
    ],
)
def test_files_that_are_no_dataset_are_refused(tmp_path, options, kind, said):
    folder = write_fashion(tmp_path, **options)

    with pytest.raises(kind, match=said):
        load_dataset("fashion-mnist", folder=folder)


def test_as_many_labels_as_images(tmp_path):
    folder = write_fashion(tmp_path)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(np.arange(30) % 10), mtime=0)
    )

    with pytest.raises(CorruptFileError, match="40 training images, but 30 labels"):
        load_dataset("fashion-mnist", folder=folder)
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(CorruptFileError, match="train-labels-idx1-ubyte"):
        load_dataset("fashion-mnist", folder=folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion-mnist", "IDX files"),
        ("cifar-10", "data_batch_1.bin to data_batch_5.bin and test_batch.bin"),
        ("cifar-100", "train.bin, test.bin and fine_label_names.txt"),
    ],
)
def test_missing_files_say_what_to_put_where(tmp_path, name, file):
    with pytest.raises(BadInputError) as error:
        load_dataset(name, folder=tmp_path / "data")

    assert str(tmp_path / "data") in str(error.value)
    assert file in str(error.value)
    assert "--data-folder" in str(error.value)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not installed")
def test_the_installed_fashion_mnist_is_read():
    data = load_dataset("fashion-mnist", train_images=500)

    assert (data.image_size, data.channels) == (32, 1)
    assert (len(data.validation), len(data.test)) == (6000, 10_000)
    assert torch.equal(torch.bincount(data.test.labels), torch.full((10,), 1000))
    assert torch.equal(torch.bincount(data.validation.labels), torch.full((10,), 600))
    assert torch.equal(torch.bincount(data.train.labels), torch.full((10,), 50))


# ---- CIFAR -----------------------------------------------------------------------------------


def cifar_records(n, label_bytes, classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, label_bytes), np.uint8)
    labels[:, -1] = np.arange(n) % classes
    return np.concatenate([labels, rng.integers(0, 256, (n, 3072), np.uint8)], axis=1)


def test_cifar_records_are_planes_of_red_green_blue(tmp_path):
    records = cifar_records(3, 2, 100)
    records.tofile(tmp_path / "train.bin")

    images, labels = read_cifar(tmp_path / "train.bin", 2, 1)

    assert images.shape == (3, 32, 32, 3)
    assert labels.tolist() == [0, 1, 2]
    for row, column, channel in ((0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 31, 2)):
        assert (
            images[1, row, column, channel] == records[1, 2 + 1024 * channel + 32 * row + column]
        )


def test_cifar_10_and_100_are_read_from_hand_made_files(tmp_path):
    ten, hundred = tmp_path / "ten", tmp_path / "hundred"
    ten.mkdir()
    hundred.mkdir()
    for i in range(1, 6):
        cifar_records(40, 1, 10, i).tofile(ten / f"data_batch_{i}.bin")
    cifar_records(20, 1, 10, 9).tofile(ten / "test_batch.bin")
    cifar_records(400, 2, 100).tofile(hundred / "train.bin")
    cifar_records(100, 2, 100).tofile(hundred / "test.bin")
    with pytest.raises(CorruptFileError, match="class names of cifar-100"):
        load_dataset("cifar-100", folder=hundred)
    (hundred / "fine_label_names.txt").write_text("\n".join(f"c{i}" for i in range(100)) + "\n")

    small, large = (
        load_dataset("cifar-10", folder=ten), load_dataset("cifar-100", folder=hundred),
    )  # fmt: skip

    assert (len(small.train), len(small.validation), len(small.test)) == (180, 20, 20)
    assert (small.image_size, small.channels, small.num_classes) == (32, 3, 10)
    assert torch.allclose(small.train.images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert (len(large.train), len(large.validation), large.num_classes) == (300, 100, 100)
    (hundred / "fine_label_names.txt").write_text("only\nthree\nnames")
    with pytest.raises(BadInputError, match="3 classes are named"):
        load_dataset("cifar-100", folder=hundred)
    (ten / "data_batch_3.bin").write_bytes(bytes(3000))
    with pytest.raises(CorruptFileError, match=r"data_batch_3.bin is not a file of 3073-byte"):
        load_dataset("cifar-10", folder=ten)
    (ten / "data_batch_3.bin").unlink()
    with pytest.raises(CorruptFileError, match=r"data_batch_3.bin cannot be read"):
        load_dataset("cifar-10", folder=ten)


# ---- a folder of images ----------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "channels"), [((), 1), ((3,), 3), ((4,), 3)])
def test_a_folder_of_grey_or_colour_images_is_a_dataset(tmp_path, colour, channels):
    folder = write_images(tmp_path / "pets", colour, ("dog", "cat", ".hidden"))
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / "readme").write_text("neither")

    data = load_dataset(folder)

    assert data.class_names == ("cat", "dog")
    assert (data.name, data.image_size, data.channels) == ("pets", 32, channels)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 4, 4]
    for split in (data.train, data.validation, data.test):
        assert torch.bincount(split.labels).tolist() == [len(split) // 2] * 2
    assert same(data, load_dataset(str(folder)))
    assert load_dataset(folder, image_size=16).image_size == 16


def test_a_folder_with_other_content_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="no subfolders"):
        load_dataset(tmp_path)
    write_images(tmp_path / "few", count=4)
    with pytest.raises(BadInputError, match=r"cat holds 4 images .*at least 5"):
        load_dataset(tmp_path / "few")
    write_images(tmp_path / "one", classes=("cat",))
    with pytest.raises(BadInputError, match="1 class; classification needs two"):
        load_dataset(tmp_path / "one")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(BadInputError, match="cat holds 0 images"):
        load_dataset(tmp_path / "empty")


@pytest.mark.parametrize("spoil", ["text", "cut", "zero", "folder", "damaged"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, spoil):
    folder = write_images(tmp_path / "pets")
    victim = folder / "dog" / "003.png"
    data = victim.read_bytes()
    if spoil == "folder":
        victim.unlink()
        victim.mkdir()
    else:
        spoiled = {
            "text": b"no image at all",
            "cut": data[: len(data) // 2],
            "zero": b"",
            "damaged": data[:12] + b"\xff" * 8 + data[20:],
        }
        victim.write_bytes(spoiled[spoil])

    with pytest.raises(CorruptFileError, match=r"dog/003\.png is not a readable image"):
        load_dataset(folder)
