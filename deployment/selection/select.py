"""Selecting kernels: the fastest file for a target that keeps the accuracy, found by timing.

Which lowering of a network is fastest reverses between machines, sizes and versions of the
runtime, so it is measured on the target, in stages:

1. *forms* (`deployment.emission.forms`), one at a time, then what gained put together;
2. *numerics* on the best of them: dynamic and static int8, fp16 where the provider has it, and,
   where an int8 file is faster and loses too much, that one with its most sensitive blocks in
   fp32;
3. *chunks*: the best of these with a batch of several images a few at a time; of files that take
   long this comes first, since it is where most is to be gained then;
4. *settings* of the session on the best of these, one at a time, then together;
5. the best three and the default once more, in more rounds: what gained by chance loses it here.

Every timing has the default file in its rounds, and what counts is the ratio to it. A variant may
be chosen only if `deployment.selection.checks` lets it; accuracy is judged only where a variant is
fast enough to matter. The default stays where the gain is within the noise, so the choice is never
slower than it by more than that.

With a preprocessing every file has it inside, from the first timing on: that is what is deployed,
and what is timed and judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from deployment.emission.preprocessing import Preprocessing
from deployment.numerics import Numerics
from deployment.runners.runner import Runner
from deployment.selection.candidates import (
    INT8,
    allowed_numerics,
    default_variant,
    provider_of,
)
from deployment.selection.checks import Judge
from deployment.selection.pool import Pool
from deployment.selection.results import Selection
from deployment.selection.stages import Stages
from deployment.selection.suggestion import suggested_variant
from deployment.selection.timing import Bench, Budget, Candidate
from deployment.selection.verdict import verdict
from deployment.variant import Variant
from deployment.variant_files import VariantFiles
from hardware_profiles import Target
from records import BadInputError
from supernet import Split, Subnet

EXACT_ALONE = (
    "exact forms in fp32 alone: without validation images the accuracy of others, of int8 and of "
    "fp16 cannot be judged"
)
"""The note on a selection for an fp32 target that has no images to judge accuracy on."""


def select_kernels(
    subnet: Subnet,
    target: Target,
    *,
    runner: Runner | None,
    validation: Split | None,
    calibration_images: torch.Tensor | None,
    largest_loss: float = 0.005,
    seconds: float = 60.0,
    seed: int = 0,
    numerics: Sequence[str] | None = None,
    on_step: Callable[[str], None] | None = None,
    provider: str | None = None,
    quantisation: str | None = None,
    fp32_blocks: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> Selection:
    """The fastest file of a network for a target that keeps the accuracy.

    Args:
        subnet: The network in eval mode.
        target: The device and how it is used.
        runner: Times files there. Without one nothing is timed: the file is what the target's
            profile suggests, and the selection says so (`is_timed`).
        validation: Search-validation images, to judge the accuracy of what does not compute what
            torch does. Without them a target in fp32 gets exact files alone, and the notes say so.
        calibration_images: Training images that set the scales of static int8, at least a batch;
            without them static int8 is not tried.
        largest_loss: The accuracy that may be lost against fp32, as a share: 0.005 is half a
            point. Where no lowering that is allowed keeps it (int8 alone for an int8 target), the
            one that loses least is chosen and the selection says so (`keeps_bound`).
        seconds: How long it may take. The default file is made and timed in any case; what there
            was no time for is said. A step that takes longer than foreseen may overrun it a bit.
        seed: Derives inputs, orders, and which images are judged on.
        numerics: Which numbers are allowed, of `deployment.selection.candidates.NUMERICS`. None
            for what is right for the target: int8 alone where its precision is that; for fp32
            everything that the provider takes where there are validation images ("fp32",
            "dynamic", "static" and "mixed" of the processor's, "fp32" and "fp16" of NVIDIA's), and
            "fp32" where there are none.
        on_step: Called with a sentence after each step.
        provider: Short name of the execution provider; what the target's runtime stands for
            unless told.
        quantisation: How the default file of an int8 target is made, "dynamic" or "static".
        fp32_blocks: Blocks that every int8 file leaves in fp32, as a search chose them.
        preprocessing: What the files do to their images first, so that they take pixels; None
            for files that take what the network takes. Other images are still given as the
            network sees them, normalised.

    Raises:
        UnknownNameError: Numbers or a provider that do not exist.
        BadInputError: Numbers that the target or the provider does not take, int8 for a target
            in fp32 without validation images, a loss that is no share, no seconds, a
            preprocessing for other channels or one that resizes.
        VerificationError: The fp32 file does not compute what torch does.
        ProviderError: The provider is not where the files are timed.
    """
    if not 0 <= largest_loss <= 1:
        raise BadInputError(f"largest_loss must be a share from 0 to 1, got {largest_loss!r}")
    if not seconds > 0:
        raise BadInputError(f"seconds must be positive, got {seconds!r}")
    budget, threads = Budget(seconds), target.threads if target.is_local else 1
    start = _start(
        target, provider or provider_of(target), validation, numerics, quantisation, fp32_blocks,
        has_images=calibration_images is not None, is_timed=runner is not None,
    )  # fmt: skip
    notes = [*start.notes]
    judge = Judge(
        subnet, start.validation, calibration_images, batch_size=target.batch_size,
        largest_loss=largest_loss, threads=threads, seed=seed, preprocessing=preprocessing,
    )  # fmt: skip
    files = VariantFiles(
        subnet, target.batch_size, calibration_images=calibration_images, threads=threads,
        preprocessing=preprocessing,
    )  # fmt: skip
    default = Candidate(start.variant, "default", "default")
    pool = Pool(files, judge, budget, default)
    wrong = pool.begin()
    notes += [f"provider {start.provider!r}: {wrong}"] if wrong else []
    if runner is None:
        pool.may_take(default)
        return verdict(pool, device="", threads=target.threads, noise=math.nan, notes=notes)
    bench = Bench(runner, target.threads, budget, default, seed)
    stages = Stages(
        subnet=subnet, threads=target.threads, provider=start.provider, numerics=start.numerics,
        images=calibration_images, fp32_blocks=tuple(fp32_blocks), pool=pool, bench=bench,
        notes=notes, say=on_step or (lambda text: None), exact_alone=start.exact_alone,
    )  # fmt: skip
    stages.run()
    return verdict(
        pool, device=runner.name, threads=target.threads, noise=bench.noise, notes=notes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What a selection begins with.

    Attributes:
        provider: Short name of the execution provider.
        numerics: The numbers that are allowed.
        variant: The default.
        validation: The images that accuracy is judged on; None where there are none to judge on.
        exact_alone: Whether nothing may be tried but what computes what torch does.
        notes: What is not tried and why, and the reason of a suggestion.
    """

    provider: str
    numerics: tuple[str, ...]
    variant: Variant
    validation: Split | None
    exact_alone: bool
    notes: tuple[str, ...]


