"""The file of a variant: emitted in its forms, in its numbers, in chunks of its batch.

fp16 files are converted by onnxruntime's own tool (`onnxruntime.transformers.float16`); input and
output stay fp32. The processor has no fast kernels for them, so they are made only for providers
that have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from deployment.emission.chunks import in_chunks
from deployment.emission.emit import emit
from deployment.emission.forms import Forms
from deployment.emission.preprocessing import Preprocessing
from deployment.emission.preprocessing_nodes import preprocessed
from deployment.network_blocks import nodes_within
from deployment.numerics import Numerics
from deployment.providers import provider, takers
from deployment.quantisation.quantised import Quantiser
from deployment.variant import Variant
from records import BadInputError, CorruptFileError
from supernet import Subnet


def variant_file(
    subnet: Subnet,
    variant: Variant,
    batch_size: int | None,
    *,
    calibration_images: torch.Tensor | None = None,
    preprocessing: Preprocessing | None = None,
) -> bytes:
    """The serialised file of a variant.

    Args:
        subnet: The network in eval mode.
        variant: Its forms and numbers; of the settings only the provider matters here, which
            must take the numbers.
        batch_size: Images a run; None for any number, which static int8 cannot have.
        calibration_images: Training images that set the scales of static int8, at least a batch.
        preprocessing: What the file does to its images first; none unless told.

    Raises:
        BadInputError: Static int8 without images, numbers that the provider does not take, chunks
            that do not divide the batch.
        CorruptFileError: onnxruntime cannot quantise or convert the network.
        ExportError: A primitive that cannot be exported.
    """
    files = VariantFiles(
        subnet, batch_size, calibration_images=calibration_images, preprocessing=preprocessing
    )
    return files.data(variant)


class VariantFiles:
    """Makes files of many variants of one network; what they share is made once.

    Args:
        subnet: The network in eval mode.
        batch_size: Images a run; None for any number.
        calibration_images: Training images that set the scales of static int8.
        preprocessing: What the files do to their images first.
        threads: Threads inside an operator while scales are found.
    """

    def __init__(
        self,
        subnet: Subnet,
        batch_size: int | None,
        *,
        calibration_images: torch.Tensor | None = None,
        preprocessing: Preprocessing | None = None,
        threads: int = 1,
    ) -> None:
        self.subnet = subnet
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.threads = threads
        self._images = calibration_images
        self._emitted: dict[Forms, bytes] = {}
        self._quantisers: dict[tuple[Forms, str], Quantiser] = {}
        self._data: dict[tuple[Forms, Numerics], bytes] = {}
        self._chunks: dict[int, VariantFiles] = {}

    def data(self, variant: Variant) -> bytes:
        """See `variant_file`."""
        check_numerics(variant)
        if variant.chunk is not None:
            return self._in_chunks(variant, variant.chunk)
        key = (variant.forms, variant.numerics)
        if key not in self._data:
            self._data[key] = self._made(*key)
        return self._data[key]

    def _in_chunks(self, variant: Variant, chunk: int) -> bytes:
        """The file for so many images, run on chunk after chunk of the batch."""
        if self.batch_size is None:
            raise BadInputError(
                "a file for any number of images has no chunks: fix its batch size"
            )
        if chunk not in self._chunks:
            self._chunks[chunk] = VariantFiles(
                self.subnet, chunk, calibration_images=self._images,
                preprocessing=self.preprocessing, threads=self.threads,
            )  # fmt: skip
        part = self._chunks[chunk].data(replace(variant, chunk=None))
        model = in_chunks(onnx.load_from_string(part), self.batch_size)
        return bytes(model.SerializeToString())

    def emitted(self, forms: Forms) -> bytes:
        """The fp32 file in some forms, without preprocessing."""
        if forms not in self._emitted:
            model = emit(self.subnet, self.batch_size, forms=forms)
            self._emitted[forms] = model.SerializeToString()
        return self._emitted[forms]

    def quantiser(self, forms: Forms, way: str) -> Quantiser:
        """What makes the int8 files of some forms.

        Raises:
            BadInputError: Static int8 without images, or with fewer than a batch.
        """
        if (forms, way) not in self._quantisers:
            self._quantisers[forms, way] = Quantiser(
                self.emitted(forms), mode=way, images=self._scaling(way), threads=self.threads
            )
        return self._quantisers[forms, way]

    def _scaling(self, way: str) -> npt.NDArray[np.float32] | None:
        if way != "static":
            return None
        if self._images is None:
            raise BadInputError(
                "the scales of static int8 come from training images: pass "
                "calibration_images=data.train.images[:256], or take the dynamic way"
            )
        return self._images.numpy()

    def _made(self, forms: Forms, numerics: Numerics) -> bytes:
        if numerics.way == "fp32" and self.preprocessing is not None:
            # written with the network, whose first convolution may take it in
            model = emit(
                self.subnet, self.batch_size, forms=forms, preprocessing=self.preprocessing
            )
            return bytes(model.SerializeToString())
        match numerics.way:
            case "dynamic" | "static":
                data = self.quantiser(forms, numerics.way).file(numerics.fp32_blocks)
            case "fp16":
                data = half_precision(self.emitted(forms), numerics.fp32_blocks)
            case _:
                data = self.emitted(forms)
        if self.preprocessing is None:
            return data
        model = preprocessed(onnx.load_from_string(data), self.preprocessing)
        return bytes(model.SerializeToString())


def check_numerics(variant: Variant) -> None:
    """Refuses numbers that the variant's provider does not take.

    Raises:
        BadInputError: It does not; names the providers that do.
    """
    way, name = variant.numerics.way, variant.settings.provider
    if way not in provider(name).ways:
        others = takers(way)
        raise BadInputError(
            f"provider {name!r} does not take files in {variant.numerics.name}; it takes "
            f"{', '.join(provider(name).ways)}, and {way} is taken by: {others}"
        )


def half_precision(data: bytes, fp32_blocks: Sequence[str] = ()) -> bytes:
    """An fp16 version of a serialised fp32 model, with the same input and output in fp32.

    Args:
        data: A model whose nodes are named after layers.
        fp32_blocks: Names of layers, blocks or stages that stay in fp32.

    Raises:
        UnknownNameError: A block that the model does not have.
        CorruptFileError: It cannot be converted.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = onnx.load_from_string(data)
    kept = list(nodes_within(proto, fp32_blocks))
    try:
        typed = SymbolicShapeInference.infer_shapes(proto)  # types behind packed attention
        half = convert_float_to_float16(
            typed, keep_io_types=True, disable_shape_infer=True, node_block_list=kept
        )
    except Exception as error:  # the converter raises plain exceptions of all kinds
        raise CorruptFileError(f"the model cannot be converted to fp16: {error}") from error
    return bytes(half.SerializeToString())
