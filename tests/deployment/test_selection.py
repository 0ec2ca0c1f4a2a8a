"""Choosing among files whose times are known, and once among real ones."""

import json

import numpy as np
import onnx
import pytest
import torch

from deployment import (
    DeviceError,
    LocalRunner,
    VerificationError,
    deploy,
    open_session,
)
from deployment.bundles.input import Interface
from deployment.emission.chunks import part_of
from deployment.selection import pool as selection_pool
from deployment.selection import timing as selection_timing
from deployment.selection.checks import Check, Judge
from deployment.selection.results import FORMAT
from deployment.selection.select import EXACT_ALONE, select_kernels
from deployment.selection.suggestion import suggested_variant
from deployment.selection.table import COLUMNS, PAIRED, selection_table
from deployment.session_settings import SessionSettings
from deployment.variant_files import variant_file
from hardware_profiles import Target
from records import BadInputError, CorruptFileError
from supernet import Split
from tests.deployment.doubles import CNN, HYBRID, PROFILE, TARGET, VIT, rows_of, shaken_subnet
from tests.deployment.known_times import Clock, KnownRunner, is_int8, operators
from tests.deployment.test_selection_candidates import INT8, INT8_PROFILE

TWO = Target(profile=PROFILE, threads=2)


@pytest.fixture(scope="module")
def vit():
    return shaken_subnet(VIT, rows_of(VIT, 0)[0])


@pytest.fixture(scope="module")
def cnn():
    return shaken_subnet(CNN, rows_of(CNN, 0)[0])


