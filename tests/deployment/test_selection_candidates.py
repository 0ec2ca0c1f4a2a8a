from dataclasses import replace

import pytest

from deployment.emission.forms import DEFAULT, Forms
from deployment.numerics import Numerics
from deployment.selection.candidates import (
    allowed_numerics,
    changed_forms,
    changed_settings,
    default_variant,
    described,
    joined_settings,
    provider_of,
    together,
)
from deployment.session_settings import SessionSettings
from deployment.variant import Variant
from hardware_profiles import Target, device
from records import BadInputError, UnknownNameError
from tests.deployment.doubles import PROFILE, TARGET, quantity

INT8_PROFILE = replace(PROFILE, peak_gflops={k: quantity(40.0) for k in ("fp32", "int8", "fp16")})
INT8 = Target(profile=INT8_PROFILE, precision="int8")
FP16 = Target(profile=INT8_PROFILE, precision="fp16")

CHOICES = {
    "attention": ("packed", "multi_head", "plain"), "gelu": ("exact", "tanh"),
    "mean": ("pool",), "linear": ("gemm", "matmul"), "norms": ("folded",),
}  # fmt: skip


def test_every_form_that_changes_the_network_is_tried_alone():
    found = changed_forms(DEFAULT, CHOICES, "cpu")
    assert found == [
        Forms(attention="multi_head"), Forms(attention="plain"), Forms(gelu="tanh"),
        Forms(linear="matmul"),
    ]  # fmt: skip
    base = Forms(attention="plain")
    assert Forms(attention="packed") in changed_forms(base, CHOICES, "cpu")
    elsewhere = changed_forms(base, CHOICES, "tensorrt")
    assert elsewhere == [replace(base, gelu="tanh"), replace(base, linear="matmul")]


def test_gains_are_put_together_from_the_largest_on():
    gains = [
        (Forms(linear="matmul"), 1.05), (Forms(attention="plain"), 1.02),
        (Forms(attention="multi_head"), 1.2), (Forms(gelu="tanh"), 1.1),
    ]  # fmt: skip
    assert together(DEFAULT, gains) == [
        Forms(attention="multi_head", gelu="tanh"),
        Forms(attention="multi_head", gelu="tanh", linear="matmul"),
    ]
    assert together(DEFAULT, gains[:1]) == []  # alone it was tried already
    assert together(DEFAULT, gains[1:3]) == []


def test_settings_are_changed_one_at_a_time():
    base = SessionSettings()
    one = changed_settings(base, threads=1)
    assert [s.optimisation for s in one[:3]] == ["extended", "basic", "disabled"]
    assert one[3:] == [replace(base, arena=False), replace(base, memory_pattern=False)]
    four = changed_settings(base, threads=4)
    assert {s.threads for s in four} == {None, 1, 2}
    assert replace(base, spinning=True) in four
    three = {s.threads for s in changed_settings(base, threads=3)}
    assert three == {None, 1, 2}
    assert all(s != base for s in four)
    card = changed_settings(SessionSettings(provider="cuda"), threads=4)
    assert {(s.threads, s.spinning, s.arena) for s in card} == {(None, False, True)}


def test_settings_that_gained_are_joined():
    base = SessionSettings()
    gains = [
        (replace(base, threads=1), 1.1), (replace(base, threads=2), 1.2),
        (replace(base, arena=False), 1.05),
    ]  # fmt: skip
    assert joined_settings(base, gains) == replace(base, threads=2, arena=False)


