"""The samples of a calibration, kept on disk as they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deployment import Timing
from hardware_profiles import Target
from latency_models.measurement_files import check_header, positive
from records import BadInputError, CorruptFileError, read_json, write_json
from search_spaces import Genes, SearchSpace

FORMAT = "hwnas-calibration-1"


class CalibrationFile:
    """What a calibration has timed so far: its networks, and passes of samples of all of them.

    Every pass is written whole, to a temporary name that is then moved, so that an interruption
    costs at most the pass that was under way.

    Args:
        path: The file; it need not be there.
        spaces: The spaces that are calibrated.
        target: The target.
        quantisation: How int8 files are made.
        seed: Of the calibration.

    Raises:
        CorruptFileError: The file is of another calibration, or damaged; names the field or row.
    """

    def __init__(
        self,
        path: str | Path,
        spaces: Sequence[SearchSpace],
        target: Target,
        quantisation: str,
        seed: int,
    ) -> None:
        self.path = Path(path)
        self.rows: list[tuple[SearchSpace, Genes]] | None = None
        self.rounds = 0
        self._spaces = tuple(spaces)
        self._passes: list[tuple[int, list[list[float]], list[float | None]]] = []
        self._header = {
            "format": FORMAT,
            "spaces": [space.hash for space in spaces],
            "target": target.name,
            "machine": target.profile.machine,
            "quantisation": quantisation if target.precision == "int8" else None,
            "seed": seed,
        }
        if self.path.exists():
            self._read()

    @property
    def rounds_done(self) -> int:
        return sum(rounds for rounds, _, _ in self._passes)

    @property
    def is_complete(self) -> bool:
        """Whether all rounds that were planned are there."""
        return self.rows is not None and self.rounds_done >= self.rounds

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The samples of every network, all passes together."""
        joined: list[Timing] = []
        for rounds, samples, preempted in self._passes:
            found = [
                Timing(
                    samples_ms=tuple(own),
                    rounds=rounds,
                    preempted=float("nan") if share is None else share,
                )
                for own, share in zip(samples, preempted, strict=True)
            ]
            pairs = zip(joined, found, strict=True)
            joined = [a.joined(b) for a, b in pairs] if joined else found
        return tuple(joined)

    def start(self, rows: Sequence[tuple[SearchSpace, Genes]], rounds: int) -> None:
        """Writes which networks are timed, and with how many rounds."""
        self.rows, self.rounds = list(rows), rounds
        self._write()

    def append(self, timings: Sequence[Timing]) -> None:
        """Writes one more pass over all networks."""
        self._passes.append(
            (
                timings[0].rounds,
                [list(t.samples_ms) for t in timings],
                [t.preempted if np.isfinite(t.preempted) else None for t in timings],
            )
        )
        self._write()

    def _write(self) -> None:
        place = {id(space): i for i, space in enumerate(self._spaces)}
        networks = [
            {"space": place[id(space)], "genes": row.tolist()} for space, row in self.rows or ()
        ]
        passes = [
            {"rounds": rounds, "samples_ms": samples, "preempted": preempted}
            for rounds, samples, preempted in self._passes
        ]
        write_json(
            self.path,
            {**self._header, "rounds": self.rounds, "networks": networks, "passes": passes},
        )

    def _read(self) -> None:
        value = read_json(self.path, kind="calibration")
        check_header(self.path, value, self._header)
        self.rounds = self._whole(value, "rounds")
        self.rows = []
        seen: dict[tuple[Any, ...], int] = {}
        for i, entry in enumerate(self._list(value, "networks")):
            space, row = self._network(i, entry)
            key = (space.hash, *row.tolist())
            if key in seen:
                raise CorruptFileError(
                    f"{self.path}: networks[{i}] is the same as networks[{seen[key]}]"
                )
            seen[key] = i
            self.rows.append((space, row))
        for p, entry in enumerate(self._list(value, "passes")):
            self._passes.append(self._pass(p, entry))

    def _network(self, i: int, entry: Any) -> tuple[SearchSpace, Genes]:
        try:
            space = self._spaces[entry["space"]]
            return space, space.gene_space.check([entry["genes"]])[0]
        except (BadInputError, KeyError, IndexError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{self.path}: networks[{i}]: {error}") from error

    def _pass(self, p: int, entry: Any) -> tuple[int, list[list[float]], list[float | None]]:
        rounds = self._whole(entry, "rounds", f"passes[{p}].")
        samples = self._list(entry, "samples_ms", f"passes[{p}].")
        preempted = self._list(entry, "preempted", f"passes[{p}].")
        wanted = len(self.rows or ())
        if len(samples) != wanted or len(preempted) != wanted:
            raise CorruptFileError(
                f"{self.path}: passes[{p}] has samples of {len(samples)} networks, not of {wanted}"
            )
        for i, own in enumerate(samples):
            where = f"passes[{p}].samples_ms[{i}]"
            if not isinstance(own, list) or not own:
                raise CorruptFileError(f"{self.path}: {where} holds no samples")
            for k, sample in enumerate(own):
                positive(self.path, f"{where}[{k}]", sample)
        return rounds, samples, preempted

    def _whole(self, value: Any, key: str, where: str = "") -> int:
        number = value.get(key) if isinstance(value, dict) else None
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise CorruptFileError(f"{self.path}: {where}{key} is {number!r}, not a whole number")
        return number

    def _list(self, value: Any, key: str, where: str = "") -> list[Any]:
        found = value.get(key) if isinstance(value, dict) else None
        if not isinstance(found, list):
            raise CorruptFileError(f"{self.path}: {where}{key} is {found!r}, not a list")
        return found
