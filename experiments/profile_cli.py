"""The commands of `hwnas profile` that bring a device of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployment import CommandRunner, RayRunner
from deployment.kit import TimingProtocol
from deployment.runners.command_file import read_command_file
from experiments.draw_command import Images
from experiments.profile_command import (
    ImportOptions,
    KitOptions,
    chosen_runner,
    export_kit,
    import_results,
    measure_device,
)
from experiments.spaces import SPACES
from experiments.target_report import RESOLUTION
from records import BadInputError

profile_app = typer.Typer(
    help="Measures this machine, or a device of yours: `hwnas profile COMMAND --help`.",
    invoke_without_command=True,
)

Spaces = Annotated[
    list[str],
    typer.Option(
        help=f"{', '.join(SPACES)}, a published one such as nas-bench-201, a .json file, or "
        "module:Class; more than once for several"
    ),
]
Networks = Annotated[int, typer.Option(help="networks of each space")]
Batch = Annotated[int, typer.Option(help="images a run")]
Threads = Annotated[int, typer.Option(help="threads of a network")]
Rounds = Annotated[int, typer.Option(help="visits to each network, at least")]
Sustained = Annotated[float, typer.Option(help="seconds that one network runs without a pause")]
Seed = Annotated[int, typer.Option(help="draws the networks")]
ImageSize = Annotated[int | None, typer.Option(help="side of the images")]
Channels = Annotated[int | None, typer.Option(help="channels of the images")]
Classes = Annotated[int | None, typer.Option(help="number of classes")]
Device = Annotated[str | None, typer.Option(help="the device it is, of `hwnas devices`")]
ProfileFile = Annotated[Path | None, typer.Option(help="the device's profile as a file")]
Name = Annotated[str | None, typer.Option(help="name of a new device; else what it calls itself")]
Out = Annotated[
    Path | None, typer.Option(help="the target's folder; else one among your own devices")
]
Force = Annotated[bool, typer.Option("--force", help="use measurements that are hopeless, too")]
Resolution = Annotated[
    float, typer.Option(help="relative difference that networks should be told apart by")
]


@profile_app.command("export-kit")
def export_kit_command(
    space: Spaces,
    out: Annotated[Path, typer.Option(help="the folder to write, new or empty")],
    networks: Networks = 40,
    batch: Batch = 1,
    threads: Threads = 1,
    rounds: Rounds = 15,
    sustained: Sustained = 30.0,
    seed: Seed = 0,
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = None,
) -> None:
    """Writes networks and a script that times them on a device without hwnas."""
    kit = KitOptions(
        spaces=space,
        images=Images(image_size=image_size, channels=channels, num_classes=classes),
        networks=networks,
        threads=threads,
        batch_size=batch,
        seed=seed,
        protocol=TimingProtocol(rounds=rounds, sustained_s=sustained, seed=seed),
    )
    export_kit(kit, out)


@profile_app.command("import")
def import_command(
    results: Annotated[Path, typer.Argument(help="the results.json of a kit")],
    device: Device = None,
    profile: ProfileFile = None,
    name: Name = None,
    out: Out = None,
    force: Force = False,
    resolution: Resolution = RESOLUTION,
    space: Annotated[
        list[str] | None, typer.Option(help="module:Class of a space of your own in the results")
    ] = None,
) -> None:
    """Makes a target with a fitted cost model of what a kit brought back."""
    options = ImportOptions(
        device=device, profile=profile, name=name, out=out, force=force, resolution=resolution
    )
    import_results(results, options, space or [])


@profile_app.command("measure")
def measure_command(
    space: Spaces,
    command_file: Annotated[
        Path | None, typer.Option(help="a YAML file with the device's commands")
    ] = None,
    ssh: Annotated[str | None, typer.Option(help="reach the device by SSH: user@host")] = None,
    adb: Annotated[str | None, typer.Option(help="reach it by ADB: its serial number")] = None,
    ray: Annotated[
        str | None, typer.Option(help="reach it by Ray: the resource that its node has")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="this machine, by another process")] = False,
    python: Annotated[
        str | None,
        typer.Option(
            help="the interpreter there: python3 for --ssh and --adb, the worker's own for --ray"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="of the Ray cluster: head:6379, ray://head:10001; else this machine's"),
    ] = None,
    device: Device = None,
    profile: ProfileFile = None,
    name: Name = None,
    out: Out = None,
    force: Force = False,
    resolution: Resolution = RESOLUTION,
    networks: Networks = 40,
    batch: Batch = 1,
    threads: Threads = 1,
    rounds: Rounds = 15,
    sustained: Sustained = 30.0,
    seed: Seed = 0,
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = None,
) -> None:
    """Measures a device by commands or Ray, straight to a target with a fitted cost model."""
    options = ImportOptions(
        device=device, profile=profile, name=name, out=out, force=force, resolution=resolution
    )
    kit = KitOptions(
        spaces=space,
        images=Images(image_size=image_size, channels=channels, num_classes=classes),
        networks=networks,
        threads=threads,
        batch_size=batch,
        seed=seed,
        protocol=TimingProtocol(rounds=rounds, sustained_s=sustained, seed=seed),
    )
    if address is not None and ray is None:
        raise BadInputError("--address is that of a Ray cluster: name the device with --ray")
    given, runner = chosen_runner(
        {
            "--command-file": None
            if command_file is None
            else lambda: read_command_file(command_file),
            "--ssh": None
            if ssh is None
            else lambda: CommandRunner.ssh(ssh, python=python or "python3"),
            "--adb": None
            if adb is None
            else lambda: CommandRunner.adb(adb, python=python or "python3"),
            "--ray": None
            if ray is None
            else lambda: RayRunner(resource=ray, address=address, python=python or ""),
            "--here": CommandRunner.local if here else None,
        }
    )
    is_local = given == "--here" and device is None and profile is None and name is None
    measure_device(runner, kit, options, is_local=is_local)
