"""What to try next: random search, evolution, predictor-guided search, and the search loop."""

from strategies.bayesian import Bayesian
from strategies.compromise import Compromise, SharedNetwork
from strategies.deepmad import DeepMAD
from strategies.design import initial_design
from strategies.dominance import (
    constrained_rank,
    crowding_distance,
    hypervolume,
    is_non_dominated,
    non_dominated_rank,
)
from strategies.executor import Executor, Finished, InProcess
from strategies.executor_evaluation import EvaluationError
from strategies.executor_processes import LocalProcesses
from strategies.executor_ray import RayWorkers
from strategies.feasibility import (
    Feasibility,
    InfeasibleConstraintError,
    ReachableRange,
    check_feasible,
    reachable_ranges,
    sample_feasible,
)
from strategies.from_distribution import FromDistribution
from strategies.front import Front, FrontPoint, pareto_front
from strategies.held_out import PredictorQuality
from strategies.improvement import expected_gain
from strategies.local_search import LocalSearch
from strategies.nsga2 import NSGA2
from strategies.nsga3 import NSGA3
from strategies.precision import AccuracyByPrecision, CostsByPrecision
from strategies.predictor_guided import PredictorGuided
from strategies.problem import Constraint, Problem
from strategies.protocols import CostModel, Evaluator, Prediction, Predictor
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution
from strategies.result import Progress, SearchHistory, SearchResult
from strategies.search import search
from strategies.sensitivity import SensitivityBisection
from strategies.slimming import Slimming
from strategies.strategy import Strategy

__all__ = [
    "NSGA2",
    "NSGA3",
    "AccuracyByPrecision",
    "Bayesian",
    "Compromise",
    "Constraint",
    "CostModel",
    "CostsByPrecision",
    "DeepMAD",
    "EvaluationError",
    "Evaluator",
    "Executor",
    "Feasibility",
    "Finished",
    "FromDistribution",
    "Front",
    "FrontPoint",
    "InProcess",
    "InfeasibleConstraintError",
    "LocalProcesses",
    "LocalSearch",
    "Prediction",
    "Predictor",
    "PredictorGuided",
    "PredictorQuality",
    "Problem",
    "Progress",
    "RandomSearch",
    "RayWorkers",
    "ReachableRange",
    "RegularizedEvolution",
    "SearchHistory",
    "SearchResult",
    "SensitivityBisection",
    "SharedNetwork",
    "Slimming",
    "Strategy",
    "check_feasible",
    "constrained_rank",
    "crowding_distance",
    "expected_gain",
    "hypervolume",
    "initial_design",
    "is_non_dominated",
    "non_dominated_rank",
    "pareto_front",
    "reachable_ranges",
    "sample_feasible",
    "search",
]
