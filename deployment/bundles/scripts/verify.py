#!/usr/bin/env python3
"""Checks that the network of this folder is whole and computes here what it should.

    python verify.py

It needs Python 3.8 or newer, onnxruntime and numpy, and nothing else. Checked are:

- files: each is there and has the hash that `bundle.json` gives;
- session: onnxruntime opens `model.onnx` with the recorded settings, and its inputs fit;
- answers: for stored inputs (real images, random ones, zeros, extremes) the logits differ from
  those that torch gave by no more than the recorded tolerance;
- classes: of the real images as many get torch's class as when the bundle was made;
- repeats: two runs, and a run in a second session, give the same bits.

Exit code 0: all hold. 1: something does not. 2: it cannot be checked; the text says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from typing import Any, Callable, Iterator, Tuple  # noqa: UP035 (Python 3.8)

FORMAT_NAME = "hwnas-bundle-"
FORMAT = 2
"""The newest format that this script reads."""

HOLDS, FAILS, CANNOT = 0, 1, 2

HERE = os.path.dirname(os.path.abspath(__file__))

Check = Tuple[bool, str]  # noqa: UP006 (Python 3.8)
"""Whether it holds, and in words what was found."""


class RefusedError(Exception):
    """Nothing can be checked; the text says what to do."""


# ---- the record and the files -------------------------------------------------------------------


def read_record(folder: str) -> dict[str, Any]:
    """What `bundle.json` holds, if this script can read it."""
    path = os.path.join(folder, "bundle.json")
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except OSError as error:
        raise RefusedError(f"there is no bundle in {folder}: {error}") from error
    except ValueError as error:
        raise RefusedError(f"{path} is damaged: {error}") from error
    name = record.get("format") if isinstance(record, dict) else None
    number = str(name)[len(FORMAT_NAME) :]
    if not str(name).startswith(FORMAT_NAME) or not number.isdigit():
        raise RefusedError(f"{path} is no bundle of hwnas: its format is {name!r}")
    if int(number) > FORMAT:
        raise RefusedError(
            f"{path} was made by a newer version: its format is {name!r}, this script reads up to "
            f"{FORMAT_NAME}{FORMAT}; use the verify.py of that version"
        )
    if int(number) < FORMAT:
        raise RefusedError(f"{path} is of an older format, {name!r}: export the network again")
    assert isinstance(record, dict)
    return record


def seal(record: dict[str, Any]) -> str:
    """The hash of a record without its own hash."""
    rest = {key: value for key, value in record.items() if key != "seal"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def wrong_files(folder: str, record: dict[str, Any]) -> list[str]:
    """What is wrong with the files, a sentence each."""
    found = []
    if record.get("seal") != seal(record):
        found.append("bundle.json was altered: it does not have the hash that it was sealed with")
    for name, expected in sorted(record["files"].items()):
        try:
            with open(os.path.join(folder, *name.split("/")), "rb") as file:
                actual = hashlib.sha256(file.read()).hexdigest()[:16]
        except OSError:
            found.append(f"{name} is missing")
            continue
        if actual != expected:
            found.append(f"{name} was altered: its hash is {actual}, recorded was {expected}")
    return found


# ---- the session --------------------------------------------------------------------------------


def open_session(folder: str, record: dict[str, Any], say: Callable[[str], None]) -> Any:
    """The network in onnxruntime with the recorded settings.

    Where this onnxruntime lacks the recorded provider, the processor takes its place.
    """
    import onnxruntime

    settings = record["session"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = {
        "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }[settings["optimisation"]]
    options.enable_cpu_mem_arena = settings["arena"]
    options.enable_mem_pattern = settings["memory_pattern"]
    there = onnxruntime.get_available_providers()
    entries = dict(settings["config_entries"])
    providers = [(name, dict(its)) for name, its in settings["providers"] if name in there]
    wanted = settings["providers"][0][0]
    if wanted not in there:
        say(
            f"note: this onnxruntime has no {wanted} (it has {', '.join(there)}): "
            "CPUExecutionProvider takes its place"
        )
        providers = [("CPUExecutionProvider", {})]
        entries.pop("session.disable_cpu_ep_fallback", None)
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    options.log_severity_level = 3
    path = os.path.join(folder, "model.onnx")
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise RefusedError(
            f"onnxruntime {onnxruntime.__version__} cannot open model.onnx (it was made with "
            f"{record['versions'].get('onnxruntime', 'another version')}): {error}"
        ) from error


def batches(session: Any, images: Any) -> Iterator[tuple[Any, int]]:
    """Batches of the size that the file takes, the last filled up with zeros; and how many count.

    A file that takes any number of images gets all at once.
    """
    import numpy

    size = session.get_inputs()[0].shape[0]
    if not isinstance(size, int):
        size = len(images)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        count = len(batch)
        if count < size:
            filling = numpy.zeros((size - count, *batch.shape[1:]), batch.dtype)
            batch = numpy.concatenate([batch, filling])
        yield batch, count


def logits(session: Any, images: Any) -> Any:
    """The logits of some images, an `n x classes` array."""
    import numpy

    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: b})[0][:count] for b, count in batches(session, images)]
    return numpy.concatenate(parts)


def load_samples(folder: str, record: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The stored inputs by their kind, each with torch's logits."""
    import numpy

    with numpy.load(os.path.join(folder, "samples.npz"), allow_pickle=False) as stored:
        return {
            kind: (stored[kind + "_images"], stored[kind + "_logits"])
            for kind in record["samples"]["kinds"]
        }


