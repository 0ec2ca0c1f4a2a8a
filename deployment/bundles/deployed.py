"""What a bundle is made of, as one record, and what `bundle.json` says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deployment.bundles.file_answers import Tested
from deployment.bundles.format import FORMAT
from deployment.bundles.input import Interface
from deployment.bundles.making import Made
from deployment.bundles.record import (
    describe_target,
    machine_record,
    measured_record,
    memory_record,
    run_by,
    session_record,
)
from deployment.bundles.samples import Samples
from deployment.emission.emit import image_shape
from deployment.providers import provider
from deployment.quantisation.quantised import MODES
from deployment.runners.runner import Runner
from deployment.runners.timing import Timing
from deployment.runtimes.beside import Beside
from deployment.selection.results import Selection
from deployment.variant import Variant
from hardware_profiles import Target
from records import versions
from supernet import Subnet, reparameterise

OTHER_INPUT = (
    "the kernels were selected for a file that takes its images otherwise: the times of what was "
    "tried are not those of this file"
)
"""A note on a selection whose files did not take their images as the bundle's does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deployed:
    """A network whose file is made, verified, timed and tested.

    Attributes:
        subnet: The network.
        target: What it is for.
        variant: The forms, numbers and settings of the file.
        interface: What goes in and what comes out.
        made: The file, compared with torch.
        runner: What timed it; None for nothing.
        timing: Of the file; None where it was not timed.
        selection: How it was chosen; None for the default.
        tested: Its accuracy on the test split; None without one.
        samples: Inputs with torch's answers.
        beside: What other runtimes take.
        seed: Of random inputs.
    """

    subnet: Subnet
    target: Target
    variant: Variant
    interface: Interface
    made: Made
    runner: Runner | None
    timing: Timing | None
    selection: Selection | None
    tested: Tested | None
    samples: Samples
    beside: Sequence[Beside]
    seed: int

    @property
    def is_here(self) -> bool:
        """Whether this machine's onnxruntime has the provider."""
        return provider(self.variant.settings.provider).is_present

    def record(
        self,
        *,
        architecture: Mapping[str, Any],
        space: Mapping[str, Any],
        predicted: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What `bundle.json` holds, but for the cold start and the hashes of the files.

        Args:
            architecture: The choices, JSON-ready.
            space: The search space, JSON-ready.
            predicted: Costs as predicted before they were measured, JSON-ready.
            facts: Whatever else belongs on the record, JSON-ready.
        """
        graph = reparameterise(self.subnet).graph  # as in the file
        return {
            "format": FORMAT,
            "target": describe_target(self.target),
            "architecture": dict(architecture),
            "space": dict(space),
            "parameters": graph.parameters,
            "macs": graph.macs,
            **self._file_record(),
            "predicted": dict(predicted),
            **self._measured_record(),
            "facts": {**facts, **self._test_facts()},
            "seed": self.seed,
            "machine": machine_record(),
            "versions": versions(),
        }

    def _file_record(self) -> dict[str, Any]:
        """The file: who wrote it, in which numbers and forms, how it is fed and opened."""
        variant, made, target = self.variant, self.made, self.target
        way = variant.numerics.way
        return {
            "exporter": made.exporter,
            "precision": "int8" if way in MODES else way,
            "numerics": variant.numerics.name,
            "fp32_blocks": list(variant.numerics.fp32_blocks),
            "variant": variant.to_json(),
            "input": self.interface.record(image_shape(self.subnet), target.batch_size),
            "output": self.interface.output(),
            "file_bytes": len(made.data),
            "session": session_record(variant.settings, target),
            "provider": run_by(variant.settings, was_run=self.timing is not None),
            "selection": self._selection_record(),
            "quantised": None if made.quantised is None else asdict(made.quantised),
        }

    def _measured_record(self) -> dict[str, Any]:
        """What was measured and compared."""
        here, target = self.is_here, self.target
        return {
            "measured": measured_record(self.timing, self.runner),
            "cold_start": None,
            "beside": [row.to_json() for row in self.beside],
            "memory": memory_record(self.made.timed, target.threads) if here else None,
            "agreement": asdict(self.made.agreement),
            "tested": None if self.tested is None else asdict(self.tested),
            "samples": self.samples.to_json(),
        }

    def _selection_record(self) -> dict[str, Any] | None:
        if self.selection is None:
            return None
        found = self.selection.to_json()
        if self.selection.preprocessing != self.made.inside:
            found["notes"].append(OTHER_INPUT)
        return found

    def _test_facts(self) -> dict[str, Any]:
        """What reports read of the test."""
        if self.tested is None:
            return {}
        return {
            "test_accuracy": self.tested.accuracy,
            "test_interval_95": list(self.tested.interval_95),
            "test_images": self.tested.images,
        }
