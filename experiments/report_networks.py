"""The chosen networks drawn as rows of blocks, in hand-written SVG.

Above each row a strip shows the predicted latency, divided among the blocks; its length is to
scale within a target, so that a network twice as fast has a strip half as long.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from experiments.precision_option import in_fp32
from experiments.report_data import Block, Front, Point
from experiments.report_text import (
    badge,
    escape,
    fixed,
    how,
    percent,
    percent_interval,
    significant,
)

KINDS = {
    "stem": ("#5f6b78", "#eef0f3", "stem"),
    "conv": ("#0072b2", "#e5f1f8", "convolution"),
    "attention": ("#b86e00", "#fdf1dc", "attention"),
    "cell": ("#007d5c", "#e3f3ee", "cell"),
    "transition": ("#8a94a0", "#ffffff", "change of layout"),
    "head": ("#a8558a", "#f8eaf3", "classifier"),
}
"""Line colour, fill and name of each kind of block, chosen to differ for colour-blind people."""

_OTHER = ("#8c6d1f", "#f7f1de", "other")

_WIDTH = 1064
_GAP = 17
_NARROWEST, _WIDEST = 94, 156
_LETTER, _SMALL_LETTER = 6.7, 5.7  # the mean widths of a bold and of a small letter


def networks_section(front: Front) -> str:
    """Every delivered network with blocks, by target."""
    parts = []
    words = " or ".join(how(w) for w in dict.fromkeys(p.predicted_word for p in front.points))
    for target in front.targets:
        points = [p for p in front.points if p.target == target.name and p.blocks]
        if points:
            slowest = max(sum(_latencies(p.blocks)) for p in points)
            rows = "\n".join(_network(point, slowest) for point in points)
            parts.append(f"<h3>On {escape(target.name)}</h3>\n{rows}")
    if not parts:
        return ""
    used = {block.kind for point in front.points for block in point.blocks}
    return f"""<h2>The networks</h2>
<p>Blocks run from left to right. The strip above a network is its {words} latency, to
scale within a target and divided among its blocks; the percentages say the same. Sizes are height
× width × channels of a block's output.</p>
<div class="key">{_key(used)}</div>
{"".join(parts)}"""


def network_svg(blocks: Sequence[Block], slowest_ms: float, name: str) -> str:
    """One network as SVG.

    Args:
        blocks: Its blocks in order.
        slowest_ms: The latency that a strip of full width stands for.
        name: What it is, for screen readers.
    """
    latencies = _latencies(blocks)
    total, largest = sum(latencies), max(latencies, default=0.0)
    texts = [_lines(block) for block in blocks]
    height = 47 + 15 * max((len(strong) + len(soft) for strong, soft in texts), default=1)
    parts = _strip(blocks, latencies, slowest_ms)
    x, y = 0.0, 24.0 if parts else 2.0
    for place, block in enumerate(blocks):
        width = _block_width(block)
        if place and x + _GAP + width > _WIDTH:
            x, y = 0.0, y + height + 14
        if place:
            parts.append(_arrow(x, y + height / 2))
            x += _GAP
        share = (latencies[place] / total, latencies[place] / largest) if total else None
        parts.append(_block(block, texts[place], (x, y, width, height), share))
        x += width
    bottom = y + height + 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {_WIDTH + 2} {bottom}" '
        f'class="blocks" role="img" aria-label="{escape(name)}" '
        f'font-family="inherit" font-size="12">\n' + "\n".join(parts) + "\n</svg>"
    )


def _network(point: Point, slowest_ms: float) -> str:
    numbers = [
        f"{percent(point.test)} {percent_interval(point.test_interval)} test accuracy",
        f"{significant(point.known_ms)} ms {how(point.known_word)}",
        f"{fixed(point.parameters, 0)} parameters",
        f"{fixed(point.macs, 0)} MACs",
        *([f"in fp32: {escape(in_fp32(point.precisions))}"] if point.precisions else []),
    ]
    return f"""<div class="network"><header>{badge(point.badge, is_baseline=point.is_baseline)}
