"""What the numbers of a report rest on: the search, the predictions, the data, the versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from statistics import median

from experiments.report_data import Front, TargetFacts, items, latency_errors, number, pick, text
from experiments.report_pictures import agreement_svg, history_svg
from experiments.report_text import (
    DASH,
    data_size,
    duration,
    escape,
    facts,
    figure,
    fixed,
    how,
    percent,
    significant,
    table,
)
from strategies.held_out import ENOUGH

_METRICS = {"latency_ms": "latency", "energy_mj": "energy", "peak_memory_bytes": "peak memory",
            "flash_bytes": "weights"}  # fmt: skip


def search_section(front: Front) -> str:
    """How the search went: hypervolume over evaluations, and how good its predictor was."""
    run = front.content
    return f"""<h2>How the search went</h2>
<div class="split">
{figure(history_svg(front), _history_caption(front))}
<div>
{facts(_search_facts(front))}
<p class="note">Kendall's τ: 1 means the predictor ranks networks exactly as their accuracy does, 0
that it guesses. Ranking by the number of MACs alone is what any predictor has to beat. The
predictor only proposes; every network on a front was evaluated on
{fixed(number(run, "dataset", "validation"), 0)} validation images.</p>
</div>
</div>"""


def _search_facts(front: Front) -> list[tuple[str, str]]:
    search = front.content.get("search")
    seconds = number(search, "seconds")
    if seconds is None:
        seconds = number(front.content, "seconds", "search")
    return [
        ("strategy", escape(pick(search, "strategy"))),
        ("networks evaluated", fixed(number(search, "evaluations"), 0)),
        ("evaluations failed", fixed(number(search, "failed"), 0)),
        ("time", duration(seconds)),
        ("predictor's Kendall τ", fixed(number(search, "predictor", "kendall_tau"), 2)),
        ("MACs alone, Kendall τ", fixed(number(search, "predictor", "macs_kendall_tau"), 2)),
        ("predictor's mean error", percent(number(search, "predictor", "mape"))),
        ("predictor judged on", _judged_on(number(search, "predictor", "n"))),
    ]


def _judged_on(count: float | None) -> str:
    few = ", too few to tell" if count is not None and count < ENOUGH else ""
    return f"{fixed(count, 0)} networks{few}"


def _history_caption(front: Front) -> str:
    ends = []
    for target in front.targets:
        shares = items(front.content, "search", "history", target.name)
        last = number({"last": shares[-1]}, "last") if shares else None
        if last is not None:
            ends.append(f"{escape(target.name)} ends at {percent(last)}")
    return (
        "The share of the box of error and latency that the front found so far dominates, after "
        "each evaluation. A line that has gone flat says that more evaluations would bring little"
        + (f"; {', '.join(ends)}." if ends else ".")
    )


def agreement_section(front: Front) -> str:
    """Predicted against measured latency of everything that was exported."""
    searched = latency_errors(front.searched())
    hand_made = latency_errors(front.baselines())
    middle = f"Median error {percent(median(searched))}" if searched else "No error is known"
    if hand_made:
        middle += f", of the baselines (hollow marks) {percent(median(hand_made))}"
    inside = [
        low <= p.measured_ms <= high
        for p in front.points
        if p.predicted_interval_ms and p.measured_ms
        for low, high in (p.predicted_interval_ms,)
    ]
    held = (
        f" {sum(inside)} of {len(inside)} lie in their predicted 90 % interval." if inside else ""
    )
    again = ", at the second timing" if pick(front.content, "refit", "refitted") is True else ""
    caption = (
        f"Each mark is one exported file: its latency {how('predicted')} and then "
        f"{how('measured')}{again}. {middle}.{held}"
    )
    return f"""<h2>Do the predictions hold?</h2>
{figure(agreement_svg(front), caption)}
{_refit(front)}"""


def _refit(front: Front) -> str:
    refit = front.content.get("refit")
    if not isinstance(refit, Mapping):
        return ""
    error, threshold = number(refit, "median_error"), number(refit, "threshold")
    if not refit.get("refitted"):
        within = error is not None and threshold is not None and error <= threshold
        return (
            f"<p>The median error of {percent(error)} is {'within' if within else 'beside'} the "
            f"threshold of {percent(threshold)}; the cost models were kept as they were.</p>"
        )
    before = number(refit, "fresh_median_error_before")
    sound = before is not None and threshold is not None and before <= threshold
    return (
        "<p>When the chosen networks were first timed, the median error of their predictions was "
        f"{percent(error)}, above the threshold of {percent(threshold)}. So the cost models were "
        "fitted again with what had been measured, and networks were chosen and timed again; the "
        "timings shown are from then, beside what was predicted for each network first. On "
        f"{fixed(number(refit, 'fresh_networks'), 0)} fresh networks "
        f"that neither fit had seen, the median error went from {percent(before)} to "
        f"{percent(number(refit, 'fresh_median_error_after'))}"
        f"{': the first fit was within the threshold there' if sound else ''}.</p>"
    )


def grounds_section(front: Front) -> str:
    """Cost models, reachable ranges, data, weights, times, versions, and how to run it again."""
    return f"""<h2>What the numbers rest on</h2>