@pytest.fixture(scope="module")
def split(vit):
    images = torch.randn(250, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Split(images, vit(images).argmax(1))


def select(subnet, ms, target=TARGET, validation=None, **options):
    """A selection among known times; settings may be given to the runner."""
    told = {name: options.pop(name) for name in ("noise", "clock", "refuses", "error")
            if name in options}  # fmt: skip
    runner = KnownRunner(ms, **told)
    options.setdefault("calibration_images", None)
    selection = select_kernels(subnet, target, runner=runner, validation=validation, **options)
    return selection, runner


def outcome(selection, change):
    return next(one for one in selection.tried if one.change == change)


# ---- forms and settings ----------------------------------------------------------------------


def test_the_default_stays_where_nothing_is_faster(vit):
    selection, _ = select(vit, lambda model, how: 10.0)
    assert selection.chosen is selection.default
    assert selection.chosen.status == "chosen"
    assert selection.gain == 1.0
    assert "the default file stays, at 10 ms" in selection.statement
    assert selection.keeps_bound
    assert selection.is_timed
    assert selection.device == "known times"


def test_the_default_stays_where_the_gain_is_within_the_noise(vit):
    def ms(model, how):
        return 10.0 if "Attention" in operators(model) else 9.6

    selection, _ = select(vit, ms, noise=0.2, seed=3)
    assert selection.noise > 0.01
    if selection.noise > 0.05:
        assert selection.chosen is selection.default
    small, _ = select(vit, lambda model, how: 10.0 if "Attention" in operators(model) else 9.95)
    assert small.chosen is small.default  # half a per cent is below what a repetition changes
    clear, _ = select(vit, ms)
    assert clear.chosen is not clear.default


def test_the_fastest_form_is_chosen_and_is_the_file(vit):
    def ms(model, how):
        return 8.0 if "Softmax" in operators(model) else 10.0

    selection, runner = select(vit, ms)
    assert selection.chosen.variant.forms.attention == "plain"
    assert selection.chosen.latency_ms == 8.0
    assert selection.gain == pytest.approx(1.25)
    assert selection.data == variant_file(vit, selection.chosen.variant, 1)
    assert selection.chosen.relative_error < 1e-5
    assert selection.timing.latency_ms == 8.0
    assert selection.default_timing.latency_ms == 10.0
    assert "attention plain: 8 ms, 1.250 times as fast" in selection.statement
    assert runner.calls[-1]["rounds"] == 25
    assert {call["ms"][0] for call in runner.calls} == {10.0}  # the default is in every call


def test_forms_that_gain_alone_are_put_together(vit):
    def ms(model, how):
        gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
        return 10.0 - 2 * ("Softmax" in operators(model)) - (len(gemms) < 3)

    selection, _ = select(vit, ms)
    forms = selection.chosen.variant.forms
    assert (forms.attention, forms.linear) == ("plain", "matmul")
    assert selection.chosen.latency_ms == 7.0


def test_no_form_is_timed_twice_or_without_effect(cnn):
    selection, runner = select(cnn, lambda model, how: 10.0)
    tried = [one.variant for one in selection.tried]
    assert len(tried) == len({json.dumps(v.to_json(), sort_keys=True) for v in tried})
    assert {v.forms.attention for v in tried} == {"packed"}
    assert all(c["settings"][0] == SessionSettings() for c in runner.calls)


def test_settings_are_chosen_on_the_best_form(vit):
    def ms(model, how):
        fast = 2.0 * ("Softmax" in operators(model)) + how.spinning + 0.5 * (how.threads == 1)
        return 10.0 - fast - 0.5 * (not how.arena)

    selection, _ = select(vit, ms, target=TWO)
    variant = selection.chosen.variant
    assert variant.forms.attention == "plain"
    assert variant.settings == SessionSettings(spinning=True, threads=1, arena=False)
    assert selection.chosen.latency_ms == 6.0
    assert any("spinning threads take the processor" in note for note in selection.notes)


def test_settings_that_change_answers_are_refused(vit, monkeypatch):
    refused = Check(is_kept=False, reason="refused: answers change")
    monkeypatch.setattr(Judge, "same_answers", lambda self, data, how: refused)
    selection, _ = select(vit, lambda model, how: 10.0 - 5.0 * (how.optimisation == "basic"))
    assert selection.chosen is selection.default
    assert outcome(selection, "optimisation basic").status == "refused: answers change"


def test_what_the_device_refuses_is_said(vit):
    def refuses(model, how):
        return "Attention" in operators(model) and model.opset_import[0].version == 23

    error = DeviceError("no such operator")
    selection, _ = select(vit, lambda model, how: 10.0, refuses=refuses, error=error)
    assert outcome(selection, "attention opset23").status == "refused: no such operator"
    assert outcome(selection, "attention plain").status == "kept the bound"


def test_a_form_that_is_wrong_is_never_chosen(vit, monkeypatch):
    def exact(self, data):
        is_plain = "Softmax" in operators(onnx.load_from_string(data))
        return Check(is_kept=not is_plain, reason="refused: differs" if is_plain else "")

    monkeypatch.setattr(Judge, "exact", exact)
    selection, runner = select(vit, lambda m, h: 1.0 if "Softmax" in operators(m) else 10.0)
    assert selection.chosen is selection.default
    assert outcome(selection, "attention plain").status == "refused: differs"
    assert all(1.0 not in call["ms"] for call in runner.calls)  # not even timed


def test_a_default_that_is_wrong_is_an_error(vit, monkeypatch):
    wrong = Check(is_kept=False, reason="refused: differs from torch")
    monkeypatch.setattr(Judge, "exact", lambda self, data: wrong)
    with pytest.raises(VerificationError, match="refused: differs from torch"):
        select(vit, lambda model, how: 10.0)


# ---- numbers ---------------------------------------------------------------------------------


def int8_is_fast(model, how):
    return 5.0 if is_int8(model) else 10.0


def test_int8_that_keeps_the_bound_is_chosen(vit, split):
    selection, _ = select(vit, int8_is_fast, validation=split, largest_loss=0.9)
    chosen = selection.chosen
    assert chosen.variant.numerics.way == "dynamic"
    assert chosen.accuracy == pytest.approx(1 - chosen.accuracy_loss)  # fp32 has all right
    assert selection.default.accuracy == 1.0
    assert selection.validation_images == 250
    assert any("judged on 250 of 250" in note for note in selection.notes)
    assert any("static int8 was not tried" in note for note in selection.notes)


def test_int8_that_loses_too_much_is_refused(vit, split):
    selection, _ = select(
        vit, int8_is_fast, validation=split, largest_loss=0.004,
        calibration_images=split.images[:32], numerics=("fp32", "dynamic", "static"),
    )  # fmt: skip
    assert selection.chosen.variant.is_exact
    lost = [one for one in selection.tried if one.status.startswith("lost ")]
    assert {one.variant.numerics.way for one in lost} == {"dynamic", "static"}
    assert all(one.accuracy_loss > 0 and one.speedup == 2.0 for one in lost)


def test_accuracy_is_judged_only_where_a_variant_is_fast_enough(vit, split, monkeypatch):
    judged = []
    inexact = Judge.inexact
    monkeypatch.setattr(
        Judge, "inexact", lambda self, *args: judged.append(args) or inexact(self, *args)
    )
    selection, _ = select(
        vit, lambda model, how: 20.0 if is_int8(model) else 10.0,
        validation=split, largest_loss=0.9, calibration_images=split.images[:32],
    )  # fmt: skip
    slow = [one for one in selection.tried if one.variant.numerics.way != "fp32"]
    assert len(slow) >= 3
    assert {one.status for one in slow} == {"slower: accuracy not judged"}
    assert {one.accuracy for one in slow} == {None}
    assert all("Erf" not in operators(onnx.load_from_string(data)) for data, *_ in judged)


@pytest.mark.parametrize(
    ("int8_ms", "status"),
    [
        (9.97, "within the noise: accuracy not judged"),
        (10.05, "within the noise: accuracy not judged"),
        (10.5, "slower: accuracy not judged"),
    ],
)
def test_what_is_within_the_noise_is_not_called_slower(vit, split, int8_ms, status):
    selection, _ = select(
        vit, lambda model, how: int8_ms if is_int8(model) else 10.0,
        validation=split, largest_loss=0.9, numerics=("fp32", "dynamic"),
    )  # fmt: skip
    assert outcome(selection, "int8 dynamic").status == status


def test_what_is_faster_but_not_the_fastest_is_not_called_slower(vit, split):
    def ms(model, how):
        return 8.0 if is_int8(model) else 5.0 if "Softmax" in operators(model) else 10.0

    selection, _ = select(
        vit, ms, validation=split, largest_loss=0.9, numerics=("fp32", "dynamic")
    )
    found = {o.status for o in selection.tried if o.variant.numerics.way == "dynamic"}
    assert found == {"not the fastest: accuracy not judged"}


def test_gelu_by_tanh_is_judged_by_accuracy(vit, split):
    def ms(model, how):
        gelu = [n for n in model.graph.node if n.op_type in ("Gelu", "FastGelu")]
        is_tanh = any(n.op_type == "FastGelu" or b"tanh" in n.SerializeToString() for n in gelu)
        return 8.0 if is_tanh else 10.0

    kept, _ = select(vit, ms, validation=split, largest_loss=0.5, numerics=("fp32",))
    tanh = outcome(kept, "gelu tanh")
    assert tanh.speedup > 1
    assert tanh.accuracy_loss is not None
    assert kept.chosen.variant.forms.gelu == "tanh"


def is_half(model):
    return any(entry.data_type == onnx.TensorProto.FLOAT16 for entry in model.graph.initializer)


@pytest.mark.parametrize("loss", [0.9, 0.0])
def test_fp16_is_tried_where_the_provider_takes_it_and_judged(vit, split, loss):
    def ms(model, how):
        return 4.0 if is_half(model) else 10.0

    selection, _ = select(vit, ms, validation=split, largest_loss=loss, provider="cuda")
    assert {one.variant.numerics.way for one in selection.tried} == {"fp32", "fp16"}
    half = outcome(selection, "fp16")
    assert half.stage == "numerics"
    assert half.speedup == pytest.approx(2.5)
    assert half.accuracy_loss is not None
    assert 0 < half.relative_error < 0.05
    keeps = half.accuracy_loss <= loss and (loss > 0 or half.top1_agreement == 1.0)
    assert (selection.chosen.variant.numerics.way == "fp16") == keeps
    assert is_half(onnx.load_from_string(selection.data)) == keeps


def test_fp16_is_not_tried_on_the_processor(vit, split):
    selection, _ = select(vit, lambda model, how: 10.0, validation=split)
    assert "fp16" not in {one.variant.numerics.way for one in selection.tried}
    with pytest.raises(BadInputError, match="provider 'cpu' takes no files in fp16"):
        select(vit, lambda model, how: 10.0, validation=split, numerics=("fp32", "fp16"))
    target = Target(profile=INT8_PROFILE, precision="fp16")
    alone, _ = select(vit, lambda model, how: 10.0, target=target, validation=split)
    assert {one.variant.numerics.way for one in alone.tried} == {"fp32"}
    assert "fp16 was not tried: provider 'cpu' takes no files in fp16" in alone.notes


def test_without_images_to_judge_on_forms_are_exact_and_it_is_said(vit, split):
    def ms(model, how):
        tanh = any(b"tanh" in node.SerializeToString() for node in model.graph.node)
        return 5.0 if tanh or "FastGelu" in operators(model) else 10.0

    blind, _ = select(vit, ms)
    assert all(one.variant.is_exact for one in blind.tried)
    assert EXACT_ALONE in blind.notes
    judged, _ = select(vit, ms, validation=split, largest_loss=0.9)
    assert judged.chosen.variant.forms.gelu == "tanh"
    assert EXACT_ALONE not in judged.notes


def test_mixed_precision_saves_a_fast_file_that_loses_too_much(split, monkeypatch):
    """Every block in int8 costs a point; with enough of them in fp32 the bound is kept."""
    subnet = shaken_subnet(VIT, VIT.extremes("largest")[-1])

    def products(model):
        return sum(node.op_type == "MatMulInteger" for node in model.graph.node)

    def inexact(self, data, settings=None):
        loss = 0.01 * products(onnx.load_from_string(data))
        reason = f"lost {100 * loss:g} points" if loss > self.largest_loss else ""
        return Check(is_kept=not reason, reason=reason, loss=loss, accuracy=0.9 - loss,
                     loss_error=0.0)  # fmt: skip

    monkeypatch.setattr(Judge, "inexact", inexact)

    def ms(model, how):
        return 10.0 - 0.2 * products(model)

    options = {"validation": split, "largest_loss": 0.08}
    without, _ = select(subnet, ms, numerics=("fp32", "dynamic"), **options)
    assert without.chosen.variant.numerics.way == "fp32"
    mixed, _ = select(subnet, ms, numerics=("fp32", "dynamic", "mixed"), **options)
    numerics = mixed.chosen.variant.numerics
    assert numerics.way == "dynamic"
    assert len(numerics.fp32_blocks) >= 1
    assert mixed.chosen.accuracy_loss <= 0.08
    assert mixed.chosen.speedup > 1
    lost = [one for one in mixed.tried if one.status.startswith("lost")]
    assert lost  # all in int8
    assert all(one.speedup > mixed.chosen.speedup for one in lost if one.stage == "numerics")


def test_blocks_that_a_search_chose_stay_in_fp32(vit, split):
    selection, _ = select(
        vit, int8_is_fast, target=INT8, validation=split, largest_loss=0.9,
        calibration_images=split.images[:32], fp32_blocks=("classifier",), quantisation="dynamic",
    )  # fmt: skip
    assert selection.default.variant.numerics.way == "dynamic"
    assert {one.variant.numerics.fp32_blocks for one in selection.tried} == {("classifier",)}
    nodes = onnx.load_from_string(selection.data).graph.node
    assert {node.op_type for node in nodes if "classifier" in node.name} <= {"MatMul", "Add"}
    assert any(node.op_type == "MatMulInteger" for node in nodes)


def test_a_target_in_int8_gets_int8_alone(vit, split):
    selection, _ = select(
        vit, lambda model, how: 5.0 if "MatMulInteger" in operators(model) else 10.0,
        target=INT8, validation=split, largest_loss=0.9, calibration_images=split.images[:32],
    )  # fmt: skip
    assert {one.variant.numerics.way for one in selection.tried} == {"static", "dynamic"}
    assert selection.default.variant.numerics.way == "static"
    assert selection.chosen.variant.numerics.way == "dynamic"
    assert selection.keeps_bound


def test_a_bound_that_no_int8_file_keeps_is_said_with_the_best_found(vit, split):
    selection, _ = select(
        vit, int8_is_fast, target=INT8, validation=split, largest_loss=0.0,
        calibration_images=split.images[:32],
    )  # fmt: skip
    assert selection.keeps_bound is False
    losses = [one.accuracy_loss for one in selection.tried if one.accuracy_loss is not None]
    assert selection.chosen.accuracy_loss == min(losses) > 0
    assert "no lowering that is allowed keeps the bound of 0 points; the best found" in (
        selection.statement
    )


def test_a_default_that_loses_too_much_gives_way_even_to_a_slower_file(vit, split, monkeypatch):
    def inexact(self, data, settings=None):
        is_static = "QuantizeLinear" in operators(onnx.load_from_string(data))
        loss = 0.2 if is_static else 0.0
        return Check(is_kept=not is_static, reason="lost 20 points" if is_static else "",
                     loss=loss, accuracy=0.9 - loss, loss_error=0.0)  # fmt: skip

    monkeypatch.setattr(Judge, "inexact", inexact)
    selection, _ = select(
        vit, lambda model, how: 9.0 if "MatMulInteger" in operators(model) else 6.0,
        target=INT8, validation=split, calibration_images=split.images[:32],
    )  # fmt: skip
    assert selection.chosen.variant.numerics.way == "dynamic"
    assert selection.gain < 1
    assert selection.default.status == "lost 20 points"


def test_int8_without_validation_images_is_compared_by_its_logits(vit, split):
    selection, _ = select(vit, int8_is_fast, target=INT8, calibration_images=split.images[:64])
    assert selection.keeps_bound is None
    assert selection.chosen.accuracy is None
    assert 0 < selection.chosen.relative_error < 0.25
    assert selection.validation_images == 0


# ---- time ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(selection_timing, "clock", clock)
    monkeypatch.setattr(selection_pool, "clock", clock)
    return clock


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 20.0])
def test_the_time_is_kept_and_what_was_not_tried_is_said(vit, clock, seconds):
    def ms(model, how):
        return 8.0 if "Softmax" in operators(model) else 10.0

    selection, _ = select(vit, ms, target=TWO, seconds=seconds, clock=clock)
    assert selection.seconds <= seconds
    assert selection.limit_s == seconds
    late = [one for one in selection.tried if one.status == "not tried: no time left"]
    assert bool(late) == any(
        note.startswith("not tried: no time left") for note in selection.notes
    )
    assert bool(late) == (seconds < 20)
    if seconds == 20.0:
        assert selection.gain == pytest.approx(1.25)


