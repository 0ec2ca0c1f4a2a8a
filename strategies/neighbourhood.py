"""The architectures next to one: those that differ from it in one choice."""

from __future__ import annotations

import numpy as np

from search_spaces import Genes, SearchSpace


def neighbours(
    space: SearchSpace, row: Genes, *, fill: Genes | None = None, downwards: bool = False
) -> Genes:
    """All architectures that differ from one in a single active choice.

    What the change switches off becomes 0.

    Args:
        space: The space.
        row: A canonical row of genes, an array of length `d`.
        fill: The values that begin where the change switches a choice on, an array of length `d`;
            by default the first of each choice.
        downwards: Only one step down where a choice is of numbers, still all other names where it
            is of names.

    Returns:
        A `k x d` array of distinct canonical rows, gene by gene, without the row itself.
    """
    active = space.active(row[None])[0]
    genes = np.flatnonzero(active)
    sizes = space.gene_space.sizes[genes].astype(np.intp)
    gene = np.repeat(genes, sizes)
    value = np.arange(len(gene)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = row[gene] != value
    if downwards:
        is_named = np.array([c.is_categorical for c in space.choices], np.bool_)
        wanted &= is_named[gene] | (value == row[gene] - 1)
    gene, value = gene[wanted], value[wanted]
    filled = row if fill is None else np.where(active, row, fill)
    rows = np.repeat(filled[None], len(gene), axis=0).astype(np.int16)
    rows[np.arange(len(gene)), gene] = value
    return space.canonical(rows)


def largest_values(space: SearchSpace) -> Genes:
    """For each gene the largest number, or the first name: what a large network begins with."""
    return np.array(
        [0 if c.is_categorical else len(c.values) - 1 for c in space.choices], np.int16
    )


def wander(space: SearchSpace, rows: Genes, steps: int, rng: np.random.Generator) -> Genes:
    """Takes a random step, a change of one active choice, `steps` times from each row.

    A choice that a step switches on is drawn at random.
    """
    for _ in range(steps):
        rows = space.mutate(rows, rng, 0.0)
    return rows
