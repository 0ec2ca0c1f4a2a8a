"""A target: a hardware profile and how it is used, which is what a latency belongs to."""

from dataclasses import dataclass, replace

from hardware_profiles.integer_peak import with_int8_peak
from hardware_profiles.local import local_profile
from hardware_profiles.machine import machine_fingerprint
from hardware_profiles.profile import CPU_KINDS, PRECISIONS, MemoryLevel, Profile, Quantity
from records import BadInputError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device, the runtime on it, and the precision, batch size and threads it is used with.

    Attributes:
        profile: The device.
        runtime: A runtime of the profile; any name where the profile lists none.
        precision: One that the profile has a peak for.
        batch_size: Images per inference.
        threads: Threads of one inference, at most the device's cores.

    Raises:
        UnknownNameError: The runtime or precision is none that exists.
        BadInputError: The device cannot be used like this; the message says what it can do.
    """

    profile: Profile
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch_size: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.profile, Profile):
            raise BadInputError(
                "profile must be a Profile, such as device('raspberry-pi-4'), got "
                f"{self.profile!r}"
            )
        for key in ("batch_size", "threads"):
            number = getattr(self, key)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise BadInputError(f"{key} must be a positive whole number, got {number!r}")
        device = self.profile.name
        if self.profile.runtimes and self.runtime not in self.profile.runtimes:
            raise unknown_name(f"runtime of {device}", self.runtime, self.profile.runtimes)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.precision not in self.profile.peak_gflops:
            known = ", ".join(self.profile.peak_gflops) or "none"
            raise BadInputError(
                f"{device!r} has no peak for {self.precision}; it has one for: {known}. Choose "
                "one of these or add the number to the profile"
            )
        cores = self.profile.cores
        if cores is not None and self.threads > cores.value:
            raise BadInputError(
                f"threads={self.threads} is more than the {cores.value:g} cores of {device!r}"
            )

    @property
    def name(self) -> str:
        """Device, threads and batch size: "local-t1-b16"; the precision only if it is not fp32."""
        precision = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{self.profile.name}-t{self.threads}-b{self.batch_size}{precision}"

    @property
    def is_local(self) -> bool:
        """Whether the profile was measured on the machine that this runs on."""
        return bool(self.profile.machine) and self.profile.machine == machine_fingerprint()

    def peak_gflops(self) -> Quantity:
        """Returns the peak for this precision and these threads, in 10^9 operations a second.

        The first rule that applies: the peak of one core times threads, at most that of the
        device; on a kind of CPU with a known number of cores, the device's peak times threads /
        cores; else the device's peak, as on GPUs and accelerators, where threads feed the device
        and do not compute.
        """
        whole = self.profile.peak_gflops[self.precision]
        one = self.profile.peak_gflops_per_thread.get(self.precision)
        if one is not None:
            return _scaled(one, self.threads, whole)
        cores = self.profile.cores
        if cores is None or self.profile.kind not in CPU_KINDS or self.threads == cores.value:
            return whole
        return replace(
            whole,
            value=whole.value * self.threads / cores.value,
            source=f"{self.threads} of {cores.value:g} cores of: {whole.source}",
        )

    def main_memory_bandwidth(self) -> Quantity | None:
        """Returns the main memory's bandwidth for these threads in GB/s; None if unknown."""
        level = self.profile.main_memory
        return None if level is None else self.bandwidth(level)

    def bandwidth(self, level: MemoryLevel) -> Quantity | None:
        """Returns a memory level's bandwidth for these threads in GB/s; None if unknown.

        One core's bandwidth times threads, at most that of the device; where only one of the two
        is known, that of the device, or one core's times threads.
        """
        if level.bandwidth_gbps_per_thread is None:
            return level.bandwidth_gbps
        return _scaled(level.bandwidth_gbps_per_thread, self.threads, level.bandwidth_gbps)

    def last_level_cache_bytes(self) -> int | None:
        """Returns the size of the last level before the main memory; None if unknown."""
        if len(self.profile.memory) < 2:
            return None
        size = self.profile.memory[-2].size_bytes
        return None if size is None else int(size.value)


def local_target(*, threads: int = 1, batch_size: int = 1, precision: str = "fp32") -> Target:
    """Returns this machine as a target, measuring it the first time (some seconds).

    Args:
        threads: Threads of one inference.
        batch_size: Images per inference.
        precision: "fp32" or "int8"; the peak of int8 is measured once a process.

    Raises:
        BadInputError: More threads than cores, a number that is not positive, or a precision
            whose peak is not measured.
    """
    profile = local_profile()
    if precision == "int8":
        profile = with_int8_peak(profile)
    return Target(profile=profile, threads=threads, batch_size=batch_size, precision=precision)


def _scaled(one: Quantity, threads: int, whole: Quantity | None) -> Quantity:
    """Returns `threads` times what one core reaches, at most what the device reaches."""
    if threads == 1:
        return one
    if whole is not None and one.value * threads >= whole.value:
        return whole
    return replace(one, value=one.value * threads, source=f"{threads} x one core: {one.source}")
