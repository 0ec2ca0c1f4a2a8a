"""The report of a run: one HTML file that needs nothing else.

Style, pictures and numbers stand inside the page; it loads nothing from a network and holds no
script. Its content comes from `front.json` alone, so a report can be written again at any time,
and the same front gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.report_compromise import compromise_section
from experiments.report_data import read_front, text
from experiments.report_evidence import agreement_section, grounds_section, search_section
from experiments.report_headline import headline
from experiments.report_networks import networks_section
from experiments.report_style import CSS
from experiments.report_targets import targets_section
from experiments.report_text import escape
from records import write_text


def write_report(front: Mapping[str, Any], path: Path) -> None:
    """Writes the report of a run.

    Args:
        front: The content of its `front.json`; what is missing there is shown as a dash.
        path: The HTML file to write, atomically.

    Raises:
        BadInputError: The front is of another format.
        StorageError: The file cannot be written.
    """
    write_text(path, report_html(front))


def report_html(front: Mapping[str, Any]) -> str:
    """The report as HTML; see `write_report`."""
    read = read_front(front)
    dataset = text(front, "dataset", "name") or "a dataset"
    sections = (
        headline(read),
        targets_section(read),
        compromise_section(read),
        search_section(read),
        agreement_section(read),
        networks_section(read),
        grounds_section(read),
    )
    body = "\n".join(section for section in sections if section)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hwnas report: {escape(dataset)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
<footer>Written by hwnas from the content of front.json; everything shown is in that file.</footer>
</main>
</body>
</html>
"""
