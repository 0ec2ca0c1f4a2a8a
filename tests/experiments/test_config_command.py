"""Commands made from the record of their options."""

import os
import signal
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from experiments.cluster.train_options import TrainOptions
from experiments.config import QuickstartConfig, SearchConfig
from experiments.config_command import OptionText, command_of
from experiments.option_texts import QUICKSTART, SEARCH, TRAIN


@dataclass(frozen=True, kw_only=True)
class Options:
    where: Path
    count: int = 3
    limit: float | None = None
    source: str | Path | None = None
    names: tuple[str, ...] = ()
    again: bool = False
    inner: int = 7


TEXTS = {
    "where": OptionText("a folder"),
    "count": OptionText("how many"),
    "limit": OptionText("at most"),
    "source": OptionText("a path or URL"),
    "names": OptionText("again for each", "--name"),
    "again": OptionText("once more"),
}


@pytest.fixture
def call():
    seen = []
    app = typer.Typer()
    app.command()(command_of(Options, seen.append, TEXTS, "Does it."))

    def run(*arguments):
        result = CliRunner().invoke(app, arguments)
        return result, seen

    return run


def test_what_is_not_said_is_the_records_default(call):
    result, seen = call("--where", "here")
    assert result.exit_code == 0
    assert seen == [Options(where=Path("here"))]


def test_every_kind_of_option_arrives(call):
    _, seen = call(
        "--where", "a", "--count", "5", "--limit", "2.5", "--source", "s3://b", "--name", "x",
        "--name", "y", "--again",
    )  # fmt: skip
    assert seen == [
        Options(where=Path("a"), count=5, limit=2.5, source="s3://b", names=("x", "y"), again=True)
    ]


def test_fields_without_a_text_are_no_options(call):
    result, seen = call("--where", "a", "--inner", "1")
    assert result.exit_code == 2
    assert not seen


def test_an_option_without_a_default_must_be_given(call):
    result, seen = call("--count", "1")
    assert result.exit_code == 2
    assert not seen


def test_the_help_tells_the_texts(call):
    result, _ = call("--help")
    assert "Does it." in result.output
    for text in TEXTS.values():
        assert text.help in result.output
    assert "--no-again" not in result.output


def test_sigterm_interrupts_the_command_and_only_it():
    before = signal.getsignal(signal.SIGTERM)
    command = command_of(Options, lambda _: os.kill(os.getpid(), signal.SIGTERM), TEXTS, "Stops.")
    with pytest.raises(KeyboardInterrupt):
        command(where=Path("a"))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("record", "texts"),
    [(SearchConfig, SEARCH), (QuickstartConfig, QUICKSTART), (TrainOptions, TRAIN)],
)
def test_every_option_belongs_to_a_field(record, texts):
    assert set(texts) <= {field.name for field in fields(record)}


def test_every_field_of_the_main_job_and_of_training_is_an_option():
    assert set(QUICKSTART) == {field.name for field in fields(QuickstartConfig)}
    assert set(TRAIN) == {field.name for field in fields(TrainOptions)}
