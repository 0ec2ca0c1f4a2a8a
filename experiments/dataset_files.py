"""The files that datasets are published in: IDX, CIFAR's binary version, MedMNIST's `.npz`."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from records import BadInputError, CorruptFileError


class Labelled(NamedTuple):
    """Images `n x height x width x channels` from 0 to 255, and their `n` labels."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


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


def read_cifar(path: Path, label_bytes: int, label: int) -> Labelled:
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
    return Labelled(np.ascontiguousarray(images), records[:, label].astype(np.int64))


def read_medmnist(path: Path) -> tuple[Labelled, Labelled, Labelled]:
    """Reads a MedMNIST file: training, validation and test images with their labels.

    The `.npz` holds `train_images`, `train_labels` and so on for `val` and `test`; images are
    `n x size x size`, or `n x size x size x 3` in colour, as bytes; labels are `n x 1`.

    Raises:
        CorruptFileError: No `.npz` file, arrays that are missing, of other types or shapes.
        BadInputError: Several labels an image, or volumes instead of images.

    References:
        Yang et al., MedMNIST v2, Scientific Data 2023, arXiv 2110.14795.
    """
    parts = ("train", "val", "test")
    names = [f"{part}_{what}" for part in parts for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise CorruptFileError(
                    f"{path} lacks {', '.join(missing)}; a MedMNIST file has {', '.join(names)}"
                )
            arrays = {name: np.asarray(file[name]) for name in names}
    except CorruptFileError:
        raise
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise CorruptFileError(f"{path} is not a readable .npz file: {error}") from error
    train, validation, test = (
        _medmnist_part(path, part, arrays[f"{part}_images"], arrays[f"{part}_labels"])
        for part in parts
    )
    return train, validation, test


def _medmnist_part(
    path: Path, part: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> Labelled:
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise CorruptFileError(
            f"{path}: {part}_images are {images.dtype} and {part}_labels {labels.dtype}, "
            "expected uint8 and whole numbers"
        )
    if images.ndim == 5 or (images.ndim == 4 and images.shape[-1] != 3):
        raise BadInputError(
            f"{path}: {part}_images have shape {images.shape}, which are volumes; only images "
            "n x size x size, or n x size x size x 3, can be read"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise BadInputError(
            f"{path} has {labels.shape[1]} labels an image: sets of several labels cannot be "
            "learned here, only those of one class an image"
        )
    flat = labels.reshape(-1).astype(np.int64)
    if images.ndim not in (3, 4) or labels.ndim not in (1, 2) or len(images) != len(flat):
        raise CorruptFileError(
            f"{path}: {part}_images have shape {images.shape} and {part}_labels {labels.shape}, "
            "expected n x size x size (x 3) and n x 1"
        )
    pixels = images.astype(np.uint8, copy=False)
    return Labelled(pixels if images.ndim == 4 else pixels[..., None], flat)
