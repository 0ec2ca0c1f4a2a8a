"""The energy of subnets: modelled from operations, bytes and time, or calibrated on measurements.

    energy = a * operations * pJ/op + sum over memory levels  b_l * bytes_l * pJ/byte_l
             + p * latency

Uncalibrated, `a = b_l = 1`, `p` is the idle power, and the energies per operation and byte are the
profile's or those of a 45 nm process (`hardware_profiles.energy`). How wrong that is nobody knows,
so it comes with the widest interval that physics allows: from idle power to peak power over the
predicted latency. From a few measured networks `a`, `b_l` and `p` are fitted by non-negative least
squares on relative errors, and the source states the error on networks that were left out.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from deployment import Lowering
from hardware_profiles import Target, with_reference_energy
from latency_models.ceiling import BYTES_PER_VALUE, held_by
from latency_models.costs import CostModel
from latency_models.inputs import measured_values
from records import BadInputError
from search_spaces import Genes

Values = npt.NDArray[np.float64]
Model = TypeVar("Model", bound=CostModel)

MIN_POINTS = 4
RIDGE = 1e-4
"""Pulls the factors towards one common factor where the points do not tell them apart."""


def energy_parts_mj(target: Target, lowering: Lowering) -> Values:
    """What every variant of every kernel uses, one row a part: operations, then memory levels.

    Returns:
        A `parts x variants` array; a part whose energy is unknown is a row of zeros.
    """
    profile = with_reference_energy(target.profile)
    flat = lowering.tabulation.columns
    width = BYTES_PER_VALUE[target.precision]
    moved = width * (flat["read_elements"] + flat["write_elements"] + flat["weight_elements"])
    per_op = profile.pj_per_op.get(target.precision)
    parts = [2e-9 * flat["macs"] * (per_op.value if per_op else 0.0)]
    for level, here in held_by(profile, moved):
        energy = profile.pj_per_byte.get(level.name)
        parts.append(1e-9 * moved * here * (energy.value if energy else 0.0))
    return np.stack(parts)


def with_measured_energy(costs: Model, genes: Genes, energies_mj: npt.ArrayLike) -> Model:
    """The cost model with its energy fitted to measured networks; the given one stays as it is.

    Args:
        costs: A cost model; its latencies are taken as they are.
        genes: The measured networks, an `n x d` array with at least 4 rows.
        energies_mj: What one run of each took, length `n`.

    Raises:
        BadInputError: Too few networks, energies that are no positive numbers, or a cost model
            without kernels, such as an accelerator's or one from end to end.
    """
    if not isinstance(costs, CostModel):
        raise BadInputError(
            "the energy of kernels is fitted: a CostModel of a network on a target is needed, got "
            f"{type(costs).__name__}"
        )
    rows = costs.space.gene_space.check(genes)
    measured: Values = measured_values("energies", energies_mj)
    if len(rows) < MIN_POINTS or measured.shape != (len(rows),):
        raise BadInputError(
            f"a fit needs at least {MIN_POINTS} networks and an energy for each, got {len(rows)} "
            f"and {measured.shape}"
        )
    if not (np.isfinite(measured) & (measured > 0)).all():
        raise BadInputError("energies must be positive and finite")
    parts = energy_parts_mj(costs.target, costs.lowering)
    codes = costs.lowering.tabulation.codes(rows)
    design = np.stack(
        [part[codes].sum(axis=0) for part in parts] + [costs.latency_ms(rows)], axis=1
    )
    factors = _fit(design, measured)
    left_out = np.array(
        [
            design[i] @ _fit(np.delete(design, i, axis=0), np.delete(measured, i))
            for i in range(len(rows))
        ]
    )
    error = float(np.mean(np.abs(left_out / measured - 1)))
    calibrated = copy.copy(costs)
    calibrated.__dict__.pop("_energy_lookup", None)
    calibrated.__dict__["ceiling"] = costs.ceiling.with_energy(
        energy_mj=factors[:-1] @ parts,
        static_power_w=float(factors[-1]),
        source=(
            f"predicted: factors fitted to {len(rows)} measured networks, cross-validated error "
            f"{error:.1%}"
        ),
        ratios=tuple(np.sort(measured / np.maximum(left_out, 1e-30)).tolist()),
    )
    return calibrated


def _fit(design: Values, measured: Values) -> Values:
    """Non-negative factors of the parts, by least squares on relative errors."""
    scale = np.maximum(np.median(design, axis=0), 1e-30)
    used = design.max(axis=0) > 0
    rows = design / scale / measured[:, None]
    target = np.ones(len(measured))
    ridge = np.sqrt(RIDGE * len(measured)) / np.median(measured) * np.diag(used.astype(float))
    factors, _ = nnls(np.concatenate([rows, ridge]), np.append(target, np.zeros(len(scale))))
    return np.asarray(factors / scale * used)
