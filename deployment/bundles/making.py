"""Making the file of a bundle: which variant, with what interface, proved, timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from deployment.bundles.file_answers import with_batch
from deployment.bundles.input import Interface
from deployment.emission.emit import emit, exporter_of, image_shape
from deployment.emission.preprocessing import Preprocessing
from deployment.network_blocks import is_within
from deployment.numerics import Numerics
from deployment.proofs.verify import Agreement, verify
from deployment.providers import provider
from deployment.runners.runner import Runner
from deployment.runners.timing import Timing
from deployment.selection.candidates import provider_of
from deployment.selection.results import Selection
from deployment.session_settings import SessionSettings
from deployment.target_file import Quantised, verify_quantised
from deployment.variant import Variant
from deployment.variant_files import variant_file
from hardware_profiles import Target
from search_spaces.block_precision import QUANTISED_PRIMITIVES
from supernet import Subnet

ROUNDS, MIN_SECONDS = 50, 2.0
"""Visits to a file that is timed alone, and over how long they are spread at least."""


def runnable_here(settings: SessionSettings) -> SessionSettings:
    """The settings, with the processor in place of a provider that this machine does not have."""
    if provider(settings.provider).is_present:
        return settings
    return replace(settings, provider="cpu", provider_options={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A file as it is shipped and as it is timed.

    Attributes:
        data: As it is shipped.
        timed: The same for the target's batch, where it takes any.
    """

    data: bytes
    timed: bytes


def made_files(
    subnet: Subnet,
    variant: Variant,
    target: Target,
    interface: Interface,
    calibration_images: torch.Tensor | None = None,
    *,
    selection: Selection | None = None,
) -> Files:
    """The file of a variant with the interface that is asked for.

    Args:
        subnet: The network in eval mode.
        variant: Its forms, numbers and settings.
        target: Its batch size is the file's.
        interface: Whether it takes pixels or any batch.
        calibration_images: Training images that set the scales of static int8.
        selection: What selecting kernels found; its file is taken where it is this one.

    Raises:
        BadInputError: See `variant_file`.
    """
    inside = interface.inside(image_shape(subnet))
    if (
        selection is not None
        and (selection.chosen.variant, selection.preprocessing) == (variant, inside)
        and not interface.any_batch
    ):
        return Files(data=selection.data, timed=selection.data)
    data = variant_file(
        subnet,
        variant,
        None if interface.any_batch else target.batch_size,
        calibration_images=calibration_images,
        preprocessing=inside,
    )
    return Files(
        data=data, timed=with_batch(data, target.batch_size) if interface.any_batch else data
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that was made and compared with torch.

    Attributes:
        data: The file as it is shipped.
        timed: The same for the target's batch.
        inside: The preprocessing that it does.
        exporter: Who wrote it.
        agreement: Of the file in exact forms and fp32 that takes tensors.
        quantised: Of the file as it is timed, where it is not exact.
    """

    data: bytes
    timed: bytes
    inside: Preprocessing | None
    exporter: str
    agreement: Agreement
    quantised: Quantised | None

    @staticmethod
    def of(
        subnet: Subnet,
        variant: Variant,
        target: Target,
        interface: Interface,
        calibration_images: torch.Tensor | None,
        *,
        images: torch.Tensor | None,
        seed: int,
        selection: Selection | None = None,
    ) -> Made:
        """Makes and compares it; see `made_files`."""
        files = made_files(
            subnet, variant, target, interface, calibration_images, selection=selection
        )
        exact = replace(variant.forms, gelu="exact")
        model = emit(subnet, target.batch_size, forms=exact)
        agreement = verify(subnet, model, images, seed=seed, threads=target.threads)
        quantised = None
        if not variant.is_exact:
            is_static = variant.numerics.way == "static"
            quantised = verify_quantised(
                subnet,
                files.timed,
                images,
                quantisation=variant.numerics.way,
                calibration_images=calibration_images if is_static else None,
                seed=seed,
                threads=target.threads,
            )
        return Made(
            data=files.data,
            timed=files.timed,
            inside=interface.inside(image_shape(subnet)),
            exporter=exporter_of(model),
            agreement=agreement,
            quantised=quantised,
        )


def unselected_variant(
    subnet: Subnet,
    target: Target,
    quantisation: str = "static",
    fp32_blocks: Sequence[str] = (),
) -> Variant:
    """What is deployed without a selection, by the provider that the target's runtime names.

    Where an int8 target's network has nothing that is rounded, all of it being in blocks that stay
    in fp32, the file is in fp32.
    """
    numerics = Numerics()
    if target.precision == "int8" and _has_rounded(subnet, quantisation, fp32_blocks):
        numerics = Numerics(way=quantisation, fp32_blocks=tuple(fp32_blocks))
    name = provider_of(target)
    takes = numerics.way in provider(name).ways
    return Variant(numerics=numerics, settings=SessionSettings(provider=name if takes else "cpu"))


def _has_rounded(subnet: Subnet, quantisation: str, fp32_blocks: Sequence[str]) -> bool:
    """Whether anything is rounded to 8 bits; a way without a blocks' choice always is."""
    if not fp32_blocks:
        return True
    taken = QUANTISED_PRIMITIVES[quantisation]
    return any(
        layer.operator in taken and not any(is_within(layer.name, b) for b in fp32_blocks)
        for layer in subnet.graph.layers[1:]
    )


def time_file(
    data: bytes, settings: SessionSettings, target: Target, runner: Runner, *, seed: int
) -> Timing:
    """Times one file for its bundle, over some seconds so that the quantiles mean something.

    Args:
        data: The file for the target's batch.
        settings: How it is opened.
        target: Its threads are used.
        runner: Times it.
        seed: Derives the inputs.
    """
    if settings == SessionSettings():  # which not every runner takes
        return runner.time(
            [data], threads=target.threads, rounds=ROUNDS, min_seconds=MIN_SECONDS, seed=seed
        )[0]
    return runner.time(
        [data],
        threads=target.threads,
        settings=[settings],
        rounds=ROUNDS,
        min_seconds=MIN_SECONDS,
        seed=seed,
    )[0]
