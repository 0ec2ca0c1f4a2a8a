"""What is tried: forms one at a time and together, numbers, ways to open a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from deployment.emission.forms import DEFAULT, Forms
from deployment.numerics import Numerics
from deployment.providers import provider, takers
from deployment.session_settings import OPTIMISATION, SessionSettings
from deployment.variant import Variant
from hardware_profiles import Target
from records import BadInputError, unknown_name

NUMERICS = ("fp32", "dynamic", "static", "fp16", "mixed")
"""What may be allowed; "mixed" is an int8 way with some blocks in fp32."""

INT8 = ("dynamic", "static")
"""The ways to compute that are int8."""

OUTSIDE = ("multi_head", "opset23", "plain")
"""Forms of attention whose projections are linear maps of their own, which int8 reaches."""

_PROVIDERS = {
    "tensorrt": "tensorrt",
    "coreml": "coreml",
    "openvino": "openvino",
    "qnn": "qnn",
    "nnapi": "nnapi",
    "xnnpack": "xnnpack",
    "cuda": "cuda",
}
"""Runtimes of a target that name a provider."""


def provider_of(target: Target) -> str:
    """The provider that a target's runtime stands for: the processor's unless it is a GPU's."""
    if target.runtime in _PROVIDERS:
        return _PROVIDERS[target.runtime]
    is_nvidia = target.profile.kind.endswith("gpu") and target.profile.vendor == "NVIDIA"
    return "cuda" if is_nvidia else "cpu"


def allowed_numerics(
    target: Target, provider_name: str, asked: Sequence[str] | None, *, can_judge: bool
) -> tuple[str, ...]:
    """The numbers that may be tried for a target.

    A target in int8 takes int8 alone, one in fp16 fp16 and fp32. One in fp32 takes everything
    that its provider does where the loss of accuracy can be judged, and fp32 alone where not.

    Args:
        target: Decides by its precision.
        provider_name: Decides by what it takes.
        asked: What the user allows; None for what is right for the target.
        can_judge: Whether there are search-validation images.

    Raises:
        UnknownNameError: No such numbers.
        BadInputError: Some of those asked for are not the provider's, none of them can be, or
            int8 or fp16 in fp32's place and no images to judge it on.
    """
    taken = provider(provider_name).ways
    mixed = ("mixed",) if "dynamic" in taken or "static" in taken else ()
    if target.precision == "int8":
        possible: tuple[str, ...] = tuple(w for w in ("dynamic", "static") if w in taken)
        also = mixed
    elif target.precision in ("fp16", "bf16"):
        possible, also = tuple(w for w in ("fp16", "fp32") if w in taken), ()
    else:
        possible, also = tuple(w for w in NUMERICS if w in (*taken, *mixed)), ()
    if asked is None:
        return possible if can_judge or target.precision != "fp32" else ("fp32",)
    for name in asked:
        if name not in NUMERICS:
            raise unknown_name("numbers", name, NUMERICS)
        if name not in (*taken, *mixed):
            raise BadInputError(
                f"provider {provider_name!r} takes no files in {name}; it takes "
                f"{', '.join((*taken, *mixed))}"
                + ("" if name == "mixed" else f", and {name} is taken by: {takers(name)}")
            )
    found = tuple(name for name in (*possible, *also) if name in asked)
    if not set(found) - {"mixed"}:
        raise BadInputError(
            f"{target.name!r} with provider {provider_name!r} can be in "
            f"{', '.join((*possible, *also)) or 'nothing'}, numerics allows {', '.join(asked)}"
        )
    if target.precision == "fp32" and set(found) != {"fp32"} and not can_judge:
        raise BadInputError(
            f"{', '.join(sorted(set(found) - {'fp32'}))} changes accuracy: pass validation=, "
            "search-validation images to judge it on, or allow fp32 alone"
        )
    return found


