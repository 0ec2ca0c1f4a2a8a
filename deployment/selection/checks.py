"""Whether a variant may be chosen: does it compute what torch does, or lose little accuracy?

An *exact* variant, one that computes what torch does but for rounding, is compared with torch as
every exported file is (`deployment.proofs.verify.compare`), and refused beyond the tolerance
there.

Any other is judged by accuracy on search-validation images. Its predictions and those of the fp32
network in torch are taken on the same `n` images, so the loss is a paired difference: with `a`
images that fp32 has right and the variant wrong, and `b` the other way round,

    loss = (a - b) / n,    standard error = sqrt(a + b - (a - b)^2 / n) / n

(McNemar, Psychometrika 1947). It keeps the bound where `loss <= largest_loss`. With fewer than
`1 / largest_loss` images (200 for half a point) one image weighs more than the bound and says too
little; then no predicted class may change at all, and neither with a bound of 0. The standard
error is recorded, so that a reader sees how well the loss is known. Images are judged on this
machine, by the variant's provider if it is here and by the processor otherwise.

Files with their preprocessing inside are judged as they are: they are given the bytes that the
images come to, and torch what the preprocessing makes of the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from deployment.emission.emit import image_shape
from deployment.emission.preprocessing import Preprocessing
from deployment.proofs.verify import LARGEST_TOLERANCE, compare
from deployment.providers import provider
from deployment.runtime import open_session
from deployment.session_settings import SessionSettings
from deployment.target_file import LARGEST_ERROR
from records import CorruptFileError, HwnasError
from supernet import Split, Subnet

COMPARED_IMAGES = 16
COMPARED_MACS = 16 * 10**8
"""Real images that exact variants are compared on while selecting, or fewer, down to two, where
they would take more multiply-accumulates than this; the chosen file's bundle compares more."""

MOST_IMAGES = 2000
"""Search-validation images that inexact variants are judged on, at most."""

BATCH = 64
"""Images a run in torch."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found about one variant; see `selection_results.Tried` for the numbers.

    Attributes:
        is_kept: Whether it may be chosen.
        reason: Why not, in the words of a status; "" where it may.
    """

    is_kept: bool
    reason: str = ""
    relative_error: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    loss_error: float | None = None


