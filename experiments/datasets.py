"""Datasets by name or path: digits, Fashion-MNIST, CIFAR-10/100, MedMNIST files, image folders.

Published divisions are kept (`experiments.dataset_splits`). Digits and folders of images, which
come undivided, are divided into 60 / 20 / 20 %.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.dataset_files import Labelled, read_cifar, read_idx, read_medmnist
from experiments.dataset_splits import Published, to_splits
from records import BadInputError, CorruptFileError, UnknownNameError, unknown_name
from supernet import ImageData

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")

FOLDER_SIZE = 32
"""Side to which the images of a folder are resized unless another is asked for."""


def load_dataset(
    name: str | Path,
    *,
    image_size: int | None = None,
    train_images: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads a dataset by name, a MedMNIST file, or a folder with a subfolder per class.

    Args:
        name: `digits`, `fashion-mnist`, `cifar-10`, `cifar-100`, the path of a MedMNIST `.npz`
            file, or the path of a folder.
        image_size: Side to which images are resized; None keeps the native size, except that
            images of 28 pixels (Fashion-MNIST, MedMNIST) are padded to 32, which halves evenly.
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
    path = Path(name)
    if str(name) in _LOADERS:
        published = _LOADERS[str(name)](folder)
    elif path.is_dir():
        published = _image_folder(path, image_size or FOLDER_SIZE)
    elif path.suffix == ".npz" and path.is_file():
        published = _medmnist(path)
    elif path.parent != Path() or path.exists() or path.suffix == ".npz":
        missing = "" if path.exists() else ": there is no such folder or file"
        raise BadInputError(
            f"{path} is not a folder of images with a subfolder per class, nor a MedMNIST .npz "
            f"file{missing}"
        )
    else:
        kind = "dataset (or a folder of images, or a MedMNIST .npz file)"
        known = unknown_name(kind, str(name), _LOADERS)
        raise UnknownNameError(f"{known}. There is no folder or file {str(name)!r} here either")
    if image_size is None:
        published = published.padded(from_side=28, to_side=32)
    return to_splits(published, image_size=image_size, train_images=train_images, seed=seed)


def _digits(folder: str | Path | None) -> Published:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return Published(
        name="digits",
        stream="digits",
        train=Labelled(images, digits.target.astype(np.int64)),
        class_names=_numbered(10),
    )


def _fashion_mnist(folder: str | Path | None) -> Published:
    where = _find(
        "fashion-mnist",
        folder,
        ("/usr/share/datasets/fashion-mnist", "data/fashion-mnist"),
        ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
        "the four IDX files (gzipped or not); on Debian: apt-get install dataset-fashion-mnist",
    )

    def read(part: str) -> Labelled:
        return Labelled(
            read_idx(_either(where, f"{part}-images-idx3-ubyte"), 3)[..., None],
            read_idx(_either(where, f"{part}-labels-idx1-ubyte"), 1).astype(np.int64),
        )

    return Published(
        name="fashion-mnist",
        stream="fashion-mnist",
        train=read("train"),
        test=read("t10k"),
        class_names=FASHION_CLASSES,
        flip=True,
    )


def _cifar10(folder: str | Path | None) -> Published:
    where = _find(
        "cifar-10",
        folder,
        ("data/cifar-10-batches-bin", "/usr/share/datasets/cifar-10"),
        ("data_batch_1.bin",),
        "data_batch_1.bin to data_batch_5.bin and test_batch.bin, the published binary version",
    )
    batches = [read_cifar(where / f"data_batch_{i}.bin", 1, 0) for i in range(1, 6)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return Published(
        name="cifar-10",
        stream="cifar-10",
        train=Labelled(images, labels),
        test=read_cifar(where / "test_batch.bin", 1, 0),
        class_names=CIFAR10_CLASSES,
        flip=True,
    )


def _cifar100(folder: str | Path | None) -> Published:
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
    return Published(
        name="cifar-100",
        stream="cifar-100",
        train=read_cifar(where / "train.bin", 2, 1),
        test=read_cifar(where / "test.bin", 2, 1),
        class_names=names,
        flip=True,
    )


_LOADERS: dict[str, Callable[[str | Path | None], Published]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar-10": _cifar10,
    "cifar-100": _cifar100,
}

DATASETS = tuple(_LOADERS)
"""The names that `load_dataset` knows."""


def _medmnist(path: Path) -> Published:
    """A MedMNIST file; its classes have no names in it.

    Mirroring is off: some of its sets tell left from right, such as kidneys and lungs.
    """
    train, validation, test = read_medmnist(path)
    classes = 1 + max(int(part.labels.max(initial=0)) for part in (train, validation, test))
    return Published(
        name=path.stem,
        stream=path.stem,
        train=train,
        validation=validation,
        test=test,
        class_names=_numbered(classes),
    )


def _image_folder(path: Path, size: int) -> Published:
    from PIL import Image

    classes = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise BadInputError(f"{path} has no subfolders; one per class is expected")
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
            except BadInputError:
                raise
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise CorruptFileError(f"{file} is not a readable image: {error}") from error
            labels.append(index)
    pixels = np.stack(images)
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey
    return Published(
        name=path.name,
        stream="folder",
        train=Labelled(pixels, np.array(labels, np.int64)),
        class_names=tuple(classes),
    )


def _check_mode(file: Path, mode: str) -> None:
    """Refuses images of more than 8 bits a channel, which a conversion would clip to white."""
    if mode.startswith(("I", "F")):
        raise BadInputError(
            f"{file} has more than 8 bits a channel (mode {mode}): convert it to 8 bits first"
        )


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


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(classes))
