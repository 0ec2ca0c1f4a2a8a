"""The content of a `front.json` as records, for reports and pictures.

The file is the boundary: whatever is missing there, of another type or not a number becomes None
here (or an empty tuple), so that a report of an old or partial run can still be written and shows
a dash in that place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records import BadInputError

FORMAT = "hwnas-front-1"
"""The format of `front.json` that this module reads."""

Range = tuple[float, float]


def pick(content: object, *path: str) -> Any:
    """The value under nested keys; None where one is missing.

    >>> pick({"seconds": {"total": 81.5}}, "seconds", "total")
    81.5
    """
    for key in path:
        if not isinstance(content, Mapping):
            return None
        content = content.get(key)
    return content


def number(content: object, *path: str) -> float | None:
    """The finite number under nested keys; None for anything else, a boolean included."""
    value = pick(content, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def text(content: object, *path: str) -> str:
    """The text under nested keys; a number is written out, anything else is empty."""
    value = pick(content, *path)
    return str(value) if isinstance(value, str | int | float) else ""


def items(content: object, *path: str) -> list[Any]:
    """The list under nested keys; empty where there is none."""
    value = pick(content, *path)
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return list(value) if is_list else []


def _range(content: object, *path: str) -> Range | None:
    ends = [number({"end": end}, "end") for end in items(content, *path)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def keeps_limits(network: object, target: str) -> bool:
    """Whether an evaluated network keeps the limits on a target, as far as the file tells."""
    if isinstance(pick(network, "allowed"), list):
        return target in items(network, "allowed")
    return pick(network, "feasible") is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a network, as drawn.

    Attributes:
        kind: `stem`, `conv`, `attention`, `transition`, `head` or another word.
        text: What it is, e.g. `3x3 conv, 16 ch`.
        detail: Its further choices.
        size: The size of its output.
        latency_ms: Its predicted share of the network's latency.
    """

    name: str
    kind: str
    text: str
    detail: str
    size: str
    latency_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One delivered network on one target. Accuracies are shares of 1.

    Attributes:
        badge: The short mark that names it in pictures and tables: a number, or B for a baseline.
        test_interval: The 95 % confidence interval of `test`.
        predicted_interval_ms: The 90 % interval of `predicted_ms`.
        latency_error: Predicted over measured latency, minus 1.
        numeric_difference: Relative difference between torch's and the file's output.
        precisions: By stage, where the search chose them.
    """

    name: str
    target: str
    badge: str
    title: str
    is_baseline: bool
    validation: float | None
    test: float | None
    test_interval: Range | None
    test_images: float | None
    predicted_ms: float | None
    predicted_interval_ms: Range | None
    measured_ms: float | None
    p90_ms: float | None
    latency_error: float | None
    energy_mj: float | None
    energy_source: str
    latency_source: str
    peak_memory_bytes: float | None
    parameters: float | None
    macs: float | None
    numeric_difference: float | None
    coverage: Mapping[str, float]
    file: str
    blocks: tuple[Block, ...]
    precisions: Mapping[str, str]

    @property
    def known_ms(self) -> float | None:
        """The measured latency, or the predicted one where no runner reached the target."""
        return self.predicted_ms if self.measured_ms is None else self.measured_ms

    @property
    def predicted_word(self) -> str:
        """What its predicted latency is called: `modelled` where no measurement supports it."""
        return "modelled" if self.latency_source.startswith("modelled") else "predicted"

    @property
    def known_word(self) -> str:
        """How `known_ms` came about."""
        return self.predicted_word if self.measured_ms is None else "measured"

    @property
    def label(self) -> str:
        """How people name it: its title, or its name where it has none."""
        return self.title or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """One target: where its networks run, and what was asked there."""

    name: str
    content: Mapping[str, Any]
    limits: Mapping[str, float]

    @property
    def batch_size(self) -> int:
        """Images of one run, which its latency is about; 1 where unknown."""
        return int(number(self.content, "batch_size") or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A run's result. `content` is the file itself, for what is shown as it stands."""

    content: Mapping[str, Any]
    targets: tuple[TargetFacts, ...]
    points: tuple[Point, ...]

    def searched(self, target: str | None = None) -> list[Point]:
        """The networks that the search chose, on one target or on all."""
        return [p for p in self._of(target) if not p.is_baseline]

    def baselines(self, target: str | None = None) -> list[Point]:
        """The hand-made networks beside them."""
        return [p for p in self._of(target) if p.is_baseline]

    def is_timed(self, target: str) -> bool:
        """Whether the target's networks were timed as files."""
        return any(p.measured_ms is not None for p in self._of(target))

    def predicted_word(self, target: str) -> str:
        """What predicted latencies on a target are called, `predicted` or `modelled`."""
        return next((p.predicted_word for p in self._of(target)), "predicted")

    def _of(self, target: str | None) -> list[Point]:
        return [p for p in self.points if target in (None, p.target)]

    def most_accurate(self, target: str | None = None) -> Point | None:
        """The searched network with the best validation accuracy, the faster one of equals.

        The test split has no say in the choice, so its accuracy there is an unbiased number. Runs
        without validation accuracies fall back to the order of the file (the last one).
        """
        found = self.searched(target)
        known = [p for p in found if p.validation is not None]
        if not known:
            return found[-1] if found else None
        return max(known, key=lambda p: (p.validation or 0.0, -(p.known_ms or math.inf)))

    def fastest(self, target: str) -> Point | None:
        """The searched network with the lowest latency, measured if files were timed."""
        known = [p for p in self.searched(target) if p.known_ms is not None]
        return min(known, key=lambda p: p.known_ms or math.inf, default=None)


