"""What an opened file says of many images, whatever batch it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import ModelProto

from deployment.intervals import wilson_interval
from supernet import Split, Subnet

Images = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

ANY_SIZE = 64
"""Images a run where a file takes any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """How a file does on images that nothing was chosen by.

    Attributes:
        images: How many.
        accuracy: Share whose class the file predicts.
        interval_95: Its Wilson interval.
        torch_accuracy: Share whose class the network in torch predicts.
        top1_agreement: Share for which both say the same.
    """

    images: int
    accuracy: float
    interval_95: tuple[float, float]
    torch_accuracy: float
    top1_agreement: float


def answers(session: ort.InferenceSession, images: Images) -> Logits:
    """The logits of images, an `n x classes` array.

    A file of a fixed batch gets its last one filled up with zeros, whose answers are dropped.

    Args:
        session: An opened file with one input.
        images: As the file takes them, `n x ...`, at least one.
    """
    entry = session.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else min(ANY_SIZE, len(images))
    parts = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        count = len(batch)
        if count < size:
            filling = np.zeros((size - count, *batch.shape[1:]), batch.dtype)
            batch = np.concatenate([batch, filling])
        parts.append(np.asarray(session.run(None, {entry.name: np.ascontiguousarray(batch)})[0]))
        parts[-1] = parts[-1][:count]
    return np.concatenate(parts)


@torch.no_grad()
def torch_answers(subnet: Subnet, images: torch.Tensor, batch_size: int = 256) -> Logits:
    """The logits of a network in torch, an `n x classes` array."""
    parts = [subnet(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def judge_file(
    subnet: Subnet, session: ort.InferenceSession, split: Split, images: Images
) -> Tested:
    """Compares a file with labels and with torch on a whole split.

    Args:
        subnet: The network in eval mode.
        session: Its file, opened.
        split: The images and labels.
        images: The same images as the file takes them.
    """
    labels = split.labels.numpy()
    file_says = answers(session, images).argmax(1)
    torch_says = torch_answers(subnet, split.images).argmax(1)
    accuracy = float((file_says == labels).mean())
    return Tested(
        images=len(labels),
        accuracy=accuracy,
        interval_95=wilson_interval(accuracy, len(labels)),
        torch_accuracy=float((torch_says == labels).mean()),
        top1_agreement=float((file_says == torch_says).mean()),
    )


def with_batch(data: bytes, batch_size: int) -> bytes:
    """A serialised file for one batch size where it takes any; else the very same bytes.

    Kernels are chosen for the shapes that a file states, so a file that takes any number of images
    is timed as it stands for one number.
    """
    model: ModelProto = onnx.load_from_string(data)
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    if first.HasField("dim_value"):
        return data
    name = first.dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if name and dim.dim_param == name:
                dim.dim_value = batch_size
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch_size
    return bytes(model.SerializeToString())
