"""Selecting kernels: the fastest file for a target that keeps the accuracy, found by timing.

Which lowering of a network is fastest reverses between machines, sizes and versions of the
runtime, so it is measured on the target, in stages:

1. *forms* (`deployment.emission.forms`), one at a time, then what gained put together;
2. *numerics* on the best of them: dynamic and static int8, fp16 where the provider has it, and,
   where an int8 file is faster and loses too much, that one with its most sensitive blocks in
   fp32;
3. *settings* of the session on the best of these, one at a time, then together;
4. the best three and the default once more, in more rounds: what gained by chance loses it here.

Every timing has the default file in its rounds, and what counts is the ratio to it. A variant may
be chosen only if `deployment.selection.checks` lets it; accuracy is judged only where a variant is
fast enough to matter. The default stays where the gain is within the noise, so the choice is never
slower than it by more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from deployment.emission.form_choices import choices_of
from deployment.emission.forms import Forms
from deployment.numerics import Numerics
from deployment.quantisation.block_errors import block_errors
from deployment.runners.runner import Runner
from deployment.selection.candidates import (
    INT8,
    OUTSIDE,
    allowed_numerics,
    changed_forms,
    changed_settings,
    default_variant,
    joined_settings,
    provider_of,
    together,
)
from deployment.selection.checks import Judge
from deployment.selection.pool import Pool
from deployment.selection.results import Selection
from deployment.selection.suggestion import suggested_variant
from deployment.selection.timing import FINAL_ROUNDS, LEAST_NOISE, Bench, Budget, Candidate
from deployment.selection.verdict import verdict
from deployment.variant import Variant
from deployment.variant_files import VariantFiles
from hardware_profiles import Target
from records import BadInputError
from supernet import Split, Subnet

FINALISTS = 3
"""Variants that are timed once more beside the default."""

SENSITIVITY_IMAGES = 64
"""Images on which the error of each block is found."""

STATIC_RUNS = 3.0
"""Runs that finding the scales takes for each calibration image, for planning."""

FILE_S = 0.2
"""Seconds that making an int8 file takes beside that, for planning."""


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
) -> Selection:
    """The fastest file of a network for a target that keeps the accuracy.

    Args:
        subnet: The network in eval mode.
        target: The device and how it is used.
        runner: Times files there. Without one nothing is timed: the file is what the target's
            profile suggests, and the selection says so (`is_timed`).
        validation: Search-validation images, to judge the accuracy of what does not compute what
            torch does. Without them a target in fp32 gets exact files alone.
        calibration_images: Training images that set the scales of static int8, at least a batch;
            without them static int8 is not tried.
        largest_loss: The accuracy that may be lost against fp32, as a share: 0.005 is half a
            point. Where no lowering that is allowed keeps it (int8 alone for an int8 target), the
            one that loses least is chosen and the selection says so (`keeps_bound`).
        seconds: How long it may take. The default file is made and timed in any case; what there
            was no time for is said. A step that takes longer than foreseen may overrun it a bit.
        seed: Derives inputs, orders, and which images are judged on.
        numerics: Which numbers are allowed, of `selection_candidates.NUMERICS`. None for what is
            right for the target: int8 alone where its precision is that; for fp32 everything
            ("fp32", "dynamic", "static", "mixed") where there are validation images, and "fp32"
            where there are none.
        on_step: Called with a sentence after each step.
        provider: Short name of the execution provider; what the target's runtime stands for
            unless told.
        quantisation: How the default file of an int8 target is made, "dynamic" or "static".
        fp32_blocks: Blocks that every int8 file leaves in fp32, as a search chose them.

    Raises:
        UnknownNameError: Numbers or a provider that do not exist.
        BadInputError: Numbers that the target or the provider does not take, int8 for a target
            in fp32 without validation images, a loss that is no share, no seconds.
        VerificationError: The fp32 file does not compute what torch does.
        ProviderError: The provider is not where the files are timed.
    """
    if not 0 <= largest_loss <= 1:
        raise BadInputError(f"largest_loss must be a share from 0 to 1, got {largest_loss!r}")
    if not seconds > 0:
        raise BadInputError(f"seconds must be positive, got {seconds!r}")
    budget = Budget(seconds)
    notes: list[str] = []
    validation = _usable(validation, target.batch_size, notes)
    name = provider or provider_of(target)
    allowed = allowed_numerics(target, name, numerics, can_judge=validation is not None)
    variant, reason = _usual(
        target, name, allowed, quantisation, fp32_blocks,
        has_images=calibration_images is not None, is_timed=runner is not None,
    )  # fmt: skip
    notes += [reason] if reason else []
    threads = target.threads if target.is_local else 1
    judge = Judge(
        subnet, validation, calibration_images, batch_size=target.batch_size,
        largest_loss=largest_loss, threads=threads, seed=seed,
    )  # fmt: skip
    files = VariantFiles(
        subnet, target.batch_size, calibration_images=calibration_images, threads=threads
    )
    default = Candidate(variant, "default", "default")
    pool = Pool(files, judge, budget, default)
    wrong = pool.begin()
    notes += [f"provider {name!r}: {wrong}"] if wrong else []
    if runner is None:
        pool.may_take(default)
        return verdict(pool, device="", threads=target.threads, noise=math.nan, notes=notes)
    bench = Bench(runner, target.threads, budget, default, seed)
    stages = _Stages(
        subnet=subnet, threads=target.threads, provider=name, numerics=allowed,
        images=calibration_images, fp32_blocks=tuple(fp32_blocks), pool=pool, bench=bench,
        notes=notes, say=on_step or (lambda text: None),
    )  # fmt: skip
    stages.run()
    return verdict(
        pool, device=runner.name, threads=target.threads, noise=bench.noise, notes=notes
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


@dataclass(slots=True, kw_only=True)
class _Stages:
    """The stages of one selection, each of which adds candidates to the pool and times them.

    Attributes:
        subnet: The network.
        threads: Those of the target.
        provider: Short name of the execution provider.
        numerics: The numbers that are allowed.
        images: Calibration images.
        fp32_blocks: Blocks that every int8 file leaves in fp32.
        pool: The candidates.
        bench: Times them.
        notes: What was not tried and why.
        say: Called with a sentence after each stage.
        choices: The forms that make another file of this network.
    """

    subnet: Subnet
    threads: int
    provider: str
    numerics: Sequence[str]
    images: torch.Tensor | None
    fp32_blocks: tuple[str, ...]
    pool: Pool
    bench: Bench
    notes: list[str]
    say: Callable[[str], None]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self) -> None:
        """All of them, in order."""
        self.bench.begin()
        timing = self.pool.default.timing
        assert timing is not None
        self.say(f"default: {timing.latency_ms:.4g} ms")
        self.choices = choices_of(self.subnet)
        self.forms()
        self.numbers()
        if "mixed" in self.numerics:
            self.mixed()
        self.settings()
        self.last()

    def forms(self) -> None:
        """One form at a time, then what gained together."""
        base = self.pool.default.variant
        alone: list[Candidate] = []
        for forms in changed_forms(base.forms, self.choices, self.provider):
            alone += self.pool.add(replace(base, forms=forms), "forms")
        self.bench.time(alone)
        gains = [(one.variant.forms, one.rate) for one in self.pool.gained(alone, self.bench)]
        joined: list[Candidate] = []
        for forms in together(base.forms, gains):
            joined += self.pool.add(replace(base, forms=forms), "forms")
        self.bench.time(joined)
        self._report("forms")

    def numbers(self) -> None:
        """Other numbers on the best forms."""
        best = self.pool.fastest().variant
        found: list[Candidate] = []
        for way in ("dynamic", "static", "fp16", "fp32"):
            if way not in self.numerics or not self._has_scales(way):
                continue
            for forms in self._forms_for(way, best.forms):
                variant = replace(best, forms=forms, numerics=self._numerics(way))
                found += self.pool.add(variant, "numerics", self._cost_s(way))
        self.bench.time(found)
        self._report("numerics")

    def mixed(self) -> None:
        """The fastest int8 file that loses too much, with one, two, four ... blocks in fp32."""
        least = self.pool.fastest().rate * (1 + self.bench.noise)
        lossy = [
            one.variant
            for one in self.pool.by_speed()
            if one.rate > least and one.check is not None and one.variant.numerics.way in INT8
        ]
        if not lossy:
            return
        variant = lossy[0]
        order = self._sensitive(variant)
        found: list[Candidate] = []
        counts = {2**k for k in range(len(order).bit_length())} | {len(order) - 1}
        for count in sorted(c for c in counts if 0 < c < len(order)):
            numerics = self._numerics(variant.numerics.way, order[:count])
            found += self.pool.add(replace(variant, numerics=numerics), "numerics", FILE_S)
        self.bench.time(found)
        self._report("numerics")

    def settings(self) -> None:
        """Other ways to open the best file, one at a time, then what gained together."""
        best = self.pool.fastest()
        base = best.variant.settings
        alone: list[Candidate] = []
        for settings in changed_settings(base, self.threads):
            alone += self.pool.add(replace(best.variant, settings=settings), "settings")
        self.bench.time([best, *alone])
        gained = self.pool.gained(alone, self.bench, best.rate)
        if len(gained) > 1:
            joined = joined_settings(base, [(one.variant.settings, one.rate) for one in gained])
            self.bench.time(self.pool.add(replace(best.variant, settings=joined), "settings"))
        self._report("settings")

    def last(self) -> None:
        """The best that may be chosen and the default, in more rounds."""
        must_leave = not self.pool.may_take(self.pool.default)
        finalists: list[Candidate] = []
        for one in self.pool.by_speed():
            is_gain = must_leave or one.rate > 1 + LEAST_NOISE
            is_wanted = is_gain and one is not self.pool.default
            if len(finalists) < FINALISTS and is_wanted and self.pool.may_take(one):
                finalists.append(one)
        self.bench.time(finalists, rounds=FINAL_ROUNDS, is_last=True)
        self.say(f"last comparison: {len(finalists)} files beside the default")

    # ---- what the stages share -----------------------------------------------------------------

    def _numerics(self, way: str, blocks: Sequence[str] = ()) -> Numerics:
        """Numbers of a way, with the blocks in fp32 that all int8 files leave there."""
        kept = (*self.fp32_blocks, *(b for b in blocks if b not in self.fp32_blocks))
        return Numerics(way=way, fp32_blocks=kept if way in INT8 else ())

    def _forms_for(self, way: str, best: Forms) -> list[Forms]:
        """The best forms, and for int8 those whose projections of attention it reaches."""
        if way not in INT8 or best.attention != "packed":
            return [best]
        outside = [form for form in OUTSIDE if form in self.choices["attention"]][:1]
        return [best, *(replace(best, attention=form) for form in outside)]

    def _has_scales(self, way: str) -> bool:
        if way != "static" or self.images is not None:
            return True
        self.notes.append("static int8 was not tried: no calibration images for its scales")
        return False

    def _cost_s(self, way: str) -> float:
        """Seconds that making a file takes, about."""
        if way != "static" or self.images is None:
            return FILE_S
        return FILE_S + STATIC_RUNS * len(self.images) * self.pool.image_s

    def _sensitive(self, variant: Variant) -> Sequence[str]:
        """The blocks by their error, the largest first; none where there is no time to find it."""
        way = variant.numerics.way
        validation = self.pool.judge.validation
        if validation is None:
            self.notes.append("mixed precision was not tried: no images to judge blocks on")
            return ()
        blocks = self.pool.files.quantiser(variant.forms, way).blocks
        takes_s = len(blocks) * (SENSITIVITY_IMAGES * self.pool.image_s + FILE_S)
        if takes_s + self._cost_s(way) > self.pool.budget.left_to_try:
            self.notes.append("mixed precision was not tried: no time left to judge every block")
            return ()
        scaling = self.images.numpy() if way == "static" and self.images is not None else None
        images = validation.images[:SENSITIVITY_IMAGES].numpy()
        return block_errors(
            self.subnet, mode=way, calibration_images=scaling, images=images,
            threads=self.pool.judge.threads,
        ).by_error  # fmt: skip

    def _report(self, stage: str) -> None:
        own = [one for one in self.pool.candidates if one.stage == stage]
        timed = [one.rate for one in own if one.timing is not None]
        text = f"{stage}: {len(timed)} of {len(own)} variants timed"
        self.say(text + (f", the fastest {max(timed):.3f}x the default" if timed else ""))
