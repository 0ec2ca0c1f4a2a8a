"""The commands: `hwnas quickstart`, `hwnas search`, `hwnas train`, `hwnas devices`,
`hwnas profile`, `hwnas draw`, `hwnas verify`, `hwnas explain`, `hwnas export`, `hwnas reproduce`,
`hwnas compare`.

`experiments.cli` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from experiments.bundle_cli import compare_command, export_command, reproduce_command
from experiments.cluster.train_cli import train_command
from experiments.console import console, say, show_table
from experiments.profile_cli import profile_app
from experiments.search_cli import quickstart_command, search_command
from experiments.spaces import SPACES
from hardware_profiles import (
    DEVICE_ROW_UNITS,
    device,
    device_names,
    device_rows,
    local_profile,
    measure_local,
    number_rows,
    profile_lines,
    save_profile,
)
from records import HwnasError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hardware-aware neural architecture search: networks for your device, measured there.",
)
devices_app = typer.Typer(help="The devices that are known.", invoke_without_command=True)
app.add_typer(devices_app, name="devices")
app.add_typer(profile_app, name="profile")

app.command("quickstart")(quickstart_command)
app.command("search")(search_command)
app.command("train")(train_command)
app.command("export")(export_command)
app.command("reproduce")(reproduce_command)
app.command("compare")(compare_command)


@devices_app.callback()
def devices_command(context: typer.Context) -> None:
    """Lists the devices, with how much of each profile was read from a source."""
    if context.invoked_subcommand is not None:
        return
    rows = device_rows([device(name) for name in device_names()])
    show_table(f"Devices: {DEVICE_ROW_UNITS}", *_columns(rows), left=2)


@devices_app.command("show")
def show_command(name: Annotated[str, typer.Argument(help="a name or a profile's path")]) -> None:
    """Shows every number of a device with its source."""
    profile = device(name)
    rows = number_rows(profile)
    show_table(f"{profile.name}: {profile.description}", *_columns(rows), left=1, wrapped="source")
    for line in profile_lines(profile):
        say(line)


@profile_app.callback()
def profile_command(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="also write the profile to this file")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="measure again")] = False,
) -> None:
    """Measures this machine (arithmetic, memory, caches, runtimes), or a device of yours."""
    if context.invoked_subcommand is not None:
        return
    if out is not None and out.exists():
        raise HwnasError(f"{out} exists and is never overwritten: choose another file")
    with console.status("measuring this machine"):
        profile = (
            measure_local() if refresh and out is not None else local_profile(refresh=refresh)
        )
    show_table(
        f"{profile.name}: {profile.description}",
        *_columns(number_rows(profile)),
        left=1,
        wrapped="source",
    )
    say(f"instruction sets: {', '.join(profile.instruction_sets) or 'unknown'}")
    say("runtimes: " + ", ".join(f"{k} {v}" for k, v in profile.runtimes.items()))
    say(profile.notes)
    if out is not None:
        save_profile(profile, out)
        say(f"written to {out}")


@app.command("draw")
def draw_command(
    out: Annotated[Path, typer.Option(help="the picture to write: .png, .svg or .pdf")],
    space: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(SPACES)}, a published one such as nas-bench-201, or a .json file; "
            "not needed where --genes-json holds it"
        ),
    ] = None,
    genes_json: Annotated[
        Path | None,
        typer.Option(help="the architecture: a list of genes, its choices, or a bundle.json"),
    ] = None,
    compare_json: Annotated[
        Path | None, typer.Option(help="a second one; what differs is marked")
    ] = None,
    seed: Annotated[int, typer.Option(help="draws an architecture where none is given")] = 0,
    image_size: Annotated[int | None, typer.Option(help="side of the images")] = None,
    channels: Annotated[int | None, typer.Option(help="channels of the images")] = None,
    classes: Annotated[int | None, typer.Option(help="number of classes")] = None,
) -> None:
    """Draws an architecture of any space, or two with their differences."""
    from experiments.draw_command import Images, draw

    images = Images(image_size=image_size, channels=channels, num_classes=classes)
    drawn = draw(
        out,
        space=space,
        images=images,
        genes_file=genes_json,
        compare_file=compare_json,
        seed=seed,
    )
    say(f"an architecture of {drawn.name} written to {out}")


@app.command("verify")
def verify_command(
    space: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(SPACES)}, a published one such as nas-bench-201, or module:Class"
        ),
    ],
    architectures: Annotated[
        int, typer.Option(help="random architectures to look at, beside the extremes")
    ] = 8,
    image_size: Annotated[int | None, typer.Option(help="side of the images")] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx/--no-onnx", help="export files and compare them")
    ] = True,
    seed: Annotated[int, typer.Option(help="derives everything random")] = 0,
) -> None:
    """Proves that tables, supernet, subnets and files of a space agree; exit code 1 if not."""
    from experiments.verify_command import prove

    report = prove(space, architectures=architectures, image_size=image_size, onnx=onnx, seed=seed)
    if not report.ok:
        raise typer.Exit(1)


@app.command("explain")
def explain_command(
    model: Annotated[Path | None, typer.Argument(help="an ONNX file or a bundle's folder")] = None,
    target: Annotated[
        str, typer.Option(help="a device's name, a profile's path, or local")
    ] = "local",
    threads: Annotated[int, typer.Option(help="threads of one inference")] = 1,
    batch: Annotated[int, typer.Option(help="images a run, with --space")] = 1,
    precision: Annotated[str, typer.Option(help="on another device")] = "fp32",
    end_to_end: Annotated[
        str | None,
        typer.Option(
            help="an image's file or a size such as 640x480: time its way to the network"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="also write a picture: .png, .svg, .pdf")
    ] = None,
    top: Annotated[int, typer.Option(help="print that many of the longest; 0 all in order")] = 20,
    space: Annotated[
        str | None, typer.Option(help="explain an architecture of this space")
    ] = None,
    genes_json: Annotated[Path | None, typer.Option(help="the architecture, as in draw")] = None,
    image_size: Annotated[int | None, typer.Option(help="side of the images")] = None,
    seed: Annotated[int, typer.Option(help="draws an architecture where none is given")] = 0,
) -> None:
    """Shows where the time of a network goes, kernel by kernel, beside the device's ceiling."""
    from experiments.draw_command import Images
    from experiments.explain_command import explain

    explain(
        model,
        target,
        threads=threads,
        batch=batch,
        precision=precision,
        image=end_to_end,
        out=out,
        top=top,
        space=space,
        genes_file=genes_json,
        images=Images(image_size=image_size, channels=None, num_classes=None),
        seed=seed,
    )


def _columns(rows: Sequence[object]) -> tuple[list[str], list[list[str]]]:
    """Head and body of a table of dataclasses with text fields."""
    from dataclasses import astuple, fields, is_dataclass

    if not rows:
        return [], []
    first = rows[0]
    assert is_dataclass(first)
    head = [field.name.replace("_", " ") for field in fields(first)]
    body = [[str(cell) for cell in astuple(row)] for row in rows]  # type: ignore[call-overload]
    return head, body