def test_with_no_time_at_all_there_is_still_the_default(vit, clock):
    selection, runner = select(vit, lambda model, how: 10.0, seconds=1e-6, clock=clock)
    assert selection.chosen is selection.default
    assert selection.chosen.latency_ms == 10.0
    assert len(runner.calls) == 1


def test_steps_are_told(vit):
    said = []
    select(vit, lambda model, how: 10.0, on_step=said.append)
    assert said[0] == "default: 10 ms"
    assert [text.split(":")[0] for text in said[1:]] == [
        "forms", "numerics", "settings", "last comparison",
    ]  # fmt: skip


# ---- without a runner ------------------------------------------------------------------------


def test_without_a_runner_the_profile_suggests_and_nothing_is_timed(vit, split):
    selection = select_kernels(
        vit, Target(profile=PROFILE), runner=None, validation=split, calibration_images=None
    )
    assert not selection.is_timed
    assert selection.chosen.status == "not timed"
    assert selection.chosen.latency_ms is None
    assert selection.statement.startswith("not timed: fp32")
    record = selection.to_json()
    assert (record["label"], record["provider"]["state"]) == ("not timed", "never run")
    assert open_session(selection.data).get_inputs()[0].shape == [1, 3, 16, 16]


@pytest.mark.parametrize(
    ("sets", "way", "why"),
    [((), "dynamic", "names no instructions"), (("avx512_vnni",), "static", "has avx512_vnni")],
)
def test_the_suggestion_for_int8_follows_the_instruction_sets(vit, split, sets, way, why):
    from dataclasses import replace

    target = Target(profile=replace(INT8_PROFILE, instruction_sets=sets), precision="int8")
    selection = select_kernels(
        vit, target, runner=None, validation=split, calibration_images=split.images[:32],
        largest_loss=0.9,
    )  # fmt: skip
    assert selection.chosen.variant.numerics.way == way
    assert any(why in note for note in selection.notes)
    assert selection.keeps_bound
    assert selection.chosen.accuracy is not None


