"""Profiles as files: the shipped devices, the strict reader, the user's own folder."""

import itertools
import re
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


def test_forty_devices_are_shipped_and_cover_the_kinds() -> None:
    assert device_names() == DEVICES
    assert len(DEVICES) == 40
    kinds = [device(name).kind for name in DEVICES]
    assert set(KINDS) == set(kinds)
    assert kinds.count("phone-cpu") == 7
    assert kinds.count("server-cpu") == 5


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
        assert not is_generic(quantity.source), (number, quantity.source)
        assert not quantity.measured, number
        said = quantity.source.lower()
        if quantity.source_read:
            assert re.search(PLACE, said), (number, quantity.source)
        else:
            assert "recalled" in said or "as for the whole device" in said, (number, said)
    addresses = [q.source for _, _, q in numbers if q.source_read and "http" in q.source]
    assert addresses
    assert profile.share_read > 0.5


PLACE = "https?://|public (repositor|guide|description|summary)|as for the whole device"
"""What a source that was read must name: an address, a public text, or another number's source."""

GENERIC_WORDS = """
data sheet datasheet specification specifications spec specs manual manufacturer vendor official
website web site page internet whitepaper paper product documentation docs wiki wikipedia recalled
derived estimated unknown various the a of from see and
"""


def is_generic(source: str) -> bool:
    """Whether a source names nothing: fewer than three words beyond those that fit any source."""
    words = [word.strip(":.") for word in re.findall(r"[a-z0-9.:/_-]+", source.lower())]
    return len([word for word in words if word not in GENERIC_WORDS.split()]) < 3


@pytest.mark.parametrize(
    ("source", "generic"),
    [
        ("", True),
        ("data sheet", True),
        ("Data sheet.", True),
        ("the vendor's official web site", True),
        ("recalled: product specifications", True),
        ("recalled: 16 MB of cache", False),
        ("NVIDIA A100 data sheet, p. 3", False),
        ("the device has one core: as for the whole device", False),
    ],
)
def test_a_generic_source_is_told_from_one_that_names_something(
    source: str, generic: bool
) -> None:
    assert is_generic(source) is generic


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_peaks_are_plausible(name: str) -> None:
    profile = device(name)
    main = profile.main_memory
    assert main is not None
    assert main.bandwidth_gbps is not None
    # The Edge TPU's far memory is a host behind USB, the AI engines' one DDR4 module.
    highest = {"edge-npu": 10_000, "fpga": 3000}.get(profile.kind, 1000)
    for precision, peak in profile.peak_gflops.items():
        ridge = peak.value / main.bandwidth_gbps.value
        assert 0.2 <= ridge <= highest, (precision, ridge)
        one = profile.peak_gflops_per_thread.get(precision)
        if one is not None and profile.cores is not None:
            assert one.value <= peak.value <= 1.01 * one.value * profile.cores.value
            if name not in UNEQUAL_CORES:
                assert peak.value == pytest.approx(one.value * profile.cores.value, rel=0.01)
    if profile.kind in CPU_KINDS:
        assert set(profile.peak_gflops) == set(profile.peak_gflops_per_thread)


UNEQUAL_CORES = {"xiaomi-mi-9"}
"""One of its four cores has a higher clock than the others."""

SLOW_FP16 = {"gtx-1080-ti", "titan-xp"}
"""Pascal cards for the desktop: fp16 at 1/64 of the fp32 rate, bytes at four times it."""


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_peaks_do_not_fall_with_narrower_operands(name: str) -> None:
    peaks = device(name).peak_gflops
    order = [p for p in ("fp32", "fp16", "bf16", "int16", "int8") if p in peaks]
    falls = {
        (wide, narrow)
        for wide, narrow in itertools.combinations(order, 2)
        if peaks[wide].value > peaks[narrow].value
    }
    assert falls == ({("fp32", "fp16")} if name in SLOW_FP16 else set())


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_memory_levels_grow_and_slow_down(name: str) -> None:
    levels = device(name).memory
    sizes = [level.size_bytes.value for level in levels if level.size_bytes]
    bandwidths = [level.bandwidth_gbps.value for level in levels if level.bandwidth_gbps]
    assert sizes == sorted(sizes)
    assert bandwidths == sorted(bandwidths, reverse=True)
    for level in levels:
        if level.bandwidth_gbps is not None and level.bandwidth_gbps_per_thread is not None:
            assert level.bandwidth_gbps_per_thread.value <= level.bandwidth_gbps.value


@pytest.mark.parametrize("name", DEVICES)
def test_shipped_devices_are_of_their_time(name: str) -> None:
    profile = device(name)
    assert 2012 <= profile.year <= 2026
    if profile.clock_ghz is not None:
        assert 0.05 <= profile.clock_ghz.value <= 6
    if profile.technology_nm is not None:
        assert 2 <= profile.technology_nm.value <= 65
    if profile.peak_power_w is not None:
        for peak in profile.peak_gflops.values():
            assert peak.value / profile.peak_power_w.value < 5000  # 10^9 operations per joule
    if profile.kind == "microcontroller":
        assert profile.flash_bytes is not None
        assert profile.ram_bytes is not None
        main = profile.main_memory
        assert main is not None
        assert main.size_bytes is not None
        assert main.size_bytes.value <= profile.ram_bytes.value < profile.flash_bytes.value


