"""What selecting kernels found: everything that was tried, what was chosen, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deployment.emission.preprocessing import Preprocessing
from deployment.providers import provider_record
from deployment.runners.timing import Timing
from deployment.variant import Variant

FORMAT = "hwnas-selection-1"

STAGES = ("default", "forms", "numerics", "chunks", "settings")
"""The stages in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One variant that was tried.

    Attributes:
        variant: The forms of the file, its numbers, how it was opened.
        stage: One of `STAGES`.
        change: What differs from the default, in words.
        status: "chosen", "kept the bound", "lost N points", "refused: reason", "not timed", "not
            tried: reason"; "not faster", and "slower", "within the noise" or "not the fastest:
            accuracy not judged", of what was timed and not looked at further.
        latency_ms: The least time of a run; None where it was not timed. Those of the last
            comparison are from there, the others from that of their stage.
        dispersion_ms: How well that repeats (`Timing.dispersion_ms`).
        speedup: Latency of the default file in the same rounds over its own.
        relative_error: How far its logits are from torch's: of an exact variant the largest
            difference over the largest logit, of another the root mean square of the difference
            over the deviation.
        top1_agreement: Share of the compared images with the class that torch predicts.
        accuracy: On the search-validation images that were judged; of an exact variant that of
            the fp32 network. None where no accuracy was needed.
        accuracy_loss: Accuracy of the fp32 network on the same images, minus its own.
        accuracy_loss_error: Standard error of that paired difference.
        is_final: Whether it was in the last comparison.
    """

    variant: Variant
    stage: str
    change: str
    status: str
    latency_ms: float | None = None
    dispersion_ms: float | None = None
    speedup: float | None = None
    relative_error: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    accuracy_loss: float | None = None
    accuracy_loss_error: float | None = None
    is_final: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything by name, JSON-ready."""
        values = {name: getattr(self, name) for name in Tried.__slots__}
        values["variant"] = self.variant.to_json()
        return {name: _finite(value) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen file and how it was chosen.

    Attributes:
        chosen: The variant of the file.
        default: What would have been taken without any selection.
        tried: All variants, the default first, in the order in which they were tried.
        data: The chosen file.
        is_timed: Whether a runner timed the files; otherwise the choice is what the target's
            profile suggests, and is labelled "not timed".
        device: What timed them.
        threads: Those of the target.
        largest_loss: The accuracy that the fp32 network may lose.
        keeps_bound: Whether the chosen file keeps that; False where none that was allowed does,
            and then the chosen one loses the least. None where no accuracy was judged.
        statement: The outcome in one sentence.
        noise: What repeating the last comparison changes, relative; gains below it are none.
        validation_images: Images on which inexact variants were judged; 0 where none were.
        seconds: How long it took.
        limit_s: How long it was allowed to take.
        notes: What was not tried and why, and what else one must know.
        timing: Raw timings of the chosen file in the last comparison.
        default_timing: Those of the default file beside it.
        preprocessing: What all the files did to their images first; None where they took tensors.
    """

    chosen: Tried
    default: Tried
    tried: tuple[Tried, ...]
    data: bytes
    is_timed: bool
    device: str
    threads: int
    largest_loss: float
    keeps_bound: bool | None
    statement: str
    noise: float
    validation_images: int
    seconds: float
    limit_s: float
    notes: tuple[str, ...] = ()
    timing: Timing | None = None
    default_timing: Timing | None = None
    preprocessing: Preprocessing | None = None

    @property
    def gain(self) -> float:
        """How many times as fast as the default file the chosen one is; 1 where not timed."""
        return 1.0 if self.chosen.speedup is None else self.chosen.speedup

    def to_json(self) -> dict[str, Any]:
        """Everything but the file and the raw timings, JSON-ready."""
        settings = self.chosen.variant.settings
        return {
            "format": FORMAT,
            "label": "timed" if self.is_timed else "not timed",
            "statement": self.statement,
            "chosen": self.chosen.to_json(),
            "default": self.default.to_json(),
            "gain": self.gain,
            "noise": _finite(self.noise),
            "is_timed": self.is_timed,
            "device": self.device,
            "provider": provider_record(
                settings.provider,
                settings.provider_options,
                settings.threads_of(self.threads),
                was_run=self.is_timed,
            ),
            "largest_loss": self.largest_loss,
            "keeps_bound": self.keeps_bound,
            "validation_images": self.validation_images,
            "seconds": self.seconds,
            "limit_s": self.limit_s,
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_json(),
            "notes": list(self.notes),
            "tried": [one.to_json() for one in self.tried],
        }


def _finite(value: Any) -> Any:
    """The value, or None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
