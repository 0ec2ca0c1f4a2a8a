"""What the runners that measure kits share; the ways to a device have tests of their own."""

from types import SimpleNamespace

import pytest

from deployment import KitRunner
from deployment.session_settings import SessionSettings
from records import BadInputError


class Carrier(KitRunner):
    """Keeps the kit that it is given."""

    name = "carrier"

    def measure(self, kit, results, on_line=None):
        self.kit = kit
        on_line("round 3 of 7, about 2 s left")
        return SimpleNamespace(timings=["timing"] * len(kit.models))


def test_settings_go_into_the_kit():
    carrier = Carrier()
    each = [SessionSettings(threads=1), SessionSettings()]
    assert len(carrier.time([b"a", b"b"], threads=2, settings=each, rounds=5, seed=3)) == 2
    assert [model.settings for model in carrier.kit.models] == each
    assert (carrier.kit.threads, carrier.kit.protocol.rounds, carrier.kit.protocol.seed) == (
        2,
        5,
        3,
    )
    carrier.time([b"a"], threads=2)
    assert [model.settings for model in carrier.kit.models] == [None]


def test_another_number_of_settings_is_refused():
    with pytest.raises(BadInputError, match="got 1 for 2 models"):
        Carrier().time([b"a", b"b"], threads=1, settings=[SessionSettings()])


def test_progress_is_read_from_the_lines():
    seen = []
    Carrier().time([b"a"], threads=1, on_round=lambda done, of: seen.append((done, of)))
    assert seen == [(3, 7)]
