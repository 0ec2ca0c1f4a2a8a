"""A run that is finished, put together again from its folder: data, networks, costs, fronts.

The folder of `hwnas search` or `hwnas quickstart` holds the options, the weights and every
observation. Everything else follows from these: the same images and splits, the same search space,
cost models fitted to the same timings, the same fronts. Hashes say whether that is still so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import QuickstartConfig, SearchConfig
from experiments.datasets import load_dataset
from experiments.front_file import FORMAT, FRONT, SEARCH_FORMAT
from experiments.precision_option import precision_hashes
from experiments.quickstart_costs import cost_models
from experiments.quickstart_problem import make_problem
from experiments.run_folder import RUN, open_run
from experiments.run_identity import changed_hashes, input_hashes, is_timed_here, saved_options
from experiments.search import CHECKPOINT, trained
from experiments.spaces import make_space
from hardware_profiles import machine_fingerprint
from latency_models import CostModel, MeasuredCostModel
from records import BadInputError, CorruptFileError, Ledger, MissingFileError, read_json
from search_spaces import Architecture, SearchSpace
from strategies import Front, FrontPoint, Problem, pareto_front
from strategies.evaluations import recorded
from supernet import ImageData, Supernet

FORMATS: Mapping[str, type[SearchConfig]] = {
    FORMAT: QuickstartConfig,
    SEARCH_FORMAT: SearchConfig,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedRun:
    """What a run rested on and found.

    Attributes:
        folder: Its folder.
        config: Its options.
        front_file: What its `front.json` holds.
        data: The images.
        supernet: The trained weights.
        costs: The cost model of each target.
        problem: What was searched for.
        front: The fronts of all targets.
    """

    folder: Path
    config: SearchConfig
    front_file: Mapping[str, Any]
    data: ImageData
    supernet: Supernet
    costs: Sequence[CostModel]
    problem: Problem
    front: Front

    def cost(self, target: str) -> CostModel:
        """The cost model of a target by its full name."""
        return {cost.target_name: cost for cost in self.costs}[target]


def open_finished(folder: str | Path) -> FinishedRun:
    """Puts a finished run together again; some seconds.

    Raises:
        BadInputError: No run, one that is not finished, or one whose data, space, machine or
            weights are not those that it was made with.
        CorruptFileError: Files that are not what a run leaves.
    """
    folder = Path(folder)
    front_file = _front_file(folder)
    with open_run(folder, read_only=True) as ledger:
        header = ledger.run
        config = config_of(saved_options(header), folder, FORMATS[front_file["format"]])
        _check_machine(folder, header)
        data = load_dataset(
            config.dataset,
            image_size=config.image_size,
            train_images=config.train_images,
            folder=config.data_folder,
            seed=config.seed,
        )
        space = make_space(config.space, data)
        hashes = {**input_hashes(data, space), **precision_hashes(config.precision, space)}
        if changed := changed_hashes(header, hashes):
            raise BadInputError(
                f"the run in {folder} cannot be exported from: {'; '.join(changed)}; bring back "
                "what it was made with, or search again"
            )
        supernet = _supernet(folder, config, space, front_file)
        costs = _refitted(front_file, cost_models(config, space, ledger))
        problem = make_problem(config, data, supernet, costs)
        front = pareto_front(problem, list(_observations(problem, ledger, folder).values()))
    return FinishedRun(
        folder=folder,
        config=config,
        front_file=front_file,
        data=data,
        supernet=supernet,
        costs=costs,
        problem=problem,
        front=front,
    )


def config_of(
    options: Mapping[str, Any], folder: Path, kind: type[SearchConfig] = SearchConfig
) -> SearchConfig:
    """The options that a ledger's header keeps, as they were given.

    Raises:
        CorruptFileError: They are not options of this version.
    """
    values = dict(options)
    named = values.pop("target", None)
    values["targets"] = () if named is None else (named,) if isinstance(named, str) else named
    values["out"] = folder
    for name in ("command_file", "supernet"):
        if values.get(name) is not None and "://" not in str(values[name]):
            values[name] = Path(values[name])
    known = {field.name for field in fields(kind)}
    try:
        return kind(**{name: value for name, value in values.items() if name in known})
    except (BadInputError, TypeError) as error:
        raise CorruptFileError(
            f"the options of the run in {folder} are damaged: {error}"
        ) from error


def find_target(run: FinishedRun, name: str | None) -> str:
    """The full name of a run's target.

    Args:
        run: The run.
        name: The full name, or the device's where one target is of it; None where there is one.

    Raises:
        BadInputError: None of the run's targets, or several; names them.
    """
    names = list(run.problem.targets)
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    of_device = [c.target_name for c in run.costs if name in (c.target.profile.name, "")]
    if len(of_device) == 1:
        return of_device[0]
    known = ", ".join(names)
    if name is None or of_device:
        raise BadInputError(f"which target? the run in {run.folder} has: {known}; give --target")
    raise BadInputError(
        f"the run in {run.folder} has no target {name!r}; it has: {known}. For another one search "
        "again with --target and, for the weights, --supernet"
    )


def pick(front: Front, choice: str) -> FrontPoint:
    """A point of one target's front.

    Args:
        front: The front of one target, fastest first.
        choice: "knee", "fastest", "most-accurate", or a place in the front from 0.

    Raises:
        BadInputError: Another word, a place beyond the front, or an empty front.
    """
    count = len(front)
    if not count:
        raise BadInputError("no network that was measured keeps the target's limits")
    if choice == "knee":
        return front.knee()
    if choice in ("fastest", "most-accurate"):
        return front[0 if choice == "fastest" else count - 1]
    if choice.isdecimal() and int(choice) < count:
        return front[int(choice)]
    raise BadInputError(
        f"--pick must be knee, fastest, most-accurate, or a place from 0 (the fastest) to "
        f"{count - 1} in the front of {count} networks, got {choice!r}"
    )


def _front_file(folder: Path) -> dict[str, Any]:
    path = folder / FRONT
    if not path.is_file():
        if (folder / RUN).is_file():
            raise BadInputError(
                f"the run in {folder} is not finished: it has no {FRONT}; continue it with "
                "--resume first"
            )
        raise BadInputError(f"{folder} is no run: name the folder of a search or a quickstart")
    value = read_json(path, kind="front")
    name = value.get("format") if isinstance(value, dict) else None
    if name not in FORMATS:
        raise CorruptFileError(
            f"{path} is not of this version: its format is {name!r}, known are "
            f"{', '.join(FORMATS)}"
        )
    return dict(value)


def _check_machine(folder: Path, header: Mapping[str, Any]) -> None:
    if is_timed_here(header["config"]) and header.get("machine") != machine_fingerprint():
        raise BadInputError(
            f"the run in {folder} timed its networks on another machine, on which its latencies "
            "hold: export there, or search again here with --supernet for the weights"
        )


def _supernet(
    folder: Path, config: SearchConfig, space: SearchSpace, front_file: Mapping[str, Any]
) -> Supernet:
    path = config.supernet if config.supernet is not None else folder / CHECKPOINT
    supernet = trained(path, space)
    expected = front_file["supernet"]["weights_hash"]
    if supernet.weights_hash() != expected:
        raise BadInputError(
            f"{path} holds other weights (hash {supernet.weights_hash()}) than the run in "
            f"{folder} ended with ({expected}): bring those back, or search again"
        )
    return supernet


def _observations(problem: Problem, ledger: Ledger, folder: Path) -> Mapping[Any, Any]:
    found = recorded(problem, ledger)
    if not found:
        raise MissingFileError(f"the ledger of {folder} has no accuracies: the run is damaged")
    return found


def _refitted(front_file: Mapping[str, Any], costs: Sequence[CostModel]) -> list[CostModel]:
    """The cost models with the timings of what a quickstart exported, where it refitted."""
    if not (front_file.get("refit") or {}).get("refitted"):
        return list(costs)
    after: list[CostModel] = []
    for cost in costs:
        points = [
            p
            for p in front_file["points"]
            if p["target"] == cost.target_name
            and p["kind"] == "searched"
            and p["measured"]["latency_ms"] is not None
        ]
        if not points or not isinstance(cost, MeasuredCostModel):
            after.append(cost)
            continue
        genes = np.concatenate(
            [cost.space.encode(Architecture.from_json(p["architecture"])) for p in points]
        )
        latencies = [p["measured"]["latency_ms"] for p in points]
        after.append(cost.refitted(genes, latencies, drift=points[0]["drift"]))
    return after
