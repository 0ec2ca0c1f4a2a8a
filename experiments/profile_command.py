"""`hwnas profile export-kit`, `import`, `measure`: from a device without hwnas to a target.

A kit is exported, measured on the device by hand or by commands, and what comes back becomes a
target with a fitted cost model and a report of how good it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deployment import KitRunner
from deployment.kit import Kit, KitModel, Results, TimingProtocol, read_results, write_kit
from experiments.board_profile import board_profile
from experiments.console import progress_bar, say
from experiments.draw_command import Images, find_space
from experiments.target_report import (
    RESOLUTION,
    TargetReport,
    refuse_hopeless,
    report_of,
    steadiness,
)
from experiments.target_report_view import show_report
from experiments.verify_command import space_to_prove
from hardware_profiles import (
    Profile,
    Target,
    device,
    device_names,
    local_profile,
    own_devices_folder,
    save_profile,
)
from latency_models import (
    MeasuredCostModel,
    SavedTarget,
    calibration_networks,
    random_weights_model,
    save_target,
)
from latency_models.measured import MIN_NETWORKS
from records import BadInputError, CorruptFileError, ExistingRunError, content_hash, json_text
from search_spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class KitOptions:
    """What goes into a kit.

    Attributes:
        spaces: Names, see `space_of_kit`.
        images: What a space by name is made for.
        networks: How many networks of each space.
        threads: Threads of a network.
        batch_size: Images a run.
        seed: Draws the networks.
        protocol: How they are measured.
    """

    spaces: Sequence[str]
    images: Images = field(default_factory=Images)
    networks: int = 40
    threads: int = 1
    batch_size: int = 1
    seed: int = 0
    protocol: TimingProtocol = field(default_factory=TimingProtocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What becomes of measurements.

    Attributes:
        device: A known device that they come from; None makes a profile of what it says of itself.
        profile: The device's profile as a file.
        name: The name of a new device; None takes what it calls itself.
        out: The folder to write; None takes one in the user's own devices folder.
        force: Whether hopeless measurements are used all the same.
        resolution: Relative difference that networks should be told apart by.
    """

    device: str | None = None
    profile: Path | None = None
    name: str | None = None
    out: Path | None = None
    force: bool = False
    resolution: float = RESOLUTION

    def __post_init__(self) -> None:
        given = [
            f"--{key}" for key in ("device", "profile", "name") if getattr(self, key) is not None
        ]
        if len(given) > 1:
            raise BadInputError(f"{' and '.join(given)} exclude each other: give one of them")
        if not 0 < self.resolution < 1:
            raise BadInputError(f"--resolution must be within 0 and 1, got {self.resolution:g}")


def export_kit(options: KitOptions, out: str | Path) -> Kit:
    """Writes a kit's folder and says what to do with it.

    Raises:
        BadInputError: No such space, one that is too small, or numbers out of range.
        ExistingRunError: The folder holds something.
    """
    if Path(out).exists() and (Path(out).is_file() or any(Path(out).iterdir())):
        raise ExistingRunError(f"{out} already exists and is not an empty folder: choose another")
    kit = make_kit(options)
    write_kit(kit, out)
    say(
        f"{len(kit.models)} networks for batch {kit.batch_size} and {kit.threads} thread(s) "
        f"written to {out}\ncopy the folder to the device, run `python3 measure.py` there, bring "
        "results.json back, and: hwnas profile import results.json"
    )
    return kit


def make_kit(options: KitOptions) -> Kit:
    """The kit: of every space the extremes and a random sample, exported with random weights."""
    if not options.spaces:
        raise BadInputError("which space? give --space")
    spaces = [space_of_kit(name, options.images) for name in options.spaces]
    if len({space.hash for space in spaces}) != len(spaces):
        raise BadInputError(f"a space is given twice: {', '.join(options.spaces)}")
    models = []
    for index, space in enumerate(spaces):
        genes = calibration_networks(space, options.networks, options.seed)
        if len(genes) < MIN_NETWORKS:
            raise BadInputError(
                f"{space.name} has {len(genes)} networks, a cost model needs {MIN_NETWORKS}"
            )
        macs = space.layer_table(genes).macs
        with progress_bar(f"exporting {space.name}") as advance:
            for done, row in enumerate(genes):
                model = KitModel(
                    data=random_weights_model(space, row, options.batch_size),
                    space=index,
                    genes=tuple(int(gene) for gene in row),
                    macs=int(macs[done]),
                )
                models.append(model)
                advance(done + 1, len(genes), "")
    records = [
        {"name": space.name, "hash": space.hash, "definition": space.to_json()} for space in spaces
    ]
    return Kit(
        models=models,
        threads=options.threads,
        batch_size=options.batch_size,
        spaces=records,
        protocol=options.protocol,
    )


