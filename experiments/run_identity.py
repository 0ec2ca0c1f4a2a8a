"""What a run rests on, in hashes and names, and what of it has changed since it was begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hardware_profiles import machine_fingerprint
from latency_models import CostModel, MeasuredCostModel
from records import array_hash, content_hash, versions
from search_spaces import SearchSpace
from supernet import ImageData

IGNORED = (
    "out", "resume", "ledger", "fork", "executor", "workers", "address", "threads", "timeout_s",
    "retries", "cpus", "gpus", "resources",
)  # fmt: skip
"""Options that say where and how a run is started, not what it does."""

LOCAL = "local"
"""How a `--target` names this machine."""


def kept_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make a run what it is."""
    return {key: value for key, value in config.items() if key not in IGNORED}


def saved_options(header: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a ledger's header, as `kept_options` gives them today.

    Earlier versions noted `epochs` also for a search with brought weights, which trains nothing.
    """
    saved = dict(header.get("config", {}))
    if saved.get("supernet") is not None and "points" not in saved:  # no quickstart's
        saved.pop("epochs", None)
    return saved


def run_facts(config: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    """What the header of a run's ledger says of it: options, versions, machine, hashes."""
    return {
        "config": kept_options(config),
        "versions": versions(),
        "machine": machine_fingerprint(),
        "hashes": dict(hashes),
    }


def input_hashes(data: ImageData, space: SearchSpace) -> dict[str, str]:
    """Hashes of the search space and of the data's labels, in their order."""
    labels = {
        name: images.labels.numpy()
        for name, images in (
            ("train", data.train), ("validation", data.validation), ("test", data.test)
        )
    }  # fmt: skip
    return {"search space": space.hash, "data": array_hash(labels)}


def target_hashes(costs: Sequence[CostModel]) -> dict[str, str]:
    """A hash of each target: its profile, its use, and the timings that it was measured with.

    Of this machine only the kind counts: it is timed in the run, and the ledger has the timings.
    """
    return {f"target {cost.target_name}": _target_hash(cost) for cost in costs}


def _target_hash(cost: CostModel) -> str:
    target = cost.target
    if target.is_local:
        use = (target.runtime, target.precision, target.batch_size, target.threads)
        return content_hash([target.profile.machine, *use])
    facts = [asdict(target)]
    if isinstance(cost, MeasuredCostModel):
        facts.append({"timings": array_hash({"genes": cost.genes, "ms": cost.measured_ms})})
    return content_hash(facts)


def changes(header: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed since a run was begun, in the words of the options; old first.

    Args:
        header: The header of the run's ledger.
        now: What `run_facts` says today. A hash that either has not is not compared.
    """
    return [
        *_changed_options(saved_options(header), now["config"]),
        *_changed_versions(header.get("versions", {}), now["versions"]),
        *_changed_machine(header, now),
        *changed_hashes(header, now["hashes"]),
    ]


def changed_hashes(header: Mapping[str, Any], hashes: Mapping[str, str]) -> list[str]:
    """What has changed although it goes by the same name: profiles, data, the space's code."""
    saved: Mapping[str, str] = header.get("hashes", {})
    return [
        f"the {name} has changed (hash {saved[name]}, now {found})"
        for name, found in hashes.items()
        if saved.get(name, found) != found
    ]


def is_same(header: Mapping[str, Any], now: Mapping[str, Any], options: Sequence[str]) -> bool:
    """Whether none of these options has changed."""
    saved, config = saved_options(header), now["config"]
    return all(saved.get(name) == config.get(name) for name in options)


def is_timed_here(config: Mapping[str, Any]) -> bool:
    """Whether networks are timed on this machine, so that the run cannot move to another one."""
    named = config.get("target") or LOCAL
    names = [named] if isinstance(named, str) else named
    return any(name.partition(":")[0] == LOCAL for name in names)


def _changed_options(saved: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    return [
        f"--{key.replace('_', '-')} was {_said(saved.get(key))}, is {_said(config.get(key))}"
        for key in sorted({*saved, *config})
        if saved.get(key) != config.get(key)
    ]


def _changed_versions(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{name} was {saved.get(name, 'not installed')}, is {now.get(name, 'not installed')}"
        for name in sorted({*saved, *now} if saved else ())
        if saved.get(name) != now.get(name)
    ]


def _changed_machine(header: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if header.get("machine") == now["machine"] or not is_timed_here(now["config"]):
        return []
    return ["the machine is another one, on which the timed latencies do not hold"]


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)
