"""The stages of one selection: forms, numbers, chunks, settings, and the last comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from deployment.emission.form_choices import choices_of
from deployment.emission.forms import Forms
from deployment.numerics import Numerics
from deployment.quantisation.block_errors import block_errors
from deployment.selection.candidates import (
    INT8,
    OUTSIDE,
    changed_forms,
    changed_settings,
    chunks_of,
    joined_settings,
    together,
)
from deployment.selection.pool import Pool
from deployment.selection.timing import FINAL_ROUNDS, LEAST_NOISE, LONG_MS, Bench, Candidate
from deployment.variant import Variant
from supernet import Subnet

FINALISTS = 3
"""Variants that are timed once more beside the default."""

SENSITIVITY_IMAGES = 64
"""Images on which the error of each block is found."""

STATIC_RUNS = 3.0
"""Runs that finding the scales takes for each calibration image, for planning."""

FILE_S = 0.2
"""Seconds that making an int8 file takes beside that, for planning."""


@dataclass(slots=True, kw_only=True)
class Stages:
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
        exact_alone: Whether forms that do not compute what torch does are left out.
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
    exact_alone: bool = False
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self) -> None:
        """All of them, in order."""
        self.bench.begin()
        timing = self.pool.default.timing
        assert timing is not None
        self.say(f"default: {timing.latency_ms:.4g} ms")
        self.choices = choices_of(self.subnet)
        is_long = timing.latency_ms > LONG_MS  # then chunks matter most, and time is short
        if is_long:
            self.chunks()
        self.forms(self.pool.fastest() if is_long else self.pool.default)
        self.numbers()
        if "mixed" in self.numerics:
            self.mixed()
        if not is_long:
            self.chunks()
        self.settings()
        self.last()

    def forms(self, usual: Candidate) -> None:
        """One form at a time in the place of those of a candidate, then what gained together."""
        base = usual.variant
        alone: list[Candidate] = []
        for forms in changed_forms(base.forms, self.choices, self.provider):
            if self.exact_alone and not forms.is_exact:
                continue
            alone += self.pool.add(replace(base, forms=forms), "forms")
        self.bench.time(alone)
        gained = self.pool.gained(alone, self.bench, usual.rate)
        gains = [(one.variant.forms, one.rate) for one in gained]
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

    def chunks(self) -> None:
        """The best file with its batch in chunks."""
        best = self.pool.fastest().variant
        found: list[Candidate] = []
        for chunk in chunks_of(self.pool.judge.batch_size, self.provider):
            found += self.pool.add(replace(best, chunk=chunk), "chunks", FILE_S)
        if found:
            self.bench.time(found)
            self._report("chunks")

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