def numbers_of(name: str) -> dict[str, float]:
    return {number: quantity.value for number, _, quantity in device(name).quantities()}


@pytest.mark.parametrize(
    ("name", "number", "published", "tolerance"),
    [
        # Written from the products' announcements, not from the files.
        ("xeon-silver-4114", "cores", 10, 0),
        ("xeon-gold-6240", "memory.l3.size_bytes", 24.75 * 2**20, 0),
        ("xeon-gold-6226", "peak_gflops.fp32", 12 * 2.7 * 64, 0),
        ("epyc-7742", "peak_gflops.fp32", 4608, 0),
        ("core-i9-9900k", "peak_power_w", 95, 0),
        ("raspberry-pi-3", "peak_gflops.fp32", 4 * 1.2 * 8, 0),
        ("raspberry-pi-4", "peak_gflops.fp32", 4 * 1.5 * 8, 0),
        ("raspberry-pi-5", "peak_gflops.fp32", 4 * 2.4 * 16, 0),
        ("jetson-nano", "peak_gflops.fp16", 472, 0.01),
        ("jetson-agx-xavier", "peak_gflops.fp16", 11_000, 0.05),
        ("jetson-agx-xavier", "peak_gflops.int8", 22_000, 0.05),
        ("jetson-agx-orin", "peak_gflops.int8", 85_000, 0),
        ("gtx-titan-x", "peak_gflops.fp32", 6_600, 0.01),
        ("titan-xp", "peak_gflops.fp32", 12_100, 0.01),
        ("rtx-2080-ti", "peak_gflops.fp32", 14_200, 0.01),
        ("titan-rtx", "peak_gflops.fp16", 130_000, 0.01),
        ("v100-sxm2-16gb", "memory.hbm.bandwidth_gbps", 900, 0),
        ("a100-sxm4-40gb", "peak_gflops.fp16", 312_000, 0),
        ("h100-sxm5-80gb", "peak_gflops.fp16", 989_000, 0.001),
        ("h200-sxm-141gb", "memory.hbm.bandwidth_gbps", 4_800, 0),
        ("tpu-v2", "peak_gflops.bf16", 46_000, 0.01),
        ("tpu-v3", "peak_gflops.bf16", 4 * 128 * 128 * 2 * 0.94, 0.01),
        ("coral-usb-accelerator", "peak_gflops.int8", 4_000, 0),
        ("eyeriss", "peak_gflops.int16", 2 * 33.6, 0.001),  # 33.6 GMAC/s at 200 MHz
        ("vck190-dpu", "peak_gflops.int8", 256 * 32 * 6 * 1.25, 0),
        ("stm32f446", "ram_bytes", 128 * 1024, 0),
        ("stm32f412", "flash_bytes", 1024 * 1024, 0),
        ("stm32f746", "ram_bytes", 320 * 1024, 0),
    ],
)
def test_shipped_numbers_meet_published_ones(
    name: str, number: str, published: float, tolerance: float
) -> None:
    assert numbers_of(name)[number] == pytest.approx(published, rel=max(tolerance, 1e-6))


def test_eyeriss_keeps_the_order_of_its_published_energies() -> None:
    numbers = numbers_of("eyeriss")
    word = {level: 2 * numbers[f"pj_per_byte.{level}"] for level in ("rf", "buffer", "dram")}
    mac = 2 * numbers["pj_per_op.int16"]
    # Chen et al., ISCA 2016: register file 1, buffer 6, DRAM 200 times a multiply-accumulate.
    assert word["rf"] <= mac < word["buffer"] < word["dram"]
    assert word["buffer"] / mac == pytest.approx(6, rel=0.3)
    assert word["dram"] / mac == pytest.approx(200, rel=0.3)
    assert numbers["array_rows"] * numbers["array_columns"] == 168


def test_devices_of_the_same_chip_agree() -> None:
    h100, h200 = numbers_of("h100-sxm5-80gb"), numbers_of("h200-sxm-141gb")
    for number in ("cores", "peak_gflops.fp16", "peak_gflops.int8", "memory.l2.size_bytes"):
        assert h100[number] == h200[number]
    s9, pixel = numbers_of("galaxy-s9"), numbers_of("pixel-3")
    for level in ("l1d", "l2", "l3", "slc"):
        assert s9[f"memory.{level}.size_bytes"] == pixel[f"memory.{level}.size_bytes"]
    assert s9["peak_gflops.fp32"] / pixel["peak_gflops.fp32"] == pytest.approx(
        2.803 / 2.5, rel=0.01
    )


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
