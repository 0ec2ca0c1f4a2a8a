"""The file for a target that no runner reaches: what its profile suggests, and why.

Nothing here was timed, so it is a rule of thumb from where files of these networks ran fast, and
it says so. Which lowering is fastest reverses between machines: with a runner, time it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deployment.numerics import Numerics
from deployment.selection.candidates import default_variant, provider_of
from deployment.variant import Variant
from hardware_profiles import Target
from hardware_profiles.profile import CPU_KINDS

INTEGER_SETS = (
    "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm",
)  # fmt: skip
"""Instructions that multiply bytes into wider sums: with one of them static int8 is fast."""


def suggested_variant(
    target: Target, numerics: Sequence[str], *, has_images: bool, provider_name: str = ""
) -> tuple[Variant, str]:
    """A variant for a target that is not timed, and the reason.

    An fp32 target stays in fp32, because int8 is slower than fp32 on many processors. An int8
    target gets static int8 where its instruction sets or its kind make that fast, and dynamic
    int8 on other processors. One in fp16 gets that where its provider takes it.

    Args:
        target: The device and how it is used.
        numerics: The numbers that are allowed (`selection_candidates.allowed_numerics`).
        has_images: Whether there are images for the scales of static int8.
        provider_name: Where it runs; what the target's runtime stands for unless told.
    """
    name = provider_name or provider_of(target)
    variant = default_variant(target, name, numerics, has_images=has_images)
    if target.precision != "int8":
        if variant.numerics.way == "fp16":
            return variant, f"provider {name!r} has kernels for fp16"
        return variant, "the usual forms in fp32: whether int8 is faster there was not timed"
    fast = [one for one in INTEGER_SETS if one in target.profile.instruction_sets]
    is_cpu = target.profile.kind in CPU_KINDS and name == "cpu"
    if variant.numerics.way == "static" and is_cpu and not fast and "dynamic" in numerics:
        variant = replace(variant, numerics=Numerics(way="dynamic"))
        return variant, (
            "dynamic int8: the profile names no instructions for sums of bytes, without which "
            "static int8 is slow"
        )
    if variant.numerics.way == "dynamic":
        why = "no calibration images for static int8" if not has_images else "as allowed"
        return variant, f"dynamic int8: {why}"
    if fast:
        return variant, f"static int8: the profile has {', '.join(fast)}"
    return variant, f"static int8: a {target.profile.kind} runs files with fixed scales"
