"""Accelerators to choose from: which numbers of a device are searched, and their values.

>>> from search_spaces import CNNSpace, WithPlatform
>>> devices = AcceleratorSpace(
...     base=Accelerator(name="array", rows=16, columns=16),
...     values={"rows": (8, 16, 32), "columns": (8, 16, 32), "dataflow": ("output", "weight")},
... )
>>> space = WithPlatform(base=CNNSpace(image_size=16), platform=devices.platform)
>>> devices.device.rows.choices
frozenset({'device.rows'})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hardware_profiles.accelerator import DATAFLOWS, Accelerator
from records import BadInputError, unknown_name
from search_spaces import Expression
from search_spaces.choice import Choice, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorSpace:
    """A device some of whose numbers are choices of the scope `platform`.

    Numbers that follow from choices are expressions: `derived={"columns": 256 // rows}` with
    `rows = Choice(name="device.rows", values=(8, 16)).value` keeps the number of PEs.

    Attributes:
        base: What is not chosen.
        values: For attributes of `Accelerator` the values to choose from.
        scope: What the choices' names begin with.
        derived: Further attributes as expressions of the choices.

    Raises:
        UnknownNameError: An attribute or dataflow that there is not.
        BadInputError: An attribute that cannot be chosen, values that the device refuses.
    """

    base: Accelerator
    values: Mapping[str, Sequence[Value]]
    scope: str = "device"
    derived: Mapping[str, Expression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [f.name for f in fields(Accelerator) if f.name not in ("name", "energies")]
        for name in (*self.values, *self.derived):
            if name not in known:
                raise unknown_name("attribute of an accelerator to choose", name, known)
        for name, values in self.values.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise BadInputError(f"{name!r} needs values to choose from, got {values!r}")
            for value in values:
                if name == "dataflow" and value not in DATAFLOWS:
                    raise unknown_name("dataflow", str(value), DATAFLOWS)
                _with(self.base, {name: value})
        _ = self.choices

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the device that have two values and more."""
        return tuple(
            Choice(name=name, values=tuple(values), scope="platform")
            for name, values in self.platform
            if len(values) > 1
        )

    @property
    def platform(self) -> tuple[tuple[str, tuple[Value, ...]], ...]:
        """Names and values for `search_spaces.WithPlatform`."""
        return tuple((f"{self.scope}.{name}", tuple(v)) for name, v in self.values.items())

    @property
    def device(self) -> Accelerator:
        """The device, with an expression wherever there is a choice."""
        chosen: dict[str, Any] = {
            name: values[0]
            if len(values) == 1
            else Expression("choice", (f"{self.scope}.{name}",))
            for name, values in self.values.items()
        }
        return _with(self.base, {**chosen, **self.derived})

    def chosen(self, values: Mapping[str, Any]) -> Accelerator:
        """The fixed device of a setting of the choices, e.g. `dict(architecture.items)`.

        Raises:
            BadInputError: A choice of the device is missing.
        """
        missing = [c.name for c in self.choices if c.name not in values]
        if missing:
            raise BadInputError(f"no value for {', '.join(missing)}")
        device = self.device
        fixed = {
            f.name: value.substitute(values)
            for f in fields(device)
            if isinstance(value := getattr(device, f.name), Expression)
        }
        return _with(device, fixed)


def _with(device: Accelerator, values: Mapping[str, Any]) -> Accelerator:
    """The device with some attributes set, checked."""
    return replace(device, **values)
