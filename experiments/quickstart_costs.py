"""The cost models of the main job: of this machine, of measured targets, of data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployment.providers import provider
from deployment.runners.command_file import read_command_file
from deployment.selection.candidates import provider_of
from experiments.config import QuickstartConfig, SearchConfig
from experiments.console import console, progress_bar, say
from experiments.measuring import calibrated
from experiments.precision_option import USE, searched_space
from experiments.target_options import TargetOption
from hardware_profiles import Target, device, device_names, local_target
from latency_models import (
    CostModel,
    MeasuredCostModel,
    RooflineCostModel,
    load_target,
    saved_targets,
)
from records import BadInputError, Ledger, unknown_name
from search_spaces import SearchSpace, WithBlockPrecision

BATCH_SIZES = (1, 16)
THREADS = 1
LOCAL = "local"
"""How a `--target` names this machine."""


def cost_models(
    config: SearchConfig, space: SearchSpace, ledger: Ledger | None
) -> list[CostModel]:
    """A cost model for each target, in the order of the options.

    Args:
        config: Names the targets; without any, this machine at batch 1 and 16.
        space: The networks; the models are of the space that is searched, which has choices of
            precision where the options ask for them.
        ledger: Has the timings of this machine, where the run goes on.

    Raises:
        BadInputError: How a target is used does not fit it, or it has no files of the precision
            that is asked for.
        UnknownNameError: No such target or device.
    """
    space = searched_space(config.precision, space)
    if config.targets:
        return [_named(config, option, space, ledger) for option in config.target_options]
    return [_local(config, {"batch_size": b}, space, ledger) for b in BATCH_SIZES]


def _named(
    config: SearchConfig, option: TargetOption, space: SearchSpace, ledger: Ledger | None
) -> CostModel:
    name = option.name
    if name == LOCAL:
        if option.command_file is not None or "runtime" in option.use:
            raise BadInputError(
                "files are timed on this machine directly, by onnxruntime: no command file and "
                "no other runtime for it"
            )
        return _local(config, option.use, space, ledger)
    is_profile = name.endswith((".yaml", ".yml"))
    if name in saved_targets() or ("/" in name and not is_profile):
        return _saved(config, option, space)
    if not is_profile and name not in device_names():
        raise unknown_name("target", name, [LOCAL, *saved_targets(), *device_names()])
    return _modelled(config, option, space)


def _local(
    config: SearchConfig,
    use: Mapping[str, Any],
    space: SearchSpace,
    ledger: Ledger | None,
) -> MeasuredCostModel:
    """The cost model of this machine, calibrated on timed networks."""
    with console.status("measuring this machine (once)"):
        target = local_target(**{"threads": THREADS, **use, **_precision(config)})
    with progress_bar(f"timing networks, batch {target.batch_size}") as advance:
        cost = calibrated(
            space,
            target,
            ledger,
            networks=config.calibration_networks,
            seed=config.seed,
            on_progress=lambda what, i, n: advance(i, n, what),
        )
    say(
        f"  {target.name}: {len(cost.genes)} networks timed, cross-validated error "
        f"{cost.quality.mape:.1%} (median {cost.quality.median_error:.1%}), Spearman "
        f"{cost.quality.spearman:.3f}"
    )
    return cost


def _saved(config: SearchConfig, option: TargetOption, space: SearchSpace) -> MeasuredCostModel:
    """The cost model of a target that was measured before."""
    if option.use:
        raise BadInputError(
            f"--target {option.name} is used as it was measured: leave out "
            f"{', '.join(option.use)}, or measure it so"
        )
    file = option.command_file
    runner = None if file is None else read_command_file(file)
    saved = load_target(option.name)
    timed = {entry["definition"]["space"] for entry in saved.spaces}
    if config.precision is not None and space.name not in timed:
        raise BadInputError(
            f"--target {option.name} was measured with files in {saved.target.precision} alone, "
            f"and --precision {config.precision} needs the times of stages in int8 and in fp32: "
            f"give its device, whose costs are modelled ({saved.target.profile.name}, if it is "
            "one of `hwnas devices`), or local, or leave --precision out"
        )
    if config.precision is not None and isinstance(config, QuickstartConfig) and runner is None:
        raise BadInputError(
            f"--target {option.name}: what was measured of files of mixed precision says nothing "
            "of the baseline, which is one in int8 and has to be timed: give a command file that "
            "reaches the device, or make the search alone with `hwnas search`"
        )
    cost = saved.cost_model(space, runner)
    say(
        f"  {cost.target_name}: {len(cost.genes)} networks timed before, cross-validated "
        f"error {cost.quality.mape:.1%}, Spearman {cost.quality.spearman:.3f}; "
        + (
            f"exported files are timed by {runner.name}"
            if runner is not None
            else "no runner reaches it, so exported files are not timed: costs only"
        )
    )
    return cost


def _modelled(config: SearchConfig, option: TargetOption, space: SearchSpace) -> RooflineCostModel:
    """The cost model of a device that was never measured."""
    if option.command_file is not None:
        raise BadInputError(
            f"--target {option.name} was never measured, so its files cannot be compared with "
            "predictions: measure it first with `hwnas profile measure`"
        )
    profile = device(option.name)
    if config.precision is not None and not {"int8", "fp32"} <= set(profile.peak_gflops):
        raise BadInputError(
            f"--precision {config.precision} has stages in int8 and in fp32, and the profile of "
            f"{profile.name!r} has a peak only for {', '.join(profile.peak_gflops)}: add what "
            "lacks to a profile of your own, or leave --precision out"
        )
    target = Target(profile=profile, **{**option.use, **_precision(config)})
    if isinstance(space, WithBlockPrecision):
        _check_runtime(config, space, target)
    cost = RooflineCostModel(space, target)
    say(f"  {cost.target_name}: nothing was measured there; {cost.latency_source}: costs only")
    return cost


def _precision(config: SearchConfig) -> Mapping[str, str]:
    """How the options have targets used where the precision of stages is a choice."""
    return {} if config.precision is None else USE


def _check_runtime(config: SearchConfig, space: WithBlockPrecision, target: Target) -> None:
    """Refuses a runtime that takes no int8 files as the space has them."""
    runs = provider(provider_of(target))
    if space.quantisation not in runs.ways:
        raise BadInputError(
            f"--precision {config.precision} makes {space.quantisation} int8 files, and "
            f"{runs.name}, by which {target.profile.name!r} runs them, takes only "
            f"{', '.join(runs.ways)}: give the target another runtime, or leave --precision out"
        )
