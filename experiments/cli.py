"""The entry of the command line: runs a command of `experiments.commands`, and ends it.

Errors that a user can mend end with one line and exit code 2, without a traceback; Ctrl-C ends
with exit code 130 and how to go on, also while `hwnas` is still importing the commands (`python -m
experiments.search` and its like import theirs before this is reached). So nothing that takes time
is imported here before Ctrl-C is looked after.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.interruption import INTERRUPTED, end_interrupted, ends_at_once

BAD_INPUT = 2

RESUMED = ("quickstart", "search")
"""The commands that `--resume` continues."""


def run(arguments: Sequence[str], typed: Sequence[str] | None = None) -> None:
    """Runs a command; a user's error ends with one line and exit code 2.

    Args:
        arguments: The command and its options.
        typed: The whole command line as a person called it; None is `hwnas` and the arguments.
    """
    import logging

    import typer

    from experiments.commands import app
    from records import HwnasError

    # The parser's error; typer carries the parser within it or, before 0.20, beside it.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = app(list(arguments), prog_name="hwnas", standalone_mode=False)
    except HwnasError as error:
        _complain(f"error: {error}")
        sys.exit(BAD_INPUT)
    except usage_error as error:
        if message := _usage(error):
            _complain(f"error: {message}")
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        end_interrupted(how_to_continue(arguments, typed or ["hwnas", *arguments]))
    sys.exit(code if isinstance(code, int) else 0)


def how_to_continue(arguments: Sequence[str], typed: Sequence[str]) -> str:
    """What is left of an interrupted command, with the command that goes on.

    Args:
        arguments: The command and its options.
        typed: The whole command line as a person called it.
    """
    if not arguments or arguments[0] not in RESUMED:
        return "start it again with the same options"
    kept = "what is in the run's ledger is kept: "
    nothing = "before the training begins there is nothing to keep: start again"
    if any(argument.split("=")[0] == "--fork" for argument in arguments):
        return (
            f"{kept}continue with the folder of --fork as --out, the same other options and "
            f"--resume ({nothing})"
        )
    if "--resume" in arguments:
        return f"{kept}continue with\n{shlex.join(typed)}"
    return f"{kept}continue with\n{shlex.join([*typed, '--resume'])}\n({nothing})"


def _typed() -> list[str]:
    """The command line as a person called it, without Python where that runs a script."""
    whole = sys.orig_argv
    if Path(sys.argv[0]).name != "hwnas":
        return whole
    found = shutil.which("hwnas")
    named = found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve()
    return ["hwnas" if named else sys.argv[0], *sys.argv[1:]]


def _complain(message: str) -> None:
    """Prints one line to standard error."""
    from rich.console import Console

    line = " ".join(message.split())
    Console(stderr=True, highlight=False).print(
        line, style="bold red", markup=False, soft_wrap=True
    )


def _usage(error: Exception) -> str:
    """What is wrong with a command line, with the names that would be right."""
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command", None)
    if command is None or not message.startswith("No such"):
        return message
    options = [option for parameter in command.params for option in parameter.opts]
    names = sorted([o for o in options if o.startswith("--")]) + sorted(
        getattr(command, "commands", {})
    )
    return f"{message}; known: {', '.join(names) or 'none'}"


def main() -> None:
    """The command `hwnas`."""
    with ends_at_once():
        import experiments.commands  # noqa: F401  torch and others among it, for a second or more
    run(sys.argv[1:], _typed())


def quickstart_main() -> None:
    """The command `python -m experiments.quickstart`."""
    run(["quickstart", *sys.argv[1:]], _typed())


def search_main() -> None:
    """The command `python -m experiments.search`."""
    run(["search", *sys.argv[1:]], _typed())


if __name__ == "__main__":
    main()
