"""An architecture as the `config` of a Ray Tune trial, and back.

    {"architecture": {"stage1.depth": 2, ...},   # the active choices, by name
     "genes": "1-0-2",                           # the same as genes, which is exact and short
     "latency_ms": {"board": 1.8}}               # what is known of it on each target, if anything

Plain values under plain names are what Tune's tables, loggers and schedulers show. A trainable
takes the architecture out of it by `architecture_of` or `genes_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from records import BadInputError
from search_spaces import Architecture, Genes, SearchSpace

ARCHITECTURE, GENES = "architecture", "genes"


def network_config(
    space: SearchSpace, row: Genes, latency_ms: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The config of one architecture.

    Args:
        space: Its space.
        row: Its genes, an array of length `d`.
        latency_ms: What is known of it, by target.
    """
    (architecture,) = space.decode(row[None])
    config: dict[str, Any] = {
        ARCHITECTURE: dict(architecture.items),
        GENES: "-".join(str(gene) for gene in row.tolist()),
    }
    return {**config, "latency_ms": dict(latency_ms)} if latency_ms else config


def genes_of(config: Mapping[str, Any], space: SearchSpace) -> Genes:
    """The genes that a config means, a `1 x d` array.

    Either of `architecture` and `genes` will do.

    Raises:
        BadInputError: It has neither, they are of another space, or they contradict each other,
            as they do where a scheduler has changed one of the two.
    """
    if ARCHITECTURE not in config and GENES not in config:
        raise BadInputError(
            f"the config of this trial has no architecture, only {', '.join(config) or 'nothing'};"
            " let a HwnasSearcher suggest it"
        )
    rows = []
    if GENES in config:
        rows.append(space.gene_space.check([_numbers(config[GENES])]))
    if ARCHITECTURE in config:
        choices = tuple(dict(config[ARCHITECTURE]).items())
        rows.append(space.encode(Architecture(space.name, space.version, choices)))
    if (rows[0] != rows[-1]).any():
        raise BadInputError(
            f"the config's genes are {config[GENES]}, and its architecture's are "
            f"{'-'.join(map(str, rows[-1][0].tolist()))}: something changed one of the two"
        )
    return rows[0]


def architecture_of(config: Mapping[str, Any], space: SearchSpace) -> Architecture:
    """The architecture that a config means.

    Raises:
        BadInputError: See `genes_of`.
    """
    (architecture,) = space.decode(genes_of(config, space))
    return architecture


def _numbers(text: object) -> list[int]:
    try:
        return [int(part) for part in str(text).split("-")]
    except ValueError:
        raise BadInputError(f"genes are numbers with '-' between them, got {text!r}") from None


def row_of(genes: Genes) -> tuple[int, ...]:
    """One row as plain numbers."""
    return tuple(int(gene) for gene in np.ravel(genes))