def space_of_kit(name: str, images: Images) -> SearchSpace:
    """A space by name, by JSON file, or `module:Class` of a user's own.

    Raises:
        BadInputError: No such space.
    """
    return space_to_prove(name, images.image_size) if ":" in name else find_space(name, images)


def import_results(
    path: str | Path, options: ImportOptions, own_spaces: Sequence[str] = ()
) -> tuple[SavedTarget, TargetReport]:
    """Makes a target of what a kit brought back, prints its report and keeps it.

    Args:
        path: The `results.json`.
        options: What becomes of it.
        own_spaces: `module:Class` of spaces of a user's own that are in it.

    Raises:
        CorruptFileError: The file is not what it should be; names the row and the field.
        BadInputError: Measurements that no cost model can be fitted to.
        HopelessMeasurementError: The noise is too high, and `force` is not given.
        ExistingRunError: The target is there already.
    """
    for name in own_spaces:
        space_of_kit(name, Images())  # so that the class is known
    results = read_results(path)
    return _import(results, Path(path).read_bytes(), options, str(path), None)


def measure_device(
    runner: KitRunner, kit: KitOptions, options: ImportOptions, *, is_local: bool = False
) -> tuple[SavedTarget, TargetReport]:
    """Measures a kit on a device that commands or Ray reach, and imports what comes back.

    Args:
        runner: Reaches the device.
        kit: What to measure.
        options: What becomes of it.
        is_local: Whether the device is this machine, whose own profile is then taken.

    Raises:
        DeviceError: It cannot be reached, or what runs there failed; what was measured until then
            is kept and named.
    """
    _refuse_existing(options, kit, is_local)
    made = make_kit(kit)
    place = _unfinished(made, runner)
    path = place / "results.json"
    say(f"measuring {len(made.models)} networks on {runner.name}")
    _say_what_is_there(path)
    try:
        results = runner.measure(made, path, lambda line: say(f"  {line}"))
        profile = local_profile() if is_local else None
        imported = _import(results, path.read_bytes(), options, runner.name, profile)
    except BaseException:
        if path.exists():  # an hour on a board is not thrown away
            say(
                "what was measured is kept: the same command goes on from it, or measures again "
                f"if it was complete; to use it as it is: hwnas profile import {path}"
            )
        else:
            shutil.rmtree(place)
        raise
    shutil.rmtree(place)
    return imported


def _unfinished(kit: Kit, runner: KitRunner) -> Path:
    """The folder for the results of this kit on this device, until they are imported."""
    what = {
        "spaces": [space["hash"] for space in kit.spaces],
        "genes": [(model.space, *model.genes) for model in kit.models],
        "protocol": asdict(kit.protocol),
        "use": (kit.threads, kit.batch_size),
        "device": repr(runner),  # another way to the same device may measure otherwise
    }
    place = own_devices_folder() / ".unfinished" / content_hash(what)
    place.mkdir(parents=True, exist_ok=True)
    return place


def _say_what_is_there(path: Path) -> None:
    try:
        earlier = read_results(path)
    except CorruptFileError:
        return
    if not earlier.is_complete:
        rounds = len(earlier.reference_rounds_ms)
        say(f"an earlier run broke off after {rounds} rounds: going on, if the kit is the same")