<b>{escape(point.label)}</b> <span class="soft mono">{escape(point.name)}</span>
<span class="numbers">{" · ".join(numbers)}</span></header>
{network_svg(point.blocks, slowest_ms, f"The blocks of {point.name}")}
</div>"""


def _key(used: set[str]) -> str:
    marks = [KINDS[kind] for kind in KINDS if kind in used]
    if used - set(KINDS):
        marks.append(_OTHER)
    return "".join(
        f'<span><i class="box" style="background:{fill};border:2px solid {line}"></i>{name}</span>'
        for line, fill, name in marks
    )


def _latencies(blocks: Sequence[Block]) -> list[float]:
    """Latencies in ms, an unknown one as 0."""
    return [max(0.0, block.latency_ms or 0.0) for block in blocks]


def _strip(blocks: Sequence[Block], latencies: Sequence[float], slowest_ms: float) -> list[str]:
    parts = []
    x = 0.0
    if sum(latencies) <= 0 or slowest_ms <= 0:
        return []
    for block, latency_ms in zip(blocks, latencies, strict=True):
        width = _WIDTH * latency_ms / slowest_ms
        colour = KINDS.get(block.kind, _OTHER)[0]
        tip = f"{block.name}: {significant(latency_ms)} ms predicted"
        parts.append(
            f'<rect x="{x:.1f}" y="2" width="{max(0.6, width - 1.5):.1f}" height="11" rx="1.5" '
            f'fill="{colour}"><title>{escape(tip)}</title></rect>'
        )
        x += width
    return parts


def _block(
    block: Block,
    lines: tuple[list[str], list[str]],
    place: tuple[float, float, float, float],
    share: tuple[float, float] | None,
) -> str:
    """A rounded box: kind and output size, what it is, its details, its share of the latency."""
    x, y, width, height = place
    colour, fill, _ = KINDS.get(block.kind, _OTHER)
    dashes = ' stroke-dasharray="4 3"' if block.kind == "transition" else ""
    tip = " · ".join(t for t in (block.name, block.text, block.detail, block.size) if t)
    parts = [
        f"<g><title>{escape(tip)}</title>",
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" '
        f'stroke="{colour}" stroke-width="1.4"{dashes}/>',
        _line(x + 9, y + 17, block.name, 'font-size="10.5" fill="#59636e"'),
    ]
    strong, soft = lines
    for line, words in enumerate(strong):
        parts.append(_line(x + 9, y + 35 + 15 * line, words, 'font-weight="600" fill="#1f2933"'))
    for line, words in enumerate(soft, start=len(strong)):
        parts.append(_line(x + 9, y + 35 + 15 * line, words, 'font-size="11" fill="#3c4753"'))
    base = y + height - 12
    parts.append(_line(x + 9, base, _times(block.size), 'font-size="11" fill="#59636e"'))
    if share is not None:
        bold = 'font-size="11" text-anchor="end" font-weight="600"'
        parts.append(_line(x + width - 9, base, percent(share[0], 0), f'{bold} fill="{colour}"'))
        parts.append(
            f'<rect x="{x + 9}" y="{base + 5}" width="{(width - 18) * share[1]:.1f}" height="2.6" '
            f'rx="1.3" fill="{colour}"/>'
        )
    return "".join(parts) + "</g>"


def _block_width(block: Block) -> float:
    """As wide as its text needs, within limits; what remains too long is broken into lines."""
    if block.kind == "transition":
        return _NARROWEST
    small = max(len(block.detail), len(block.name), len(block.size) + 6)
    needed = 20 + max(_LETTER * len(block.text), _SMALL_LETTER * small)
    return round(min(_WIDEST, max(_NARROWEST, needed)))


def _lines(block: Block) -> tuple[list[str], list[str]]:
    """Text and detail, broken into at most two lines each that fit the box."""
    room = _block_width(block) - 16

    def broken(words: str, letter: float) -> list[str]:
        letters = int(room / letter)
        return textwrap.wrap(_times(words), letters, max_lines=2, placeholder=" …")

    return broken(block.text, _LETTER), broken(block.detail, _SMALL_LETTER)


def _times(words: str) -> str:
    """Sizes with a proper multiplication sign: `3x3` becomes `3×3`."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", words)


def _line(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>' if words else ""


def _arrow(x: float, y: float) -> str:
    """The arrow from x to the block after the gap."""
    return (
        f'<path d="M{x + 3} {y} H{x + _GAP - 3} m-4 -3.5 l4 3.5 l-4 3.5" fill="none" '
        f'stroke="#8a94a0" stroke-width="1.4"/>'
    )
