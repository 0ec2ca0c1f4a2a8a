"""`zero_cost_scores`: what many networks score by many proxies, beside their size.

Most proxies do not beat multiply-accumulates and parameters across sizes, so these are always
there: a proxy that ranks like them says nothing new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from predictors.entropy import entropy
from predictors.zero_cost.activation_codes import naswot
from predictors.zero_cost.jacobian import jacob_cov
from predictors.zero_cost.length_distortion import length_distortion
from predictors.zero_cost.probe import Batch, Proxy
from predictors.zero_cost.saliency import grad_norm, snip
from predictors.zero_cost.synaptic_diversity import dss
from predictors.zero_cost.synflow import synflow
from predictors.zero_cost.zen import zen
from records import BadInputError, torch_seed, unknown_name
from search_spaces import Genes, LayerTable, SearchSpace
from supernet import Subnet

Vector: TypeAlias = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroCostProxy:
    """A proxy: how it scores, and where it comes from.

    Attributes:
        source: The paper.
        of_network: Scores one network on a batch; None for proxies of the layer table.
        of_table: Scores all networks of a layer table; None for proxies of a network.
    """

    source: str
    of_network: Proxy | None = None
    of_table: Callable[[LayerTable], Vector] | None = None


SIZES: Mapping[str, Callable[[LayerTable], Vector]] = {
    "macs": lambda table: table.macs.astype(np.float64),
    "parameters": lambda table: table.parameters.astype(np.float64),
}
"""What is always scored: the references that a proxy has to beat."""

PROXIES: Mapping[str, ZeroCostProxy] = {
    "synflow": ZeroCostProxy(
        source="Tanaka et al., NeurIPS 2020, arXiv 2006.05467", of_network=synflow
    ),
    "naswot": ZeroCostProxy(
        source="Mellor et al., ICML 2021, arXiv 2006.04647", of_network=naswot
    ),
    "jacob_cov": ZeroCostProxy(
        source="Mellor et al., 2020, arXiv 2006.04647v1", of_network=jacob_cov
    ),
    "zen": ZeroCostProxy(source="Lin et al., ICCV 2021, arXiv 2102.01063", of_network=zen),
    "grad_norm": ZeroCostProxy(
        source="Abdelfattah et al., ICLR 2021, arXiv 2101.08134", of_network=grad_norm
    ),
    "snip": ZeroCostProxy(source="Lee et al., ICLR 2019, arXiv 1810.02340", of_network=snip),
    "dss": ZeroCostProxy(source="Zhou et al., CVPR 2022, arXiv 2203.12217", of_network=dss),
    "length_distortion": ZeroCostProxy(
        source="Chen et al., ICLR 2022, arXiv 2202.11921", of_network=length_distortion
    ),
    "entropy": ZeroCostProxy(
        source="Shen et al., CVPR 2023, arXiv 2303.02165",
        of_table=lambda table: entropy(table).score,
    ),
}
"""The proxies by name."""


def zero_cost_scores(
    space: SearchSpace,
    genes: npt.ArrayLike,
    images: Tensor | npt.ArrayLike,
    labels: Tensor | npt.ArrayLike,
    *,
    names: Iterable[str] = tuple(PROXIES),
    seed: int = 0,
) -> dict[str, Vector]:
    """Scores networks by zero-cost proxies; larger is predicted to be better.

    Every network gets fresh weights from the same seed, so that its score does not depend on the
    other rows. The networks run where the images are.

    Args:
        space: The search space.
        genes: An `n x d` array; equal networks are scored once.
        images: A minibatch `b x channels x height x width` of distinct images, 2 or more (the
            papers take 32 to 128).
        labels: Their classes, `b` integers.
        names: The proxies, of `PROXIES`; `macs` and `parameters` come in any case.
        seed: Derives weights and noise.

    Returns:
        For each name an array of length `n`, first `macs` and `parameters`. NaN where a network
        has no finite score (often: no path leads from its input to its output); a warning counts
        them, and so does `unscored`.

    Raises:
        UnknownNameError: No such proxy.
        BadInputError: Genes, images or labels that do not fit the space.
    """
    wanted = _known(names)
    rows, place = np.unique(
        space.canonical(space.gene_space.check(genes)), axis=0, return_inverse=True
    )
    batch = checked_batch(space, images, labels, seed)
    table = space.layer_table(rows)
    scores = {name: size(table) for name, size in SIZES.items()}
    for name in wanted:
        of_table = PROXIES[name].of_table
        scores[name] = np.full(len(rows), np.nan) if of_table is None else of_table(table)
    of_networks = [name for name in wanted if PROXIES[name].of_network is not None]
    for i, row in enumerate(rows if of_networks else ()):
        network = fresh_network(space, row, batch)
        for name in of_networks:
            scores[name][i] = score_network(name, network, batch)
    found = {
        name: np.where(np.isfinite(values), values, np.nan)[place.reshape(-1)]
        for name, values in scores.items()
    }
    for name, count in unscored(found).items():
        if count:
            _LOG.warning("%s: %d of %d networks have no score", name, count, len(place))
    return found


def fresh_network(space: SearchSpace, row: Genes, batch: Batch) -> Subnet:
    """The network of one row of genes with its initial weights, where the batch is."""
    weights = torch_seed(batch.seed, "zero cost", "weights")
    return Subnet(space.graph(row), seed=weights).to(batch.images.device)


def score_network(name: str, network: Subnet, batch: Batch) -> float:
    """The score of one network, NaN where it has none; the network stays as it was.

    Raises:
        UnknownNameError: No proxy of that name that reads a network.
    """
    proxy = PROXIES[name].of_network if name in PROXIES else None
    if proxy is None:
        of_network = [known for known, entry in PROXIES.items() if entry.of_network is not None]
        raise unknown_name("proxy of a network", name, of_network)
    with torch.enable_grad():
        return float(proxy(network, batch))


def unscored(scores: Mapping[str, Vector]) -> dict[str, int]:
    """For each name how many networks have no score."""
    return {name: int(np.isnan(values).sum()) for name, values in scores.items()}


def checked_batch(
    space: SearchSpace,
    images: Tensor | npt.ArrayLike,
    labels: Tensor | npt.ArrayLike,
    seed: int = 0,
) -> Batch:
    """The minibatch as tensors on the images' device.

    Raises:
        BadInputError: Images of another size than the space's, fewer than 2, not finite; labels
            that are not one class for each.
    """
    x = torch.as_tensor(images if isinstance(images, Tensor) else np.asarray(images))
    x = x.detach().to(torch.float32)
    size = (space.channels, space.image_size, space.image_size)
    if x.ndim != 4 or tuple(x.shape[1:]) != size or len(x) < 2:
        raise BadInputError(
            "images must be 2 or more of channels x height x width {} x {} x {}, ".format(*size)
            + f"got shape {tuple(x.shape)}"
        )
    if not torch.isfinite(x).all():
        raise BadInputError("images must be finite")
    y = torch.as_tensor(labels if isinstance(labels, Tensor) else np.asarray(labels)).detach()
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise BadInputError(
            f"labels must be {len(x)} integers, got {y.dtype} of shape {tuple(y.shape)}"
        )
    if not bool(((y >= 0) & (y < space.num_classes)).all()):
        raise BadInputError(f"labels must be 0 to {space.num_classes - 1}")
    return Batch(images=x, labels=y.long().to(x.device), seed=seed)


def _known(names: Iterable[str]) -> tuple[str, ...]:
    """The names of proxies without repetition and without those of `SIZES`."""
    if isinstance(names, str):
        raise BadInputError(f"names is a list of proxies, e.g. [{names!r}]")
    listed = tuple(dict.fromkeys(names))
    for name in listed:
        if name not in PROXIES and name not in SIZES:
            raise unknown_name("zero-cost proxy", name, (*SIZES, *PROXIES))
    return tuple(name for name in listed if name in PROXIES)
