"""`hwnas reproduce`: measures again what a bundle says of itself, and tells how far it drifted.

Hashes are compared first. Then the file answers the stored inputs, is run on the test images where
the dataset can be loaded, and is timed where its target is this machine. What cannot be measured
here is said to be so, and is no failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deployment import Bundle, LocalRunner, Timing
from deployment.bundles.cold_start import measure_cold_start
from deployment.bundles.file_answers import answers, judge_file
from deployment.bundles.input import as_taken
from deployment.bundles.making import time_file
from deployment.bundles.record import memory_record
from deployment.bundles.samples import difference
from deployment.session_settings import SessionSettings
from experiments.console import console, say, show_table
from experiments.data_source import load_source
from hardware_profiles import Target, local_target, machine_fingerprint
from records import HwnasError
from supernet import Subnet

LATENCY_DRIFT = 0.10
"""Relative change of the latency that counts as drift; noise alone changes it by some percent."""

ATTEMPTS = 3
"""How often a file that seems slower is timed again; the least of all runs counts."""

ACCURACY_DRIFT = 0.002
"""Change of an accuracy that counts as drift, unless it is a single image."""

MEMORY_DRIFT = 0.02

HOLDS, FASTER, DRIFTED = "holds", "faster", "DRIFTED"
SHOWN = "shown"
"""Of a number that is too noisy to be judged."""
NOISY = "too noisy to be judged"
UNKNOWN = "not compared"
"""Of one that cannot be measured here, or says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number of a bundle, measured again.

    Attributes:
        what: Which.
        recorded: What the bundle says.
        found: What it is now.
        verdict: One of "holds", "faster", "DRIFTED", "shown", "not compared".
        remark: How much it changed, what is allowed, or why it was not compared.
    """

    what: str
    recorded: str
    found: str
    verdict: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """All findings of a bundle."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing drifted."""
        return all(one.verdict != DRIFTED for one in self.findings)


def reproduce(folder: Path) -> Reproduction:
    """Measures a bundle again and prints the table.

    Raises:
        MissingFileError: No bundle, or files that are missing.
        CorruptFileError: Altered files, or a bundle of another version.
    """
    bundle = Bundle.open(folder)
    with console.status("measuring again"):
        findings = [
            Finding(
                what="files",
                recorded=f"{len(bundle.record['files'])} hashes",
                found="the same",
                verdict=HOLDS,
            ),
            *_answers(bundle),
            *_accuracy(bundle),
            *_latency(bundle),
            *_memory(bundle),
        ]
    found = Reproduction(findings=tuple(findings))
    rows = [[f.what, f.recorded, f.found, f.verdict, f.remark] for f in found.findings]
    head = ["what", "recorded", "now", "verdict", "remark"]
    show_table(f"{folder}", head, rows, left=4, wrapped="remark")
    say("everything that could be measured here holds" if found.holds else "NOT everything holds")
    return found


def is_of_here(bundle: Bundle) -> bool:
    """Whether a bundle's target is this machine, so that its latency can be compared."""
    record = bundle.record
    return bool(record["target"]["is_local"]) and record["target"]["machine"] == (
        machine_fingerprint()
    )


def target_here(bundle: Bundle) -> Target:
    """The target of a bundle whose target is this machine."""
    target = bundle.record["target"]
    return local_target(
        threads=target["threads"],
        batch_size=target["batch_size"],
        precision=target["precision"],
    )


def stored_samples(bundle: Bundle) -> dict[str, tuple[Any, Any]]:
    """The stored inputs by kind, each with torch's logits."""
    with np.load(bundle.folder / "samples.npz", allow_pickle=False) as stored:
        return {
            kind: (stored[f"{kind}_images"], stored[f"{kind}_logits"])
            for kind in bundle.record["samples"]["kinds"]
        }


def _answers(bundle: Bundle) -> list[Finding]:
    record = bundle.record["samples"]
    session = bundle.session()
    findings = []
    for kind, (images, logits) in stored_samples(bundle).items():
        facts = record["kinds"][kind]
        now = difference(record["measure"], answers(session, images), logits)
        allowed = facts["tolerance"]
        findings.append(
            Finding(
                what=f"difference from torch, {facts['title']}",
                recorded=f"{facts['difference']:.1e}",
                found=f"{now:.1e}",
                verdict=UNKNOWN if allowed is None else HOLDS if now <= allowed else DRIFTED,
                remark=facts["note"] if allowed is None else f"allowed {allowed:.1e}",
            )
        )
    return findings


def _accuracy(bundle: Bundle) -> list[Finding]:
    recorded, source = bundle.record["tested"], bundle.record["facts"].get("source")
    what = "accuracy on the test images"
    if recorded is None:
        return [_unknown(what, "-", "the bundle states none")]
    said = f"{recorded['accuracy']:.2%} of {recorded['images']}"
    if source is None:
        return [_unknown(what, said, "the bundle does not say how its images are loaded")]
    try:
        data = load_source(source)
    except HwnasError as error:
        return [_unknown(what, said, f"the images are not here: {error}")]
    if len(data.test) != recorded["images"]:
        text = f"the test split has {len(data.test)} images now, another one"
        return [_unknown(what, said, text)]
    subnet = Subnet.load(bundle.folder / "subnet")
    images = as_taken(data.test.images.numpy(), bundle.inside)
    now = judge_file(subnet, bundle.session(), data.test, images)
    allowed = max(ACCURACY_DRIFT, 1.5 / now.images)
    rows = (
        (what, recorded["accuracy"], now.accuracy),
        ("same class as torch", recorded["top1_agreement"], now.top1_agreement),
    )
    return [
        Finding(
            what=name,
            recorded=f"{old:.2%} of {now.images}",
            found=f"{new:.2%}",
            verdict=HOLDS if abs(new - old) <= allowed else DRIFTED,
            remark=f"allowed {100 * allowed:.2g} points",
        )
        for name, old, new in rows
    ]


