"""Profiles as files: the shipped devices, the strict reader, the user's own folder."""

from pathlib import Path

import pytest

from hardware_profiles import (
    CPU_KINDS,
    KINDS,
    device,
    device_names,
    load_profile,
    own_devices_folder,
    save_profile,
)
from records import BadInputError, CorruptFileError, MissingFileError, UnknownNameError

DEVICES = sorted(
    path.stem for path in (Path(__file__).parents[2] / "hardware_profiles/devices").glob("*.yaml")
)

BOARD = """
name: my-board
kind: board-cpu
vendor: me
year: 2024
description: A board.
cores: {value: 4, source: data sheet, source_read: true}
peak_gflops:
  fp32: {value: 40, source: data sheet, source_read: false}
memory:
  - name: dram
    bandwidth_gbps: {value: 5.5, source: data sheet, source_read: true}
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def written(folder: Path, text: str) -> Path:
    path = folder / "my-board.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_ten_devices_are_shipped_and_cover_the_kinds() -> None:
    assert device_names() == DEVICES
    assert len(DEVICES) == 10
    kinds = [device(name).kind for name in DEVICES]
    assert set(KINDS) - set(kinds) == {"desktop-cpu"}  # that is the local profile's kind
    assert kinds.count("phone-cpu") == 2


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_device_round_trips(name: str, tmp_path: Path) -> None:
    profile = device(name)
    assert profile.name == name
    save_profile(profile, tmp_path / "copy.yaml")
    assert load_profile(tmp_path / "copy.yaml") == profile


@pytest.mark.parametrize("name", DEVICES)
def test_every_shipped_number_has_a_source_and_an_address_where_it_was_read(name: str) -> None:
    profile = device(name)
    numbers = list(profile.quantities())
    assert len(numbers) >= 4
    for number, _, quantity in numbers:
        assert len(quantity.source) > 10, number
        assert not quantity.measured, number
    addresses = [q.source for _, _, q in numbers if q.source_read and "http" in q.source]
    assert addresses
    assert profile.share_read > 0.5


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_peaks_are_plausible(name: str) -> None:
    profile = device(name)
    main = profile.main_memory
    assert main is not None
    assert main.bandwidth_gbps is not None
    # The Edge TPU's far memory is a host behind USB: its ridge lies far to the right.
    highest = 10_000 if profile.kind == "edge-npu" else 1000
    for precision, peak in profile.peak_gflops.items():
        ridge = peak.value / main.bandwidth_gbps.value
        assert 0.3 <= ridge <= highest, (precision, ridge)
        one = profile.peak_gflops_per_thread.get(precision)
        if one is not None and profile.cores is not None:
            assert one.value <= peak.value <= 1.01 * one.value * profile.cores.value
    if profile.kind in CPU_KINDS:
        assert set(profile.peak_gflops) == set(profile.peak_gflops_per_thread)


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_memory_levels_grow_and_slow_down(name: str) -> None:
    levels = device(name).memory
    sizes = [level.size_bytes.value for level in levels if level.size_bytes]
    bandwidths = [level.bandwidth_gbps.value for level in levels if level.bandwidth_gbps]
    assert sizes == sorted(sizes)
    assert bandwidths == sorted(bandwidths, reverse=True)


def test_derived_peaks_follow_from_cores_and_clock() -> None:
    pi = device("raspberry-pi-4")
    assert pi.cores is not None
    assert pi.clock_ghz is not None
    assert pi.peak_gflops["fp32"].value == pi.cores.value * pi.clock_ghz.value * 8
    xeon = device("xeon-gold-6226")
    assert xeon.peak_gflops["fp32"].value == pytest.approx(12 * 2.7 * 64)


def test_own_file_is_found_by_path_and_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, BOARD)
    assert device(path).name == device(str(path)).name == "my-board"
    assert "my-board" not in device_names()
    written(own_devices_folder(), BOARD)
    assert "my-board" in device_names()
    assert device("my-board").peak_gflops["fp32"].value == 40


def test_own_device_may_not_take_a_shipped_name() -> None:
    own_devices_folder().mkdir(parents=True)
    (own_devices_folder() / "raspberry-pi-4.yaml").write_text(BOARD, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"two devices are named 'raspberry-pi-4'"):
        device_names()


def test_unknown_device_lists_the_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'raspberry-pi-4'") as error:
        device("raspbery-pi-4")
    assert all(name in str(error.value) for name in DEVICES)


def test_missing_file_names_the_shipped_devices(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file; shipped devices: a100"):
        load_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("vendor: me", "vendr: me", r"unknown key 'vendr' in the profile; allowed: name, kind"),
        ("vendor: me\n", "", "the profile lacks vendor"),
        ("source_read: true}\npeak", "read: true}\npeak", r"unknown key 'read' in cores; allowed"),
        (", source_read: false", "", "peak_gflops.fp32 lacks source_read"),
        ("source: data sheet, source_read: false", "source_read: false", "fp32 lacks source"),
        ("year: 2024", "year: soon", r"year must be a whole number, got 'soon' \(str\)"),
        ("value: 40", "value: forty", r"peak_gflops.fp32.value must be a number, got 'forty'"),
        ("value: 40", "value: -40", "peak_gflops.fp32: a quantity must be a positive finite"),
        ("source_read: false", "source_read: perhaps", "source_read must be true or false"),
        ("value: 5.5", "value: .inf", r"memory\[0\].bandwidth_gbps: a quantity must be"),
        ("vendor: me", "vendor: [me]", r"vendor must be text, got \['me'\] \(list\)"),
        ("vendor: me", "vendor: me\ninstruction_sets: avx2", "instruction_sets must be a list"),
        ("fp32: {", "fp23: {", r"unknown precision 'fp23'; did you mean 'fp32'"),
        ("kind: board-cpu", "kind: board", "unknown kind of device 'board'"),
        ("vendor: me", "vendor: me\nvendor: you", "the key 'vendor' is given twice"),
        ("vendor: me", "vendor: me\n1: you", "has the key 1; keys must be text"),
        ("vendor: me", "vendor: [me", "is not valid YAML"),
    ],
)
def test_wrong_file_names_the_file_the_key_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in BOARD
    path = written(tmp_path, BOARD.replace(old, new))
    with pytest.raises(CorruptFileError, match=words) as error:
        load_profile(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"just text", b"- a\n- b", b"\xff\xfe\x00"])
def test_what_is_no_profile_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"x\.yaml"):
        load_profile(path)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = written(tmp_path, "!!python/object/apply:os.getcwd []")
    with pytest.raises(CorruptFileError, match="not valid YAML"):
        load_profile(path)


@pytest.mark.parametrize(
    "text", ["name: 2024-99-99", 'year: !!int "x"', 'year: !!float ""', "name: !!timestamp zz"]
)
def test_text_that_trips_the_yaml_parser_is_refused(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=r"odd\.yaml is not valid YAML"):
        load_profile(path)