def _refuse_existing(options: ImportOptions, kit: KitOptions, is_local: bool) -> None:
    """Finds out before measuring that a device is unknown or the target's place is taken.

    What a new device without a `--name` calls itself is known only afterwards.
    """
    name = "local" if is_local else options.name
    if options.device is not None or options.profile is not None:
        name = device(options.device or options.profile or "").name
    folder = options.out
    if folder is None and name is not None:
        folder = own_devices_folder() / f"{name}-t{kit.threads}-b{kit.batch_size}"
    if folder is not None and folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ExistingRunError(f"{folder} already exists: choose another --name or --out")


def _import(
    results: Results, raw: bytes, options: ImportOptions, source: str, profile: Profile | None
) -> tuple[SavedTarget, TargetReport]:
    steady = steadiness(results.timings)
    if not options.force:
        refuse_hopeless(steady, options.resolution)
    profile, is_new = (profile, False) if profile is not None else _profile(results, options)
    target = Target(profile=profile, batch_size=results.batch_size, threads=results.threads)
    models = [_cost_model(results, index, target, source) for index in _spaces(results, source)]
    report = report_of(models, results, options.resolution)
    folder = own_devices_folder() / target.name if options.out is None else options.out
    record = json_text(report.to_json(), indent=1).encode()
    saved = save_target(folder, models, {"results.json": raw, "report.json": record})
    if is_new and options.out is None:
        save_profile(profile, own_devices_folder() / f"{profile.name}.yaml")
    show_report(report)
    name = target.name if options.out is None else str(folder)
    say(f"kept in {folder}\nin a script: costs = load_target({name!r}).cost_model(space)")
    return saved, report


def _profile(results: Results, options: ImportOptions) -> tuple[Profile, bool]:
    """The device's profile, and whether it is a new device."""
    if options.device is not None or options.profile is not None:
        return device(options.device or options.profile or ""), False
    made = board_profile(results, options.name)
    if options.out is None and made.name in device_names():
        raise ExistingRunError(
            f"there is a device {made.name!r} already: --device {made.name} adds a target to it, "
            "--name makes another device"
        )
    return made, True


def _spaces(results: Results, source: str) -> range:
    count = len(results.manifest["spaces"])
    if count == 0:
        raise CorruptFileError(f"{source}: its networks belong to no search space")
    return range(count)


def _cost_model(results: Results, index: int, target: Target, source: str) -> MeasuredCostModel:
    """The cost model of one of the kit's spaces."""
    space = _space(results.manifest["spaces"][index], source, index)
    rows = results.of_space(index)
    if len(rows) < MIN_NETWORKS:
        raise BadInputError(
            f"{source} has {len(rows)} networks of {space.name}, a cost model needs "
            f"{MIN_NETWORKS}: export a kit with more --networks"
        )
    latencies = np.array([row.timing.latency_ms for row in rows])
    if np.ptp(latencies) == 0:
        raise BadInputError(
            f"all {len(rows)} networks of {space.name} in {source} take {latencies[0]:g} ms: the "
            "device's clock is too coarse for them, or this is no measurement"
        )
    return MeasuredCostModel(space, target, np.array([row.genes for row in rows]), latencies)


def _space(entry: dict[str, Any], source: str, index: int) -> SearchSpace:
    """The space that a kit was exported for, as it is here."""
    try:
        space = SearchSpace.from_json(entry["definition"])
    except BadInputError as error:
        raise CorruptFileError(
            f"{source}: spaces[{index}] is not known here: {error}; give a space of your own as "
            "--space module:Class"
        ) from error
    if space.hash != entry["hash"]:
        raise CorruptFileError(
            f"{source}: spaces[{index}] is {entry['name']} with hash {entry['hash']}, here it has "
            f"{space.hash}: it was changed since; export the kit again"
        )
    return space


Make = Callable[[], KitRunner]


def chosen_runner(choices: dict[str, Make | None]) -> tuple[str, KitRunner]:
    """The one runner that is given among options, and the option.

    Raises:
        BadInputError: None of them, or more than one.
    """
    given = {key: make for key, make in choices.items() if make is not None}
    if len(given) != 1:
        raise BadInputError(
            f"which device? give one of {', '.join(choices)}, got {', '.join(given) or 'none'}"
        )
    ((key, make),) = given.items()
    return key, make()