# ---- chunks ----------------------------------------------------------------------------------


def chunk_of(model):
    """How many images the network of a file takes at a time; None for all."""
    part = part_of(model)
    return None if part is None else part.graph.input[0].type.tensor_type.shape.dim[0].dim_value


def test_a_batch_in_chunks_is_chosen_where_it_is_fastest(cnn):
    def ms(model, how):
        return {None: 10.0, 4: 5.0}.get(chunk_of(model), 8.0)

    target = Target(profile=PROFILE, batch_size=8)
    selection, _ = select(cnn, ms, target=target)
    tried = [one for one in selection.tried if one.stage == "chunks"]
    assert {one.change: one.speedup for one in tried} == {
        "1 image at a time": 1.25,
        "2 images at a time": 1.25,
        "4 images at a time": 2.0,
    }
    assert selection.chosen.change == "4 images at a time"
    assert selection.chosen.variant.chunk == 4
    assert chunk_of(onnx.load_from_string(selection.data)) == 4
    assert "4 images at a time: 5 ms, 2.000 times as fast" in selection.statement
    assert "4 images at a time" in selection_table(selection)


@pytest.mark.parametrize(("scale", "first"), [(1.0, "forms"), (10.0, "chunks")])
def test_of_files_that_take_long_chunks_are_tried_first_and_forms_within_them(vit, scale, first):
    def operators_of(model):
        return operators(part_of(model) or model)

    def ms(model, how):
        gain = 0.5 if chunk_of(model) == 4 else 1.0
        return scale * gain * (8.0 if "Softmax" in operators_of(model) else 10.0)

    selection, _ = select(vit, ms, target=Target(profile=PROFILE, batch_size=8), seconds=1e6)
    assert selection.chosen.variant.chunk == 4
    assert selection.chosen.variant.forms.attention == "plain"
    assert selection.gain == pytest.approx(2.5)
    within = [one.variant.chunk for one in selection.tried if one.stage == "forms"]
    assert set(within) == ({4} if first == "chunks" else {None})