# ---- checks -------------------------------------------------------------------------------------


def check_session(session: Any, record: dict[str, Any]) -> Check:
    """Whether the file's input is the recorded one."""
    entry, wanted = session.get_inputs()[0], record["input"]
    shape = [size if isinstance(size, int) else None for size in entry.shape]
    found = (entry.name, shape, entry.type)
    expected = (wanted["name"], wanted["shape"], wanted["type"])
    used = session.get_providers()[0]
    if found == expected:
        return True, f"opened by {used}, input {entry.name} {entry.shape} {entry.type}"
    return False, f"the input is {found}, recorded is {expected}"


def difference(measure: str, ours: Any, torch: Any) -> float:
    """How far logits are from torch's, as the record measures it."""
    import numpy

    if not numpy.isfinite(ours).all():
        return float("inf")
    apart = ours.astype(numpy.float64) - torch.astype(numpy.float64)
    if measure == "largest":
        return float(numpy.abs(apart).max() / max(float(numpy.abs(torch).max()), 1e-30))
    return float(numpy.sqrt(numpy.mean(apart**2)) / max(float(torch.std()), 1e-30))


def check_answers(
    session: Any, record: dict[str, Any], samples: dict[str, tuple[Any, Any]]
) -> list[Check]:
    """For each kind of stored inputs, whether the logits are torch's within the tolerance."""
    found = []
    measure = record["samples"]["measure"]
    for kind, (images, torch) in samples.items():
        facts = record["samples"]["kinds"][kind]
        apart, allowed = difference(measure, logits(session, images), torch), facts["tolerance"]
        text = f"{len(images)} {facts['title']}: {apart:.2g}"
        if allowed is None:
            found.append((True, f"{text}, not judged ({facts['note']})"))
        else:
            found.append((apart <= allowed, f"{text}, allowed {allowed:.2g}"))
    return found


def check_classes(
    session: Any, record: dict[str, Any], samples: dict[str, tuple[Any, Any]]
) -> Check:
    """Whether as many real images get torch's class as when the bundle was made."""
    if "real" not in samples:
        return True, "no real images are stored"
    images, torch = samples["real"]
    same = int((logits(session, images).argmax(1) == torch.argmax(1)).sum())
    least = record["samples"]["least_same_class"]
    return (
        same >= least,
        f"{same} of {len(images)} real images get torch's class, at least {least}",
    )


def check_repeats(first: Any, second: Any, samples: dict[str, tuple[Any, Any]]) -> Check:
    """Whether two runs and two sessions give the same bits."""
    images = next(iter(samples.values()))[0]
    one = logits(first, images).tobytes()
    again = logits(first, images).tobytes() == one
    other = logits(second, images).tobytes() == one
    if again and other:
        return True, "two runs and a second session give the same bits"
    return False, "two runs differ" if not again else "a second session gives other bits"


def verify(folder: str, say: Callable[[str], None] = print) -> bool:
    """Does all checks, says what was found, and returns whether all hold."""
    record = read_record(folder)
    wrong = wrong_files(folder, record)
    checks: list[tuple[str, Check]] = [("files", (False, text)) for text in wrong]
    if not wrong:
        count = len(record["files"])
        checks.append(("files", (True, f"{count} files have the recorded hashes")))
    if not any(text.endswith("missing") for text in wrong):
        checks += _checks_of_session(folder, record, say)
    for name, (holds, text) in checks:
        say("{:<5}{:<9}{}".format("ok" if holds else "FAIL", name, text))
    return all(holds for _, (holds, _) in checks)


def _checks_of_session(
    folder: str, record: dict[str, Any], say: Callable[[str], None]
) -> list[tuple[str, Check]]:
    try:
        samples = load_samples(folder, record)
    except (OSError, ValueError, KeyError) as error:
        return [("samples", (False, f"samples.npz cannot be read: {error}"))]
    try:
        session = open_session(folder, record, say)
        fits = check_session(session, record)
        checks = [("session", fits)]
        if fits[0]:
            checks += [("answers", one) for one in check_answers(session, record, samples)]
            checks.append(("classes", check_classes(session, record, samples)))
            second = open_session(folder, record, lambda text: None)
            checks.append(("repeats", check_repeats(session, second, samples)))
        return checks
    except RefusedError as error:
        return [("session", (False, str(error)))]


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="Checks the network of this folder.")
    parser.add_argument("--folder", default=HERE, help="another bundle's folder")
    options = parser.parse_args(arguments)
    try:
        import numpy  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        print(f"cannot check: {error}; pip install onnxruntime numpy", file=sys.stderr)
        return CANNOT
    try:
        holds = verify(options.folder)
    except RefusedError as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return CANNOT
    print("all checks hold" if holds else "NOT all checks hold: do not use this file")
    return HOLDS if holds else FAILS


if __name__ == "__main__":
    sys.exit(main())