@pytest.mark.parametrize(
    ("target", "provider", "asked", "can_judge", "wanted"),
    [
        (TARGET, "cpu", None, True, {"fp32", "dynamic", "static", "mixed"}),
        (TARGET, "cpu", None, False, {"fp32"}),
        (TARGET, "cpu", ("fp32", "dynamic"), True, {"fp32", "dynamic"}),
        (TARGET, "cuda", None, True, {"fp32", "fp16"}),
        (INT8, "cpu", None, True, {"dynamic", "static"}),
        (INT8, "cpu", None, False, {"dynamic", "static"}),
        (INT8, "cpu", ("static", "mixed"), True, {"static", "mixed"}),
        (INT8, "tensorrt", None, True, {"static"}),
        (FP16, "cuda", None, True, {"fp16", "fp32"}),
        (FP16, "cpu", None, False, {"fp32"}),
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_target_its_provider_and_the_user(
    target, provider, asked, can_judge, wanted
):
    found = allowed_numerics(target, provider, asked, can_judge=can_judge)
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("target", "asked", "can_judge", "error", "words"),
    [
        (TARGET, ("int8",), True, UnknownNameError, "numbers 'int8'"),
        (TARGET, ("fp16",), True, BadInputError, "'cpu' takes no files in fp16.*taken by: cuda"),
        (TARGET, ("fp32", "fp16"), True, BadInputError, "'cpu' takes no files in fp16"),
        (TARGET, ("fp32", "dynamic"), False, BadInputError, "dynamic changes accuracy"),
        (INT8, ("fp32",), True, BadInputError, "can be in dynamic, static, mixed"),
        (TARGET, ("mixed",), True, BadInputError, "numerics allows mixed"),
    ],
)
def test_numbers_that_cannot_be_are_refused(target, asked, can_judge, error, words):
    with pytest.raises(error, match=words):
        allowed_numerics(target, "cpu", asked, can_judge=can_judge)


def test_int8_of_a_provider_that_has_none_is_refused_by_name():
    for way in ("dynamic", "mixed"):
        with pytest.raises(BadInputError, match=f"'cuda' takes no files in {way}; it takes fp32"):
            allowed_numerics(TARGET, "cuda", ("fp32", way), can_judge=True)


@pytest.mark.parametrize(
    ("target", "provider", "numerics", "has_images", "way", "attention"),
    [
        (TARGET, "cpu", ("fp32", "dynamic"), False, "fp32", "packed"),
        (INT8, "cpu", ("dynamic", "static"), True, "static", "packed"),
        (INT8, "cpu", ("dynamic", "static"), False, "dynamic", "packed"),
        (INT8, "cpu", ("dynamic",), True, "dynamic", "packed"),
        (FP16, "cuda", ("fp16", "fp32"), False, "fp16", "packed"),
        (TARGET, "cuda", ("fp32", "fp16"), False, "fp32", "packed"),
        (TARGET, "tensorrt", ("fp32",), False, "fp32", "plain"),
    ],
)
def test_the_default_is_what_is_usual_for_the_target(
    target, provider, numerics, has_images, way, attention
):
    variant = default_variant(target, provider, numerics, has_images=has_images)
    assert variant.numerics.way == way
    assert variant.forms == Forms(attention=attention)
    assert variant.settings == SessionSettings(provider=provider)


def test_static_int8_alone_needs_images():
    with pytest.raises(BadInputError, match="pass calibration_images"):
        default_variant(INT8, "tensorrt", ("static",), has_images=False)


def test_a_target_names_its_provider():
    assert provider_of(TARGET) == "cpu"
    assert provider_of(Target(profile=device("a100-sxm4-40gb"))) == "cuda"
    assert provider_of(Target(profile=device("a100-sxm4-40gb"), runtime="tensorrt")) == "tensorrt"
    assert provider_of(Target(profile=device("raspberry-pi-4"))) == "cpu"
    assert provider_of(Target(profile=device("apple-m1"), runtime="coreml")) == "coreml"


def test_a_variant_is_described_by_what_differs():
    default = Variant()
    assert described(default, default) == "default"
    other = Variant(
        forms=Forms(attention="plain"),
        numerics=Numerics(way="static", fp32_blocks=("stem",)),
        settings=SessionSettings(threads=1, spinning=True, arena=False, optimisation="basic"),
    )
    assert described(other, default) == (
        "attention plain, int8 static, 1 block in fp32, optimisation basic, 1 thread, spinning, "
        "no arena"
    )
