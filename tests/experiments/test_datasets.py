import gzip
import io
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from experiments.dataset_files import read_cifar, read_idx, read_medmnist
from experiments.datasets import DATASETS, load_dataset
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
    assert "There is no folder or file 'fashion_mnist' here either" in str(error.value)
    with pytest.raises(BadInputError, match=r"not a folder of images.*there is no such folder"):
        load_dataset(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match=r"not a folder of images.*file$"):
        load_dataset(tmp_path / "file")
    with pytest.raises(BadInputError, match=r"pathmnist\.npz is not .* nor a MedMNIST .npz file"):
        load_dataset("pathmnist.npz")


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
        ({"train": 10}, BadInputError, "no training images"),  # all go to search-validation
        ({"test": 0}, BadInputError, "no test images"),
        ({"labels": 4}, BadInputError, "all of one class"),
        ({"labels": 11}, BadInputError, "label 11|all of one class"),
        ({"size": (28, 20)}, BadInputError, "28 x 20, not square"),
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


def test_an_image_of_16_bits_is_refused(tmp_path):
    folder = write_images(tmp_path / "pets")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "cat" / "001.png")

    with pytest.raises(BadInputError, match=r"001\.png has more than 8 bits a channel"):
        load_dataset(folder)


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


# ---- MedMNIST --------------------------------------------------------------------------------

SIZES = {"train": 40, "val": 12, "test": 16}


def medmnist_arrays(side=28, colour=(), classes=4, label_shape=(1,)):
    rng = np.random.default_rng(side)
    arrays = {}
    for part, n in SIZES.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, side, side, *colour), np.uint8)
        labels = (np.arange(n) % classes).astype(np.uint8).reshape(n, 1)
        arrays[f"{part}_labels"] = np.broadcast_to(labels, (n, *label_shape)).copy()
    return arrays


def write_medmnist(path, **options):
    changes = options.pop("changes", {})
    arrays = {**medmnist_arrays(**options), **changes}
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
    return path


@pytest.mark.parametrize(("colour", "channels"), [((), 1), ((3,), 3)])
@pytest.mark.parametrize(("side", "loaded"), [(28, 32), (64, 64)])
def test_a_medmnist_file_is_a_dataset_with_its_own_splits(
    tmp_path, colour, channels, side, loaded
):
    path = write_medmnist(tmp_path / "pathmnist.npz", side=side, colour=colour)
    arrays = medmnist_arrays(side, colour)

    data = load_dataset(path)

    assert (data.name, data.num_classes, data.channels) == ("pathmnist", 4, channels)
    assert data.class_names == ("0", "1", "2", "3")
    assert not data.flip
    assert data.image_size == loaded
    pixels = arrays["train_images"].reshape(40, side, side, channels)
    border = ((0, 0), *[((loaded - side) // 2,) * 2] * 2, (0, 0))
    mean = np.pad(pixels, border).mean((0, 1, 2))
    deviation = np.pad(pixels, border).std((0, 1, 2))
    for split, part in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        raw = arrays[f"{part}_images"].reshape(-1, side, side, channels)
        assert split.labels.tolist() == arrays[f"{part}_labels"][:, 0].tolist()
        restored = split.images.permute(0, 2, 3, 1).numpy() * deviation + mean
        assert np.abs(restored - np.pad(raw, border)).max() < 1e-3
    assert same(data, load_dataset(str(path), seed=5))  # nothing is drawn


def test_medmnist_images_are_resized_and_cut_down(tmp_path):
    path = write_medmnist(tmp_path / "blood.npz", side=64, colour=(3,))

    assert load_dataset(path, image_size=28).image_size == 28
    fewer = load_dataset(path, train_images=8)
    assert torch.bincount(fewer.train.labels).tolist() == [2, 2, 2, 2]
    assert (len(fewer.validation), len(fewer.test)) == (12, 16)


def test_labels_of_medmnist_may_be_flat_and_of_any_integer_type(tmp_path):
    flat = {f"{part}_labels": np.arange(n, dtype=np.int64) % 3 for part, n in SIZES.items()}

    data = load_dataset(write_medmnist(tmp_path / "x.npz", changes=flat))

    assert data.num_classes == 3
    assert data.test.labels.tolist() == [i % 3 for i in range(16)]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"label_shape": (14,)}, BadInputError, "14 labels an image: sets of several labels"),
        ({"colour": (28,)}, BadInputError, r"\(40, 28, 28, 28\), which are volumes"),
        ({"colour": (28, 3)}, BadInputError, "which are volumes"),
        ({"changes": {"val_labels": None}}, CorruptFileError, "lacks val_labels; a MedMNIST"),
        (
            {"changes": {"test_images": np.zeros((16, 28, 28), np.float32)}},
            CorruptFileError,
            "test_images are float32",
        ),
        (
            {"changes": {"train_labels": np.zeros((40, 1))}},
            CorruptFileError,
            "train_labels float64",
        ),
        (
            {"changes": {"val_images": np.zeros((3, 28, 28), np.uint8)}},
            CorruptFileError,
            r"val_images have shape \(3, 28, 28\) and val_labels \(12, 1\)",
        ),
        (
            {"changes": {"val_images": np.zeros((12, 784), np.uint8)}},
            CorruptFileError,
            "expected n x size x size",
        ),
        (
            {"changes": {"train_labels": np.full((40, 1), -1), "val_labels": np.full((12, 1), 2)}},
            BadInputError,
            "all of one class|label -1",
        ),
        (
            {
                "changes": {
                    "test_images": np.zeros((0, 28, 28), np.uint8),
                    "test_labels": np.zeros((0, 1), np.uint8),
                }
            },
            BadInputError,
            "no test images",
        ),
    ],
)
def test_other_npz_files_are_refused_with_the_reason(tmp_path, options, kind, said):
    path = write_medmnist(tmp_path / "odd.npz", **options)

    with pytest.raises(kind, match=said):
        load_dataset(path)


def test_files_that_only_look_like_npz_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    whole = write_medmnist(tmp_path / "whole.npz").read_bytes()
    pickled = np.array([{"code": "is not run"}], dtype=object)
    plain = io.BytesIO()
    np.save(plain, np.zeros(3))
    for content in (b"", b"no zip at all", whole[: len(whole) // 2], plain.getvalue()):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"set\.npz is not a readable .npz file"):
            read_medmnist(path)
    np.savez(path, **{**medmnist_arrays(), "train_images": pickled})
    with pytest.raises(CorruptFileError, match=r"not a readable .npz file: Object arrays"):
        load_dataset(path)
    damaged = bytearray(whole)
    damaged[2000:2100] = b"\xff" * 100
    path.write_bytes(damaged)
    with pytest.raises(CorruptFileError, match=r"not a readable .npz file"):
        load_dataset(path)


def test_statistics_are_those_of_all_pixels_also_of_many_images(tmp_path):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 256, (2500, 28, 28, 3), np.uint8) // np.array([1, 2, 3], np.uint8)
    labels = np.arange(2500).reshape(-1, 1) % 2
    path = write_medmnist(
        tmp_path / "many.npz", colour=(3,),
        changes={"train_images": many, "train_labels": labels},
    )  # fmt: skip

    data = load_dataset(path, image_size=28)

    mean, deviation = many.mean((0, 1, 2)), many.std((0, 1, 2))
    for row in (0, 1023, 1024, 2499):
        want = (many[row] - mean) / deviation
        got = data.train.images[row].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(got, want, atol=1e-5)
