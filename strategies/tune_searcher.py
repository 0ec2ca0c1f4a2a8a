"""Any of our strategies as a search algorithm of Ray Tune.

    searcher = HwnasSearcher(NSGA2, problem)
    tune.Tuner(trainable, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=100)).fit()

The loop, the schedulers and the loggers are Tune's. The `config` of a trial names the choices of
an architecture (`strategies.tune_config`), or the parameters that the Tuner's `param_space` has.

What became of a trial is what it reported last (`strategies.tune_trials`), also where a scheduler
stopped it early: the strategy then learns a worse value than the trial would have come to, and is
not told that it was stopped. A trial that failed, after Tune's own retries, has failed.

The state is JSON. Tune writes it beside its own, and `Tuner.restore` goes on from it. Tune also
pickles a searcher when a Tuner is made; that holds how the searcher was made, with the problem
but for its evaluator, and the same state.

References:
    Liaw et al., Tune: A research platform for distributed model selection and training, 2018.
    https://docs.ray.io (ray.tune.search.Searcher).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ray.tune.search import Searcher

from records import (
    BadInputError,
    CorruptFileError,
    Observation,
    generator,
    read_json,
    unknown_name,
    write_json,
)
from search_spaces import SearchSpace
from strategies.feasibility import Feasibility
from strategies.parameter_space import ParameterSpace
from strategies.problem import Problem
from strategies.study_problem import StudyAccuracy
from strategies.tune_config import genes_of, network_config, row_of
from strategies.tune_parameters import config_of, row_of_config, space_of_ranges
from strategies.tune_proposals import (
    MakeStrategy,
    ProblemProposals,
    Proposals,
    ReportedProposals,
)
from strategies.tune_trials import Outcome, Row, Trials

logger = logging.getLogger(__name__)

FORMAT = "hwnas-tune-searcher-1"


class HwnasSearcher(Searcher):  # type: ignore[misc]
    """Suggests what a strategy proposes, for one objective or several.

    Args:
        strategy: Makes a strategy from a space and a `seed`, e.g. the class `NSGA2`; or from a
            problem, where its first parameter is called `problem`, e.g. `PredictorGuided`.
        about: A problem: trials report its accuracy and nothing else, since costs are known, and
            no architecture is suggested that misses its limits. Or a space of architectures, or
            None for the parameters of the Tuner's `param_space`: trials report all `metrics`.
        metrics: What trials report, by name whether it is to be `min` or `max`; for a problem, the
            one that is its accuracy, by default as its evaluator calls it.
        seed: The same seed and the same trials, one after the other, give the same suggestions.
        initial: Genes to suggest first, in this order, even if they miss the limits.
        feasibility: What `check_feasible` found for this problem and seed, where it is known.
        parts: Into how many parts a long range of a `param_space` is divided, at least 2.

    Raises:
        InfeasibleConstraintError: The limits cannot be kept.
        BadInputError: Arguments that do not fit.
    """

    CKPT_FILE_TMPL = "searcher-state-{}.json"

    def __init__(
        self,
        strategy: MakeStrategy,
        about: Problem | SearchSpace | None = None,
        *,
        metrics: Mapping[str, str] | None = None,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
        feasibility: Feasibility | None = None,
        parts: int = 64,
    ) -> None:
        self._metrics = _checked_metrics(about, metrics)
        names, modes = list(self._metrics), list(self._metrics.values())
        is_one = len(names) == 1
        super().__init__(metric=names[0] if is_one else names, mode=modes[0] if is_one else modes)
        if parts < 2:
            raise BadInputError(f"parts must be at least 2, got {parts}")
        if feasibility is not None and not isinstance(about, Problem):
            raise BadInputError("feasibility is of a problem, and none was given")
        if initial is not None and about is None:
            raise BadInputError("initial is genes of a space or a problem, and none was given")
        self._make, self._about, self._seed = strategy, about, seed
        self._initial, self._parts = initial, parts
        self._rng = generator(seed, "strategies", "HwnasSearcher")
        self._trials: Trials | None = None
        if isinstance(about, Problem):
            self._begin(
                ProblemProposals(
                    about, strategy, seed=seed, initial=initial, feasibility=feasibility
                )
            )
        elif about is not None:
            self._begin(self._reported(about))

    @property
    def trials(self) -> Trials:
        """The trials, and by `trials.proposals` the strategy.

        Raises:
            BadInputError: The space is that of a Tuner, and none was started.
        """
        if self._trials is None:
            raise BadInputError(
                "this searcher has no parameters yet: give the Tuner a param_space with ranges, "
                "or the searcher a problem or a space"
            )
        return self._trials

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """What became of the trials that ended, by trial."""
        return dict(self.trials.outcomes)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The same as records, one for each metric of a trial.

        `pareto_front(problem, searcher.observations)` is the front that was found.
        """
        weights = self._about.accuracy.weights_hash if isinstance(self._about, Problem) else ""
        return self.trials.observations(weights)

    # ---- what Tune calls ---------------------------------------------------------------------

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Takes the `param_space` of a Tuner that starts, where the space comes from there.

        What is under way belongs to an earlier Tuner then, and is suggested again.

        Returns:
            Whether it was taken; where not, Tune refuses ranges in it.

        Raises:
            BadInputError: Another mode of a metric, or ranges that are not those of before.
        """
        own = self._metrics.get(metric or "", mode)
        if mode is not None and mode != own:
            raise BadInputError(f"{metric} is to be {mode} in TuneConfig, {own} in the searcher")
        self.suggest_again()
        if self._about is not None:
            return False
        space = space_of_ranges(config, self._parts)
        if self._trials is None:
            self._begin(self._reported(space))
        elif self.trials.proposals.space.hash != space.hash:
            raise BadInputError(
                "the param_space is not the one that this searcher has suggested from: make a new "
                "HwnasSearcher for it"
            )
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of a new trial.

        Returns:
            None while the strategy must first hear of trials that are under way; `FINISHED` where
            it has nothing left and none is.
        """
        row = self.trials.next(trial_id)
        if row is not None:
            return self._config(row)
        if self.trials.under_way:
            return None
        why = self.trials.proposals.strategy.finished
        logger.info("no further trial: %s", why or "nothing new was found")
        return str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remembers what a trial reported last."""
        self.trials.heard(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells the strategy what became of a trial."""
        self.trials.ended(trial_id, result, error)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Takes in a config that was tried elsewhere, where there is a single metric.

        Raises:
            BadInputError: There are several, or the config is none of the space.
        """
        (*others, name) = self._metrics
        if others:
            raise BadInputError(
                f"a point has one value, and trials here report {', '.join(self._metrics)}"
            )
        space = self.trials.proposals.space
        if isinstance(space, ParameterSpace):
            row = row_of_config(space, parameters)
        else:
            row = row_of(genes_of(parameters, space))
        point = f"point {len(self.trials.outcomes)}"
        self.trials.take(point, row, {name: value}, failed=error)

    def suggest_again(self) -> None:
        """Suggests what is under way once more, under new trials, where the old ones are gone."""
        if self._trials is not None:
            self._trials.suggest_again()

    # ---- state -------------------------------------------------------------------------------

    def save(self, checkpoint_path: str | Path) -> None:
        """Writes the state as JSON.

        Raises:
            StorageError: The folder cannot be written to.
        """
        write_json(checkpoint_path, self.get_state())

    def restore(self, checkpoint_path: str | Path) -> None:
        """Goes on from a saved state, in a new Tuner: what was under way is suggested again.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: It is no state of a searcher.
            BadInputError: It is of another strategy, space or other metrics.
        """
        self._read(Path(checkpoint_path))
        self.suggest_again()

    def restore_from_dir(self, checkpoint_dir: str | Path) -> None:
        """Goes on from the newest state in a folder; what is under way goes on there too.

        `Tuner.restore` calls it. For a new Tuner, call `suggest_again` afterwards.

        Raises:
            MissingFileError: The folder has none; and see `restore`.
        """
        none = Path(checkpoint_dir, self.CKPT_FILE_TMPL.format("*"))
        self._read(max(none.parent.glob(none.name), default=none))

    def get_state(self) -> dict[str, Any]:
        """Everything that decides what is suggested next, as JSON-ready values."""
        space = None if self._trials is None else self._trials.proposals.space
        return {
            "format": FORMAT,
            "metrics": self._metrics,
            "parameters": space.parameters if isinstance(space, ParameterSpace) else None,
            "rng": self._rng.bit_generator.state,
            "trials": None if self._trials is None else self._trials.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave.

        Raises:
            BadInputError: It is of another strategy, space or other metrics.
        """
        if list(state["metrics"].items()) != list(self._metrics.items()):  # their order, too
            raise BadInputError(
                f"this state is of trials that report {state['metrics']}, here they report "
                f"{self._metrics}"
            )
        if state["parameters"] is not None and self._about is None:
            ranges = tuple((name, text) for name, text in state["parameters"])
            self._begin(self._reported(ParameterSpace(parameters=ranges, parts=self._parts)))
        if state["trials"] is not None:
            self.trials.restore(state["trials"])
        self._rng.bit_generator.state = state["rng"]

    def __getstate__(self) -> dict[str, Any]:
        about, feasibility = self._about, None
        if isinstance(about, Problem):
            assert isinstance(self.trials.proposals, ProblemProposals)
            feasibility = self.trials.proposals.feasibility
            about = replace(about, accuracy=_absent(about))
        arguments = {
            "strategy": self._make, "about": about, "metrics": self._metrics, "seed": self._seed,
            "initial": self._initial, "feasibility": feasibility, "parts": self._parts,
        }  # fmt: skip
        return {"arguments": arguments, "state": self.get_state()}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        self.__init__(**pickled["arguments"])  # type: ignore[misc]
        self.set_state(pickled["state"])

    # ---- inside ------------------------------------------------------------------------------

    def _begin(self, proposals: Proposals) -> None:
        self._trials = Trials(proposals, tuple(self._metrics))

    def _reported(self, space: SearchSpace) -> ReportedProposals:
        signs = [1.0 if mode == "min" else -1.0 for mode in self._metrics.values()]
        return ReportedProposals(space, self._make, signs, seed=self._seed, initial=self._initial)

    def _config(self, row: Row) -> dict[str, Any]:
        genes = np.array(row, np.int16)
        space = self.trials.proposals.space
        if isinstance(space, ParameterSpace):
            return config_of(space.values(genes, self._rng))
        if not isinstance(self._about, Problem):
            return network_config(space, genes)
        (latency,) = self._about.cheap_objectives(genes[None]).tolist()
        return network_config(space, genes, dict(zip(self._about.targets, latency, strict=True)))

    def _read(self, path: Path) -> None:
        state = read_json(path, kind="state of a searcher")
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CorruptFileError(f"{path} is no state of a HwnasSearcher of this version")
        self.set_state(state)


def _checked_metrics(
    about: Problem | SearchSpace | None, metrics: Mapping[str, str] | None
) -> dict[str, str]:
    if metrics is None and isinstance(about, Problem):
        return {about.accuracy.metric: "max"}
    found = dict(metrics or {})
    for mode in found.values():
        if mode not in ("min", "max"):
            raise unknown_name("mode of a metric", str(mode), ("min", "max"))
    if isinstance(about, Problem) and list(found.values()) != ["max"]:
        raise BadInputError(
            "trials of a problem report its accuracy alone, since costs are known: metrics are "
            f"like {{'accuracy': 'max'}}, got {found}"
        )
    if not found:
        raise BadInputError(
            "say what trials report, e.g. metrics={'accuracy': 'max', 'latency_ms': 'min'}"
        )
    return found


def _absent(problem: Problem) -> StudyAccuracy:
    """Stands for the evaluator where it is not: trials evaluate."""
    absent = StudyAccuracy()
    absent.metric = problem.accuracy.metric
    absent.weights_hash = problem.accuracy.weights_hash
    return absent
