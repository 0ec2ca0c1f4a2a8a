"""What `hwnas draw` draws: a space by name or file, an architecture from a file or by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.draw import draw_architecture, draw_difference
from experiments.spaces import SPACES, make_space
from records import BadInputError, generator, read_json, unknown_name
from search_spaces import Architecture, Genes, SearchSpace
from search_spaces.standard import STANDARD, standard_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What a space is made for; None leaves a published space as it is."""

    image_size: int | None = None
    channels: int | None = None
    num_classes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    image_size: int
    channels: int
    num_classes: int


def draw(
    out: Path,
    *,
    space: str | None,
    images: Images,
    genes_file: Path | None,
    compare_file: Path | None,
    seed: int,
) -> SearchSpace:
    """Draws one architecture, or two with their differences; returns their space.

    Args:
        out: The picture to write.
        space: Its name or a JSON file; None takes the space that `genes_file` holds.
        images: What a space by name is made for.
        genes_file: The architecture, see `read_genes`; None draws one.
        compare_file: A second architecture to compare with.
        seed: Draws an architecture.

    Raises:
        BadInputError: No space, or files that do not hold what they should.
        UnknownNameError: No space of that name.
    """
    content = None if genes_file is None else read_json(genes_file, kind="architecture")
    made = find_space(space, images, content)
    if content is None:
        genes = made.sample(1, generator(seed, "draw"))
    else:
        genes = read_genes(made, content, f"{genes_file}")
    if compare_file is None:
        draw_architecture(made, genes, out)
    else:
        other = read_json(compare_file, kind="architecture")
        draw_difference(made, genes, read_genes(made, other, f"{compare_file}"), out)
    return made


def find_space(name: str | None, images: Images, content: Any = None) -> SearchSpace:
    """The space of that name, of that JSON file, or the one that an architecture's file holds.

    Args:
        name: A name, or the path of a file that `SearchSpace.to_json` wrote or of a bundle.
        images: What a space by name is made for: 32 x 32 x 3 and 10 classes unless given.
        content: What the architecture's file holds, for a space without a name.

    Raises:
        BadInputError: No name and no space in the file, or a file without a space.
        UnknownNameError: No space of that name.
    """
    if name is None:
        if not isinstance(content, Mapping) or not isinstance(content.get("space"), Mapping):
            raise BadInputError(
                "which space? give --space, or a --genes-json that holds one, such as a bundle's "
                "bundle.json"
            )
        return SearchSpace.from_json(content["space"])
    if name in SPACES:
        return make_space(
            name,
            _Facts(
                image_size=images.image_size or 32,
                channels=images.channels or 3,
                num_classes=images.num_classes or 10,
            ),
        )
    if name in STANDARD:
        given = {"image_size": images.image_size, "channels": images.channels,
                 "num_classes": images.num_classes}  # fmt: skip
        return standard_space(name, **{k: v for k, v in given.items() if v is not None})
    if name.endswith(".json"):
        value = read_json(name, kind="search space")
        holds = isinstance(value, Mapping) and isinstance(value.get("space"), Mapping)
        return SearchSpace.from_json(value["space"] if holds else value)
    raise unknown_name("search space (or a .json file)", name, (*SPACES, *STANDARD))


def read_genes(space: SearchSpace, content: Any, name: str) -> Genes:
    """The genes of the one architecture that a JSON file holds, a `1 x d` array.

    Args:
        space: Its space.
        content: A list of genes, an architecture's choices as `Architecture.to_json` writes them,
            or an object that has one of these as `genes` or `architecture`, such as a bundle's.
        name: Of the file.

    Raises:
        BadInputError: None of these, or an architecture that is not of the space.
    """
    value = content
    if isinstance(value, Mapping) and "choices" not in value:
        value = value.get("genes", value.get("architecture"))
    if isinstance(value, Mapping):
        return space.encode(Architecture.from_json(value))
    is_row = isinstance(value, list) and all(type(gene) is int for gene in value)
    if not is_row or len(value) != len(space.choices):
        raise BadInputError(
            f"{name} holds no architecture of {space.name}: expected a list of "
            f"{len(space.choices)} genes, or an object with 'choices', 'genes' or 'architecture'"
        )
    return space.gene_space.check(value)
