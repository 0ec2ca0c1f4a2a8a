"""A runner whose device is reached by commands: over SSH, ADB, or whatever a site uses.

The device gets a kit (`deployment.kit`) by one command, measures it by a second, and gives
`results.json` back by a third:

    CommandRunner(
        push="scp -r {local} pi@board:{remote}",
        run="ssh pi@board python3 {remote}/measure.py",
        pull="scp pi@board:{remote}/results.json {local}",
    )

A template is split into words as a shell would; then the places are filled in, so a path with
spaces stays one word. No shell runs on this side. A remote path is read by a shell on the other
side, so it may hold only characters that no shell takes as special.

A run that breaks off (a dropped connection, a killed process) is begun again in the same folder,
where the script continues after the last whole round.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment.kit import Kit, Results, write_kit
from deployment.kit.measure import RESULTS
from deployment.runners.command import CommandFailedError, run_command
from deployment.runners.kit_runner import (
    NOT_MENDED,
    DeviceError,
    KitRunner,
    Line,
    earlier_rounds,
    results_of,
)
from records import BadInputError, write_bytes

_PLAIN = re.compile(r"[A-Za-z0-9_./~@%+=,-]+")
_PLACE = re.compile(r"(?<!\$){(\w+)}")  # ${HOME} is the shell's of the other side


@dataclass(frozen=True, kw_only=True)
class CommandRunner(KitRunner):
    """Times files on a device that commands reach.

    Attributes:
        push: Copies the folder `{local}` to the device as `{remote}`, which does not exist there.
        run: Runs `{remote}/measure.py` there, until it ends.
        pull: Copies `{remote}/results.json` to the file `{local}`.
        clean: Removes `{remote}`; "" leaves it. A failure is ignored.
        name: How reports call the device.
        folder: Where on the device the folders are made; it exists there.
        timeout_s: How long a command may be silent. The script prints a line at least every five
            seconds and every run of a network, a copying command often nothing.
        retries: How often a copy or a run that breaks off is tried again.
        pause_s: Before another try.

    Raises:
        BadInputError: A template without its place or with an unknown one, a folder that a shell
            might misread, a number out of range.
    """

    push: str
    run: str
    pull: str
    clean: str = ""
    name: str = "device by command"
    folder: str = "."
    timeout_s: float = 600.0
    retries: int = 2
    pause_s: float = 2.0

    def __post_init__(self) -> None:
        for key, places in _PLACES.items():
            template = getattr(self, key)
            if template or key != "clean":
                _check_template(key, template, places)
        if not _PLAIN.fullmatch(self.folder) or self.folder.startswith("-"):
            raise BadInputError(
                f"folder {self.folder!r} may hold letters, digits and _ . / ~ @ % + = , - only: "
                "the shell of the device reads it"
            )
        seconds = (self.timeout_s, self.pause_s)
        are_numbers = all(isinstance(s, int | float) for s in seconds)
        are_numbers = are_numbers and type(self.retries) is int
        if not are_numbers or not self.timeout_s > 0 or self.retries < 0 or not self.pause_s >= 0:
            raise BadInputError(
                "timeout_s must be positive, retries (whole) and pause_s 0 or more, got "
                f"{self.timeout_s!r}, {self.retries!r} and {self.pause_s!r}"
            )

    @staticmethod
    def ssh(
        host: str, *, python: str = "python3", folder: str = ".", options: str = ""
    ) -> CommandRunner:
        """A device reached over SSH with a key, without a password being asked for.

        Args:
            host: As `ssh` takes it: "pi@board" or a name from its configuration.
            python: The interpreter there that has onnxruntime.
            folder: Where on the device; its home folder by default.
            options: Further options of `ssh` and `scp`, such as "-i key".
        """
        host = _remote_word("host", host)
        python = _remote_word("python", python)
        safe = f"-o BatchMode=yes -o ConnectTimeout=15 {options}".strip()
        return CommandRunner(
            push=f"scp -q -r {safe} {{local}} {host}:{{remote}}",
            run=f"ssh {safe} -o ServerAliveInterval=15 {host} {python} -u {{remote}}/measure.py",
            pull=f"scp -q {safe} {host}:{{remote}}/results.json {{local}}",
            clean=f"ssh {safe} {host} rm -rf {{remote}}",
            name=host,
            folder=folder,
        )

    @staticmethod
    def adb(
        serial: str = "", *, python: str = "python3", folder: str = "/data/local/tmp"
    ) -> CommandRunner:
        """A device reached over ADB; it needs a Python with onnxruntime in the reach of its shell.

        Args:
            serial: As `adb devices` prints it; "" where there is one device only.
            python: The interpreter there.
            folder: Where on the device.
        """
        which = f"-s {_remote_word('serial', serial)} " if serial else ""
        python = _remote_word("python", python)
        return CommandRunner(
            push=f"adb {which}push {{local}} {{remote}}",
            run=f"adb {which}shell {python} -u {{remote}}/measure.py",
            pull=f"adb {which}pull {{remote}}/results.json {{local}}",
            clean=f"adb {which}shell rm -rf {{remote}}",
            name=f"adb {serial}".strip(),
            folder=folder,
        )

    @staticmethod
    def local() -> CommandRunner:
        """This machine, in another process that does not see hwnas."""
        return CommandRunner(
            push="cp -r {local} {remote}",
            run=f"{shlex.quote(sys.executable)} -I -u {{remote}}/measure.py",
            pull="cp {remote}/results.json {local}",
            clean="rm -rf {remote}",
            name="this machine, a process of its own",
            folder=_plain_temporary_folder(),
        )

    def measure(self, kit: Kit, results: str | Path, on_line: Line | None = None) -> Results:
        """See `KitRunner.measure`."""
        with tempfile.TemporaryDirectory(prefix="hwnas-") as place:
            local = Path(place) / "kit"
            manifest = write_kit(kit, local)
            earlier = earlier_rounds(results, manifest)
            if earlier is not None:  # the script adds to what it finds
                write_bytes(local / RESULTS, earlier)
            remote = self._push(local)
            try:
                self._tried("run", {"remote": remote}, on_line)
            except DeviceError as error:
                kept = self._rescue(remote, results)
                raise DeviceError(f"{error}; {kept}") from error
            except BaseException:
                self._rescue(remote, results)
                raise
            self._tried("pull", {"remote": remote, "local": str(results)})
            self._clean(remote)
        return results_of(results, manifest, self.name)

    def _push(self, local: Path) -> str:
        """Copies the kit to a new folder; returns its path there."""
        for attempt in range(self.retries + 1):
            remote = f"hwnas-kit-{secrets.token_hex(4)}"  # a copy that broke off is left behind
            remote = remote if self.folder == "." else f"{self.folder.rstrip('/')}/{remote}"
            try:
                self._call("push", {"local": str(local), "remote": remote})
                return remote
            except CommandFailedError as error:
                self._clean(remote)
                self._give_up_or_wait(error, attempt)
        raise AssertionError("the last try gives up")

    def _rescue(self, remote: str, results: str | Path) -> str:
        """Brings what was measured before a failure, if the device answers; says where it is."""
        try:
            self._call("pull", {"remote": remote, "local": str(results)})
        except CommandFailedError:
            return f"{remote} is left on the device, with any rounds that were measured"
        self._clean(remote)
        return f"the rounds that were measured are in {results}"

    def _tried(self, key: str, places: Mapping[str, str], on_line: Line | None = None) -> None:
        """Runs a command, again where that may help."""
        for attempt in range(self.retries + 1):
            try:
                self._call(key, places, on_line)
                break
            except CommandFailedError as error:
                self._give_up_or_wait(error, attempt)

    def _give_up_or_wait(self, error: CommandFailedError, attempt: int) -> None:
        if error.code in NOT_MENDED or attempt == self.retries:
            tries = f" ({attempt + 1} tries)" if attempt else ""
            raise DeviceError(f"{self.name}: {error}{tries}") from error
        time.sleep(self.pause_s)

    def _clean(self, remote: str) -> None:
        if self.clean:
            with contextlib.suppress(CommandFailedError):  # gone, or it never came to be
                self._call("clean", {"remote": remote})

    def _call(self, key: str, places: Mapping[str, str], on_line: Line | None = None) -> None:
        run_command(key, filled(getattr(self, key), places), self.timeout_s, on_line)


_PLACES = {
    "push": ("local", "remote"),
    "run": ("remote",),
    "pull": ("remote", "local"),
    "clean": ("remote",),
}
"""The places that a template has."""


def filled(template: str, places: Mapping[str, str]) -> list[str]:
    """The words of a template with its places filled in.

    >>> filled("scp -r {local} pi@board:{remote}", {"local": "/tmp/a b", "remote": "kit"})
    ['scp', '-r', '/tmp/a b', 'pi@board:kit']
    """
    return [_PLACE.sub(lambda m: places[m[1]], word) for word in shlex.split(template)]


def _check_template(key: str, template: object, places: Sequence[str]) -> None:
    wanted = " and ".join(f"{{{place}}}" for place in places)
    if not isinstance(template, str) or not template.strip():
        raise BadInputError(f"{key} must be a command with {wanted}, got {template!r}")
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise BadInputError(f"{key} cannot be split into words: {error}: {template}") from error
    found = [place for word in words for place in _PLACE.findall(word)]
    unknown = [place for place in found if place not in places]
    lacking = [place for place in places if place not in found]
    if unknown or lacking:
        what = f"has {{{unknown[0]}}}" if unknown else f"lacks {{{lacking[0]}}}"
        raise BadInputError(f"{key} {what}; its places are {wanted}: {template}")


def _remote_word(what: str, value: str) -> str:
    """A word that the shell of the device, and `ssh` itself, take as it stands."""
    if not _PLAIN.fullmatch(value) or value.startswith("-"):
        raise BadInputError(
            f"{what} {value!r} may hold letters, digits and _ . / ~ @ % + = , - only; write the "
            "commands yourself for anything else"
        )
    return value


def _plain_temporary_folder() -> str:
    """The folder for temporary files, if its name is plain; else the one that always is."""
    folder = tempfile.gettempdir()
    return folder if _PLAIN.fullmatch(folder) else "/tmp"
