"""In which forms a network is written: equal functions, other kernels.

Which form is fastest differs between machines, sizes and versions of the runtime, so
`deployment.selection.select` times them; `DEFAULT` is what was fastest most often.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from records import unknown_name

ATTENTION = ("packed", "multi_head", "opset23", "plain")
"""`com.microsoft.Attention` with its projections inside; `com.microsoft.MultiHeadAttention`;
ONNX's own `Attention` of operator set 23; products, softmax and product spelled out."""

GELU = ("exact", "tanh")
"""With the error function, or its approximation by the hyperbolic tangent (`gelu_error` bounds
the difference)."""

MEAN = ("pool", "reduce")
"""Means over a map as `GlobalAveragePool`, which stays in blocks of channels, or `ReduceMean`."""

LINEAR = ("gemm", "matmul")
"""Linear maps on tokens as `Gemm` on a matrix, or `MatMul` and `Add` on sequences."""

NORMS = ("folded", "kept")
"""Batch norms folded into the weights before them, or left to the runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """The forms of one file.

    Attributes:
        attention: One of `ATTENTION`.
        gelu: One of `GELU`.
        mean: One of `MEAN`.
        linear: One of `LINEAR`.
        norms: One of `NORMS`.

    Raises:
        UnknownNameError: A form that does not exist.
    """

    attention: str = "packed"
    gelu: str = "exact"
    mean: str = "pool"
    linear: str = "gemm"
    norms: str = "folded"

    def __post_init__(self) -> None:
        for field in fields(self):
            allowed = FORMS[field.name]
            if getattr(self, field.name) not in allowed:
                raise unknown_name(f"form of {field.name}", getattr(self, field.name), allowed)

    @property
    def is_exact(self) -> bool:
        """Whether the file computes what torch does, rounding apart."""
        return self.gelu == "exact"

    def to_json(self) -> dict[str, Any]:
        """The forms by name."""
        return asdict(self)


FORMS = {
    "attention": ATTENTION, "gelu": GELU, "mean": MEAN, "linear": LINEAR, "norms": NORMS,
}  # fmt: skip

DEFAULT = Forms()
