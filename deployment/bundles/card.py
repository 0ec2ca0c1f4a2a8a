"""The model card of a bundle: what `bundle.json` says, for the person who deploys the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deployment.bundles.code import cpp_code, python_code
from deployment.bundles.record import UNTIMED, limits_kept
from deployment.selection.table import PAIRED

Record = Mapping[str, Any]

MIB = 2**20
UNITS = {
    "latency_ms": ("latency", "ms", 1.0),
    "energy_mj": ("energy", "mJ", 1.0),
    "peak_memory_bytes": ("memory", "KiB", 1 / 1024),
    "flash_bytes": ("weights", "KiB", 1 / 1024),
}


def model_card(record: Record) -> str:
    """The card as Markdown.

    Args:
        record: What `bundle.json` is to hold.
    """
    parts = [
        _what(record),
        _input(record),
        _accuracy(record),
        _speed(record),
        _beside(record),
        _resources(record),
        _limits(record),
        _chosen(record),
        _same_function(record),
        _use(record),
        _cannot(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(record: Record) -> str:
    facts, target, space = record["facts"], record["target"], record["space"]
    title = facts.get("title") or "a network"
    data = f", trained on {facts['dataset']}" if facts.get("dataset") else ""
    variant = record["variant"]
    head = (
        f"# {target['name']}: {title}\n\n"
        f"An image classifier of the search space `{space.get('space', 'unknown')}`{data}, as an "
        f"ONNX file for {target['runtime']} on {target['device']} ({target['description'].strip()}"
        f" {_count(target['threads'], 'thread')}, batch {target['batch_size']})."
    )
    rows = [
        ("file", f"`model.onnx`, {record['file_bytes'] / 1024:.0f} KiB"),
        ("numbers", record["numerics"]),
        ("forms", _pairs(variant["forms"])),
        *([("batch", f"{variant['chunk']} at a time inside")] if variant.get("chunk") else []),
        ("parameters", f"{record['parameters']:,}"),
        ("products of one image (MACs)", f"{record['macs']:,}"),
        ("weights", facts.get("training") or "as handed over; see `bundle.json`"),
        ("written by", f"{record['exporter']}, onnxruntime {_version(record, 'onnxruntime')}"),
    ]
    return f"{head}\n\n{_table(('', ''), rows)}"


def _input(record: Record) -> str:
    entry, output = record["input"], record["output"]
    shape = " x ".join("n" if size is None else str(size) for size in entry["shape"])
    kind = "bytes (uint8)" if entry["type"] == "tensor(uint8)" else "32-bit floats"
    lines = [
        "## Input and output",
        "",
        f"Input `{entry['name']}`: {kind}, {shape} ({entry['layout']}).",
    ]
    lines.append(_steps(entry))
    classes = output["classes"]
    named = (
        f" of the classes, in this order: {', '.join(str(name) for name in classes)}"
        if classes and len(classes) <= 40
        else f" of {len(classes)} classes, named in `bundle.json`"
        if classes
        else ""
    )
    lines.append(
        f"\nOutput `{output['name']}`: logits{named}. The largest is the predicted class; their "
        "softmax is the network's own opinion, which was not calibrated."
    )
    return "\n".join(lines)


def _steps(entry: Record) -> str:
    """What is done to pixels, and by whom."""
    known, inside = entry["normalisation"], entry["preprocessing"]
    if known is None:
        return (
            "How pixels became these numbers in training is not known to this bundle: it was "
            "made from tensors."
        )
    before = []
    above, below = known["border"]
    if above or below:
        before.append(
            f"add a black border of {above} rows above, {below} below, and as many columns left "
            "and right"
        )
    if known["resized_to"]:
        height, width = known["resized_to"]
        before.append(f"resize to {height} x {width} pixels, bilinear and antialiased")
    mean, deviation = (
        ", ".join(f"{v:.9g}" for v in known[name]) for name in ("mean", "deviation")
    )
    scale = (
        f"divide the pixels (0 to 255) by 255, subtract the mean ({mean}), divide by the "
        f"deviation ({deviation}), each by channel"
    )
    if inside is None:
        steps = [*before, scale, "put channels first"]
        return "Preprocessing, which is yours to do: " + "; ".join(steps) + "."
    if known["resized_to"]:
        yours = f" Yours to do before: {'; '.join(before)}."
        return f"The file does its preprocessing itself: {scale}.{yours}"
    return "The file does its preprocessing itself: " + "; ".join([*before, scale]) + "."


def _accuracy(record: Record) -> str:
    facts, tested = record["facts"], record["tested"]
    lines = ["## Accuracy", ""]
    if tested is None:
        lines.append("This file was run on no test images.")
    else:
        low, high = tested["interval_95"]
        lines.append(
            f"**{_percent(tested['accuracy'])}** of {tested['images']:,} test images (95 % "
            f"interval {_percent(low)} to {_percent(high)}, Wilson), by this very file, on images "
            "that no choice was made by. It gives the class that torch gives for "
            f"{_percent(tested['top1_agreement'])} of them; torch is right on "
            f"{_percent(tested['torch_accuracy'])}."
        )
    validation = facts.get("validation_accuracy", facts.get("accuracy"))
    if validation is not None:
        lines.append(
            f"\nOn the images that the search was guided by: {_percent(validation)} (the network "
            "in the numbers that the search judged)."
        )
    return "\n".join(lines)


def _speed(record: Record) -> str:
    predicted, measured = record["predicted"], record["measured"]
    rows = []
    interval = predicted.get("latency_interval_90_ms")
    if predicted.get("latency_ms") is not None:
        text = f"{predicted['latency_ms']:.4g} ms"
        if interval:
            text += f" (90 % interval {interval[0]:.4g} to {interval[1]:.4g})"
        rows.append(("predicted before it was timed", text, predicted.get("latency_source", "")))
    if measured["latency_ms"] is None:
        rows.append(("measured", UNTIMED, "no runner reaches the target"))
    else:
        dispersion = measured["dispersion_ms"]
        text = f"{measured['latency_ms']:.4g} ms" + (
            "" if dispersion is None else f" +- {dispersion:.2g}"
        )
        count = len(measured["samples_ms"])
        rows.append(("measured, least", text, f"{measured['source']}; {count} runs"))
        for name in ("p50", "p90", "p99"):
            rows.append((f"measured, {name}", f"{measured[f'{name}_ms']:.4g} ms", "same runs"))
        if predicted.get("latency_ms"):
            error = predicted["latency_ms"] / measured["latency_ms"] - 1
            rows.append(("predicted over measured", f"{error:+.1%}", ""))
    cold = record["cold_start"]
    if cold is None:
        rows.append(("cold start", "not measured", "no process on the target was started"))
    else:
        rows.append(("opening the file", f"{cold['open_ms']:.4g} ms", cold["source"]))
        rows.append(("first run after that", f"{cold['first_run_ms']:.4g} ms", "same processes"))
    text = (
        "One run takes a whole batch"
        + (
            ", its preprocessing included, which the prediction leaves out"
            * bool(record["input"]["preprocessing"])
        )
        + ". The least time is what the file takes when nothing disturbs "
        "it; the quantiles include whatever else the machine did while it was timed, and the "
        "pauses between runs."
    )
    return f"## Speed\n\n{text}\n\n{_table(('', 'value', 'source'), rows)}"


def _beside(record: Record) -> str:
    """Other runtimes, timed in turns with the file."""
    found = record.get("beside") or []
    if not found:
        return ""
    rows = [
        (
            f"{one['runtime']} {one['version']}".strip(),
            "" if one["latency_ms"] is None else f"{one['latency_ms']:.4g} ms",
            "" if one["ratio"] is None else f"{one['ratio']:.2f}",
            one["status"],
        )
        for one in found
    ]
    text = (
        "The same network in other runtimes, on the machine that made this bundle, in turns with "
        "the file, without preprocessing; above 1 is slower than the file."
    )
    head = ("runtime", "least", "over the file's", "")
    return f"## Other runtimes\n\n{text}\n\n{_table(head, rows)}"


def _resources(record: Record) -> str:
    predicted, memory, cold = record["predicted"], record["memory"], record["cold_start"]
    rows = []
    if memory is not None:
        source = memory["source"]
        rows.append(("activations at their peak", _kib(memory["activation_bytes"]), source))
        rows.append(("weights", _kib(memory["weight_bytes"]), "counted in the file"))
    if predicted.get("peak_memory_bytes") is not None:
        rows.append(
            ("images, weights and activations", _kib(predicted["peak_memory_bytes"]), "modelled")
        )
    if cold is not None and cold["process_peak_bytes"] is not None:
        rows.append(
            (
                "whole process, with Python and onnxruntime",
                f"{cold['process_peak_bytes'] / MIB:.1f} MiB, of which "
                f"{(cold['added_bytes'] or 0) / MIB:.1f} came with the network",
                cold["source"],
            )
        )
    if predicted.get("energy_mj") is not None:
        interval = predicted.get("energy_interval_mj")
        text = f"{predicted['energy_mj']:.4g} mJ" + (
            f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
        )
        rows.append(("energy of one run", text, predicted.get("energy_source", "modelled")))
    if not rows:
        return ""
    return f"## Memory and energy\n\n{_table(('', 'value', 'source'), rows)}"


def _limits(record: Record) -> str:
    rows = []
    for one in limits_kept(record):
        name, unit, scale = UNITS.get(one["metric"], (one["metric"], "", 1.0))
        value = "unknown" if one["value"] is None else f"{one['value'] * scale:.4g} {unit}"
        kept = "kept" if one["is_kept"] else "NOT kept"
        rows.append((name, f"{one['limit'] * scale:.4g} {unit}", f"{value}, {one['how']}", kept))
    if not rows:
        return ""
    return f"## Limits asked for\n\n{_table(('', 'limit', 'value', ''), rows)}"


def _chosen(record: Record) -> str:
    selection, provider = record["selection"], record["provider"]
    settings = record["variant"]["settings"]
    opened = (
        f"Opened with provider `{provider['runtime_name']}` ({provider['state']}"
        + (f", options {_pairs(provider['options'])}" if provider["options"] else "")
        + f"), optimisation `{settings['optimisation']}`, "
        f"{_count(record['session']['threads'], 'thread')}, spinning "
        f"{_switch(settings['spinning'])}, arena {_switch(settings['arena'])}, memory pattern "
        f"{_switch(settings['memory_pattern'])}."
    )
    if provider["state"] == "never run":
        opened += f" It comes with: {provider['package']}. {provider['note']}".rstrip()
    if selection is None:
        return f"## How it runs\n\n{opened} The default forms; no others were tried."
    rows = [
        (
            one["stage"],
            one["change"],
            _number(one["latency_ms"], "{:.4g}"),
            _number(one["speedup"], "{:.3f}x"),
            _number(one["relative_error"], "{:.1e}"),
            _number(one["accuracy"], "{:.2%}"),
            one["status"],
        )
        for one in selection["tried"]
    ]
    head = ("stage", "variant", "ms", "speed", "error", "accuracy", "outcome")
    notes = "".join(f"\n- {note}" for note in selection["notes"])
    return (
        f"## How it runs, and what was tried\n\n{opened}\n\n{selection['statement']}\n\n"
        f"{_table(head, rows)}\n\n{PAIRED[0].upper()}{PAIRED[1:]}.\n" + notes
    ).rstrip()


def _same_function(record: Record) -> str:
    agreement, samples = record["agreement"], record["samples"]
    lines = [
        "## Is it the same network as in torch?",
        "",
        f"In exact forms and 32-bit floats the file differs from torch by "
        f"{agreement['relative_difference']:.1e} of the largest logit (allowed "
        f"{agreement['tolerance']:.0e}) on {agreement['images']} real, random and extreme images.",
    ]
    if record["quantised"] is not None:
        found = record["quantised"]
        lines.append(
            f"This file is in {record['numerics']}: its logits differ by "
            f"{found['relative_error']:.2g} of their deviation, and {found['top1_agreement']:.1%} "
            f"of {found['images']} {'real' if found['are_real'] else 'random'} images get the "
            "same class."
        )
    measure = (
        "largest difference over the largest logit"
        if samples["measure"] == "largest"
        else "root mean square of the difference over the logits' deviation"
    )
    rows = [
        (
            f"{kind['images']} {kind['title']}",
            f"{kind['difference']:.1e}",
            f"{kind['tolerance']:.1e}" if kind["tolerance"] is not None else kind["note"],
        )
        for kind in samples["kinds"].values()
    ]
    table = _table(("stored inputs", "found", "allowed on any machine"), rows)
    return "\n".join(lines) + f"\n\n`verify.py` compares again ({measure}):\n\n{table}"


def _use(record: Record) -> str:
    return (
        "## Use it\n\n"
        "```sh\npython verify.py      # is it whole, and does it compute the same here?\n"
        "python benchmark.py   # how fast is it here?\n```\n\n"
        "Both need onnxruntime and numpy only. In Python:\n\n"
        f"```python\n{python_code(record)}```\n\nIn C++:\n\n```cpp\n{cpp_code(record)}```\n\n"
        "The same network in torch is in `subnet/`: `supernet.Subnet.load('subnet')`."
    )


def _cannot(record: Record) -> str:
    lines = [
        "## What this card cannot say",
        "",
        f"- Latencies are those of {record['target']['name']}; on another device, or another "
        "version of the runtime, time it again: `python benchmark.py`.",
        "- Accuracy is that on images like those of the dataset. Nothing was measured on other "
        "images, on attacks, or by groups of people.",
        "- It names the most likely of its classes for any image, also for one that shows none.",
    ]
    if str(record["predicted"].get("energy_source", "modelled")).startswith("modelled"):
        lines.append("- Energy was modelled, not measured: compare networks by it, not batteries.")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
        for row in cells
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _version(record: Record, package: str) -> str:
    return str(record["versions"].get(package, "unknown"))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _kib(count: float) -> str:
    return f"{count / 1024:.0f} KiB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _switch(value: bool) -> str:
    return "on" if value else "off"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
