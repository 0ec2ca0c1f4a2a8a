"""The entry of the command line: runs a command of `experiments.commands`, and ends it.

Errors that a user can mend end with one line and exit code 2, without a traceback; Ctrl-C ends
with one line and exit code 130, also while the commands are still being imported. So nothing that
takes time is imported here before Ctrl-C is looked after.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.interruption import INTERRUPTED, end_interrupted, ends_at_once

BAD_INPUT = 2


def run(arguments: Sequence[str]) -> None:
    """Runs a command; a user's error ends with one line and exit code 2."""
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
        end_interrupted(
            "what is in the run's ledger is kept: continue with the same options and --resume "
            "(before the training begins there is nothing to keep: start again)"
        )
    sys.exit(code if isinstance(code, int) else 0)


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
    run(sys.argv[1:])


def quickstart_main() -> None:
    """The command `python -m experiments.quickstart`."""
    run(["quickstart", *sys.argv[1:]])


def search_main() -> None:
    """The command `python -m experiments.search`."""
    run(["search", *sys.argv[1:]])


if __name__ == "__main__":
    main()
