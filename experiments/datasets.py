"""Datasets in three splits: digits, Fashion-MNIST, CIFAR-10/100, a folder of images by class.

Published train/test divisions are kept; the search-validation split is cut from the training
images, stratified by class. Digits, which come undivided, are divided into 60 / 20 / 20 %.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from records import BadInputError, CorruptFileError, generator, unknown_name
from supernet import ImageData, Split

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Images `n x height x width x channels` from 0 to 255, and their labels."""

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


def load_dataset(
    name: str | Path,
    *,
    image_size: int | None = None,
    train_images: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads a dataset by name, or a folder with one subfolder of images per class.

    Args:
        name: `digits`, `fashion-mnist`, `cifar-10`, `cifar-100`, or the path of a folder.
        image_size: Side to which images are resized; None keeps the native size, except that
            Fashion-MNIST's 28 pixels are padded to 32, which halves evenly.
        train_images: Uses only that many training images, stratified by class.
        folder: Where the files of a named dataset are, if not at one of the usual places.
        seed: Derives the divisions.

    Raises:
        UnknownNameError: No such dataset; lists those there are.
        BadInputError: Files that are not there (says where they are looked for), no classes.
        CorruptFileError: Files of another format.
    """
    if image_size is not None and image_size < 1:
        raise BadInputError(f"image_size must be at least 1, got {image_size}")
    if str(name) in _LOADERS:
        return _LOADERS[str(name)](image_size, train_images, folder, seed)
    path = Path(name)
    if path.is_dir():
        return _image_folder(path, image_size, train_images, seed)
    if path.parent != Path() or path.exists():
        raise BadInputError(f"{path} is not a folder of images with a subfolder per class")
    raise unknown_name("dataset (or a folder of images)", str(name), _LOADERS)


def _digits(
    image_size: int | None, train_images: int | None, folder: str | Path | None, seed: int
) -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    rng = generator(seed, "digits")
    rest, test = _stratified(labels, 0.2, rng)
    train, validation = _stratified(labels[rest], 0.25, rng)
    rows = (rest[train], rest[validation], test)
    return _finish(
        "digits",
        tuple((images[r], labels[r]) for r in rows),
        tuple(str(d) for d in range(10)),
        image_size=image_size,
        train_images=train_images,
        flip=False,
        seed=seed,
    )


def _fashion_mnist(
    image_size: int | None, train_images: int | None, folder: str | Path | None, seed: int
) -> ImageData:
    where = _find(
        "fashion-mnist",
        folder,
        ("/usr/share/datasets/fashion-mnist", "data/fashion-mnist"),
        ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
        "the four IDX files (gzipped or not); on Debian: apt-get install dataset-fashion-mnist",
    )
    parts = [
        (read_idx(_either(where, f"{part}-images-idx3-ubyte"), 3)[..., None],
         read_idx(_either(where, f"{part}-labels-idx1-ubyte"), 1).astype(np.int64))
        for part in ("train", "t10k")
    ]  # fmt: skip
    if image_size is None:
        border = ((0, 0), (2, 2), (2, 2), (0, 0))
        parts = [(np.pad(images, border), labels) for images, labels in parts]
    return _published(
        "fashion-mnist", parts[0], parts[1], FASHION_CLASSES, image_size, train_images, True, seed
    )


def _cifar10(
    image_size: int | None, train_images: int | None, folder: str | Path | None, seed: int
) -> ImageData:
    where = _find(
        "cifar-10",
        folder,
        ("data/cifar-10-batches-bin", "/usr/share/datasets/cifar-10"),
        ("data_batch_1.bin",),
        "data_batch_1.bin to data_batch_5.bin and test_batch.bin, the published binary version",
    )
    batches = [read_cifar(where / f"data_batch_{i}.bin", 1, 0) for i in range(1, 6)]
    train = (np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches]))
    test = read_cifar(where / "test_batch.bin", 1, 0)
    return _published(
        "cifar-10", train, test, CIFAR10_CLASSES, image_size, train_images, True, seed
    )


def _cifar100(
    image_size: int | None, train_images: int | None, folder: str | Path | None, seed: int
) -> ImageData:
    where = _find(
        "cifar-100",
        folder,
        ("data/cifar-100-binary", "/usr/share/datasets/cifar-100"),
        ("train.bin",),
        "train.bin, test.bin and fine_label_names.txt, the published binary version",
    )
    try:
        names = tuple((where / "fine_label_names.txt").read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"the class names of cifar-100 cannot be read: {error}") from error
    train, test = (read_cifar(where / f"{part}.bin", 2, 1) for part in ("train", "test"))
    return _published("cifar-100", train, test, names, image_size, train_images, True, seed)


_LOADERS: dict[
    str, Callable[[int | None, int | None, str | Path | None, int], ImageData]
] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar-10": _cifar10,
    "cifar-100": _cifar100,
}  # fmt: skip

DATASETS = tuple(_LOADERS)
"""The names that `load_dataset` knows."""


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, gzipped or not (LeCun's format of MNIST).

    Raises:
        CorruptFileError: Another format, or fewer bytes than announced.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, count = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{count}I", data[4 : 4 + 4 * count])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise CorruptFileError(f"{path} is not a readable IDX file: {error}") from error
    if zero != 0 or kind != 0x08 or count != dimensions:
        raise CorruptFileError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions"
        )
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * count)
    if body.size != int(np.prod(shape)):
        raise CorruptFileError(f"{path} has {body.size} values, announced are {shape}")
    return body.reshape(shape)


def read_cifar(path: Path, label_bytes: int, label: int) -> Arrays:
    """Reads a file of CIFAR's binary version: `label_bytes` labels and 3,072 pixels a record.

    Raises:
        CorruptFileError: The file is not a whole number of records.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    size = label_bytes + 3072
    if data.size == 0 or data.size % size:
        raise CorruptFileError(f"{path} is not a file of {size}-byte CIFAR records")
    records = data.reshape(-1, size)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, label].astype(np.int64)


