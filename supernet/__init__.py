"""The weight-sharing network: elastic primitives, training, exact extraction, evaluation."""

from supernet.alone import train_alone
from supernet.augment import augment
from supernet.checkpoint import load_supernet, save_supernet
from supernet.data import ImageData, Split
from supernet.elastic import ElasticPrimitive
from supernet.evaluation import SupernetEvaluator, accuracy, standard_error
from supernet.network import Statistics
from supernet.own_primitive import add_primitive
from supernet.subnet import Subnet
from supernet.supernet import Supernet
from supernet.threads import intra_op_threads
from supernet.training import Recipe, Step, TrainingError, train

__all__ = [
    "ElasticPrimitive",
    "ImageData",
    "Recipe",
    "Split",
    "Statistics",
    "Step",
    "Subnet",
    "Supernet",
    "SupernetEvaluator",
    "TrainingError",
    "accuracy",
    "add_primitive",
    "augment",
    "intra_op_threads",
    "load_supernet",
    "save_supernet",
    "standard_error",
    "train",
    "train_alone",
]
