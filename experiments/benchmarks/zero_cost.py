"""What zero-cost proxies are worth on NAS-Bench-201, beside MACs and parameters.

Networks drawn by seed are made as the benchmark has them (16 channels, 5 cells a stage, 32x32
images in three channels), with fresh weights, and scored by every proxy of `predictors.zero_cost`
on one minibatch. Against their accuracy after training on CIFAR-100: Kendall's tau with an
interval of 1.96 standard errors (bootstrap over networks), Spearman's rank correlation beside the
published one as it is recalled, and the tau among the better half alone, which is where a search
looks. A network without a score counts as worst, since this is what it would be taken for.

The minibatch is of Fashion-MNIST unless CIFAR files are at hand (`--images cifar-100`): grey
images, repeated in three channels, of 10 classes, so the networks have 10 outputs. `noise` is
normal noise with labels in turn. Published figures are of minibatches of CIFAR-100 itself
(Abdelfattah et al., ICLR 2021, arXiv 2101.08134: 64 images); they are recalled and were not looked
up again.

500 networks take half an hour and more. `--scores FILE` keeps what is scored and goes on from
there, `--seconds` stops in between and shows the networks that are scored by then:

    python -m experiments.benchmarks.zero_cost --scores runs/zero_cost_scores64.json --seconds 600
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from experiments.accuracy_tables import read_accuracy_table
from experiments.benchmarks.harness import add_tables, benchmark_main, show
from experiments.datasets import load_dataset
from predictors import rank_quality
from predictors.zero_cost import (
    PROXIES,
    SIZES,
    Batch,
    checked_batch,
    fresh_network,
    score_network,
)
from records import BadInputError, generator, parse_json, write_json
from search_spaces import Genes
from search_spaces.standard import NASBench201

Vector = npt.NDArray[np.float64]

RECALLED = {"grad_norm": 0.64, "snip": 0.63, "synflow": 0.76, "jacob_cov": 0.71}
"""Spearman's rank correlation with the accuracy on CIFAR-100 over the whole space, recalled from
Abdelfattah et al., Zero-cost proxies for lightweight NAS (ICLR 2021), not read there again."""

DATASETS = ("fashion-mnist", "cifar-10", "cifar-100", "noise")
NETWORK_PROXIES = tuple(name for name, proxy in PROXIES.items() if proxy.of_network is not None)
BOOTSTRAPS = 200
WRITE_EVERY = 5


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Scores the networks that are not scored yet, and shows what the scores are worth."""
    torch.set_num_threads(arguments.threads)
    table = read_accuracy_table(arguments.tables / "nb201.parquet", "nb201", arguments.accuracy)
    order = generator(arguments.seed, "networks").permutation(len(table.genes))
    chosen = order[: arguments.networks]
    genes, accuracy = table.genes[chosen], table.accuracy[chosen]
    space, batch = minibatch(arguments.images, arguments.batch, arguments.seed)
    setting = f"{arguments.images} {arguments.batch} {arguments.seed}"
    known = _read(arguments.scores, setting)
    start = time.monotonic()
    for done, row in enumerate(genes, start=1):
        if time.monotonic() - start > arguments.seconds:
            break
        key = _key(row)
        todo = [
            n for n in arguments.proxies if n in NETWORK_PROXIES and n not in known.get(key, {})
        ]
        if todo:
            known.setdefault(key, {}).update(_scored(space, row, batch, todo))
        if todo and done % WRITE_EVERY == 0:
            _write(arguments.scores, setting, known)
    _write(arguments.scores, setting, known)
    wanted = set(arguments.proxies) & set(NETWORK_PROXIES)
    scored = np.array([wanted <= known.get(_key(row), {}).keys() for row in genes], np.bool_)
    if scored.sum() < 2:
        raise BadInputError("fewer than 2 networks are scored: give more --seconds or --networks")
    genes, accuracy = genes[scored], accuracy[scored]
    names = [*SIZES, *arguments.proxies]
    scores = {name: _column(space, name, genes, known) for name in names}
    seconds = {
        name: float(np.mean([known[_key(row)][name][1] for row in genes]))
        for name in names
        if name in NETWORK_PROXIES
    }
    return {"proxies": _show(scores, seconds, accuracy, arguments)}


def minibatch(name: str, size: int, seed: int) -> tuple[NASBench201, Batch]:
    """The space with as many outputs as there are classes, and a minibatch for it."""
    if name == "noise":
        space = NASBench201()
        drawn = generator(seed, "images").normal(size=(size, 3, 32, 32))
        return space, checked_batch(space, drawn, np.arange(size) % space.num_classes, seed)
    data = load_dataset(name, seed=seed)
    space = NASBench201(num_classes=data.num_classes)
    picked = generator(seed, "images").permutation(len(data.train))[:size]
    images = data.train.images[torch.from_numpy(picked)]
    images = images.expand(-1, 3, -1, -1) if data.channels == 1 else images
    return space, checked_batch(space, images, data.train.labels[torch.from_numpy(picked)], seed)


