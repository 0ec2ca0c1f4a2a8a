"""Energy counters, on a folder that looks like Linux's, and the mean over many runs."""

import sys
from types import SimpleNamespace

import pytest

from hardware_profiles.power_counters import (
    CounterError,
    RaplCounter,
    joules_between,
    measure_energy,
    nvml_counters,
    rapl_counters,
)
from records import BadInputError


@pytest.fixture
def powercap(tmp_path):
    """Two packages, a part of the first, and a folder that is none."""
    for name, label in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"),
                        ("intel-rapl:1", "package-1")):  # fmt: skip
        zone = tmp_path / name
        zone.mkdir()
        (zone / "name").write_text(f"{label}\n")
        (zone / "energy_uj").write_text("5000000\n")
        (zone / "max_energy_range_uj").write_text("10000000\n")
    (tmp_path / "dtpm").mkdir()
    return tmp_path


def test_packages_are_found_and_their_parts_not_counted_twice(powercap):
    found = rapl_counters(powercap)
    assert [counter.name for counter in found] == ["RAPL package-0", "RAPL package-1"]
    assert [counter.read_mj() for counter in found] == [5000.0, 5000.0]
    assert found[0].range_mj == 10000.0


def test_a_counter_that_may_not_be_read_is_none(powercap, tmp_path):
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    assert [counter.name for counter in rapl_counters(powercap)] == ["RAPL package-1"]
    assert rapl_counters(tmp_path / "nowhere") == []
    with pytest.raises(CounterError, match="cannot be read"):
        RaplCounter(powercap / "intel-rapl:0").read_mj()


def test_energy_is_divided_by_the_runs_and_a_round_of_the_counter_is_seen(powercap):
    counters = rapl_counters(powercap)
    clock = iter(range(100))

    def run():
        """Each package uses 1.5 J; the counters start again behind 10 J."""
        for counter in counters:
            file = counter.folder / "energy_uj"
            file.write_text(str((int(file.read_text()) + 1_500_000) % 10_000_000))

    reading = measure_energy(run, counters, seconds=12, clock=lambda: next(clock))
    assert reading.runs > 8  # each package went round at least once
    assert reading.energy_mj == pytest.approx(3000)
    assert reading.source == "measured: RAPL package-0, RAPL package-1"
    assert reading.power_w == pytest.approx(3.0 * reading.runs / reading.seconds)


def test_a_counter_that_goes_back_without_a_range_is_refused():
    assert joules_between(10, 25, None) == 15
    assert joules_between(9_990, 15, 10_000) == 25
    for range_mj in (None, 50.0):
        with pytest.raises(CounterError, match="went from 100 back to 20"):
            joules_between(100, 20, range_mj)


def test_without_a_counter_nothing_is_measured():
    with pytest.raises(BadInputError, match="energy is modelled"):
        measure_energy(lambda: None, [])


def test_cards_are_read_where_the_library_and_the_counter_are(monkeypatch):
    energy = iter([100, 130])
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda i: f"card {i}",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(energy),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    (card,) = nvml_counters()
    assert card.name == "NVML device 0"
    assert card.range_mj is None
    assert card.read_mj() == 130.0
    assert nvml_counters() == []  # the counter fails
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert nvml_counters() == []
