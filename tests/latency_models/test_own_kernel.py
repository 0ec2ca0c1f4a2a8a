"""Kernels of a user's primitive: unknown until they are timed, and never free."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from deployment import KINDS
from hardware_profiles import Target
from latency_models import MeasuredCostModel, RooflineCostModel
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from search_spaces.primitives import PRIMITIVES
from supernet import add_primitive
from supernet.elastic import ELASTIC
from supernet.static import STATIC
from tests.latency_models.doubles import PROFILE, TARGET, level, planted_ms
from tests.supernet.test_own_primitive import PlainShift, Shift


@dataclass(frozen=True, kw_only=True)
class SometimesShifted(SearchSpace):
    """Convolutions, and a user's primitive where a choice wants it."""

    image_size: int = 8

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (16, 32, 48)), kernel=3, name="stem")
        for i in range(3):
            with net.scope(f"layer{i}"):
                x = net.conv2d(x, x.channels, kernel=net.choice("kernel", (1, 3, 5)))
        with net.when(net.choice("shift", ("no", "yes")) == "yes"):
            x = net.primitive("shift", (x,))
        return classifier(net, x, self.num_classes)


@pytest.fixture
def space():
    add_primitive("shift", elastic=Shift, static=PlainShift, parameters=lambda a: a["channels"])
    yield SometimesShifted()
    for table in (PRIMITIVES, ELASTIC, STATIC):
        del table["shift"]


@pytest.mark.parametrize(
    "target",
    [
        TARGET,
        Target(
            profile=replace(
                PROFILE,
                kernel_launch_us=None,
                memory=(level("dram", None, None, None),),
                pj_per_byte={},
            )
        ),
    ],
    ids=["known device", "unknown device"],
)
def test_it_is_never_free(space, target):
    rows = space.sample(200, np.random.default_rng(0))
    shifted = rows[:, -1] == 1
    timed = np.unique(rows[~shifted], axis=0)
    model = MeasuredCostModel(space, target, timed, planted_ms(space, timed))
    for row in np.unique(rows[shifted], axis=0)[:10]:
        without = row.copy()
        without[-1] = 0
        (part,) = [p for p in model.parts(row) if p.kind == "other"]
        assert part.name == "shift"
        assert part.latency_ms > 0
        both = model.latency_ms(np.stack([row, without]))
        assert both[0] == pytest.approx(both[1] + part.latency_ms)
        assert model.costs(row[None]).analytic[0] > 0
        assert model.costs(without[None]).analytic[0] == 0


def test_timing_it_makes_it_known(space):
    rows = np.unique(space.sample(200, np.random.default_rng(0)), axis=0)
    shifted = rows[:, -1] == 1
    slow = planted_ms(space, rows) + 0.5 * shifted
    model = MeasuredCostModel(space, TARGET, rows, slow)
    assert (model.costs(rows).analytic == 0).all()
    np.testing.assert_allclose(model.latency_ms(rows), slow, rtol=0.05)


def test_its_roofline_is_that_of_what_it_moves(space):
    row = np.array([[1, 0, 0, 0, 1]], np.int16)
    model = RooflineCostModel(space, TARGET)
    (part,) = [p for p in model.parts(row[0]) if p.kind == "other"]
    assert part.compute_ms == 0
    assert part.memory_ms > 0
    assert part.latency_ms >= part.memory_ms
    assert KINDS[-1] == "other"