def _key(row: Genes) -> str:
    """A network's name in the file: its six operations."""
    return "".join(map(str, row))


def _scored(
    space: NASBench201, row: Genes, batch: Batch, names: list[str]
) -> dict[str, tuple[float | None, float]]:
    """For each proxy the score of one network, None where it has none, and processor seconds."""
    network = fresh_network(space, row, batch)
    found = {}
    for name in names:
        start = time.process_time()
        score = score_network(name, network, batch)
        seconds = time.process_time() - start
        found[name] = (score if np.isfinite(score) else None, seconds)
    return found


def _column(space: NASBench201, name: str, genes: Genes, known: Mapping[str, Any]) -> Vector:
    """The scores of all networks by one proxy; NaN where there is none."""
    if name in NETWORK_PROXIES:
        scores = [known[_key(row)][name][0] for row in genes]
        return np.array([np.nan if score is None else score for score in scores])
    of_table = SIZES[name] if name in SIZES else PROXIES[name].of_table
    assert of_table is not None
    return of_table(space.layer_table(genes))


def _show(
    scores: Mapping[str, Vector],
    seconds: Mapping[str, float],
    accuracy: Vector,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A line a proxy, the best first."""
    better = accuracy >= np.median(accuracy)
    records: list[dict[str, Any]] = []
    for name, values in scores.items():
        ranked = np.where(np.isnan(values), -np.inf, values)
        ranks = np.unique(ranked, return_inverse=True)[1].astype(np.float64)
        whole = rank_quality(ranks, accuracy)
        records.append({
            "proxy": name, "tau": whole.kendall_tau, "half_width": _half_width(ranks, accuracy),
            "spearman": whole.spearman, "recalled_spearman": RECALLED.get(name),
            "tau_better_half": rank_quality(ranks[better], accuracy[better]).kendall_tau,
            "unscored": int(np.isnan(values).sum()), "seconds": seconds.get(name),
        })  # fmt: skip
    records.sort(key=lambda record: -record["tau"])
    lines = [
        [
            r["proxy"], f"{r['tau']:.3f} ± {r['half_width']:.3f}", f"{r['spearman']:.2f}",
            r["recalled_spearman"] or "", f"{r['tau_better_half']:.3f}", r["unscored"],
            "" if r["seconds"] is None else f"{r['seconds']:.2f}",
        ]
        for r in records
    ]  # fmt: skip
    head = [
        "proxy",
        "tau",
        "Spearman",
        "published (recalled)",
        "better half",
        "no score",
        "s a network",
    ]
    title = (
        f"{len(accuracy)} networks of NAS-Bench-201, {arguments.accuracy}; {arguments.batch} "
        f"images of {arguments.images}"
    )
    show(title, head, lines)
    return records


def _half_width(ranks: Vector, accuracy: Vector) -> float:
    """1.96 standard deviations of tau over networks drawn with replacement."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(ranks), (BOOTSTRAPS, len(ranks)))
    taus = [rank_quality(ranks[draw], accuracy[draw]).kendall_tau for draw in draws]
    return float(1.96 * np.std(taus, ddof=1))


def _read(path: Path | None, setting: str) -> dict[str, dict[str, tuple[float | None, float]]]:
    """The scores of one setting, by the genes of the network and the proxy."""
    if path is None or not path.exists():
        return {}
    content: dict[str, Any] = parse_json(path.read_text())
    return dict(content.get(setting, {}))


def _write(path: Path | None, setting: str, scores: Mapping[str, Any]) -> None:
    """Keeps the scores of other settings in the file."""
    if path is not None:
        content = parse_json(path.read_text()) if path.exists() else {}
        write_json(path, {**content, setting: scores})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table, how many networks, which proxies on which images."""
    add_tables(parser, "nb201.parquet")
    parser.add_argument("--networks", type=int, default=500, help="how many are drawn")
    parser.add_argument("--batch", type=int, default=64, help="images in the minibatch")
    parser.add_argument("--images", choices=DATASETS, default="fashion-mnist")
    parser.add_argument("--proxies", nargs="+", choices=list(PROXIES), default=list(PROXIES))
    parser.add_argument("--accuracy", default="cifar100_acc", help="the column to rank by")
    parser.add_argument("--seed", type=int, default=0, help="draws networks, images and weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scores", type=Path, help="a file of scores to go on with")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no further network after these"
    )


if __name__ == "__main__":
    benchmark_main("zero_cost", run, add_arguments)