def default_variant(
    target: Target, provider_name: str, numerics: Sequence[str], *, has_images: bool
) -> Variant:
    """What is taken without selecting: the usual forms and settings.

    Numbers are those of the target: fp32; static int8 where there are images for its scales and
    dynamic where not; fp16 where that is the target's precision.
    """
    if target.precision == "int8":
        first = ("static", "dynamic") if has_images else ("dynamic",)
        ways = [way for way in first if way in numerics]
        if not ways:
            raise BadInputError(
                f"{target.name!r} can only have static int8, whose scales come from training "
                "images: pass calibration_images"
            )
        way = ways[0]
    else:
        way = next(w for w in ("fp16", "fp32", "dynamic", "static") if w in numerics
                   and (w != "fp16" or target.precision == "fp16"))  # fmt: skip
    forms = DEFAULT
    if not provider(provider_name).runtime_operators:
        forms = replace(DEFAULT, attention="plain")  # onnxruntime's own operators are refused
    return Variant(
        forms=forms,
        numerics=Numerics(way=way),
        settings=SessionSettings(provider=provider_name),
    )


def changed_forms(base: Forms, choices: Mapping[str, Sequence[str]], name: str) -> list[Forms]:
    """Forms that differ from others in one part alone, in each way that the provider knows.

    Args:
        base: What they differ from.
        choices: For each part the forms that make another file of this network.
        name: The provider.
    """
    own = provider(name).runtime_operators
    found = []
    for part, forms in choices.items():
        for form in forms:
            is_own = part == "attention" and form in ("packed", "multi_head")
            if form != getattr(base, part) and (own or not is_own):
                found.append(replace(base, **{part: form}))
    return found


def together(base: Forms, gains: Sequence[tuple[Forms, float]]) -> list[Forms]:
    """What gained alone, put together: the best two, the best three, and so on.

    Args:
        base: What each of them differs from in one part.
        gains: Each with its speed-up. Of two for the same part the better one counts.
    """
    changes: dict[str, str] = {}
    found: list[Forms] = []
    for forms, _ in sorted(gains, key=lambda pair: -pair[1]):
        for part, form in asdict(forms).items():
            if form != getattr(base, part) and part not in changes:
                changes[part] = form
                found.append(replace(base, **changes))
    return found[1:]


def changed_settings(base: SessionSettings, threads: int) -> list[SessionSettings]:
    """Settings that differ from others in one part alone.

    On the processor: the level of optimisation, fewer threads than the target allows, spinning
    (where there is more than one thread to spin), no arena, no memory pattern. On other providers
    the level alone: the rest is the processor's.
    """
    found = [replace(base, optimisation=o) for o in reversed(OPTIMISATION)]
    if base.provider == "cpu":
        count = 1
        while count < threads:
            found.append(replace(base, threads=count))
            count *= 2
        if threads > 1:
            found.append(replace(base, spinning=True))
        found += [replace(base, arena=False), replace(base, memory_pattern=False)]
    return [settings for settings in found if settings != base]


def chunks_of(batch_size: int, provider_name: str) -> list[int]:
    """How many images a file may take at a time: an eighth, a quarter and a half of its batch.

    On the processor alone, whose caches are what it is for; and with one divisor at least, the
    single image, where the batch is odd.
    """
    if provider_name != "cpu" or batch_size == 1:
        return []
    parts = [batch_size // k for k in (8, 4, 2) if batch_size % k == 0]
    return parts or [1]


def joined_settings(
    base: SessionSettings, gains: Sequence[tuple[SessionSettings, float]]
) -> SessionSettings:
    """All settings that gained alone, together; of two for the same part the better one."""
    changes: dict[str, Any] = {}
    for settings, _ in sorted(gains, key=lambda pair: -pair[1]):
        for part, value in _parts(settings).items():
            if value != _parts(base)[part]:
                changes.setdefault(part, value)
    return replace(base, **changes)


def _parts(settings: SessionSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in SessionSettings.__slots__}


def described(variant: Variant, default: Variant) -> str:
    """What differs from the default, in words; "default" for nothing."""
    parts = [
        f"{part} {form}"
        for part, form in asdict(variant.forms).items()
        if form != getattr(default.forms, part)
    ]
    if variant.numerics != default.numerics:
        parts.append(variant.numerics.name)
    if variant.chunk is not None:
        parts.append(f"{variant.chunk} image{'s' * (variant.chunk != 1)} at a time")
    own, usual = _parts(variant.settings), _parts(default.settings)
    parts += [_setting(name, value) for name, value in own.items() if value != usual[name]]
    return ", ".join(parts) or "default"


def _setting(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name.replace("_", " ") if value else f"no {name.replace('_', ' ')}"
    if name == "threads":
        return f"{value} thread{'s' * (value != 1)}"
    return f"{name} {value}"
