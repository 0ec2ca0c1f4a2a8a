"""Numbers and tables as people read them, and as HTML that cannot break.

Every function that returns HTML escapes the text given to it; an unknown value is shown as a dash.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from urllib.parse import quote

DASH = "–"


def escape(value: object) -> str:
    """Text for HTML, also within an attribute's quotes; None is a dash."""
    return DASH if value is None else html.escape(str(value), quote=True)


def fixed(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """A number with that many decimals, thousands separated.

    >>> fixed(-12345.678, 1)
    '−12,345.7'
    """
    if value is None:
        return DASH
    sign = "+" if signed else ""
    return f"{value:{sign},.{decimals}f}".replace("-", "−")


def decimals_for(values: Iterable[float | None], digits: int = 3) -> int:
    """The decimals at which the smallest of the values has that many digits; 0 to 6.

    >>> decimals_for([0.0158, 1.25])
    4
    """
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    return min(6, max(0, digits - 1 - math.floor(math.log10(min(sizes)))))


def significant(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, never in exponent form above 1e-6.

    >>> significant(0.015812), significant(1234.5)
    ('0.0158', '1,234')
    """
    return fixed(value, decimals_for([value], digits))


def percent(share: float | None, decimals: int = 1, *, signed: bool = False) -> str:
    """A share of 1 in percent, e.g. `97.8 %`, with a space that does not break."""
    if share is None:
        return DASH
    return f"{fixed(100 * share, decimals, signed=signed)}\N{NO-BREAK SPACE}%"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """An interval of shares in percent, e.g. `[95.7, 98.9]`."""
    if interval is None:
        return DASH
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def data_size(size_bytes: float | None) -> str:
    """Bytes in KiB or MiB.

    >>> data_size(34_600)
    '33.8 KiB'
    """
    if size_bytes is None:
        return DASH
    kib = size_bytes / 1024
    return f"{kib:,.1f} KiB" if kib < 1024 else f"{kib / 1024:,.2f} MiB"


def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(81.4), duration(0.25), duration(7512)
    ('1 min 21 s', '0.25 s', '2 h 05 min')
    """
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def how(word: str) -> str:
    """The mark that says how a number came about: measured, predicted, modelled, counted."""
    kind = word if word in ("measured", "predicted", "modelled") else "other"
    return f'<span class="how {kind}">{escape(word)}</span>'


def badge(mark: str, *, is_baseline: bool = False) -> str:
    """The mark of a network, drawn as in the pictures."""
    kind = "badge baseline" if is_baseline else "badge"
    return f'<span class="{kind}"><span>{escape(mark)}</span></span>'


def file_link(path: str) -> str:
    """A link to a file beside the report, which may break after each slash."""
    if not path:
        return DASH
    shown = escape(path).replace("/", "/<wbr>")
    return f'<a class="mono" href="{escape(quote(path))}">{shown}</a>'


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    row_classes: Sequence[str] = (),
    name: str = "",
) -> str:
    """A table of cells that are HTML already.

    Args:
        header: One cell per column.
        rows: Cells by row.
        numeric: The columns of numbers, aligned to the right.
        row_classes: A class for each row; none when empty.
        name: A class for the table.
    """

    def line(cells: Sequence[str], tag: str, row_class: str) -> str:
        parts = [
            f'<{tag} class="num">{cell}</{tag}>' if column in numeric else f"<{tag}>{cell}</{tag}>"
            for column, cell in enumerate(cells)
        ]
        opening = f'<tr class="{row_class}">' if row_class else "<tr>"
        return f"{opening}{''.join(parts)}</tr>"

    classes = list(row_classes) or [""] * len(rows)
    body = "\n".join(line(row, "td", kind) for row, kind in zip(rows, classes, strict=True))
    return (
        f'<div class="scroll"><table class="{name}">\n<thead>{line(header, "th", "")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of facts: a word (plain text) and its value (HTML)."""
    lines = "\n".join(f"<dt>{escape(word)}</dt><dd>{value}</dd>" for word, value in pairs)
    return f'<dl class="facts">\n{lines}\n</dl>'


def figure(picture: str, caption: str, key: str = "") -> str:
    """A picture with what to see in it; all three are HTML."""
    legend = f'<div class="key">{key}</div>' if key else ""
    return f"<figure>\n{picture}\n{legend}<figcaption>{caption}</figcaption>\n</figure>"
