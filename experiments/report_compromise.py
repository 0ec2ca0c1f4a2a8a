"""The report's part on networks that are good on all targets at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.report_data import Front, items, number, pick
from experiments.report_text import DASH, decimals_for, escape, fixed, how, percent, table


def compromise_section(front: Front) -> str:
    """The compromises by accuracy; nothing where the run has one target or found none."""
    found = front.content.get("compromise")
    networks = [n for n in items(found, "networks") if isinstance(n, Mapping)]
    names = [target.name for target in front.targets]
    if not networks or len(names) < 2:
        return ""
    decimals = {
        name: decimals_for(number(n, "latency_ms", name) for n in networks) for name in names
    }
    header = [f"validation accuracy<br>{how('measured')}"]
    header += [f"{escape(name)}, ms<br>{how(front.predicted_word(name))}" for name in names]
    rows = []
    for network in networks:
        cells = [percent(number(network, "validation_accuracy"))]
        for name in names:
            behind = number(network, "behind", name)
            latency = fixed(number(network, "latency_ms", name), decimals[name])
            cells.append(f"{latency}<small>{percent(behind)} behind</small>")
        cells.append(escape(", ".join(map(str, items(network, "exported")))) or DASH)
        rows.append(cells)
    lost = " and ".join(
        f"{percent(number(found, 'regret', name))} on {escape(name)}" for name in names
    )
    volume = " and ".join(
        f"{percent(number(found, 'hypervolume', name))} on {escape(name)}" for name in names
    )
    rule = escape(pick(found, "rule"))
    shown = table([*header, "exported as"], rows, numeric=range(len(header)), name="compromise")
    return f"""<h2>Good on every target</h2>
<p>One network for all targets, instead of one for each: chosen among the evaluated networks that
keep the limits of all (rule: {rule}{_weights(found, names)}).</p>
{shown}
<p class="note">Behind: how much more accuracy the target's own front has at no more latency. In
place of any point of a front, the nearest of these networks lacks at most, of that front's range
in error or in log latency: {lost}. They dominate this share of the fronts' hypervolumes:
{volume}.</p>"""


def _weights(found: object, names: Sequence[str]) -> str:
    """How much each target counted, where they did not count alike."""
    weights = {name: number(found, "weights", name) for name in names}
    if len(set(weights.values())) < 2:
        return ""
    shown = ", ".join(f"{escape(name)} {weight:g}" for name, weight in weights.items() if weight)
    return f"; weights: {shown}"