<h3>How good the cost models are</h3>
{_cost_models(front)}
<h3>What is reachable in the space</h3>
{_reachable(front)}
<div class="halves">
<div><h3>Data and network</h3>
{facts(_data_facts(front))}</div>
<div><h3>Run</h3>
{facts(_run_facts(front))}</div>
</div>
<h3>To run it again</h3>
<pre class="mono">{escape(command(front.content))}</pre>"""


def _cost_models(front: Front) -> str:
    header = (
        "target", "networks", "median error", "mean error", "within 5 %", "Spearman ρ",
        "latency coverage", "source",
    )  # fmt: skip
    rows = []
    for target in front.targets:
        model = target.content.get("cost_model")
        rows.append(
            [
                f"<b>{escape(target.name)}</b>",
                fixed(number(model, "networks"), 0),
                percent(number(model, "median_error")),
                percent(number(model, "mape")),
                percent(number(model, "within_5_percent"), 0),
                fixed(number(model, "spearman"), 3),
                _coverage(front, target),
                escape(pick(model, "source")),
            ]
        )
    return table(header, rows, numeric=(1, 2, 3, 4, 5))


def _coverage(front: Front, target: TargetFacts) -> str:
    """The mean shares of the chosen networks' latency by what they rest on."""
    covers = [p.coverage for p in front.searched(target.name) if p.coverage]
    if not covers:
        return DASH
    means = {k: sum(c.get(k, 0.0) for c in covers) / len(covers) for k in covers[0]}
    ordered = sorted(means.items(), key=lambda item: -item[1])
    return ", ".join(f"{percent(m, 0)} {escape(kind)}" for kind, m in ordered if m >= 0.005)


def _reachable(front: Front) -> str:
    rows = []
    modelled = any(p.energy_source.startswith("modelled") for p in front.points)
    for target in front.targets:
        for place, found in enumerate(items(target.content, "reachable")):
            metric = text(found, "metric")
            exact = pick(found, "exact")
            known = {True: "exact", False: "best found by a bounded search"}
            limit = target.limits.get(metric)
            word = "modelled" if metric == "energy_mj" and modelled else "predicted"
            rows.append(
                [
                    f"<b>{escape(target.name)}</b>" if place == 0 else "",
                    f"{escape(_METRICS.get(metric, metric))} {how(word)}",
                    _amount(metric, number(found, "lowest")),
                    _amount(metric, number(found, "highest")),
                    known.get(exact, DASH) if isinstance(exact, bool) else DASH,
                    _amount(metric, limit) if limit else "none",
                ]
            )
    if not rows:
        return f"<p>{DASH}</p>"
    header = ("target", "metric", "lowest", "highest", "how sure", "limit asked")
    return table(header, rows, numeric=(2, 3, 5))


def _amount(metric: str, value: float | None) -> str:
    if value is None:
        return DASH
    if metric in ("peak_memory_bytes", "flash_bytes"):
        return data_size(value)
    unit = {"latency_ms": " ms", "energy_mj": " mJ"}.get(metric, "")
    return f"{significant(value)}{unit}"


def _data_facts(front: Front) -> list[tuple[str, str]]:
    run = front.content
    split = " / ".join(
        fixed(number(run, "dataset", name), 0) for name in ("train", "validation", "test")
    )
    space_hash = escape(pick(run, "space", "hash"))
    differences = [p.numeric_difference for p in front.points if p.numeric_difference is not None]
    trained = [
        f"{fixed(count, 0)} {unit}"
        for unit in ("epochs", "steps")
        if (count := number(run, "supernet", unit)) is not None
    ]
    agreement = f"at most {max(differences):.1e} apart" if differences else DASH
    return [
        ("dataset", escape(pick(run, "dataset", "name"))),
        ("train / validation / test", f"{split} images"),
        ("space", escape(pick(run, "space", "description") or pick(run, "space", "name"))),
        ("choices", fixed(number(run, "space", "choices"), 0)),
        ("space hash", f'<span class="mono">{space_hash}</span>'),
        ("supernet", f"{fixed(number(run, 'supernet', 'parameters'), 0)} parameters"),
        ("training", ", ".join(trained) or DASH),
        ("weights hash",
         f'<span class="mono">{escape(pick(run, "supernet", "weights_hash"))}</span>'),
        ("torch and file agree", agreement),
    ]  # fmt: skip


def _run_facts(front: Front) -> list[tuple[str, str]]:
    run = front.content
    spent = run.get("seconds")
    versions = run.get("versions")
    found = [("created", escape(run.get("created"))), ("seed", escape(run.get("seed")))]
    if isinstance(spent, Mapping):
        found += [(f"time of {n}", duration(number(spent, n))) for n in spent if n != "total"]
        found.append(("time in total", duration(number(spent, "total"))))
    if isinstance(versions, Mapping):
        shown = ", ".join(f"{escape(name)} {escape(versions[name])}" for name in versions)
        found.append(("versions", shown))
    return found


def command(run: Mapping[str, object]) -> str:
    """The command line that repeats a run: one option per setting, unset ones left out.

    `--resume` is left out as well: it says how a run was finished, not what it was.
    """
    config = run.get("config")
    settings = dict(config) if isinstance(config, Mapping) else {}
    if run.get("seed") is not None:
        settings.setdefault("seed", run["seed"])
    words = ["hwnas", "quickstart"]
    settings.pop("resume", None)
    for name, value in settings.items():
        option = "--" + str(name).replace("_", "-")
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for one in value for word in (option, shlex.quote(str(one)))]
        elif isinstance(value, str | int | float) and value is not False:
            words += [option, shlex.quote(str(value))]
    return " ".join(words)
