"""Whether the nodes of a Ray cluster have what the workers of a search need."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from records import BadInputError
from records.ray_cluster import awaited_room, in_words, nodes_in_words, room

logger = logging.getLogger(__name__)


def check_nodes_can(ray: Any, needs: Mapping[str, float]) -> None:
    """Makes sure that a node has all that a worker needs, be it in use now.

    Raises:
        BadInputError: None has; the message names what the nodes have.
    """
    if not awaited_room(ray, needs):
        raise BadInputError(
            f"a worker needs {in_words(needs)}, and no node of the cluster has that: its "
            f"{nodes_in_words(ray)}. Ask for less, or start a node with it: ray start "
            "--address=HEAD:6379 --resources='{\"NAME\": 1}'"
        )


def warn_of_little_room(ray: Any, needs: Mapping[str, float], workers: int) -> None:
    """Says where the nodes there are have no room for all workers, were they free."""
    found = room(ray, needs)
    if found < workers:
        logger.warning(
            "the cluster has room for %d of %d workers; the others wait until more nodes join",
            found,
            workers,
        )
