"""One command, run to its end, with an end to waiting and an error that shows what it said."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

LAST_LINES = 8
"""How much of a failed command's output an error shows."""

GRACE_S = 2.0
"""How long the output of a command that has ended is waited for: what it left running in the
background, such as a shared SSH connection, may keep it open for ever."""

Lines = queue.Queue[tuple[str, str | None]]


class CommandFailedError(Exception):
    """A command that did not end well; `code` is None where it was silent for too long."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


def run_command(
    what: str,
    words: Sequence[str],
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> None:
    """Runs a command without a shell.

    Args:
        what: How errors call it.
        words: The program and its arguments.
        timeout_s: How long it may be silent; then it is ended, with all that it started.
        on_line: Called with every line of its output.
        stdin: What it reads, a file descriptor; nothing by default.

    Raises:
        CommandFailedError: It cannot be started, was silent for too long, or ended with an exit
            code other than 0; shows the command and the last lines of its errors.
    """
    shown = shlex.join(words)
    try:
        process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that all it starts can be ended with it
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandFailedError(f"{what} cannot be started: {reason}: {shown}", 127) from error
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    try:
        in_time = _follow(process, said, timeout_s, on_line)
    finally:
        code = _ended(process)
    if not in_time:
        silent = f"{what} was silent for {timeout_s:g} s and was ended"
        raise CommandFailedError(f"{silent}: {shown}{_tail(said)}", None)
    if code != 0:
        raise CommandFailedError(f"{what} ended with exit code {code}: {shown}{_tail(said)}", code)


def _follow(
    process: subprocess.Popen[str],
    said: Mapping[str, list[str]],
    timeout_s: float,
    on_line: Callable[[str], None] | None,
) -> bool:
    """Reads what a command prints until it ends; whether it was never silent for too long."""
    lines: Lines = queue.Queue()
    for stream in said:
        threading.Thread(target=_read, args=(process, stream, lines), daemon=True).start()
    still_open = len(said)
    heard = time.monotonic()
    silent_after_end = 0.0  # waited for, not elapsed: a machine that stood still loses no lines
    while still_open or process.poll() is None:
        if time.monotonic() - heard > timeout_s:
            return False
        if silent_after_end > GRACE_S:
            break
        has_ended = process.poll() is not None
        wait_s = min(timeout_s, 0.1)
        try:
            stream, line = lines.get(timeout=wait_s)
        except queue.Empty:
            silent_after_end += wait_s * has_ended
            continue
        heard, silent_after_end = time.monotonic(), 0.0
        if line is None:
            still_open -= 1
            continue
        said[stream].append(line.rstrip())
        del said[stream][:-LAST_LINES]
        if stream == "stdout" and on_line is not None:
            on_line(line.rstrip())
    return True


def _read(process: subprocess.Popen[str], stream: str, lines: Lines) -> None:
    """Passes the lines of a stream on, then None."""
    with getattr(process, stream) as pipe:
        for line in pipe:
            lines.put((stream, line))
    lines.put((stream, None))


def _ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a command; one that still runs is ended, with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _tail(said: Mapping[str, Sequence[str]]) -> str:
    """The last lines of the errors, or of the output where there are none."""
    lines = said["stderr"] or said["stdout"]
    return "".join(f"\n  {line}" for line in lines if line)
