"""What happens to an image before the network sees it: decoding, resizing, normalising, copying.

On a small network it can take more time than the network. It depends on the size of the image in
its file and on the side that the network asks for, hardly on the network. So it is measured for
each side on this machine, with Pillow and numpy, and added to the latency as a constant.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from latency_models.cost_records import Costs, recorded
from latency_models.costs import CostModel
from latency_models.inputs import checked_genes
from latency_models.on_demand import OnDemand
from records import BadInputError
from search_spaces import Architecture, Genes

Values = npt.NDArray[np.float64]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCost:
    """Milliseconds for one image, the least of several rounds.

    Attributes:
        decode_ms: From the file's bytes to pixels.
        resize_ms: To the network's side, bilinear.
        normalise_ms: To float32, channels first, mean and deviation taken out.
        transfer_ms: Copied into the memory that the runtime reads.
    """

    decode_ms: float
    resize_ms: float
    normalise_ms: float
    transfer_ms: float

    @property
    def total_ms(self) -> float:
        return self.decode_ms + self.resize_ms + self.normalise_ms + self.transfer_ms


def encoded_image(source: str | Path | tuple[int, int], seed: int = 0) -> bytes:
    """The bytes of an image file, or of a JPEG of that width and height made for the purpose.

    A size is a pair (width, height) or such as "640x480", where there is no file of that name. The
    made one is smooth with a little noise, as photographs are; a real file is the better test.

    Raises:
        BadInputError: No such file, or a size without pixels.
    """
    if isinstance(source, str) and not Path(source).exists():
        source = parse_size(source) or source
    if not isinstance(source, tuple):
        path = Path(source)
        if not path.is_file():
            raise BadInputError(f"there is no image {path}; give a file or a size such as 640x480")
        return path.read_bytes()
    width, height = source
    if width < 1 or height < 1:
        raise BadInputError(f"an image has at least 1 x 1 pixels, got {width} x {height}")
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, np.int16) + rng.integers(-6, 7, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def measure_pipeline(
    encoded: bytes, side: int, *, channels: int = 3, rounds: int = 9
) -> PipelineCost:
    """Times each step for one image on one thread, the least of the rounds.

    Args:
        encoded: The image's file.
        side: Height and width that the network asks for.
        channels: 3 for colours, 1 for grey.
        rounds: How often.

    Raises:
        BadInputError: No image that Pillow can decode, or numbers below 1.
    """
    if not isinstance(encoded, bytes):
        raise BadInputError(
            f"the bytes of an image's file are needed, got {encoded!r}: use encoded_image"
        )
    if side < 1 or rounds < 1 or channels not in (1, 3):
        raise BadInputError(
            f"side and rounds must be >= 1 and channels 1 or 3, got {side}, {rounds}, {channels}"
        )
    mean, std = np.array(MEAN[:channels], np.float32), np.array(STD[:channels], np.float32)
    bound = np.empty((1, channels, side, side), np.float32)

    def decode() -> Image.Image:
        return Image.open(io.BytesIO(encoded)).convert("RGB" if channels == 3 else "L")

    try:
        image = decode()
    except OSError as error:
        raise BadInputError(
            f"Pillow cannot decode these {len(encoded)} bytes: give the bytes of an image's file"
        ) from error
    small = image.resize((side, side), Image.Resampling.BILINEAR)

    def normalise() -> npt.NDArray[np.float32]:
        pixels = np.asarray(small, np.float32).reshape(side, side, channels)
        return np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(2, 0, 1))

    ready = normalise()
    steps: Mapping[str, Callable[[], Any]] = {
        "decode_ms": decode,
        "resize_ms": lambda: image.resize((side, side), Image.Resampling.BILINEAR),
        "normalise_ms": normalise,
        "transfer_ms": lambda: np.copyto(bound[0], ready),
    }
    least = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            least[name] = min(least[name], 1e3 * (time.perf_counter() - began))
    return PipelineCost(**least)


class EndToEndCosts:
    """A cost model whose latency counts what is done to the images before.

    Args:
        costs: The cost model of the network alone.
        pipeline_ms: For each side that networks may ask for the milliseconds of one image, or
            what `measure_pipeline` found.

    Raises:
        BadInputError: A cost model without a target's kernels; a time that is no number of at
            least 0; a side without a time, when it is asked for.
    """

    metrics: tuple[str, ...]

    def __init__(self, costs: CostModel, pipeline_ms: Mapping[int, float | PipelineCost]) -> None:
        if not isinstance(costs, CostModel):
            raise BadInputError(f"a CostModel is needed, got {type(costs).__name__}")
        self.alone = costs
        self.pipeline_ms = {side: _milliseconds(side, ms) for side, ms in pipeline_ms.items()}
        self.metrics = costs.metrics

    @property
    def target_name(self) -> str:
        return self.alone.target_name

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The metrics that no measurement supports."""
        return self.alone.unmeasured

    @property
    def latency_source(self) -> str:
        """What the latency rests on, in words for reports."""
        return f"{self.alone.latency_source}; with what is done to the images, timed here"

    @property
    def energy_source(self) -> str:
        """What the energy rests on, in words for reports."""
        return f"{self.alone.energy_source}; of the network alone"

    def added_ms(self, genes: Genes) -> Values:
        """What is added for each network, for the whole batch."""
        sides = network_sides(self.alone, genes)
        lacking = sorted(set(sides.tolist()) - set(self.pipeline_ms))
        if lacking:
            raise BadInputError(
                f"no time is known for images of side {', '.join(map(str, lacking))}; measured "
                f"are: {', '.join(map(str, sorted(self.pipeline_ms))) or 'none'}"
            )
        each = np.array([self.pipeline_ms[side] for side in sides.tolist()], np.float64)
        return each * self.alone.target.batch_size

    def predict(self, genes: Genes) -> Mapping[str, Values]:
        """As the network alone, with the images' time added to the latency."""
        alone = self.alone.predict(genes)

        def function(name: str) -> Callable[[], Values]:
            if name == "latency_ms":
                return lambda: alone[name] + self.added_ms(genes)
            return lambda: alone[name]

        return OnDemand({name: function(name) for name in alone})

    def latency_ms(self, genes: Genes) -> Values:
        """The latency alone, length `n`."""
        return self.alone.latency_ms(genes) + self.added_ms(genes)

    def costs(self, genes: Genes) -> Costs:
        """All costs: latency and its interval with the images' time, the rest as it was.

        Energy and memory are the network's, and so are the shares of measured kernels.
        """
        alone, added = self.alone.costs(genes), self.added_ms(genes)
        return replace(
            alone,
            latency_ms=alone.latency_ms + added,
            latency_low_ms=alone.latency_low_ms + added,
            latency_high_ms=alone.latency_high_ms + added,
        )

    def record(self, genes: Genes) -> dict[str, Any]:
        """The costs of one architecture as JSON-ready values, with the images' part by itself."""
        return {
            **recorded(self.costs(genes), self.latency_source, self.energy_source),
            "images_ms": float(self.added_ms(genes)[0]),
        }

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Values:
        """As the network alone, with the images' time added to the latency."""
        bound = self.alone.bound(metric, genes, probability)
        return bound + self.added_ms(genes) if metric == "latency_ms" else bound

    def extremes(self, metric: str) -> tuple[tuple[float, Genes], tuple[float, Genes]] | None:
        """Those of the network alone; of the latency only where all images have one side."""
        found = self.alone.extremes(metric)
        if metric != "latency_ms" or found is None:
            return found
        if any(node.operator == "resize" for node in self.alone.space.nodes):
            return None
        (low, low_genes), (high, high_genes) = found
        added = float(self.added_ms(np.atleast_2d(low_genes))[0])
        return (low + added, low_genes), (high + added, high_genes)

    def deploy(
        self,
        subnet: Any,
        architecture: Architecture,
        folder: Path,
        facts: Mapping[str, Any],
        **options: Any,
    ) -> Any:
        """Exports the network; the bundle's predictions are those of the network alone."""
        return self.alone.deploy(subnet, architecture, folder, facts, **options)


def _milliseconds(side: int, cost: float | PipelineCost) -> float:
    found = cost.total_ms if isinstance(cost, PipelineCost) else cost
    if not isinstance(found, int | float) or not 0 <= found < float("inf"):
        raise BadInputError(
            f"the time of images of side {side} must be a number of at least 0, got {cost!r}"
        )
    return float(found)


def network_sides(costs: CostModel, genes: Genes) -> npt.NDArray[np.int64]:
    """The side of the images that each network works on, length `n`.

    A network that first resizes its images to a side of its own can be given them so.
    """
    space = costs.space
    genes = checked_genes(space, genes)
    sides = np.full(len(genes), space.nodes[0].attributes["height"])
    table = space.layer_table(genes)
    for index, node in enumerate(space.nodes):
        if node.operator == "resize" and tuple(node.inputs) == (0,):
            there = table.column("active")[:, index] > 0
            sides = np.where(there, table.column("height")[:, index], sides)
    return np.asarray(sides, np.int64)


def parse_size(text: str) -> tuple[int, int] | None:
    """Width and height from such as "640x480"; None for anything else."""
    parts: Sequence[str] = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])
