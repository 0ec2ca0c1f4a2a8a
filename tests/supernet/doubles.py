"""A small space and images that are easy to tell apart, for training in seconds."""

from dataclasses import replace

import numpy as np
import torch

from search_spaces import CNNSpace, ConvStage, HybridSpace, HybridStage, ViTSpace
from supernet import ImageData, Recipe, Split, Supernet, train
from supernet.training import Draw, Member, Sandwich, SoftTargets, make_optimiser
from supernet.training.guard import Guard
from supernet.training.precision import LossScale
from supernet.training.step import Stepper
from tests.search_spaces.zoo import Zoo

SPACES = [
    CNNSpace(
        image_size=8,
        channels=2,
        num_classes=4,
        stem_stride=1,
        stages=(
            ConvStage(depths=(1, 2), kernels=(3, 5, 7)),
            ConvStage(depths=(1, 2, 3), widths=(16, 24), stride=2),
        ),
    ),
    ViTSpace(image_size=12, channels=2, num_classes=4, patch_sizes=(2, 4, 6), depths=(1, 2, 3)),
    HybridSpace(
        image_size=8,
        channels=2,
        num_classes=4,
        stages=(HybridStage(kernels=(3, 5, 7)), HybridStage(widths=(16, 24), depths=(0, 1, 2))),
    ),
    Zoo(image_size=8, num_classes=4, resolutions=(4, 8)),
]

TINY = HybridSpace(
    image_size=8,
    channels=1,
    num_classes=4,
    stem_widths=(8,),
    stages=(
        HybridStage(depths=(0, 1), widths=(8, 16), expansions=(1, 2), heads=(1, 2),
                    mlp_ratios=(1, 2)),
    ),
    head_dim=8,
)  # fmt: skip

RECIPE = Recipe(  # BigNAS's rules
    batch_size=32,
    augment=False,
    members=Sandwich(largest_alone_share=0.3),
    distillation=SoftTargets(),
    updates="step",
)


def perturbed(space, seed=0):
    """A supernet none of whose norms, biases and kernel transforms is an identity."""
    supernet = Supernet(space, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, p in supernet.named_parameters():
            if p.ndim == 1 or "bias" in name or "transforms" in name or "embedding" in name:
                p += 0.2 * torch.randn(p.shape, generator=generator)
    return supernet


def images_of(space, n, seed=0):
    shape = (n, space.channels, space.image_size, space.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def split_of(n, seed, classes=4):
    """Noise over one fixed picture a class."""
    rng = np.random.default_rng(99)
    pictures = rng.normal(size=(classes, 1, 8, 8))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    images = pictures[labels] + 0.7 * rng.normal(size=(n, 1, 8, 8))
    return Split(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels))


def easy_data(n=256, name="easy", **options):
    return ImageData(
        name=name,
        train=split_of(n, 1),
        validation=split_of(200, 2),
        test=split_of(150, 3),
        class_names=("a", "b", "c", "d"),
        **options,
    )


def with_nan(images):
    """The easy data with the given training images made NaN."""
    data = easy_data()
    bad = data.train.images.clone()
    bad[images] = torch.nan
    return replace(data, name="nan", train=Split(bad, data.train.labels))


def draw_of(space, step=0, total=100, **options):
    """What a sampler sees of a step whose losses it may not ask for, unless they are given."""
    options = {"seed": 0, "losses": None, "graph": space.graph, **options}
    return Draw(space=space, step=step, total=total, **options)


def stepper_of(network, recipe=RECIPE, **options):
    guard = Guard(recipe, network, make_optimiser(network, recipe), total=1000)
    scale = LossScale(recipe.precision)
    return Stepper(network=network, recipe=recipe, guard=guard, scale=scale, **options)


def member(space, row, role="random", teachers=()):
    return Member(graph=space.graph(row), role=role, teachers=teachers, genes=row)


def trained(space=TINY, *, recipe=RECIPE, data=None, epochs=1, supernet_seed=0, **options):
    """A supernet after a short run."""
    supernet = Supernet(space, seed=supernet_seed)
    return train(supernet, data or easy_data(), epochs=epochs, recipe=recipe, **options)
