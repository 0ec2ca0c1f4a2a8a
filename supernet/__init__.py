"""The weight-sharing network: elastic primitives, training, exact extraction, evaluation."""

from supernet.alone import train_alone
from supernet.augment import Augmentation, augment
from supernet.channel_groups import ChannelGroup, channel_groups
from supernet.channel_sorting import (
    SortReport,
    channel_importance,
    permute_channels,
    sort_channels,
)
from supernet.checkpoint import load_supernet, save_supernet
from supernet.checkpoint_names import (
    timm_vit_names,
    torchvision_mobilenet_v2_names,
    torchvision_mobilenet_v3_names,
    torchvision_vit_names,
)
from supernet.choice_distribution import ChoiceDistribution
from supernet.choice_learning import (
    ChoiceLearner,
    ChoiceRecipe,
    ChoiceStep,
    learn_distribution,
)
from supernet.choice_reward import SupernetReward
from supernet.data import ImageData, Split
from supernet.elastic import ElasticPrimitive
from supernet.evaluation import SupernetEvaluator, accuracy, standard_error
from supernet.expected_sum import ExpectedSum
from supernet.fake_quantisation import FakeQuantised, Int8Scheme
from supernet.fine_tuning import FineTuned, FineTuningRecord, fine_tune, fine_tuning_recipe
from supernet.from_module import ModuleSpace, elastic_space, elastic_supernet, load_module
from supernet.initialise import zero_residual_branches
from supernet.network import Statistics
from supernet.on_ray import RayGroup, RayTrainingError, train_on_ray
from supernet.own_primitive import add_primitive
from supernet.pretrained import LoadReport, load_pretrained
from supernet.reparameterisation import reparameterise
from supernet.subnet import Subnet
from supernet.supernet import Supernet
from supernet.threads import intra_op_threads
from supernet.training import Recipe, Step, TrainingError, train

__all__ = [
    "Augmentation",
    "ChannelGroup",
    "ChoiceDistribution",
    "ChoiceLearner",
    "ChoiceRecipe",
    "ChoiceStep",
    "ElasticPrimitive",
    "ExpectedSum",
    "FakeQuantised",
    "FineTuned",
    "FineTuningRecord",
    "ImageData",
    "Int8Scheme",
    "LoadReport",
    "ModuleSpace",
    "RayGroup",
    "RayTrainingError",
    "Recipe",
    "SortReport",
    "Split",
    "Statistics",
    "Step",
    "Subnet",
    "Supernet",
    "SupernetEvaluator",
    "SupernetReward",
    "TrainingError",
    "accuracy",
    "add_primitive",
    "augment",
    "channel_groups",
    "channel_importance",
    "elastic_space",
    "elastic_supernet",
    "fine_tune",
    "fine_tuning_recipe",
    "intra_op_threads",
    "learn_distribution",
    "load_module",
    "load_pretrained",
    "load_supernet",
    "permute_channels",
    "reparameterise",
    "save_supernet",
    "sort_channels",
    "standard_error",
    "timm_vit_names",
    "torchvision_mobilenet_v2_names",
    "torchvision_mobilenet_v3_names",
    "torchvision_vit_names",
    "train",
    "train_alone",
    "train_on_ray",
    "zero_residual_branches",
]