@pytest.mark.parametrize(("batch_size", "provider"), [(1, "cpu"), (8, "cuda")])
def test_chunks_are_tried_on_the_processor_and_of_several_images(cnn, batch_size, provider):
    target = Target(profile=PROFILE, batch_size=batch_size)
    selection, _ = select(cnn, lambda model, how: 10.0, target=target, provider=provider)
    assert {one.variant.chunk for one in selection.tried} == {None}


def test_a_bundle_for_any_batch_takes_it_whole(cnn, tmp_path):
    def ms(model, how):
        return 10.0 if chunk_of(model) is None else 5.0

    target = Target(profile=PROFILE, batch_size=8)
    selection, _ = select(cnn, ms, target=target)
    assert selection.chosen.variant.chunk is not None
    given = {"target": target, "architecture": {}, "space": {}, "predicted": {}, "facts": {},
             "runner": None, "selection": selection, "cold_starts": 0}  # fmt: skip
    fixed = deploy(cnn, tmp_path / "fixed", **given)
    assert chunk_of(onnx.load(fixed.model_path)) == selection.chosen.variant.chunk
    assert PAIRED[1:] in (fixed.folder / "README.md").read_text(encoding="utf-8")
    free = deploy(cnn, tmp_path / "free", interface=Interface(any_batch=True), **given)
    assert free.record["variant"]["chunk"] is None
    assert chunk_of(onnx.load(free.model_path)) is None


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"largest_loss": -0.1}, "largest_loss must be a share"),
        ({"largest_loss": 5}, "largest_loss must be a share"),
        ({"seconds": 0}, "seconds must be positive"),
        ({"numerics": ("fp32", "static")}, "static changes accuracy"),
        ({"provider": "nothing"}, "unknown provider"),
    ],
)
def test_what_cannot_be_is_refused_at_once(vit, options, words):
    with pytest.raises(BadInputError, match=words):
        select(vit, lambda model, how: 10.0, **options)


