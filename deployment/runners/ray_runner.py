"""A runner whose device is a node of a Ray cluster: a worker that has the board attached.

The node is started with a resource of its own, of which it has one:

    ray start --address=head:6379 --num-cpus=0 --resources='{"device:rpi4": 1}'

A measurement takes all of it, so two never run on a board at once: the second waits. It is the
measurement of a kit (`deployment.kit`) that a `CommandRunner` makes, carried by Ray's object store
and started by an actor (`deployment.runners.ray_worker`). The node needs the versions of Python
and Ray of the cluster and onnxruntime; nothing of hwnas.

A worker that dies is replaced. The results come back after every round, so a run that goes on on
the same machine continues after the last round that came; on another machine it begins again,
since rounds of two machines cannot be compared.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment.kit import Kit, Results, write_kit
from deployment.runners.kit_runner import (
    NOT_MENDED,
    DeviceError,
    KitRunner,
    Line,
    earlier_rounds,
    results_of,
)
from deployment.runners.ray_cluster import RAY, connected, lacking
from deployment.runners.ray_worker import KitWorker
from records import BadInputError, write_bytes, write_text
from records.ray_cluster import room

FOLLOW_S = 2.0
"""How long the worker waits for a line of the script before it says that there is none."""

MARGIN_S = 15.0
"""How long an answer of the worker may take, beside what the script takes."""

STOP_S = 10.0
"""How long the worker may take to end the script."""


class _FailedError(Exception):
    """A failure that another try does not mend."""


class _BrokenOffError(Exception):
    """A try that another one may mend."""


class _NoNodeError(_BrokenOffError):
    """No node has the resource: hopeless at first, not after a node died."""


@dataclass(frozen=True, kw_only=True)
class RayRunner(KitRunner):
    """Times files on a Ray node that has a resource.

    Attributes:
        resource: The resource, of which the node of the board has 1.
        address: The cluster's head: `host:6379` from a machine of the cluster,
            `ray://host:10001` from any other (it needs `ray[client]` on both sides), `auto` for
            the cluster that this machine is in. None takes the connection that the process has,
            or what RAY_ADDRESS says, or `auto`. A connection that a measurement makes is closed
            after it; call `ray.init` before many short ones.
        python: The interpreter on the node that has onnxruntime; "" is the worker's own.
        name: How reports call the device; "" names it by the resource.
        timeout_s: How long the script, or the sending of its files, may be silent; then the try
            has failed. The script prints a line every five seconds and every run of a network.
        limit_s: How long a measurement may take in all, from when it has the board.
        wait_s: How long the board may be in use by others.
        retries: How often a worker that died is replaced.
        pause_s: Before another try.

    Raises:
        BadInputError: A text or number that cannot be used.
    """

    resource: str
    address: str | None = None
    python: str = ""
    name: str = ""
    timeout_s: float = 600.0
    limit_s: float = math.inf
    wait_s: float = 3600.0
    retries: int = 2
    pause_s: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.resource, str) or not self.resource.strip():
            raise BadInputError(
                f"resource must be the name of a Ray resource, such as device:rpi4, got "
                f"{self.resource!r}"
            )
        if self.address is not None:
            RAY.check_address(self.address)
        for key in ("timeout_s", "limit_s", "wait_s"):
            value = getattr(self, key)
            if not isinstance(value, int | float) or not value > 0:
                raise BadInputError(f"{key} must be positive, in seconds, got {value!r}")
        if type(self.retries) is not int or self.retries < 0:
            raise BadInputError(f"retries must be a whole number >= 0, got {self.retries!r}")
        if not isinstance(self.pause_s, int | float) or not 0 <= self.pause_s < math.inf:
            raise BadInputError(f"pause_s must be >= 0, in seconds, got {self.pause_s!r}")
        if not self.name:
            object.__setattr__(self, "name", f"{self.resource} by Ray")

    def measure(self, kit: Kit, results: str | Path, on_line: Line | None = None) -> Results:
        """See `KitRunner.measure`.

        The rounds that came until a failure or an interrupt are in `results`.

        Raises:
            BadInputError: Ray is not installed.
        """
        with connected(self.address) as ray, tempfile.TemporaryDirectory(prefix="hwnas-") as place:
            folder = Path(place) / "kit"
            manifest = write_kit(kit, folder)
            say = on_line or (lambda line: None)
            try:
                files = [
                    (path.relative_to(folder).as_posix(), ray.put(path.read_bytes()))
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                ]
            except (ray.exceptions.RayError, ConnectionError) as error:
                raise DeviceError(f"{self.name}: files cannot be sent: {_said(error)}") from error
            measurement = _Measurement(self, ray, files, Path(results), say)
            measurement.take_up(earlier_rounds(results, manifest))
            self._tried(measurement)
        return results_of(results, manifest, self.name)

    def _tried(self, measurement: _Measurement) -> None:
        for attempt in range(self.retries + 1):
            try:
                measurement.run()
                break
            except (_FailedError, _BrokenOffError, ConnectionError) as error:
                mends = isinstance(error, _BrokenOffError)
                mends = mends and not (isinstance(error, _NoNodeError) and attempt == 0)
                if not mends or attempt == self.retries:
                    tries = f" ({attempt + 1} tries)" if attempt else ""
                    said = f"{self.name}: {error}{tries}{measurement.kept()}"
                    raise DeviceError(said) from error
                measurement.say(f"{error}; trying again")
                time.sleep(self.pause_s)


@dataclass
class _Measurement:
    """One measurement and what there is of it so far.

    Attributes:
        runner: Its settings.
        ray: Ray, connected.
        files: The kit's files: names and references to what they hold.
        path: Where the results go.
        say: Called with every line.
        results: Those of the rounds that were measured.
        machine: That they were measured on.
    """

    runner: RayRunner
    ray: Any
    files: list[tuple[str, Any]]
    path: Path
    say: Line
    results: bytes | None = field(default=None, init=False)
    machine: str = field(default="", init=False)

    def take_up(self, earlier: bytes | None) -> None:
        """Continues what another process began, on the same machine."""
        with contextlib.suppress(OSError):
            machine = self._noted.read_text(encoding="utf-8")
            self.machine, self.results = ("", None) if earlier is None else (machine, earlier)

    @property
    def _noted(self) -> Path:
        """The file that says which machine the rounds are of."""
        return self.path.with_name(f"{self.path.name}.machine")

    def run(self) -> None:
        """One try, by a worker of its own.

        Raises:
            _BrokenOffError: It broke off.
            _FailedError: It failed such that another try does not mend it.
        """
        exceptions = self.ray.exceptions
        worker = None
        try:
            if instead := lacking(self.ray, self.runner.resource):
                raise _NoNodeError(instead)
            actor = self.ray.remote(KitWorker).options(
                num_cpus=0, resources={self.runner.resource: 1}, max_restarts=0, max_task_retries=0
            )
            worker = actor.remote()
            self._measured_by(worker)
        except exceptions.RayTaskError as error:  # the worker lives, what it did failed
            raise _FailedError(_said(error)) from error
        except exceptions.GetTimeoutError as error:
            raise _BrokenOffError("the worker gave no answer") from error
        except exceptions.RayError as error:
            raise _BrokenOffError(f"the worker died: {_said(error)}") from error
        finally:
            if worker is not None:
                self.ray.kill(worker)

    def kept(self) -> str:
        """Where the rounds are that were measured before a failure."""
        return f"; the rounds that were measured are in {self.path}" if self.results else ""

    def _measured_by(self, worker: Any) -> None:
        machine = self._placed(worker)
        end = time.monotonic() + self.runner.limit_s
        if machine != self.machine:
            if self.results is not None:
                self.say("on another machine: measuring again from the start")
            self.machine, self.results = machine, None
        try:
            begun = worker.begin.remote(
                self.files, self.results, self.runner.python, self.runner.timeout_s
            )
            self._get(begun, self.runner.timeout_s, end)
            while not self._followed(worker, end):
                pass
        finally:
            self._stop(worker)

    def _placed(self, worker: Any) -> str:
        """Waits until the worker runs; the machine that it runs on."""
        placed = worker.machine.remote()
        began = time.monotonic()
        told = False
        while not self.ray.wait([placed], timeout=FOLLOW_S)[0]:
            waited = time.monotonic() - began
            resource = self.runner.resource
            if waited > self.runner.wait_s:
                raise _FailedError(f"{resource} was in use for {waited:.0f} s")
            if not room(self.ray, {resource: 1}):
                raise _BrokenOffError(f"the node with {resource} left the cluster")
            if not told and waited > 2 * FOLLOW_S:
                told = True
                self.say(f"waiting for {resource}")
        return str(self.ray.get(placed))

    def _followed(self, worker: Any, end: float) -> bool:
        """Takes what the worker has to say; whether the script has ended."""
        lines, results, outcome = self._get(worker.follow.remote(FOLLOW_S), FOLLOW_S, end)
        self._keep(results)
        for line in lines:
            self.say(line)
        if outcome is None:
            return False
        code, said = outcome
        if code in NOT_MENDED:
            raise _FailedError(said)
        if code != 0:
            raise _BrokenOffError(said)
        return True

    def _get(self, reference: Any, allowed_s: float, end: float) -> Any:
        """An answer of the worker, within its own time and that of the whole measurement."""
        left = end - time.monotonic()
        try:
            if left <= 0:
                raise self.ray.exceptions.GetTimeoutError
            return self.ray.get(reference, timeout=min(allowed_s + MARGIN_S, left))
        except self.ray.exceptions.GetTimeoutError:
            if time.monotonic() < end:
                raise
            limit = f"{self.runner.limit_s:g} s"
            raise _FailedError(f"the measurement took longer than {limit}") from None

    def _stop(self, worker: Any) -> None:
        """Ends the script and takes what it has measured, if the worker still lives."""
        with contextlib.suppress(self.ray.exceptions.RayError):  # it died, and the script with it
            self._keep(self.ray.get(worker.stop.remote(), timeout=STOP_S))

    def _keep(self, results: bytes | None) -> None:
        if results is not None:
            self.results = results
            write_bytes(self.path, results)
            write_text(self._noted, self.machine)


def _said(error: Exception) -> str:
    """The first line of what Ray says, or the cause: the rest is a traceback or advice."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
