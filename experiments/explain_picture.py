"""The picture of `hwnas explain`: the kernels that take longest, beside the device's ceiling."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.draw import checked_picture, save_figure
from experiments.explain import Explanation
from experiments.report_picture_style import (
    BLUE,
    CLOUD,
    INK,
    ORANGE,
    PURPLE,
    STYLE,
    panel_title,
)

COLOURS = {"compute": BLUE, "memory": ORANGE, "launch": CLOUD}
MOST_KERNELS = 22
_LETTERS = 44


def save_picture(found: Explanation, path: Path) -> None:
    """Writes the picture: bars of the longest kernels, below them the whole from the image on.

    Args:
        found: What was explained.
        path: The picture to write, atomically: .png, .svg or .pdf.

    Raises:
        BadInputError: Another suffix.
        StorageError: The disk refuses.
    """
    path = checked_picture(path)
    longest = sorted(found.kernels, key=lambda k: -k.ms)[:MOST_KERNELS]
    rows = len(longest) + (1 if len(longest) < len(found.kernels) else 0)
    extra = 1.2 if found.pipeline is not None else 0.0
    height = 1.5 + 0.25 * rows + extra
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, height))
        top, bottom = 1 - 0.62 / height, (0.62 + extra) / height
        axes = figure.add_axes((0.36, bottom, 0.6, top - bottom))
        _bars(axes, found, rows)
        if found.pipeline is not None:
            below = figure.add_axes((0.06, 0.55 / height, 0.9, 0.32 / height))
            _pipeline(below, found)
        save_figure(figure, path)


def _bars(axes: Axes, found: Explanation, rows: int) -> None:
    longest = sorted(found.kernels, key=lambda k: -k.ms)[:MOST_KERNELS]
    labels, values, colours = [], [], []
    for kernel in longest:
        is_named_so = kernel.name.startswith(kernel.operator)
        labels.append(_cut(kernel.name) + ("" if is_named_so else f"  {kernel.operator}"))
        values.append(kernel.ms)
        colours.append(COLOURS[kernel.bound])
    rest = found.total_ms - sum(values)
    if rows > len(longest):
        labels.append(f"the other {len(found.kernels) - len(longest)}")
        values.append(rest)
        colours.append("#d3dae1")
    places = list(range(len(values)))
    axes.barh(places, values, color=colours, height=0.72)
    for place, kernel in enumerate(longest if found.is_measured else ()):
        ceiling = kernel.ceiling_ms
        axes.plot([ceiling, ceiling], [place - 0.36, place + 0.36], color=INK, linewidth=1.6)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{100 * value / found.total_ms:.1f} %", (value, place), xytext=(5, 0),
            textcoords="offset points", va="center_baseline", fontsize=8, color="#59636e",
        )  # fmt: skip
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, 1.26 * max(values))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        "ms"
        if found.profiled_ms is None
        else f"ms: the total timed without the profiler, shared out by its times (their sum: "
        f"{found.profiled_ms:.3g} ms)"
    )
    kind = "measured" if found.is_measured else "predicted: the device's ceiling"
    panel_title(
        axes,
        f"Where {found.total_ms:.3g} ms go on {found.target} ({kind})",
        "colour: what the device's numbers say holds the kernel back"
        + ("; line: its ceiling" if found.is_measured else ""),
    )
    shares = found.bound_ms
    handles = [
        Patch(color=COLOURS[b], label=f"{b} {100 * shares[b] / found.total_ms:.0f} %")
        for b in COLOURS
    ]
    axes.legend(handles=handles, loc="lower right", frameon=False)


def _pipeline(axes: Axes, found: Explanation) -> None:
    """One bar from the image's file to the logits."""
    parts = found.pipeline_parts()
    total = sum(ms for _, ms in parts)
    tones = ("#7fa8c9", "#a9c6dc", "#cfe0ec", "#e6eef5", PURPLE)
    left = 0.0
    for (name, ms), tone in zip(parts, tones, strict=True):
        axes.barh([0], [ms], left=[left], color=tone, height=1.0, label=f"{name} {ms:.2f} ms")
        if ms > 0.07 * total:
            axes.text(
                left + ms / 2, 0, f"{100 * ms / total:.0f} %", ha="center",
                va="center_baseline", fontsize=8, color="white" if name == "network" else INK,
            )  # fmt: skip
        left += ms
    axes.set_xlim(0, total)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.set_title(
        f"From the image's file to the logits: {total:.3g} ms", loc="left", fontsize=9.5,
        fontweight="bold", color=INK, pad=5,
    )  # fmt: skip
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.008, -0.1), ncols=5, frameon=False, fontsize=8,
        handlelength=1.0, columnspacing=1.4,
    )  # fmt: skip


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else "…" + name[1 - _LETTERS :]
