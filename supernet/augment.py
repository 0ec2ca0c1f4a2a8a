"""Augmentation of image batches as tensors: the options of a recipe, and geometry.

Images are `n x channels x height x width` in any scale: with a mean of 0 and a deviation of 1, as
`experiments.load_dataset` gives them, or in [0, 1]. Places that a geometric operation leaves
empty, and the border of a crop, are 0: the mean of the training images where these are normalised,
black where they are not. Operations on values are defined by each image's own range
(`supernet.augment_operations`), so they mean the same in every scale.

Everything random is drawn from the generator that is given, on its device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from records import BadInputError
from supernet.augment_draws import rectangle, uniform
from supernet.augment_mixing import cutmix, mixup
from supernet.augment_operations import random_operations

GROWS_FOR = 20
"""Passes over the training images in which a recipe's default augmentation reaches its amounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How a recipe changes the training images; by itself it moves, turns and scales a little.

    Applied in this order: geometry, crop, operations, erasing, mixing.

    Attributes:
        shift: Largest shift, as a share of the side.
        degrees: Largest turn.
        scale: Largest relative change of size.
        flip: Whether half of the images are mirrored; None does so where the dataset says that a
            mirrored image is of the same class.
        crop_padding: Pixels of 0 around an image, out of which a window of the image's size is
            cut.
        operations: Operations for each image, drawn from a list: RandAugment (Cubuk et al., CVPR
            Workshops 2020, arXiv 1909.13719).
        magnitude: Their strength from 0 to 1; the publication's 9 of 30 is 0.3.
        erase: Chance that a rectangle of an image becomes noise (Zhong et al., AAAI 2020, arXiv
            1708.04896).
        mixup: Alpha of the Beta distribution from which the weight of a second image is drawn
            (Zhang et al., ICLR 2018, arXiv 1710.09412); 0 for none.
        cutmix: Alpha of the Beta distribution from which the area that a second image takes is
            drawn (Yun et al., ICCV 2019, arXiv 1905.04899); 0 for none. With `mixup` beside it,
            a batch has one of the two, with equal chances.

    Raises:
        BadInputError: An amount that no image can be changed by.
    """

    shift: float = 0.1
    degrees: float = 10.0
    scale: float = 0.1
    flip: bool | None = None
    crop_padding: int = 0
    operations: int = 0
    magnitude: float = 0.3
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        highest = {"shift": 1.0, "degrees": 180.0, "magnitude": 1.0, "erase": 1.0}
        for name in ("shift", "degrees", "scale", "magnitude", "erase", "mixup", "cutmix"):
            value, most = getattr(self, name), highest.get(name, math.inf)
            if not (math.isfinite(value) and 0 <= value <= most):
                allowed = "at least 0" if math.isinf(most) else f"0 to {most:g}"
                raise BadInputError(f"{name} must be {allowed}, got {value}")
        if self.scale >= 1:
            raise BadInputError(f"scale must be below 1, got {self.scale}")
        for name in ("crop_padding", "operations"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise BadInputError(f"{name} must be a whole number >= 0, got {value}")

    @staticmethod
    def growing(epoch: int) -> Augmentation:
        """The default of a recipe in a pass over the images, counted from 0.

        Shift, turn and scale are `epoch / GROWS_FOR` of their amounts, and all of them from then
        on. Geometry keeps a network from learning images by heart. Until it has seen them many
        times there is nothing to keep it from, and pictures that move are only harder to learn.
        """
        return Augmentation().weakened(min(1.0, epoch / GROWS_FOR))

    def weakened(self, share: float) -> Augmentation:
        """The same with a share of its shift, turn and change of size."""
        return replace(
            self, shift=share * self.shift, degrees=share * self.degrees, scale=share * self.scale
        )

    @property
    def is_mixing(self) -> bool:
        """Whether `apply` returns probabilities of the classes instead of labels."""
        return self.mixup > 0 or self.cutmix > 0

    def apply(
        self,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        *,
        flip: bool,
        num_classes: int,
    ) -> tuple[Tensor, Tensor]:
        """Changes a batch; what is given stays as it is.

        Args:
            images: `n x channels x height x width`, float32.
            labels: `n` classes, int64.
            generator: The source of randomness.
            flip: Whether the dataset says that a mirrored image is of the same class.
            num_classes: Classes there are.

        Returns:
            Images like those given, and targets: the labels as they are, or with `mixup` or
            `cutmix` a float32 `n x num_classes` array of probabilities.

        Raises:
            BadInputError: Images that are no larger than the padding.
        """
        images = self._moved(images, generator, flip=flip if self.flip is None else self.flip)
        if self.crop_padding:
            images = random_crop(images, generator, self.crop_padding)
        for _ in range(self.operations):
            images = random_operations(images, generator, self.magnitude)
        if self.erase:
            images = erase(images, generator, self.erase)
        if not self.is_mixing:
            return images, labels
        targets = F.one_hot(labels, num_classes).to(torch.float32)
        use_cutmix = self.cutmix > 0
        if self.mixup > 0 and self.cutmix > 0:
            use_cutmix = bool(uniform(1, generator, images) < 0.5)
        if use_cutmix:
            return cutmix(images, targets, generator, self.cutmix)
        return mixup(images, targets, generator, self.mixup)

    def _moved(self, images: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
        """Shifted, turned, scaled and mirrored; without resampling where only mirrored."""
        if max(self.shift, self.degrees, self.scale) > 0:
            return augment(
                images,
                generator,
                flip=flip,
                shift=self.shift,
                degrees=self.degrees,
                scale=self.scale,
            )
        if flip:
            mirrored = uniform(len(images), generator, images) < 0.5
            return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return images


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    flip: bool = False,
    shift: float = 0.1,
    degrees: float = 10.0,
    scale: float = 0.1,
) -> Tensor:
    """Moves, turns and scales every image by random amounts, by bilinear sampling.

    Args:
        images: `n x channels x height x width`.
        generator: The source of randomness.
        flip: Mirrors half of the images.
        shift: Largest shift, as a share of the side.
        degrees: Largest turn.
        scale: Largest relative change of size.
    """
    n = len(images)
    u = 2 * torch.rand(4, n, generator=generator, device=generator.device) - 1  # in [-1, 1)
    u = u.to(images.device)
    angle = u[0] * math.radians(degrees)
    zoom = 1 + u[1] * scale
    mirror = torch.ones_like(zoom)
    if flip:
        mirror = torch.where(uniform(n, generator, images) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack(
        [cos * mirror, -sin, 2 * shift * u[2], sin * mirror, cos, 2 * shift * u[3]], dim=1
    )
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def random_crop(images: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    """Cuts a window of the image's size at a random place out of the image with a border of 0.

    Raises:
        BadInputError: A window could lie outside the image altogether.
    """
    n, _, height, width = images.shape
    if padding >= min(height, width):
        raise BadInputError(
            f"crop_padding is {padding}, but the images are {height} x {width}: choose less than "
            "their side"
        )
    places = torch.randint(
        2 * padding + 1, (2, n), generator=generator, device=generator.device
    ).to(images.device)
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, places[0], places[1]]


def erase(images: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Fills a rectangle of some images with normal noise, which suits normalised images.

    As published the rectangle covers 2 % to 40 % of the image and its sides are in a ratio of 0.3
    to 3.3 (here uniform in the logarithm); one that would stick out is made shorter there, and
    not drawn again.

    Args:
        images: `n x channels x height x width`.
        generator: The source of randomness.
        chance: That an image is changed.

    References:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020, arXiv 1708.04896.
    """
    n, _, height, width = images.shape
    u = uniform((5, n), generator, images)
    area = (0.02 + 0.38 * u[1]) * height * width
    ratio = torch.exp((2 * u[2] - 1) * math.log(1 / 0.3))
    tall = torch.round(torch.sqrt(area * ratio)).clamp(1, height)
    wide = torch.round(torch.sqrt(area / ratio)).clamp(1, width)
    top = torch.floor(u[3] * (height - tall + 1))
    left = torch.floor(u[4] * (width - wide + 1))
    inside = rectangle(images, top, left, top + tall, left + wide)
    inside &= (u[0] < chance).view(-1, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return torch.where(inside, noise.to(images), images)