def latency_errors(points: Iterable[Point]) -> list[float]:
    """The sizes of the known relative errors of predicted latencies, the smallest first."""
    return sorted(abs(p.latency_error) for p in points if p.latency_error is not None)


def read_front(content: Mapping[str, Any]) -> Front:
    """Reads the content of a `front.json`.

    Raises:
        BadInputError: It names another format.
    """
    named = content.get("format", FORMAT)
    if named != FORMAT:
        raise BadInputError(
            f"the front is of the format {named!r}, only {FORMAT!r} can be reported: "
            "use the version of hwnas that wrote it"
        )
    raw_points = [point for point in items(content, "points") if isinstance(point, Mapping)]
    facts = {text(t, "name"): t for t in items(content, "targets") if isinstance(t, Mapping)}
    for point in raw_points:
        facts.setdefault(text(point, "target"), {})
    targets = tuple(
        TargetFacts(name=name, content=fact, limits=_numbers(fact, "limits"))
        for name, fact in facts.items()
    )
    points: list[Point] = []
    for target in targets:
        own = [p for p in raw_points if text(p, "target") == target.name]
        badges = _badges(own)
        read = [_point(raw, badge) for raw, badge in zip(own, badges, strict=True)]
        points += sorted(read, key=lambda p: (p.is_baseline, p.known_ms or math.inf))
    return Front(content=content, targets=targets, points=tuple(points))


def _numbers(content: object, *path: str) -> dict[str, float]:
    found = pick(content, *path)
    named = {key: number(found, key) for key in found} if isinstance(found, Mapping) else {}
    return {key: value for key, value in named.items() if value is not None}


def _texts(content: object, *path: str) -> dict[str, str]:
    found = pick(content, *path)
    return {key: text(found, key) for key in found} if isinstance(found, Mapping) else {}


def _badges(raw_points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The number at the end of each name where these differ, else the place in the list."""
    is_baseline = [text(p, "kind") == "baseline" for p in raw_points]
    ends = [text(p, "name").rpartition("-")[2] for p in raw_points]
    numbered = [end for end, hand_made in zip(ends, is_baseline, strict=True) if not hand_made]
    usable = len(set(numbered)) == len(numbered) and all(
        end.isdigit() and len(end) <= 2 for end in numbered
    )
    if not usable:
        ends = [str(place) for place in range(len(raw_points))]
    return ["B" if hand_made else end for end, hand_made in zip(ends, is_baseline, strict=True)]


def _point(raw: Mapping[str, Any], badge: str) -> Point:
    predicted_ms = number(raw, "predicted", "latency_ms")
    measured_ms = number(raw, "measured", "latency_ms")
    error = number(raw, "latency_error")
    if error is None and predicted_ms is not None and measured_ms:
        error = predicted_ms / measured_ms - 1
    return Point(
        name=text(raw, "name"),
        target=text(raw, "target"),
        badge=badge,
        title=text(raw, "title"),
        is_baseline=text(raw, "kind") == "baseline",
        validation=number(raw, "validation_accuracy"),
        test=number(raw, "test_accuracy"),
        test_interval=_range(raw, "test_interval_95"),
        test_images=number(raw, "test_images"),
        predicted_ms=predicted_ms,
        predicted_interval_ms=_range(raw, "predicted", "latency_interval_90_ms"),
        measured_ms=measured_ms,
        p90_ms=number(raw, "measured", "p90_ms"),
        latency_error=error,
        energy_mj=number(raw, "predicted", "energy_mj"),
        energy_source=text(raw, "predicted", "energy_source"),
        latency_source=text(raw, "predicted", "latency_source"),
        peak_memory_bytes=number(raw, "predicted", "peak_memory_bytes"),
        parameters=number(raw, "parameters"),
        macs=number(raw, "macs"),
        numeric_difference=number(raw, "relative_difference"),
        coverage=_numbers(raw, "predicted", "coverage"),
        file=text(raw, "file"),
        blocks=tuple(_block(block) for block in items(raw, "blocks")),
        precisions=_texts(raw, "precisions"),
    )


def _block(raw: object) -> Block:
    return Block(
        name=text(raw, "name"),
        kind=text(raw, "kind"),
        text=text(raw, "text"),
        detail=text(raw, "detail"),
        size=text(raw, "size"),
        latency_ms=number(raw, "latency_ms"),
    )
