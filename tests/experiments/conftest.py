"""Runs of the command line that tests share.

Most runs replace the timing of files by a formula: they are fast and repeat exactly. Those whose
subject is the timing itself are `measured_run` and `limited_measured_run`.
"""

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from deployment import LocalRunner, Timing
from experiments import measuring
from experiments.cli import run

TINY = (
    "--epochs", "1", "--evaluations", "20", "--calibration-networks", "20", "--points", "3",
    "--train-images", "200",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A complete run: its folder, its `front.json`, and how its command ended."""

    folder: Path
    front: dict
    outcome: Outcome


def command(*arguments: object) -> Outcome:
    """Runs `hwnas` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), "the command line ends with an exit code"
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def formula_time(self, models, *, threads, rounds=7, runs=3, on_round=None, **_):
    """What takes the place of `LocalRunner.time`: convolution weights decide, by batch size."""
    timings = []
    for data in models:
        graph = onnx.load_from_string(data).graph
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        stored = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        kernels = [n.input[1] for n in graph.node if n.op_type.endswith("Conv")]
        weights = sum(sizes[stored.get(name, name)] for name in kernels)
        batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value
        latency = batch**0.9 * (0.01 + 2e-5 * weights + 1e-6 * sum(sizes.values()))
        timings.append(Timing(samples_ms=(latency,) * 6, rounds=2, preempted=0.0))
    return timings


@contextlib.contextmanager
def timed_by_formula() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalRunner, "time", formula_time)
        yield


@contextlib.contextmanager
def timed_quickly() -> Iterator[None]:
    """Real timings that are not spread over seconds."""
    real = LocalRunner.time

    def quick(self, models, *, rounds=7, min_seconds=0.0, **options):
        return real(self, models, rounds=min(rounds, 8), min_seconds=0.0, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalRunner, "time", quick)
        patch.setattr(measuring, "ATTEMPTS", 2)
        yield


def finished(folder: Path, *options: object) -> Run:
    outcome = command("quickstart", "--out", folder, *TINY, *options)
    assert outcome.code == 0, outcome.err + outcome.out
    front = json.loads((folder / "front.json").read_text())
    return Run(folder=folder, front=front, outcome=outcome)


def limited(folder: Path, like: Run) -> Run:
    """A run like another with a latency limit half-way (in ratios) from fastest to slowest.

    Without a refit, under which networks that kept the limit in the search may miss it.
    """
    reach = next(r for r in like.front["targets"][0]["reachable"] if r["metric"] == "latency_ms")
    limit = reach["lowest"] * (reach["highest"] / reach["lowest"]) ** 0.5
    return finished(
        folder, "--space", "cnn", "--max-latency-ms", f"{limit:.4g}", "--refit-threshold", "10"
    )


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, to see that nothing changed; a folder's content is None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def hwnas() -> Callable[..., Outcome]:
    """`hwnas(...)` runs the command line in this process."""
    return command


@pytest.fixture
def by_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not timed: their latency comes from a formula.

    By the test's own patches, so that what the test patches as well is undone in order.
    """
    monkeypatch.setattr(LocalRunner, "time", formula_time)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a run that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes | None]]:
    """`snapshot(folder)` is everything in it."""
    return content


@pytest.fixture(scope="session")
def measured_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in the space `cnn` without limits, whose files are really timed."""
    with timed_quickly():
        return finished(tmp_path_factory.mktemp("measured") / "run", "--space", "cnn")


@pytest.fixture(scope="session")
def limited_measured_run(tmp_path_factory: pytest.TempPathFactory, measured_run: Run) -> Run:
    """The same with a limit on the latency."""
    with timed_quickly():
        return limited(tmp_path_factory.mktemp("limited") / "run", measured_run)


@pytest.fixture(scope="session")
def formula_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in the space `cnn`, timed by the formula: what interrupted runs are compared with."""
    with timed_by_formula():
        return finished(tmp_path_factory.mktemp("formula") / "run", "--space", "cnn")


@pytest.fixture(scope="session")
def limited_run(tmp_path_factory: pytest.TempPathFactory, formula_run: Run) -> Run:
    """The same with a limit on the latency."""
    with timed_by_formula():
        return limited(tmp_path_factory.mktemp("limited") / "run", formula_run)


@pytest.fixture(scope="session")
def refitted_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in the space `hybrid`, timed by the formula, whose cost models must be refitted."""
    folder = tmp_path_factory.mktemp("refitted") / "run"
    with timed_by_formula():
        return finished(folder, "--space", "hybrid", "--refit-threshold", "0")


@pytest.fixture(scope="session")
def finish() -> Callable[..., Run]:
    """`finish(folder, *options)` runs a tiny job to its end."""
    return finished