def _start(
    target: Target,
    provider: str,
    validation: Split | None,
    numerics: Sequence[str] | None,
    quantisation: str | None,
    fp32_blocks: Sequence[str],
    *,
    has_images: bool,
    is_timed: bool,
) -> _Start:
    """What may be tried for a target, and what with nothing tried is taken."""
    notes: list[str] = []
    validation = _usable(validation, target.batch_size, notes)
    allowed = allowed_numerics(target, provider, numerics, can_judge=validation is not None)
    exact_alone = validation is None and target.precision == "fp32"
    if exact_alone:
        notes.append(EXACT_ALONE)
    if target.precision == "fp16" and numerics is None and "fp16" not in allowed:
        notes.append(f"fp16 was not tried: provider {provider!r} takes no files in fp16")
    variant, reason = _usual(
        target, provider, allowed, quantisation, fp32_blocks,
        has_images=has_images, is_timed=is_timed,
    )  # fmt: skip
    return _Start(
        provider=provider,
        numerics=allowed,
        variant=variant,
        validation=validation,
        exact_alone=exact_alone,
        notes=(*notes, *([reason] if reason else [])),
    )


def _usable(validation: Split | None, batch_size: int, notes: list[str]) -> Split | None:
    """The validation split, unless it does not fill a batch."""
    if validation is None or len(validation) >= batch_size:
        return validation
    notes.append(
        f"no accuracy is judged: {len(validation)} validation images do not fill a batch of "
        f"{batch_size}"
    )
    return None


def _usual(
    target: Target,
    provider: str,
    numerics: Sequence[str],
    quantisation: str | None,
    fp32_blocks: Sequence[str],
    *,
    has_images: bool,
    is_timed: bool,
) -> tuple[Variant, str]:
    """What is taken without timing, and why where it is a suggestion."""
    if quantisation in numerics and target.precision == "int8":
        numerics = (str(quantisation),)
    if is_timed:
        variant, reason = default_variant(target, provider, numerics, has_images=has_images), ""
    else:
        variant, reason = suggested_variant(
            target, numerics, has_images=has_images, provider_name=provider
        )
    way = variant.numerics.way
    kept = tuple(fp32_blocks) if way in INT8 else ()
    return replace(variant, numerics=Numerics(way=way, fp32_blocks=kept)), reason
