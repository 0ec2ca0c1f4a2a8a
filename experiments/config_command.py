"""A command of the command line from the record of its options.

The record's fields are the options: their kinds and defaults stand there and nowhere else. What
the help says of them, and names that differ, stand in `experiments.option_texts`.
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Record = TypeVar("Record")

_AS_WRITTEN = {str | Path | None: str | None}
"""Kinds that the parser cannot choose among, and what it reads."""


@dataclass(frozen=True, slots=True)
class OptionText:
    """What the command line says of an option.

    Attributes:
        help: One line, in lower case.
        name: Its name where it is not that of the field, such as `--target`.
    """

    help: str
    name: str = ""


def command_of(
    record: type[Record],
    act: Callable[[Record], object],
    texts: Mapping[str, OptionText],
    summary: str,
) -> Callable[..., None]:
    """A function for `typer.Typer.command` that makes the record and acts on it.

    A field that may hold several values is an option that may be given again.

    Args:
        record: A dataclass. Fields that `texts` does not name are no options.
        act: What the command does. SIGTERM, by which clusters stop jobs, interrupts it as
            Ctrl-C does, so that what has arrived is committed first.
        texts: By field.
        summary: What the help says of the command.
    """
    kinds = get_type_hints(record)
    options = [field for field in fields(record) if field.name in texts]  # type: ignore[arg-type]
    several = {field.name for field in options if kinds[field.name] == tuple[str, ...]}

    def command(**given: Any) -> None:
        values = {k: tuple(v or ()) if k in several else v for k, v in given.items()}
        with interrupted_by_sigterm():
            act(record(**values))

    parameters = [_parameter(field, kinds[field.name], texts[field.name]) for field in options]
    command.__doc__ = summary
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return command


def _parameter(field: Field[Any], kind: Any, text: OptionText) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    if kind == tuple[str, ...]:
        kind, default = list[str] | None, None
    names = [text.name] if text.name else []
    if kind is bool:  # a switch, without --no-...
        names = names or ["--" + field.name.replace("_", "-")]
    kind = _AS_WRITTEN.get(kind, kind)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(*names, help=text.help)],
    )


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM is an interruption from the keyboard."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
