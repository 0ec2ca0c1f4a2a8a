"""What tells two search spaces apart, in words short enough for a message.

A space's parameters fill a screen; what a person needs are both names, the images that the spaces
are for, and the first choice that is not the same.
"""

from __future__ import annotations

from dataclasses import fields

from search_spaces.choice import Choice, Value
from search_spaces.space import SearchSpace

_MOST_VALUES = 8


def described_space(space: SearchSpace) -> str:
    """A space in a few words: its name, its images and how many choices it has.

    >>> from search_spaces import CNNSpace
    >>> described_space(CNNSpace(image_size=8, channels=1))
    'CNNSpace (8x8x1 images, 10 classes, 25 choices)'
    """
    images = f"{space.image_size}x{space.image_size}x{space.channels} images"
    return f"{space.name} ({images}, {space.num_classes} classes, {len(space.choices)} choices)"


def first_difference(one: SearchSpace, other: SearchSpace) -> str:
    """The first thing in which two spaces differ: a choice, or else a parameter.

    Choices are compared in the order of the genes.

    Args:
        one: The space that the words call the former.
        other: The latter.

    Returns:
        Words such as `choice 'stem.width' is one of 8, 16 in the former and of 8, 24 in the
        latter`; empty where the spaces are equal.
    """
    for mine, others in zip(one.choices, other.choices, strict=False):
        if mine.name != others.name:
            return f"where the former has the choice {mine.name!r}, the latter has {others.name!r}"
        if mine.values != others.values:
            return (
                f"choice {mine.name!r} is one of {_listed(mine.values)} in the former and of "
                f"{_listed(others.values)} in the latter"
            )
        if (mine.scope, mine.condition_key) != (others.scope, others.condition_key):
            return f"choice {mine.name!r} means something else in the latter"
    shared = min(len(one.choices), len(other.choices))
    if more := one.choices[shared:]:
        return _extra(more[0], "former")
    if more := other.choices[shared:]:
        return _extra(more[0], "latter")
    return _first_parameter(one, other)


def _extra(choice: Choice, which: str) -> str:
    return f"only the {which} has the choice {choice.name!r}"


def _first_parameter(one: SearchSpace, other: SearchSpace) -> str:
    """The parameter in which spaces with the same choices differ."""
    if type(one) is not type(other):
        return "the choices are the same, but the kinds of space are not"
    for field in fields(one):
        mine, others = getattr(one, field.name), getattr(other, field.name)
        if mine != others:
            said = f"the choices are the same, but {field.name} is "
            if isinstance(mine, Value) and isinstance(others, Value):
                return f"{said}{mine!r} in the former and {others!r} in the latter"
            return f"{said}not"
    return ""


def _listed(values: tuple[Value, ...]) -> str:
    shown = [str(value) for value in values[:_MOST_VALUES]]
    return ", ".join(shown if len(values) <= _MOST_VALUES else [*shown, "..."])
