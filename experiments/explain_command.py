"""What `hwnas explain` prints and writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.markup import escape

from deployment import emit
from experiments.console import say, show_table
from experiments.draw import checked_picture
from experiments.draw_command import Images, find_space, read_genes
from experiments.explain import ExplainedKernel, Explanation, explain_file
from experiments.explain_picture import save_picture
from records import BadInputError, generator, read_json
from supernet import Subnet

HEAD = ("kernel", "operator", "shape", "ms", "share", "bound")
GAP = ("gap to ceiling",)
ROOFLINE = ("compute ms", "memory ms")
"""The last columns: of measured times, and of predicted ones, which are the ceiling."""


def explain(
    model: Path | None,
    target: str,
    *,
    threads: int = 1,
    batch: int = 1,
    precision: str = "fp32",
    image: str | None = None,
    out: Path | None = None,
    top: int = 20,
    space: str | None = None,
    genes_file: Path | None = None,
    images: Images | None = None,
    seed: int = 0,
) -> Explanation:
    """Explains a file, a bundle, or an architecture of a space; prints the table.

    Args:
        model: An ONNX file or a bundle's folder; None for an architecture.
        target: A device, a profile's path, or "local".
        threads: Of one inference.
        batch: Images a run, for an architecture; files have theirs.
        precision: For another device than this one.
        image: A file or size, to time what is done to images as well.
        out: The picture to write.
        top: That many of the longest kernels are printed, longest first, and the sum of the
            others; 0 prints all, in order.
        space: A space, for an architecture.
        genes_file: Its genes.
        images: What images the space is for.
        seed: Draws an architecture where no genes are given.

    Raises:
        BadInputError: Neither or both of a model and a space, what cannot be explained, fewer
            than 0 kernels to print, or a picture of another format.
    """
    if top < 0:
        raise BadInputError(f"top must be 0 (all kernels) or more, got {top}")
    if out is not None:
        checked_picture(out)
    if (model is None) == (space is None and genes_file is None):
        raise BadInputError("give either a model or an architecture with --space, --genes-json")
    options = {"threads": threads, "precision": precision, "image": image}
    if model is not None:
        found = explain_file(model, target, **options)  # type: ignore[arg-type]
    else:
        content = None if genes_file is None else read_json(genes_file, kind="architecture")
        made = find_space(space, images or Images(), content)
        if content is None:
            row = made.sample(1, generator(seed, "explain"))
        else:
            row = read_genes(made, content, f"{genes_file}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{made.name}.onnx"
            subnet = Subnet(made.graph(row)).eval()
            file.write_bytes(emit(subnet, batch).SerializeToString())
            found = explain_file(file, target, **options)  # type: ignore[arg-type]
    _print(found, top)
    if out is not None:
        save_picture(found, out)
        say(f"picture written to {out}")
    return found


def _last(kernel: ExplainedKernel, measured: bool) -> list[str]:
    if measured:
        return ["" if kernel.gap is None else f"{kernel.gap:.1f} x"]
    return [f"{kernel.compute_ms:.4f}", f"{kernel.memory_ms:.4f}"]


def _print(found: Explanation, top: int) -> None:
    by_time = sorted(found.kernels, key=lambda k: -k.ms)
    kernels, others = (by_time[:top], by_time[top:]) if top else (found.kernels, [])
    rows = [
        [
            escape(k.name),
            k.operator,
            k.shape,
            f"{k.ms:.4f}",
            f"{100 * k.share:.1f} %",
            k.bound,
            *_last(k, found.is_measured),
        ]
        for k in kernels
    ]
    head = HEAD + (GAP if found.is_measured else ROOFLINE)
    if others:
        name = "1 other" if len(others) == 1 else f"{len(others)} others"
        rest = [f"{sum(k.ms for k in others):.4f}", f"{100 * sum(k.share for k in others):.1f} %"]
        rows.append([name, "", "", *rest, *[""] * (len(head) - 5)])
    show_table(f"{Path(found.model).name} on {found.target}", head, rows, left=3)
    say(f"{found.total_ms:.4f} ms in {len(found.kernels)} kernels; {found.source}")
    if found.profiled_ms is not None:
        say(
            f"under the profiler the kernels add up to {found.profiled_ms:.4f} ms, "
            f"{found.profiled_ms / found.total_ms:.2f} x that: it takes time of its own"
        )
    bounds = ", ".join(
        f"{b} {100 * ms / found.total_ms:.0f} %" for b, ms in found.bound_ms.items()
    )
    say(f"held back by: {bounds}")
    parts = found.pipeline_parts()
    if parts:
        total = sum(ms for _, ms in parts)
        steps = [[name, f"{ms:.3f}", f"{100 * ms / total:.1f} %"] for name, ms in parts]
        show_table(
            f"from the image's file to the logits, side {found.side}",
            ("step", "ms", "share"),
            steps,
        )
        say("the steps before the network are timed on this machine with Pillow and numpy")
