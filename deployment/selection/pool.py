"""The variants that are tried: their files, what is known of them, which is the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deployment.numerics import Numerics
from deployment.proofs.verify import VerificationError
from deployment.selection.candidates import described
from deployment.selection.checks import Check, Judge
from deployment.selection.timing import (
    LEAST_NOISE,
    NO_TIME,
    Bench,
    Budget,
    Candidate,
    clock,
    in_short,
)
from deployment.variant import Variant
from deployment.variant_files import VariantFiles
from records import HwnasError

NOT_JUDGED = "not judged: no time left"

JUDGING_SHARE = 0.1
"""Share of the time that judging the accuracy of one variant may take."""

CHECKING_SHARE = 0.02
"""Share of the time that comparing an exact variant with torch may take before it is timed; above
it only what gained is compared."""


class Pool:
    """Makes, checks and ranks candidates.

    Args:
        files: Makes the files.
        judge: Tells what may be chosen.
        budget: The time that there is.
        default: What everything is compared with.
    """

    def __init__(
        self, files: VariantFiles, judge: Judge, budget: Budget, default: Candidate
    ) -> None:
        self.files = files
        self.judge = judge
        self.budget = budget
        self.default = default
        self.candidates = [default]
        self.image_s = 0.0
        """Seconds that an image takes in torch and as a file on this machine, about."""
        self.check_s = 0.0
        """Seconds that comparing an exact file with torch takes."""
        self._exact: dict[bytes, Check] = {}
        self._inexact: dict[tuple[bytes, str], Check] = {}

    def begin(self) -> str:
        """Makes the default file, and proves that the network is written right in fp32.

        Returns:
            What is wrong with the default's provider; "" for nothing.

        Raises:
            VerificationError: The fp32 file does not compute what torch does.
        """
        variant = self.default.variant
        fp32 = self.files.data(replace(variant, numerics=Numerics()))
        began = clock()
        check = self.judge.exact(fp32)
        if not check.is_kept:
            raise VerificationError(f"the fp32 file cannot be used, {check.reason}")
        self.check_s = max(clock() - began, 1e-6)
        self.image_s = self.check_s / (self.judge.compared + 3 * self.judge.batch_size)
        self.judge.take_images(int(JUDGING_SHARE * self.budget.seconds / self.image_s))
        self._exact[fp32] = check
        self.default.data = self.files.data(variant)
        if variant.settings.provider == "cpu":
            return ""
        return self.judge.same_answers(fp32, variant.settings).reason

    def add(self, variant: Variant, stage: str, cost_s: float = 0.0) -> list[Candidate]:
        """A new candidate with its file, checked if that is cheap; nothing if it is there already.

        Args:
            variant: The variant.
            stage: Where it came up.
            cost_s: Seconds that making its file takes, about.
        """
        one = Candidate(variant, stage, described(variant, self.default.variant))
        if self.budget.left_to_try <= cost_s:
            one.obstacle = NO_TIME
        else:
            try:
                one.data = self.files.data(variant)
            except HwnasError as error:
                one.obstacle = f"refused: {in_short(error)}"
        if any(_is_same(one, other) for other in self.candidates):
            return []
        self.candidates.append(one)
        is_cheap = self.check_s < CHECKING_SHARE * self.budget.seconds and stage != "settings"
        if variant.is_exact and one.is_open and is_cheap:
            self.may_take(one)
        return [one]

    def may_take(self, one: Candidate) -> bool:
        """Whether a candidate may be chosen; its accuracy is judged here, once, if it must be."""
        if one.obstacle:
            return False
        if one.check is None:
            one.check = self._exact_check(one) if one.variant.is_exact else self._judged(one)
        return one.check is not None and one.check.is_kept

    def fastest(self) -> Candidate:
        """The fastest candidate that may be chosen; the default where none may.

        Of those that no repetition tells from it the one that changes least. Accuracy is judged
        from the fastest on, so of what is slower than one that may be chosen none is.
        """
        is_usual = self.may_take(self.default)
        for one in self.by_speed():
            is_gain = not is_usual or one.rate > 1 + LEAST_NOISE
            if is_gain and self.may_take(one):
                return self.simplest([c for c in self.by_speed() if c.is_kept], one.rate)
        return self.default

    def simplest(self, found: Sequence[Candidate], rate: float) -> Candidate:
        """Of those that no repetition tells from a rate, the one that changes least."""
        fast = [one for one in found if one.rate >= rate / (1 + LEAST_NOISE)]
        return min(fast, key=lambda one: (one.change.count(","), -one.rate))

    def by_speed(self) -> Sequence[Candidate]:
        """All that were timed, the fastest first, the default before its equals."""
        timed = [one for one in self.candidates if one.timing is not None]
        return sorted(timed, key=lambda one: (-one.rate, one is not self.default))

    def gained(self, found: Sequence[Candidate], bench: Bench, over: float = 1.0
               ) -> list[Candidate]:  # fmt: skip
        """Those that are faster than some rate by more than the noise, theirs included."""
        return [
            one
            for one in found
            if one.is_open and one.rate > max(over, 1.0) * (1 + max(bench.noise, one.noise))
        ]

    def _exact_check(self, one: Candidate) -> Check:
        if one.data not in self._exact:
            self._exact[one.data] = self.judge.exact(one.data)
        check = self._exact[one.data]
        settings = one.variant.settings
        if not check.is_kept or settings == self.default.variant.settings:
            return check
        opened = self.judge.same_answers(one.data, settings)
        return check if opened.is_kept else opened

    def _judged(self, one: Candidate) -> Check | None:
        """The accuracy of a file; None where there is no time to find it."""
        settings = one.variant.settings
        key = (one.data, settings.optimisation)  # what else may differ changes no arithmetic
        if key not in self._inexact:
            if one is not self.default and self.judge.images * self.image_s > self.budget.left:
                one.obstacle = NOT_JUDGED
                return None
            self._inexact[key] = self.judge.inexact(one.data, settings)
        return self._inexact[key]


def _is_same(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates are one: the same variant, or the same file opened alike."""
    if other.variant == one.variant:
        return True
    is_open_alike = other.variant.settings == one.variant.settings
    return bool(one.data) and other.data == one.data and is_open_alike
