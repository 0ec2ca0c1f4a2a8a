"""What a machine says about itself, from files of other machines."""

from pathlib import Path

from hardware_profiles import machine, machine_fingerprint

X86 = """processor	: 0
model name	: Intel(R) Xeon(R) Gold 6226 CPU @ 2.70GHz
flags		: fpu sse4_2 avx fma avx2 avx512f avx512_vnni

processor	: 1
model name	: other
"""
ARM = """processor	: 0
Features	: fp asimd evtstrm crc32 cpuid
Model		: Raspberry Pi 4 Model B Rev 1.2
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_x86_server(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": X86})
    assert machine.cpu_model(root) == "Intel(R) Xeon(R) Gold 6226 CPU @ 2.70GHz"
    assert machine.cpu_kind(root) == "server-cpu"
    assert machine.instruction_sets(root) == (
        "sse4_2",
        "avx",
        "fma",
        "avx2",
        "avx512f",
        "avx512_vnni",
    )


def test_arm_board(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": ARM, "proc/device-tree/model": "Raspberry Pi 4"})
    assert machine.cpu_model(root) == "Raspberry Pi 4 Model B Rev 1.2"
    assert machine.cpu_kind(root) == "board-cpu"
    assert machine.instruction_sets(root) == ("asimd",)


def test_machine_without_linux_files(tmp_path: Path) -> None:
    assert machine.cpu_model(tmp_path)
    assert machine.cpu_kind(tmp_path) in ("desktop-cpu", "server-cpu")
    assert machine.instruction_sets(tmp_path) == ()
    assert machine.data_caches(tmp_path) == ()
    assert not machine.has_energy_counter(tmp_path)


def test_caches_leave_out_instructions_and_unreadable_entries(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cache"
    entries = {
        "index0": ("1", "Data", "48K", "0,4"),
        "index1": ("1", "Instruction", "32K", "0,4"),
        "index2": ("2", "Unified", "2M", "0,4"),
        "index3": ("3", "Unified", "8192K", "0-7"),
        "index4": ("4", "Unified", "much", "0-7"),
    }
    files = {
        f"{folder}/{index}/{key}": text
        for index, texts in entries.items()
        for key, text in zip(("level", "type", "size", "shared_cpu_list"), texts, strict=True)
    }
    caches = machine.data_caches(tree(tmp_path, files))
    assert [(c.name, c.size_bytes, c.shared_by) for c in caches] == [
        ("l1d", 48 << 10, 2),
        ("l2", 2 << 20, 2),
        ("l3", 8 << 20, 8),
    ]


def test_energy_counter_must_be_readable_as_a_number(tmp_path: Path) -> None:
    counter = "sys/class/powercap/intel-rapl:0/energy_uj"
    assert machine.has_energy_counter(tree(tmp_path, {counter: "123456\n"}))
    assert not machine.has_energy_counter(tree(tmp_path, {counter: "denied"}))


def test_this_machine_has_cores_memory_and_a_fingerprint() -> None:
    assert 1 <= machine.usable_cores() <= machine.cpu_cores()
    assert machine.main_memory_bytes() > 1 << 28
    assert machine_fingerprint() == machine_fingerprint()
    clock = machine.clock_ghz()
    assert clock is None or 0.1 < clock < 10