def test_fewer_images_than_a_batch_judge_nothing(vit, split):
    few = Split(split.images[:3], split.labels[:3])
    target = Target(profile=PROFILE, batch_size=8)
    selection, _ = select(vit, int8_is_fast, target=target, validation=few)
    assert {one.variant.numerics.way for one in selection.tried} == {"fp32"}
    assert any("do not fill a batch of 8" in note for note in selection.notes)


# ---- records and real runs -------------------------------------------------------------------


def test_everything_is_json_ready_and_shown_in_a_table(vit, split):
    selection, _ = select(vit, int8_is_fast, validation=split, largest_loss=0.9)
    record = json.loads(json.dumps(selection.to_json(), allow_nan=False))
    assert record["format"] == FORMAT
    assert len(record["tried"]) == len(selection.tried)
    assert record["chosen"]["variant"]["numerics"]["way"] == "dynamic"
    assert record["gain"] == pytest.approx(2.0)
    assert record["provider"]["state"] == "run"
    assert SessionSettings(**record["chosen"]["variant"]["settings"]) == SessionSettings()
    table = selection_table(selection)
    lines = table.splitlines()
    assert all(column in lines[0] for column in COLUMNS)
    assert len([line for line in lines if line.split("  ")[0] in
                ("default", "forms", "numerics", "settings")]) == len(selection.tried)  # fmt: skip
    assert selection.statement in table
    assert PAIRED in lines
    assert all(f"- {note}" in table for note in selection.notes)


