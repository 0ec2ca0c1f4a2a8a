"""The devices: data-sheet numbers with their sources, runtimes, this machine's own profile.

A `Profile` holds what is known of a device, every number a `Quantity` with its source. A `Target`
is a profile and how it is used. Profiles are YAML files: forty are shipped, anyone can add more,
and `local_profile` measures the machine that it runs on.
"""

from hardware_profiles.accelerator import (
    DATAFLOWS,
    Accelerator,
    AccessEnergies,
    divided,
    eyeriss_like,
    tpu_like,
)
from hardware_profiles.accelerator_space import AcceleratorSpace
from hardware_profiles.catalogue import (
    device,
    device_names,
    load_profile,
    own_devices_folder,
    save_profile,
)
from hardware_profiles.describe import (
    DEVICE_ROW_UNITS,
    DeviceRow,
    NumberRow,
    device_rows,
    number_rows,
    profile_lines,
)
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
    "DATAFLOWS",
    "DEVICE_ROW_UNITS",
    "KINDS",
    "PJ_PER_BYTE_CACHE_45NM",
    "PJ_PER_BYTE_DRAM_45NM",
    "PJ_PER_OP_45NM",
    "PRECISIONS",
    "Accelerator",
    "AcceleratorSpace",
    "AccessEnergies",
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
    "divided",
    "eyeriss_like",
    "load_profile",
    "local_profile",
    "local_target",
    "machine_fingerprint",
    "measure_local",
    "number_rows",
    "own_devices_folder",
    "profile_lines",
    "save_profile",
    "tpu_like",
    "with_reference_energy",
]
