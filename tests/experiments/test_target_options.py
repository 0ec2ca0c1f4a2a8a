"""What `--target` may say."""

from pathlib import Path

import pytest

from experiments.config import QuickstartConfig
from experiments.report_evidence import command
from experiments.target_options import TargetOption, parse_target
from records import BadInputError, UnknownNameError


def test_a_name_alone_is_a_target_as_it_is():
    assert parse_target("raspberry-pi-4") == TargetOption(name="raspberry-pi-4")
    assert parse_target("runs/pi") == TargetOption(name="runs/pi")


def test_everything_about_a_target_stands_behind_its_name():
    found = parse_target(
        "pi:threads=4,batch=2,precision=int8,runtime=tflite,max_latency_ms=5,max_memory_kb=0.5,weight=0,"
        "command_file=runs/board.yaml"
    )
    assert found.name == "pi"
    assert dict(found.use) == {
        "threads": 4, "batch_size": 2, "precision": "int8", "runtime": "tflite",
    }  # fmt: skip
    assert dict(found.limits) == {"max_latency_ms": 5.0, "max_memory_kb": 0.5}
    assert found.command_file == Path("runs/board.yaml")
    assert found.weight == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":threads=2", "needs a name first"),
        ("pi:threads", "expected key=value.*got 'threads'.*batch"),
        ("pi:threads=", "expected key=value"),
        ("pi:threads=two", "threads must be a whole number above 0, got two"),
        ("pi:batch=0", "batch must be a whole number above 0"),
        ("pi:max_latency_ms=0", "max_latency_ms must be a positive number"),
        ("pi:max_latency_ms=soon", "must be a positive number, got 'soon'"),
        ("pi:weight=-1", "weight must be a number of at least 0"),
        ("pi:weight=nan", "weight must be a number of at least 0"),
    ],
)
def test_what_cannot_be_read_is_said(text, said):
    with pytest.raises(BadInputError, match=said):
        parse_target(text)
    with pytest.raises(BadInputError, match=said):
        QuickstartConfig(targets=(text,))


def test_an_unknown_key_lists_the_known():
    with pytest.raises(UnknownNameError, match="did you mean 'threads'"):
        parse_target("pi:thread=2")


def test_options_of_several_targets_are_kept_and_can_be_given_again():
    texts = ("pi:threads=4,max_latency_ms=5", "pixel-3")
    config = QuickstartConfig(targets=texts, together=True)
    kept = config.to_json()
    assert kept["target"] == list(texts)
    line = command({"config": kept})
    assert "--target pi:threads=4,max_latency_ms=5 --target pixel-3" in line
    assert "--together" in line
    assert [option.name for option in config.target_options] == ["pi", "pixel-3"]


def test_options_about_the_number_of_targets():
    with pytest.raises(BadInputError, match="--together is about several"):
        QuickstartConfig(targets=("pi",), together=True)
    with pytest.raises(BadInputError, match="each says so itself"):
        QuickstartConfig(targets=("a", "b"), command_file=Path("board.yaml"))
    (only,) = QuickstartConfig(targets=("a",), command_file=Path("b.yaml")).target_options
    assert only.command_file == Path("b.yaml")
