"""The head of the report: what was asked, what came out, in cards and sentences.

Every sentence is derived from the numbers of the run, and says less where they show less: an
accuracy gain over the baseline whose intervals overlap is called one that may be chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from experiments.report_data import Front, Point, TargetFacts, latency_errors, number, pick, text
from experiments.report_text import (
    data_size,
    duration,
    escape,
    fixed,
    how,
    percent,
    percent_interval,
    significant,
)


def headline(front: Front) -> str:
    """Title, lead, cards and findings."""
    run = front.content
    dataset = text(run, "dataset", "name") or "unnamed dataset"
    names = [escape(t.name).replace("-", "&#8209;") for t in front.targets]
    where = _listed(names) or "no target"
    created = text(run, "created").replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")
    return f"""<p class="eyebrow">hwnas report{f" · {escape(created)}" if created else ""}</p>
<h1>Networks for {escape(dataset)} on {where}</h1>
<p class="lead">{_lead(front)}</p>
<div class="cards">
{_cards(front)}
</div>
{_findings(front)}
<p class="note">How to read the marks: {how("measured")} (a latency: the least of a few hundred
interleaved runs; medians are in bundle.json), {how("predicted")} by a model fitted to
measurements, {how("modelled")} from data sheets or published constants
only.</p>"""


def _lead(front: Front) -> str:
    run = front.content
    cardinality = _power(text(run, "space", "cardinality"))
    space = escape(text(run, "space", "name") or "the search space")
    size = number(run, "dataset", "image_size")
    images = f"{size:.0f} × {size:.0f} pixels, " if size else ""
    classes = number(run, "dataset", "classes")
    counted = f" ({images}{classes:.0f} classes)" if classes else ""
    spent = duration(number(run, "seconds", "total"))
    evaluations = fixed(number(run, "search", "evaluations"), 0)
    return (
        f"From {cardinality} possible networks in {space}, {evaluations} were evaluated on "
        f"{escape(text(run, 'dataset', 'name') or 'the dataset')}{counted}; "
        f"{len(front.searched())} became files, {_timed_where(front)}. It all took {spent}."
    )


def _timed_where(front: Front) -> str:
    """Which files were timed."""
    timed = [escape(t.name) for t in front.targets if front.is_timed(t.name)]
    if not timed:
        return "none of them timed on its target"
    if len(timed) == len(front.targets):
        return "each timed on its target"
    return f"timed on {_listed(timed)} alone"


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), "".join(names[-1:])) if part)


def _power(cardinality: str) -> str:
    """`2.6e+06` as 2.6 × 10⁶; anything else as it stands."""
    mantissa, found, exponent = cardinality.partition("e")
    try:
        power = int(exponent)
    except ValueError:
        found = ""
    if not found:
        return escape(cardinality or None)
    return f"{escape(mantissa)} × 10<sup>{power}</sup>"


def _cards(front: Front) -> str:
    cards: list[tuple[str, str, str, str]] = []
    best = front.most_accurate()
    if best is not None:
        where = f"{_ms(best.known_ms)} {best.known_word} on {escape(best.target)}"
        cards.append(
            (
                "measured",
                "test accuracy of the network best on validation",
                percent(best.test),
                f"95 % interval {percent_interval(best.test_interval)}<br>{where}",
            )
        )
    for target in sorted(front.targets, key=lambda t: not front.is_timed(t.name))[:2]:
        point = front.fastest(target.name)
        if point is not None:
            images = f", {target.batch_size} images" if target.batch_size > 1 else ""
            where = f"on {escape(target.name)}".replace("-", "&#8209;")
            accuracy = f"{percent(point.test)} {percent_interval(point.test_interval)}"
            cards.append(
                (
                    point.known_word,
                    f"fastest network{images}<br>{where}",
                    _ms(point.known_ms),
                    f"{accuracy}<br>on the test split",
                )
            )
    errors = latency_errors(front.searched())
    if errors:
        timed = "timed twice" if _is_refitted(front) else "timed"
        files = f"at most {percent(errors[-1])},<br>{len(errors)} files {timed}"
        what = "median error of the predicted latency"
        cards.append(("measured", what, percent(median(errors)), files))
    total = number(front.content, "seconds", "total")
    if total is not None:
        seconds = {n: number(front.content, "seconds", n) for n in ("training", "search")}
        parts = [f"{name} {duration(spent)}" for name, spent in seconds.items() if spent]
        what = "from images to " + ("timed files" if errors else "files")
        cards.append(("measured", what, duration(total), "<br>".join(parts)))
    return "\n".join(
        f'<div class="card">{how(word)}<div class="what">{what}</div>'
        f'<div class="value">{value}</div><div class="more">{more}</div></div>'
        for word, what, value, more in cards
    )


def _findings(front: Front) -> str:
    """Sentences by target, side by side, and one on all predictions."""
    columns = "\n".join(
        f'<div><h3>{escape(target.name)}</h3>\n<ul class="findings">\n'
        + "\n".join(_of_target(front, target))
        + "\n</ul></div>"
        for target in front.targets
    )
    errors = latency_errors(front.searched())
    held = ""
    if errors:
        within = sum(error <= 0.05 for error in errors)
        kind = "" if within == len(errors) else ' class="warn"'
        when = "latency predicted before they were timed"
        if _is_refitted(front):
            when = "latency predicted for them first, when they were timed for the second time"
        held = (
            f'<ul class="findings"><li{kind}>{within} of {len(errors)} chosen networks were '
            f"measured within 5 % of the {when}; the worst prediction is "
            f"{percent(errors[-1])} off.</li></ul>"
        )
    if _is_refitted(front):
        held += (
            '<ul class="findings"><li class="warn">When they were timed for the first time, '
            f"predictions were off by {percent(number(front.content, 'refit', 'median_error'))} "
            "(median), so the cost models were fitted again; see below.</li></ul>"
        )
    return f'<div class="halves">\n{columns}\n</div>\n{held}'


def _is_refitted(front: Front) -> bool:
    return pick(front.content, "refit", "refitted") is True


def _of_target(front: Front, target: TargetFacts) -> Iterable[str]:
    best, fastest = front.most_accurate(target.name), front.fastest(target.name)
    if best is None:
        yield "<li>No network was delivered here.</li>"
        return
    yield (
        f"<li>The most accurate network, chosen on validation: <b>{percent(best.test)}</b> "
        f"{percent_interval(best.test_interval)} on the test split at "
        f"<b>{_ms(best.known_ms)}</b> {best.known_word}.</li>"
    )
    if fastest is not None and fastest is not best and best.known_ms and fastest.known_ms:
        ratio = best.known_ms / fastest.known_ms
        yield (
            f"<li>The fastest takes <b>{_ms(fastest.known_ms)}</b>, {ratio:.1f} times less, at "
            f"{percent(fastest.test)} {percent_interval(fastest.test_interval)}.</li>"
        )
    for baseline in front.baselines(target.name):
        yield from _beside(front, baseline)
    yield from _limits(front, target)


def _beside(front: Front, baseline: Point) -> Iterable[str]:
    """Compares a baseline with the searched network of the nearest latency, known alike."""
    known = [p for p in front.searched(baseline.target) if p.known_ms and p.test is not None]
    known = [p for p in known if p.known_word == baseline.known_word]
    if not known or not baseline.known_ms or baseline.test is None:
        return
    base_ms, base_test = baseline.known_ms, baseline.test
    near = min(known, key=lambda p: abs((p.known_ms or 0.0) / base_ms - 1))
    ratio = (near.known_ms or 0.0) / base_ms
    gain = (near.test or 0.0) - base_test
    overlap = True
    if near.test_interval and baseline.test_interval:
        low, high = sorted((near.test_interval, baseline.test_interval))
        overlap = low[1] >= high[0]
    meaning = "the intervals overlap, so this may be chance" if overlap else "beyond the intervals"
    yield (
        f"<li>Beside the hand-made {escape(baseline.label)} ({percent(base_test)} at "
        f"{_ms(base_ms)}), network {escape(near.badge)} at {ratio:.2f} times its latency has "
        f"{fixed(100 * gain, 1, signed=True)} points of test accuracy: {meaning}.</li>"
    )


def _limits(front: Front, target: TargetFacts) -> Iterable[str]:
    points = front.searched(target.name)
    for metric, limit in target.limits.items():
        values = [_value(point, metric) for point in points]
        kept = sum(value is not None and value <= limit for value in values)
        source = "predicted"
        if metric == "latency_ms" and points:
            source = points[0].known_word
        if metric == "energy_mj" and any(p.energy_source.startswith("modelled") for p in points):
            source = "modelled"
        kind = "" if kept == len(values) else ' class="warn"'
        yield (
            f"<li{kind}>The limit of {_amount(metric, limit)} is kept by "
            f"{kept} of {len(values)} files, {source}.</li>"
        )


def _value(point: Point, metric: str) -> float | None:
    values = {
        "latency_ms": point.known_ms,
        "energy_mj": point.energy_mj,
        "peak_memory_bytes": point.peak_memory_bytes,
        "parameters": point.parameters,
        "macs": point.macs,
    }
    return values.get(metric)


def _amount(metric: str, limit: float) -> str:
    if metric == "latency_ms":
        return f"{limit:g} ms latency"
    if metric == "energy_mj":
        return f"{limit:g} mJ"
    if metric == "peak_memory_bytes":
        return f"{data_size(limit)} peak memory"
    return f"{limit:,g} {escape(metric)}"


def _ms(latency_ms: float | None) -> str:
    shown = significant(latency_ms)
    return shown if latency_ms is None else f"{shown} ms"