@pytest.mark.parametrize("space", [CNN, VIT, HYBRID], ids=["cnn", "vit", "hybrid"])
def test_real_files_are_selected_and_what_is_chosen_computes_the_same(space):
    subnet = shaken_subnet(space, rows_of(space, 0)[0])
    images = torch.randn(220, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = subnet(images)
    selection = select_kernels(
        subnet, Target(profile=PROFILE), runner=LocalRunner(),
        validation=Split(images, logits.argmax(1)), calibration_images=images[:32],
        seconds=12.0, seed=1,
    )  # fmt: skip
    assert selection.seconds < 60.0  # a step that has begun is not broken off
    assert selection.is_timed
    assert selection.keeps_bound
    assert selection.gain >= 1.0
    assert len(selection.tried) > 5
    how = selection.chosen.variant
    session = open_session(selection.data, 1, how.settings)
    theirs = np.concatenate([session.run(None, {"images": i[None].numpy()})[0] for i in images])
    if how.is_exact:
        assert np.abs(theirs - logits.numpy()).max() <= 1e-5 * logits.abs().max().item()
    changed = (theirs.argmax(1) != logits.argmax(1).numpy()).mean()
    assert changed <= selection.largest_loss
    timed = [one for one in selection.tried if one.latency_ms is not None]
    assert all(0.01 < one.speedup < 100 for one in timed)


# ---- what is left out, and why -----------------------------------------------------------------


def test_int8_that_cannot_be_judged_in_time_is_not_chosen(vit, split, monkeypatch):
    monkeypatch.setattr(Judge, "take_images", lambda self, n: setattr(self, "images", 10**9))
    selection, _ = select(vit, int8_is_fast, validation=split, numerics=("fp32", "dynamic"))
    assert selection.chosen.variant.is_exact
    assert any(one.status == "not judged: no time left" for one in selection.tried)
    assert any(note.startswith("not judged: no time left: ") for note in selection.notes)


def test_files_that_cannot_be_made_are_said(vit, split, monkeypatch):
    def fails(self, fp32_blocks=()):
        raise CorruptFileError("onnxruntime cannot quantise it")

    monkeypatch.setattr("deployment.quantisation.quantised.Quantiser.file", fails)
    selection, _ = select(vit, int8_is_fast, validation=split, numerics=("fp32", "dynamic"))
    assert outcome(selection, "int8 dynamic").status == "refused: onnxruntime cannot quantise it"


def test_mixed_precision_needs_images_and_time(vit, split, monkeypatch):
    wrong = Check(is_kept=False, reason="lost 9 points", loss=0.09, accuracy=0.8, loss_error=0.0)
    monkeypatch.setattr(Judge, "inexact", lambda self, *args: wrong)

    def ms(model, how):
        return 5.0 if "MatMulInteger" in operators(model) else 10.0

    options = {"target": INT8, "numerics": ("dynamic", "static", "mixed")}
    blind, _ = select(vit, ms, calibration_images=split.images[:32], **options)
    assert any("no images to judge blocks on" in note for note in blind.notes)
    monkeypatch.setattr("deployment.selection.stages.FILE_S", 1e9)
    late, _ = select(
        vit, ms, validation=split, numerics=("fp32", "dynamic", "mixed"), seconds=60.0
    )
    assert late.chosen.variant.is_exact


@pytest.mark.parametrize(
    ("precision", "provider", "has_images", "numerics", "why"),
    [
        ("fp16", "cuda", False, ("fp16", "fp32"), "provider 'cuda' has kernels for fp16"),
        ("int8", "cpu", False, ("dynamic", "static"), "dynamic int8: no calibration images"),
        ("int8", "cpu", True, ("dynamic",), "dynamic int8: as allowed"),
        ("int8", "tensorrt", True, ("static",), "static int8: a desktop-cpu runs files"),
    ],
)
def test_every_suggestion_has_its_reason(precision, provider, has_images, numerics, why):
    target = Target(profile=INT8_PROFILE, precision=precision)
    variant, reason = suggested_variant(
        target, numerics, has_images=has_images, provider_name=provider
    )
    assert variant.settings.provider == provider
    assert reason.startswith(why)
