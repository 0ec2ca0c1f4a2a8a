"""Test doubles: an accuracy and costs that are formulas, so that every outcome can be known."""

import json

import numpy as np

from records import Measured
from search_spaces import HybridSpace, HybridStage
from strategies.known_rows import row_keys

SPACE = HybridSpace(image_size=8, channels=1, stem_stride=1)
TINY = HybridSpace(
    image_size=8,
    channels=1,
    stages=(HybridStage(depths=(0, 1), widths=(16, 32), expansions=(1, 2), heads=(1, 2)),),
)
"""So small that every architecture can be looked at."""


def all_rows(space):
    """Every architecture of a small space."""
    grid = np.indices(tuple(space.gene_space.sizes)).reshape(len(space.choices), -1).T
    return np.unique(space.canonical(grid.astype(np.int16)), axis=0)


def one_hot(space, genes):
    """Active choices as zeros and ones, an `n x (sum of sizes)` array."""
    active = space.active(genes)
    columns = [
        (genes[:, j] == value) & active[:, j]
        for j, size in enumerate(space.gene_space.sizes)
        for value in range(size)
    ]
    return np.column_stack(columns).astype(np.float64)


def never(row):
    """No row fails; a function of the module, so that what holds it can be pickled."""
    return False


class FormulaAccuracy:
    """Accuracy grows with log MACs and with some choices, and has noise fixed by the genes."""

    metric = "accuracy"

    def __init__(self, space, *, seed=0, noise=0.003, fails=never, stop_after=None):
        rng = np.random.default_rng(seed)
        self.space = space
        self.weights_hash = f"formula-{seed}"
        self.noise = noise
        self.fails = fails
        self.stop_after = stop_after
        self.bonus = rng.normal(0, 0.012, int(space.gene_space.sizes.sum()))
        ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
        macs = np.log(space.layer_table(ends).macs)
        self.low, self.span = macs.min(), np.ptp(macs)
        self.seen = []

    def values(self, genes):
        size = (np.log(self.space.layer_table(genes).macs) - self.low) / self.span
        smooth = 0.65 + 0.22 * (1 - np.exp(-2 * size)) + one_hot(self.space, genes) @ self.bonus
        jitter = (row_keys(genes) % np.uint64(2003)).astype(np.float64) / 2003 - 0.5
        return np.clip(smooth + 2 * self.noise * jitter, 0.0, 1.0)

    def evaluate(self, genes):
        if self.stop_after is not None and len(self.seen) + len(genes) > self.stop_after:
            raise KeyboardInterrupt
        self.seen += [tuple(row) for row in genes.tolist()]
        return [
            Measured(value=None, status="failed", reason="out of memory", seconds=0.5)
            if self.fails(row)
            else Measured(value=float(value), dispersion=0.01, seconds=0.25)
            for row, value in zip(genes, self.values(genes), strict=True)
        ]

    def subnet(self, architecture):
        return ("subnet", architecture)


class LayerCost:
    """Latency and energy are sums over layers; the peak of memory is not."""

    metrics = ("latency_ms", "energy_mj", "peak_memory_bytes")

    def __init__(self, space, target_name="board", *, per_layer=0.01, margin=1.1, exact=False):
        self.space = space
        self.target_name = target_name
        self.per_layer = per_layer
        self.margin = margin
        self.exact = exact

    def predict(self, genes):
        table = self.space.layer_table(genes)
        layers = table.total("active")
        return {
            "latency_ms": layers * self.per_layer + table.macs / 2e6,
            "energy_mj": table.macs / 1e6 + table.activation_bytes() / 1e5,
            "peak_memory_bytes": (table.peak_activation_bytes() + 4 * table.parameters) * 1.0,
        }

    def bound(self, metric, genes, probability=0.95):
        return self.margin * self.predict(genes)[metric]

    def extremes(self, metric):
        if not self.exact:
            return None
        rows = all_rows(self.space)
        values = self.predict(rows)[metric]
        low, high = values.argmin(), values.argmax()
        return (float(values[low]), rows[low]), (float(values[high]), rows[high])

    def deploy(self, subnet, architecture, folder, facts):
        folder.mkdir(parents=True)
        (folder / "facts.json").write_text(json.dumps(facts, allow_nan=False))
        return folder, subnet, architecture


class Ridge:
    """A linear predictor on choices and log MACs; its spread is the leverage's."""

    def __init__(self, space):
        self.space = space

    def features(self, genes):
        macs = np.log(self.space.layer_table(genes).macs)[:, None]
        return np.hstack([one_hot(self.space, genes), macs, np.ones((len(genes), 1))])

    def fit(self, genes, values):
        x = self.features(genes)
        self.center = values.mean()
        self.inverse = np.linalg.inv(x.T @ x + np.eye(x.shape[1]))
        self.coefficients = self.inverse @ x.T @ (values - self.center)
        residual = values - self.center - x @ self.coefficients
        self.scale = max(float(residual.std()), 1e-4)
        return self

    def predict(self, genes):
        x = self.features(genes)
        leverage = np.einsum("ij,jk,ik->i", x, self.inverse, x)
        return RidgePrediction(
            self.center + x @ self.coefficients, self.scale * np.sqrt(1 + leverage)
        )


class RidgePrediction:
    def __init__(self, mean, std):
        self.mean = mean
        self.std = std
