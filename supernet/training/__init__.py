"""Training weight-sharing networks: one loop, whose methods are parts of a `Recipe`."""

from supernet.training.attentive import AttentiveSampling
from supernet.training.batches import BatchSource, batches_per_epoch, check_data
from supernet.training.complexity import ComplexityAware
from supernet.training.distillation import AlphaDivergence, Distillation, LabelsOnly, SoftTargets
from supernet.training.gradients import Combination, MeanOfMembers, ProjectConflicts, SumOfMembers
from supernet.training.guard import TrainingError
from supernet.training.loop import train, train_network
from supernet.training.members import Draw, Member, MemberSampler, Sandwich, SinglePath
from supernet.training.optimisation import make_optimiser
from supernet.training.parallel import Ranks, join_ranks
from supernet.training.recipe import Recipe
from supernet.training.run import Options, Step
from supernet.training.schedules import Constant, Cosine, ExponentialWithFloor, Schedule
from supernet.training.shrinking import Phase, ProgressiveShrinking

__all__ = [
    "AlphaDivergence",
    "AttentiveSampling",
    "BatchSource",
    "Combination",
    "ComplexityAware",
    "Constant",
    "Cosine",
    "Distillation",
    "Draw",
    "ExponentialWithFloor",
    "LabelsOnly",
    "MeanOfMembers",
    "Member",
    "MemberSampler",
    "Options",
    "Phase",
    "ProgressiveShrinking",
    "ProjectConflicts",
    "Ranks",
    "Recipe",
    "Sandwich",
    "Schedule",
    "SinglePath",
    "SoftTargets",
    "Step",
    "SumOfMembers",
    "TrainingError",
    "batches_per_epoch",
    "check_data",
    "join_ranks",
    "make_optimiser",
    "train",
    "train_network",
]