def _image_folder(
    path: Path, image_size: int | None, train_images: int | None, seed: int
) -> ImageData:
    from PIL import Image

    classes = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise BadInputError(f"{path} has no subfolders; one per class is expected")
    size = image_size or 32
    images, labels = [], []
    for index, name in enumerate(classes):
        files = sorted(p for p in (path / name).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if len(files) < 5:
            raise BadInputError(
                f"{path / name} holds {len(files)} images ({', '.join(IMAGE_SUFFIXES)}); every "
                "class needs at least 5, to be divided into three splits"
            )
        for file in files:
            try:
                with Image.open(file) as image:
                    _check_mode(file, image.mode)
                    images.append(np.asarray(image.convert("RGB").resize((size, size))))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise CorruptFileError(f"{file} is not a readable image: {error}") from error
            labels.append(index)
    x, y = np.stack(images), np.array(labels, np.int64)
    if (x == x[..., :1]).all():
        x = x[..., :1]  # grey
    rng = generator(seed, "folder")
    rest, test = _stratified(y, 0.2, rng)
    train, validation = _stratified(y[rest], 0.25, rng)
    rows = (rest[train], rest[validation], test)
    parts = tuple((x[r], y[r]) for r in rows)
    return _finish(
        path.name,
        parts,
        tuple(classes),
        image_size=size,
        train_images=train_images,
        flip=False,
        seed=seed,
    )


def _check_mode(file: Path, mode: str) -> None:
    """Refuses images of more than 8 bits a channel, which a conversion would clip to white."""
    if mode.startswith(("I", "F")):
        raise BadInputError(
            f"{file} has more than 8 bits a channel (mode {mode}): convert it to 8 bits first"
        )


def _published(
    name: str,
    train: Arrays,
    test: Arrays,
    classes: tuple[str, ...],
    image_size: int | None,
    train_images: int | None,
    flip: bool,
    seed: int,
) -> ImageData:
    """Cuts 10 % off the training images for search-validation."""
    for part, (x, y) in (("training", train), ("test", test)):
        if len(x) != len(y):
            raise CorruptFileError(f"{name} has {len(x)} {part} images, but {len(y)} labels")
        if len(x) == 0:
            raise BadInputError(f"dataset {name!r} has no {part} images")
    images, labels = train
    kept, validation = _stratified(labels, 0.1, generator(seed, name))
    parts = ((images[kept], labels[kept]), (images[validation], labels[validation]), test)
    return _finish(
        name,
        parts,
        classes,
        image_size=image_size,
        train_images=train_images,
        flip=flip,
        seed=seed,
    )


def _finish(
    name: str,
    parts: tuple[Arrays, ...],
    classes: tuple[str, ...],
    *,
    image_size: int | None,
    train_images: int | None,
    flip: bool,
    seed: int,
) -> ImageData:
    """Normalises by the training images' mean and deviation, resizes, and cuts down if asked."""
    (x, y), *others = parts
    if train_images is not None:
        if not 2 <= train_images <= len(y):
            raise BadInputError(f"train_images must be 2 to {len(y)}, got {train_images}")
        _, rows = _stratified(y, train_images / len(y), generator(seed, name, "fewer"))
        x, y = x[rows], y[rows]
    if x.size == 0:
        raise BadInputError(f"dataset {name!r} has no training images")
    height, width = x.shape[1:3]
    if image_size is None and height != width:
        raise BadInputError(
            f"the images of {name!r} are {height} x {width}, not square: give an image_size to "
            "resize them to"
        )
    mean = x.mean((0, 1, 2)) / 255
    deviation = np.maximum(x.std((0, 1, 2)) / 255, 1e-3)
    splits = []
    for images, labels in ((x, y), *others):
        tensor = torch.from_numpy(((images / 255 - mean) / deviation).astype(np.float32))
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
        if image_size is not None and tensor.shape[-1] != image_size:
            tensor = F.interpolate(
                tensor, size=(image_size, image_size), mode="bilinear", antialias=True
            )
        splits.append(Split(tensor, torch.from_numpy(labels)))
    return ImageData(
        name=name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        class_names=classes,
        flip=flip,
    )


def _stratified(
    labels: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Divides rows into (rest, cut) with the same share of every class in `cut`, at least one."""
    cut: list[npt.NDArray[np.intp]] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cut.append(rows[: max(1, round(share * len(rows)))])
    chosen = rng.permutation(np.concatenate(cut))
    rest = rng.permutation(np.setdiff1d(np.arange(len(labels)), chosen))
    return rest, chosen


def _find(
    name: str, folder: str | Path | None, usual: tuple[str, ...], marks: tuple[str, ...], what: str
) -> Path:
    """The first folder that holds one of the marks."""
    places = [Path(folder)] if folder is not None else [Path(p) for p in usual]
    for place in places:
        if any((place / mark).is_file() for mark in marks):
            return place
    raise BadInputError(
        f"the files of {name} are not in {' or '.join(map(str, places))}: put there {what}, or "
        "name the folder that has them with --data-folder"
    )


def _either(where: Path, name: str) -> Path:
    """The file, gzipped or not."""
    plain = where / name
    return plain if plain.is_file() else where / f"{name}.gz"
