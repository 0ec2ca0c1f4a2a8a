"""In which numbers a file computes, block by block."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from records import BadInputError, unknown_name

WAYS = ("fp32", "dynamic", "static", "fp16")
"""Single precision; int8 with scales from each input, or from training images; half precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """The numbers of one file.

    Attributes:
        way: One of `WAYS`.
        fp32_blocks: Names of blocks that stay in fp32 where the rest is quantised; a file with
            some is of mixed precision.

    Raises:
        UnknownNameError: A way that does not exist.
        BadInputError: Blocks left out of fp32.
    """

    way: str = "fp32"
    fp32_blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise unknown_name("way to compute", self.way, WAYS)
        if self.way == "fp32" and self.fp32_blocks:
            raise BadInputError("a file in fp32 has no blocks that are left in fp32")

    @property
    def name(self) -> str:
        """For tables: "fp32", "int8 static", "int8 static, 3 blocks in fp32"."""
        way = f"int8 {self.way}" if self.way in ("dynamic", "static") else self.way
        kept = len(self.fp32_blocks)
        return f"{way}, {kept} block{'s' * (kept > 1)} in fp32" if kept else way

    def to_json(self) -> dict[str, Any]:
        """The way and the blocks by name."""
        return {**asdict(self), "fp32_blocks": list(self.fp32_blocks)}
