"""Checks of a space as a whole: what attention's rows mean, and what genes mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deployment.proofs.space_report import Tally
from records import generator
from search_spaces import Architecture, Layer, SearchSpace
from supernet import Supernet
from supernet.supernet import layer_variants

GENE_ROWS = 100


@torch.no_grad()
def check_attention_rows(tally: Tally, space: SearchSpace, supernet: Supernet) -> None:
    """Whether rows of queries, keys and values keep their meaning for every variant.

    Weight and bias of a head's row must be those of the same head's same row in the largest
    variant, cut to the input's width.
    """
    tally.note = "no attention layer"
    for layer, variants in attention_variants(space):
        tally.note = ""
        sizes = {
            name: max(getattr(v, name) for v in variants)
            for name in ("heads", "qk_dim", "v_dim", "in_channels")
        }
        largest = replace(variants[0], **sizes)
        primitive = supernet.primitive(layer)
        whole = primitive.weights(largest)
        for variant in variants:
            where = (
                f"layer {layer.name}, {variant.heads} heads of {variant.qk_dim} and "
                f"{variant.v_dim}, width {variant.in_channels}"
            )
            with tally.case(where):
                own = primitive.weights(variant)
                for name in ("weight", "bias"):
                    pairs = zip(
                        _parts(own[name], variant), _parts(whole[name], largest), strict=True
                    )
                    for role, (part, of) in zip(("query", "key", "value"), pairs, strict=True):
                        cut = tuple(slice(n) for n in part.shape)
                        off = float((part - of[cut]).abs().max())
                        tally.difference(off, 0, f"{where}: {role} {name}")


def attention_variants(space: SearchSpace) -> list[tuple[Layer, list[Layer]]]:
    """For each declared attention layer an example and all distinct variants."""
    return [
        (variants[0], list(variants))
        for _, operator, variants in layer_variants(space)
        if operator == "attention"
    ]


def _parts(rows: Tensor, layer: Layer) -> list[Tensor]:
    """Rows of queries, keys and values, each `heads x dim` (x width)."""
    dims = (layer.qk_dim, layer.qk_dim, layer.v_dim)
    parts = torch.split(rows, [layer.heads * dim for dim in dims])
    return [
        part.reshape(layer.heads, dim, *part.shape[1:])
        for part, dim in zip(parts, dims, strict=True)
    ]


def check_genes(tally: Tally, space: SearchSpace, seed: int = 0) -> None:
    """Whether genes survive decoding, JSON and encoding, and canonical form is one."""
    rng = generator(seed, "genes")
    sizes = np.array([len(c.values) for c in space.choices])
    rows = rng.integers(0, sizes, (GENE_ROWS, len(sizes))).astype(np.int16)
    for row in rows:
        where = f"genes {row.tolist()}"
        with tally.case(where):
            canonical = space.canonical(row[None])
            (architecture,) = space.decode(row)
            back = Architecture.from_json(architecture.to_json())
            holds = (
                np.array_equal(space.canonical(canonical), canonical)
                and space.decode(canonical) == [architecture]
                and np.array_equal(space.encode(architecture), canonical)
                and back == architecture
                and bool((canonical[~space.active(canonical)] == 0).all())
            )
            tally.difference(float(not holds), 0, f"{where}: comes back otherwise")
