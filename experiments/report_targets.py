"""The report's main part: per target its front as a picture and its files as a table."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.diagrams import front_svg
from experiments.report_data import Front, Point, TargetFacts, items, keeps_limits, text
from experiments.report_text import (
    DASH,
    badge,
    decimals_for,
    escape,
    figure,
    file_link,
    fixed,
    how,
    percent,
    percent_interval,
    table,
)


def targets_section(front: Front) -> str:
    """One part per target."""
    return "\n".join(_target(front, target) for target in front.targets)


def _target(front: Front, target: TargetFacts) -> str:
    points = front.searched(target.name) + front.baselines(target.name)
    return f"""<h2>The front on {escape(target.name)}</h2>
<p>{_about(target)}</p>
{figure(front_svg(front, target), _caption(front, target), _key(front, target))}
<h3>The files</h3>
{_files(points)}
{_sources(points)}"""


def _about(target: TargetFacts) -> str:
    content = target.content
    device = text(content, "description") or text(content, "device")
    threads, batch = text(content, "threads"), target.batch_size
    parts = [
        escape(device.rstrip(".")) if device else "",
        escape(text(content, "runtime")),
        escape(text(content, "precision")),
        f"{threads} thread{'' if threads == '1' else 's'}" if threads else "",
        "one image a run" if batch == 1 else f"{batch} images a run, latency of the whole run",
    ]
    return " · ".join(part for part in parts if part) or DASH


def _caption(front: Front, target: TargetFacts) -> str:
    images = next((p.test_images for p in front.points if p.test_images), None)
    on_test = f" ({fixed(images, 0)} images)" if images else ""
    limit = target.limits.get("latency_ms")
    timed = "measured" if front.is_timed(target.name) else front.predicted_word(target.name)
    asked = f" Networks left of the dashed line keep the limit of {limit:g} ms." if limit else ""
    return (
        "Up and to the left is better. <b>Left</b>: every network the search evaluated, by its "
        f"validation accuracy and {how(front.predicted_word(target.name))} latency; the line "
        f"joins the front among those chosen.{_next_best(front, target)} <b>Right</b>: the same "
        f"chosen networks as files, by {how(timed)} "
        "latency and "
        f"accuracy on the test split{on_test}, which had no part in the choice; bars are 95 % "
        f"intervals.{asked}"
    )


def _next_best(front: Front, target: TargetFacts) -> str:
    """What `next best` means, where a network of the target is called so."""
    if all(point.title != "next best" for point in front.searched(target.name)):
        return ""
    return (
        " Where the front has fewer networks than were asked for, <i>next best</i> ones join: "
        "another network is at least as fast and as accurate, and they lie off the line."
    )


def _key(front: Front, target: TargetFacts) -> str:
    marks = [
        '<span><i style="background:#0072b2"></i>chosen network, numbered as in the table</span>',
        '<span><i style="background:#b4bbc3;transform:scale(.6)"></i>evaluated network</span>',
    ]
    if not all(keeps_limits(network, target.name) for network in _evaluated(front)):
        marks.append("<span>× evaluated, breaks a limit</span>")
    if front.baselines(target.name):
        marks.append(
            '<span><i class="diamond" style="background:#c44e00"></i>hand-made baseline</span>'
        )
    return "".join(marks)


def _evaluated(front: Front) -> list[dict[str, object]]:
    return [n for n in items(front.content, "search", "evaluated") if isinstance(n, dict)]


def _files(points: Sequence[Point]) -> str:
    header = (
        "",
        "network",
        f"test accuracy<br>{how('measured')}",
        f"latency, ms<br>{how(points[0].predicted_word if points else 'predicted')}",
        f"latency, ms<br>{how('measured')}",
        "error",
        f"energy, mJ<br>{_energy_word(points)}",
        f"memory, KiB<br>{how('predicted')}",
        f"parameters<br>{how('counted')}",
        "file",
    )
    latency = decimals_for(t for p in points for t in (p.predicted_ms, p.measured_ms))
    energy = decimals_for(p.energy_mj for p in points)
    return table(
        header,
        [_file(point, latency, energy) for point in points],
        numeric=(2, 3, 4, 5, 6, 7, 8),
        row_classes=["baseline" if p.is_baseline else "" for p in points],
        name="files",
    )


def _file(point: Point, latency: int, energy: int) -> list[str]:
    interval = point.predicted_interval_ms
    span = f"{fixed(interval[0], latency)}–{fixed(interval[1], latency)}" if interval else ""
    p90 = f"p90 {fixed(point.p90_ms, latency)}" if point.p90_ms is not None else ""
    memory = None if point.peak_memory_bytes is None else point.peak_memory_bytes / 1024
    kind = "<small>hand-made baseline</small>" if point.is_baseline else ""
    return [
        badge(point.badge, is_baseline=point.is_baseline),
        f"<b>{escape(point.label)}</b>{kind}<small>{escape(point.name)}</small>",
        f"{percent(point.test)}<small>{percent_interval(point.test_interval)}</small>",
        f"{fixed(point.predicted_ms, latency)}{_small(span)}",
        f"{fixed(point.measured_ms, latency)}{_small(p90)}",
        percent(point.latency_error, signed=True),
        fixed(point.energy_mj, energy),
        fixed(memory, 1),
        fixed(point.parameters, 0),
        file_link(point.file),
    ]


def _small(line: str) -> str:
    return f"<small>{line}</small>" if line else ""


def _energy_word(points: Sequence[Point]) -> str:
    """How the energies came about: the word before the colon of their sources."""
    words = sorted({p.energy_source.partition(":")[0] for p in points if p.energy_source})
    return " ".join(how(word) for word in words) or how("predicted")


def _sources(points: Sequence[Point]) -> str:
    energy = sorted({p.energy_source for p in points if p.energy_source})
    latency = sorted({(p.is_baseline, p.latency_source) for p in points if p.latency_source})
    lines = ["Brackets: 95 % interval of the test accuracy."]
    if any(p.predicted_interval_ms for p in points):
        lines.append("Under a predicted latency: its 90 % interval.")
    if any(p.measured_ms is not None for p in points):
        lines.append("Error: predicted / measured − 1.")
    else:
        lines.append("No runner reaches the target, so the files were not timed.")
    lines += [
        f"Latency of the {'baseline' if is_baseline else 'chosen networks'}: {escape(source)}."
        for is_baseline, source in latency
    ]
    lines += [f"Energy: {escape(source)}." for source in energy]
    return f'<p class="note">{" ".join(lines)}</p>'
