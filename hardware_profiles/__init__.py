"""The devices: data-sheet numbers with their sources, runtimes, this machine's own profile.

A `Profile` holds what is known of a device, every number a `Quantity` with its source. A `Target`
is a profile and how it is used. Profiles are YAML files: ten are shipped, anyone can add more, and
`local_profile` measures the machine that it runs on.
"""

from hardware_profiles.catalogue import (
    device,
    device_names,
    load_profile,
    own_devices_folder,
    save_profile,
)
from hardware_profiles.describe import DeviceRow, NumberRow, device_rows, number_rows
from hardware_profiles.energy import (
    PJ_PER_BYTE_CACHE_45NM,
    PJ_PER_BYTE_DRAM_45NM,
    PJ_PER_OP_45NM,
    with_reference_energy,
)
from hardware_profiles.local import local_profile, measure_local
from hardware_profiles.machine import machine_fingerprint
from hardware_profiles.profile import (
    CPU_KINDS,
    KINDS,
    PRECISIONS,
    MemoryLevel,
    Profile,
    Provenance,
    Quantity,
)
from hardware_profiles.target import Target, local_target

__all__ = [
    "CPU_KINDS",
    "KINDS",
    "PJ_PER_BYTE_CACHE_45NM",
    "PJ_PER_BYTE_DRAM_45NM",
    "PJ_PER_OP_45NM",
    "PRECISIONS",
    "DeviceRow",
    "MemoryLevel",
    "NumberRow",
    "Profile",
    "Provenance",
    "Quantity",
    "Target",
    "device",
    "device_names",
    "device_rows",
    "load_profile",
    "local_profile",
    "local_target",
    "machine_fingerprint",
    "measure_local",
    "number_rows",
    "own_devices_folder",
    "save_profile",
    "with_reference_energy",
]