class Judge:
    """Checks variants of one network.

    Args:
        subnet: The network in eval mode.
        validation: Search-validation images; None where there are none, and then other than exact
            variants are told by their logits alone (`deployment.target_file.LARGEST_ERROR`).
        images: What logits are compared on where there is no validation split; random images
            unless told.
        batch_size: Images a run of the files.
        largest_loss: The accuracy that may be lost.
        threads: Threads inside an operator.
        seed: Derives random images, and which validation images count.
        preprocessing: What the files do to their images first; None where they take tensors.

    Raises:
        BadInputError: A preprocessing for other channels, or one that resizes: the bytes before
            it cannot be told from the images.
    """

    def __init__(
        self,
        subnet: Subnet,
        validation: Split | None,
        images: torch.Tensor | None = None,
        *,
        batch_size: int,
        largest_loss: float,
        threads: int,
        seed: int,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        if preprocessing is not None:
            preprocessing.check_fits(image_shape(subnet))
            preprocessing.check_keeps_size(image_shape(subnet))
        self.subnet = subnet
        self.preprocessing = preprocessing
        self.validation = validation
        self.other_images = images
        self.batch_size = batch_size
        self.largest_loss = largest_loss
        self.threads = threads
        self.seed = seed
        self.images = 0

    def take_images(self, affordable: int) -> None:
        """Decides once how many validation images are judged on.

        Args:
            affordable: How many the time allows; no fewer are taken than the bound needs.
        """
        if self.validation is None or self.images:
            return
        needed = math.ceil(1 / self.largest_loss) if self.largest_loss > 0 else MOST_IMAGES
        batches = -(-min(max(affordable, needed), MOST_IMAGES) // self.batch_size)
        self.images = min(batches, len(self.validation) // self.batch_size) * self.batch_size

    def exact(self, data: bytes) -> Check:
        """Compares a file that should compute what torch does."""
        given = self.other_images if self.validation is None else self.validation.images
        images = None if given is None else given[: self.compared]
        try:
            found = compare(
                self.subnet, onnx.load_from_string(data), images,
                seed=self.seed, threads=self.threads,
            )  # fmt: skip
        except HwnasError as error:
            return Check(is_kept=False, reason=f"refused: {error}")
        said = (
            f"refused: differs from torch by {found.relative_difference:.1e} of the largest "
            f"logit, {found.tolerance:.1e} is allowed"
        )
        return Check(
            is_kept=found.is_within,
            reason="" if found.is_within else said,
            relative_error=found.relative_difference,
            top1_agreement=found.top1_agreement,
        )

    def inexact(self, data: bytes, settings: SessionSettings | None = None) -> Check:
        """Judges a file by its accuracy; by its logits where there is no validation split."""
        try:
            how = settings if settings is not None and is_here(settings) else None
            session = open_session(data, self.threads, how)
            theirs = self._logits(session)
        except HwnasError as refusal:
            return Check(is_kept=False, reason=f"refused: {refusal}")
        ours = self._reference
        agreement = float((ours.argmax(1) == theirs.argmax(1)).mean())
        error = _relative_error(ours, theirs)
        if not np.isfinite(theirs).all():
            return Check(is_kept=False, reason="refused: its logits are not finite")
        if self.validation is None or not self.images:
            is_close = error <= LARGEST_ERROR
            said = f"refused: logits differ by {error:.2g} of their deviation"
            return Check(
                is_kept=is_close, reason="" if is_close else said,
                relative_error=error, top1_agreement=agreement,
            )  # fmt: skip
        return self._judged(theirs, error, agreement)

    def same_answers(self, data: bytes, settings: SessionSettings) -> Check:
        """Whether a file opened otherwise computes what it does by default, rounding apart.

        A provider that is not on this machine cannot be asked, and is not refused for it.
        """
        if not is_here(settings):
            return Check(is_kept=True)
        try:
            ours, theirs = (
                self._logits(open_session(data, self.threads, how), self.compared)
                for how in (SessionSettings(), settings)
            )
        except HwnasError as error:
            return Check(is_kept=False, reason=f"refused: {error}")
        scale = max(float(np.abs(ours).max()), 1e-30)
        difference = float(np.abs(ours - theirs).max()) / scale
        if difference <= LARGEST_TOLERANCE:  # NaN is not
            return Check(is_kept=True)
        said = f"refused: answers change by {difference:.1e} of the largest logit when opened so"
        return Check(is_kept=False, reason=said)

    @property
    def fp32_accuracy(self) -> float | None:
        """Accuracy of the fp32 network on the images that are judged on; None before any were."""
        return float(self._is_right.mean()) if self.images else None

    def _judged(self, theirs: Array, error: float, agreement: float) -> Check:
        right = theirs.argmax(1) == self._labels
        lost = int((self._is_right & ~right).sum())
        won = int((~self._is_right & right).sum())
        n = self.images
        loss = (lost - won) / n
        is_enough = n * self.largest_loss >= 1
        is_kept = loss <= self.largest_loss if is_enough else agreement == 1.0
        reason = ""
        if not is_kept and is_enough:
            reason = f"lost {100 * loss:.2g} points"
        elif not is_kept:
            few = f"{n} images are too few to tell the loss" if self.largest_loss else "none may"
            reason = f"refused: classes change, and {few}"
        return Check(
            is_kept=is_kept, reason=reason, relative_error=error, top1_agreement=agreement,
            accuracy=float(right.mean()), loss=loss,
            loss_error=math.sqrt(lost + won - (lost - won) ** 2 / n) / n,
        )  # fmt: skip

    @property
    def compared(self) -> int:
        """How many images are compared: whole batches."""
        affordable = COMPARED_MACS // max(self.subnet.graph.macs, 1)
        wanted = min(COMPARED_IMAGES, max(2, affordable))
        return -(-wanted // self.batch_size) * self.batch_size

    @cached_property
    def _chosen(self) -> torch.Tensor:
        """Which validation images are judged on: splits may be sorted by class."""
        assert self.validation is not None
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(len(self.validation), generator=generator)[: self.images]

    @cached_property
    def _given(self) -> npt.NDArray[Any]:
        """The images that are judged on, as the files take them."""
        images: Array = self._drawn().numpy()
        return images if self.preprocessing is None else self.preprocessing.denormalised(images)

    @property
    def _seen(self) -> torch.Tensor:
        """The same images as the network sees them."""
        inside = self.preprocessing
        return torch.from_numpy(self._given if inside is None else inside.normalised(self._given))

    def _drawn(self) -> torch.Tensor:
        if self.validation is not None and self.images:
            return self.validation.images[self._chosen]
        if self.other_images is not None and len(self.other_images) >= self.compared:
            return self.other_images[: self.compared]
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn((self.compared, *image_shape(self.subnet)), generator=generator)

    @cached_property
    def _labels(self) -> npt.NDArray[np.int64]:
        assert self.validation is not None
        labels: npt.NDArray[np.int64] = self.validation.labels[self._chosen].numpy()
        return labels

    @cached_property
    def _reference(self) -> Array:
        """torch's logits on the images that are judged on."""
        with torch.no_grad():
            parts = [self.subnet(part).numpy() for part in torch.split(self._seen, BATCH)]
        return np.concatenate(parts)

    @cached_property
    def _is_right(self) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = self._reference.argmax(1) == self._labels
        return right

    def _logits(self, session: ort.InferenceSession, count: int | None = None) -> Array:
        """A session's logits on the images that are judged on, or the first of them.

        Raises:
            CorruptFileError: It opened, and does not run.
        """
        name = session.get_inputs()[0].name
        images = self._given[:count]
        images = images[: len(images) // self.batch_size * self.batch_size]
        batches = images.reshape(-1, self.batch_size, *images.shape[1:])
        try:
            logits = [session.run(None, {name: batch})[0] for batch in batches]
        except Exception as error:  # onnxruntime's own classes, all of them plain exceptions
            raise CorruptFileError(f"the file opens and does not run: {error}") from error
        return np.concatenate(logits).astype(np.float32)


def _relative_error(ours: Array, theirs: Array) -> float:
    """Root mean square of the logits' difference over the deviation of torch's."""
    spread = max(float(ours.std()), 1e-30)
    return float(np.sqrt(np.mean((ours - theirs) ** 2))) / spread


def is_here(settings: SessionSettings) -> bool:
    """Whether the provider that settings name is on this machine."""
    return provider(settings.provider).is_present
