"""This machine's profile: measured, kept, read again, measured anew when the file is bad."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from hardware_profiles import Profile, load_profile, local, local_profile, machine
from hardware_profiles import measure_local as measure
from records import BadInputError


@pytest.fixture(scope="module")
def measured() -> Profile:
    return measure(seconds=0.5)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Profile) -> list[Profile]:
    """Puts the cache into a temporary folder and replaces measuring by counting."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(local, "_UNSAVED", {})
    done: list[Profile] = []

    def count() -> Profile:
        done.append(measured)
        return measured

    monkeypatch.setattr(local, "measure_local", count)
    return done


def test_measured_profile_is_plausible(measured: Profile) -> None:
    assert measured.name == "local"
    assert measured.machine == machine.machine_fingerprint()
    assert measured.share_read == 1
    assert all(quantity.measured for _, _, quantity in measured.quantities())
    one = measured.peak_gflops_per_thread["fp32"].value
    everything = measured.peak_gflops["fp32"].value
    assert 0.1 < one <= 1.3 * everything < 1e6
    main = measured.main_memory
    assert main is not None
    assert main.name == "dram"
    assert main.bandwidth_gbps is not None
    assert 0.1 < main.bandwidth_gbps.value < 1e4
    assert measured.notes in ("energy: measured by RAPL", "energy: modelled")
    assert "onnxruntime" in measured.runtimes


def test_machine_without_caches_and_clock_keeps_them_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "data_caches", tuple)
    monkeypatch.setattr(machine, "clock_ghz", lambda: None)
    monkeypatch.setattr(machine, "instruction_sets", tuple)
    bare = measure(seconds=0.05)
    assert [level.name for level in bare.memory] == ["dram"]
    assert bare.clock_ghz is None


def test_seconds_must_be_positive() -> None:
    with pytest.raises(BadInputError, match="seconds must be positive"):
        measure(seconds=0)


def test_second_call_reads_the_file(calls: list[Profile], tmp_path: Path) -> None:
    first = local_profile()
    assert local_profile() == first
    assert len(calls) == 1
    (path,) = (tmp_path / "hwnas").glob("local-*.yaml")
    assert load_profile(path) == first
    local_profile(refresh=True)
    assert len(calls) == 2


def test_corrupt_file_is_reported_and_measured_anew(
    calls: list[Profile], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    local_profile()
    (path,) = (tmp_path / "hwnas").glob("local-*.yaml")
    path.write_text("name: [", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        local_profile()
    assert len(calls) == 2
    assert str(path) in caplog.text
    assert load_profile(path).name == "local"


def test_another_machines_file_is_measured_anew(
    calls: list[Profile], measured: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        local, "measure_local", lambda: calls.append(measured) or replace(measured, machine="else")
    )
    local_profile()
    local_profile()
    assert len(calls) == 2


def test_folder_that_cannot_be_written_is_done_without(
    calls: list[Profile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with caplog.at_level(logging.WARNING):
        first = local_profile()
    assert "is not kept" in caplog.text
    assert local_profile() == first
    assert len(calls) == 1  # once a process, although no file keeps it
