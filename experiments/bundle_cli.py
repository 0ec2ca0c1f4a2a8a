"""The commands `hwnas export`, `hwnas reproduce` and `hwnas compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NUMERICS = "fp32, dynamic, static, fp16, mixed"


def export_command(
    run: Annotated[Path, typer.Argument(help="the folder of a finished search or quickstart")],
    target: Annotated[
        str | None, typer.Option(help="a target of the run; not needed where it has one")
    ] = None,
    pick: Annotated[
        str,
        typer.Option(help="knee, fastest, most-accurate, or a place in the front: 0 the fastest"),
    ] = "knee",
    out: Annotated[
        Path | None, typer.Option(help="the bundle's folder, new; in the run's if not given")
    ] = None,
    max_accuracy_loss: Annotated[
        float,
        typer.Option(help="the accuracy a file may lose against fp32; 0.005 is half a point"),
    ] = 0.005,
    numerics: Annotated[
        list[str] | None,
        typer.Option(
            help=f"which numbers are allowed: {NUMERICS}; again for each further one; what is "
            "right for the target if not given"
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="how long the fastest kernels are looked for")
    ] = 60.0,
    preprocessing: Annotated[
        bool,
        typer.Option(
            "--preprocessing", help="the file takes pixels, bytes with channels last, itself"
        ),
    ] = False,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="the file takes any number of images")
    ] = False,
    keep_pick: Annotated[
        bool,
        typer.Option(
            "--keep-pick", help="export the picked network even if it is slower than the limit"
        ),
    ] = False,
    fine_tune: Annotated[
        int,
        typer.Option(help="passes over the training images that the network is trained on first"),
    ] = 0,
    distil: Annotated[
        bool,
        typer.Option("--distil", help="fine-tuning: it learns from the largest subnet, too"),
    ] = False,
    quantisation_aware: Annotated[
        bool,
        typer.Option(
            "--quantisation-aware", help="fine-tuning: it learns to be rounded as static int8 is"
        ),
    ] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="another runtime that is timed with the file on this machine: openvino, "
            "openvino-int8, litert, torch, torch-compile ...; again for further ones"
        ),
    ] = None,
) -> None:
    """Makes a network of a run a file: the fastest kernels, verified, timed, with a model card."""
    from experiments.export_command import ExportOptions, export
    from experiments.export_tuning import TuningOptions

    export(
        ExportOptions(
            run=run,
            target=target,
            pick=pick,
            out=out,
            max_accuracy_loss=max_accuracy_loss,
            numerics=tuple(numerics) if numerics else None,
            seconds=seconds,
            takes_pixels=preprocessing,
            any_batch=dynamic_batch,
            keeps_pick=keep_pick,
            tuning=TuningOptions(
                epochs=fine_tune, distil=distil, quantisation_aware=quantisation_aware
            ),
            beside=tuple(beside or ()),
        )
    )


def reproduce_command(
    bundle: Annotated[Path, typer.Argument(help="a bundle's folder")],
) -> None:
    """Measures a bundle again and tells what drifted; exit code 1 if something did."""
    from experiments.reproduce_command import reproduce

    if not reproduce(bundle).holds:
        raise typer.Exit(1)


def compare_command(
    bundles: Annotated[list[Path], typer.Argument(help="two or more folders of bundles")],
) -> None:
    """Shows bundles side by side; those of this machine are timed together."""
    from experiments.compare_command import compare

    compare(bundles)
