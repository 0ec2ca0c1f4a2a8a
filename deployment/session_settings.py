"""How a file is opened in onnxruntime: what changes the speed and not the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deployment.providers import provider
from records import BadInputError, unknown_name

OPTIMISATION = ("disabled", "basic", "extended", "all")
"""Levels of onnxruntime's optimisation of the graph; "all" has the layouts of the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How one file is opened.

    Attributes:
        optimisation: One of `OPTIMISATION`.
        threads: Threads inside an operator; None for as many as the target allows.
        spinning: Whether threads keep spinning between runs: faster alone, and it slows whatever
            else runs on the machine.
        arena: Whether freed memory is kept for the next run.
        memory_pattern: Whether all tensors of a run are laid out in one piece beforehand.
        provider: Short name of the execution provider (`deployment.providers`).
        provider_options: Its options by name.

    Raises:
        UnknownNameError: A level, provider or option that does not exist.
        BadInputError: Threads below 1, or a value that an option does not take.
    """

    optimisation: str = "all"
    threads: int | None = None
    spinning: bool = False
    arena: bool = True
    memory_pattern: bool = True
    provider: str = "cpu"
    provider_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optimisation not in OPTIMISATION:
            raise unknown_name("optimisation level", self.optimisation, OPTIMISATION)
        if self.threads is not None and self.threads < 1:
            raise BadInputError(f"threads must be >= 1, got {self.threads}")
        provider(self.provider).check_options(self.provider_options)

    def threads_of(self, allowed: int) -> int:
        """Threads inside an operator, where the target allows so many."""
        return allowed if self.threads is None else self.threads

    def must_be_alone(self, allowed: int) -> bool:
        """Whether a session opened like this disturbs others: its threads spin between runs."""
        return self.spinning and self.threads_of(allowed) > 1

    def to_json(self) -> dict[str, Any]:
        """The settings by name."""
        return {**asdict(self), "provider_options": dict(self.provider_options)}