def _latency(bundle: Bundle) -> list[Finding]:
    recorded, name = bundle.record["measured"], bundle.record["target"]["name"]
    if recorded["latency_ms"] is None:
        return [_unknown("latency", "-", "the bundle states none: it was not timed")]
    said = f"{recorded['latency_ms']:.4g} ms"
    if not is_of_here(bundle):
        return [_unknown("latency", said, f"it is that of {name}, which is not this machine")]
    target = target_here(bundle)
    timing = _timed(bundle, target, recorded["latency_ms"])
    recorded_timing = bundle.timing or timing
    findings = [_judged("latency, least", recorded_timing, timing)]
    findings += [
        replace(_drift(f"latency, {q}", recorded[f"{q}_ms"], value), verdict=SHOWN)
        for q, value in (("p50", timing.quantile_ms(0.5)), ("p99", timing.quantile_ms(0.99)))
    ]
    limit = (bundle.record["facts"].get("limits") or {}).get("latency_ms")
    if limit is not None:
        is_kept = timing.latency_ms <= limit
        is_noise = not is_kept and findings[0].verdict == SHOWN
        findings.append(
            Finding(
                what="limit on the latency",
                recorded=f"{limit:g} ms",
                found=f"{timing.latency_ms:.4g} ms",
                verdict=HOLDS if is_kept else SHOWN if is_noise else DRIFTED,
                remark=NOISY if is_noise else "",
            )
        )
    return [*findings, *_cold_start(bundle)]


def _timed(bundle: Bundle, target: Target, recorded_ms: float) -> Timing:
    """Timings of the file, again where it seems slower than recorded."""
    runner, data = LocalRunner(), bundle.timed_file()
    timing = time_file(data, bundle.settings, target, runner, seed=0)
    for attempt in range(1, ATTEMPTS):
        if timing.latency_ms <= (1 + LATENCY_DRIFT) * recorded_ms:
            break
        again = time_file(data, bundle.settings, target, runner, seed=attempt)
        timing = timing.joined(again)
    return timing


def _judged(what: str, old: Timing, new: Timing) -> Finding:
    """The drift of the least sample, unless the noise of one of both timings explains it."""
    found = _drift(what, old.latency_ms, new.latency_ms)
    change = new.latency_ms / old.latency_ms - 1
    is_noise = any(one.explains(change, LATENCY_DRIFT) for one in (old, new))
    if found.verdict == HOLDS or not is_noise:
        return found
    return replace(found, verdict=SHOWN, remark=f"{found.remark}, {NOISY}")


def _drift(what: str, old: float, new: float) -> Finding:
    change = new / old - 1
    slower, faster = change > LATENCY_DRIFT, change < -LATENCY_DRIFT
    return Finding(
        what=what,
        recorded=f"{old:.4g} ms",
        found=f"{new:.4g} ms",
        verdict=DRIFTED if slower else FASTER if faster else HOLDS,
        remark=f"{change:+.1%}",
    )


def _cold_start(bundle: Bundle) -> list[Finding]:
    recorded = bundle.record["cold_start"]
    now = None if recorded is None else measure_cold_start(bundle.folder, recorded["processes"])
    if recorded is None or now is None:
        return []
    return [
        Finding(
            what=title,
            recorded=f"{recorded[name]:.4g} ms",
            found=f"{getattr(now, name):.4g} ms",
            verdict=SHOWN,
            remark=NOISY,
        )
        for title, name in (("cold start, opening", "open_ms"), ("first run", "first_run_ms"))
    ]


def _memory(bundle: Bundle) -> list[Finding]:
    recorded = bundle.record["memory"]
    if recorded is None or bundle.settings.provider != "cpu":
        return []
    old = recorded["activation_bytes"]
    is_here = is_of_here(bundle)
    now = memory_record(bundle.timed_file(), bundle.record["target"]["threads"])
    if now is None:
        return [_unknown("activations", f"{old / 1024:.0f} KiB", "onnxruntime does not tell")]
    new = now["activation_bytes"]
    is_same = abs(new - old) <= MEMORY_DRIFT * old
    return [
        Finding(
            what="activations",
            recorded=f"{old / 1024:.0f} KiB",
            found=f"{new / 1024:.0f} KiB",
            verdict=(HOLDS if is_same else DRIFTED) if is_here else UNKNOWN,
            remark="" if is_here else "another machine lays tensors out in its own way",
        )
    ]


def _unknown(what: str, recorded: str, why: str) -> Finding:
    return Finding(what=what, recorded=recorded, found="-", verdict=UNKNOWN, remark=why)


def settings_of(bundle: Bundle) -> SessionSettings:
    """The settings of a bundle with its target's threads, to be timed among others."""
    settings = bundle.settings
    return replace(settings, threads=settings.threads_of(bundle.record["target"]["threads"]))
