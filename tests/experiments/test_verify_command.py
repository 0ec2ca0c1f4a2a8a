"""`hwnas verify`: the spaces that it finds, what it prints, how it ends."""

import sys

import pytest

from experiments.spaces import SPACES
from experiments.verify_command import space_to_prove
from records import BadInputError
from search_spaces.standard import STANDARD

CHECKS = (
    "extracted == sliced", "loaded == extracted", "supernet untouched", "macs", "parameters",
    "output shapes", "onnx == torch", "attention rows", "genes",
)  # fmt: skip

OWN = '''
from dataclasses import dataclass
from search_spaces import SearchSpace
from search_spaces.blocks import classifier


@dataclass(frozen=True, kw_only=True)
class Mine(SearchSpace):
    image_size: int = 6

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (4, 8)), kernel=3)
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class Broken(Mine):
    """Its architectures do not come back."""

    def encode(self, architectures):
        return 0 * super().encode(architectures)


@dataclass(frozen=True, kw_only=True)
class Wanting(Mine):
    depth: int


numbers = 3
'''


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with a module of a user's own."""
    (tmp_path / "my_spaces.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_spaces", None)


def results(outcome):
    """What each printed check says: `ok` or `FAILED`."""
    found = {}
    for line in outcome.out.splitlines():
        for name in CHECKS:
            if line.strip().startswith(f"{name} "):
                found[name] = line.strip().removeprefix(name).split()[0]
    return found


@pytest.mark.parametrize("space", SPACES)
def test_a_space_that_holds_ends_with_0(hwnas, space):
    outcome = hwnas("verify", "--space", space, "--architectures", "1")
    assert outcome.code == 0, outcome
    assert results(outcome) == dict.fromkeys(CHECKS, "ok")
    assert "images of 8 x 8 x 1" in outcome.out
    assert "all checks hold for" in outcome.out
    assert outcome.err == ""


@pytest.mark.usefixtures("elsewhere")
def test_a_check_that_fails_ends_with_1_and_is_named(hwnas):
    outcome = hwnas("verify", "--space", "my_spaces:Broken", "--architectures", "1")
    assert outcome.code == 1
    assert results(outcome) == {**dict.fromkeys(CHECKS, "ok"), "genes": "FAILED"}
    assert "NOT all checks hold" in outcome.out
    assert "genes [1]: comes back otherwise" in " ".join(outcome.out.split())


@pytest.mark.usefixtures("elsewhere")
def test_a_users_space_is_found_from_the_working_directory(hwnas):
    outcome = hwnas("verify", "--space", "my_spaces:Mine", "--architectures", "1")
    assert outcome.code == 0, outcome
    assert "Mine, images of 6 x 6 x 3" in outcome.out
    assert "all checks hold for 2 of 2 architectures" in outcome.out
    again = hwnas(
        "verify", "--space", "my_spaces:Mine", "--architectures", "1", "--image-size", "9"
    )
    assert "Mine, images of 9 x 9 x 3" in again.out


def test_files_may_be_left_out(hwnas):
    outcome = hwnas("verify", "--space", "cnn", "--architectures", "1", "--no-onnx")
    assert outcome.code == 0
    assert "left out" in outcome.out


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in ("nasvit", "attentive-nas", "ascan") else n
        for n in STANDARD
    ],
)
def test_standard_spaces_are_made_for_small_images(name):
    space = space_to_prove(name)
    assert space.image_size <= 320
    if name in ("nas-bench-201", "nas-bench-macro", "fbnet", "mnasnet", "autoformer-tiny"):
        assert space.image_size == 32


def test_the_side_of_the_images_may_be_given():
    assert space_to_prove("nas-bench-macro", 64).image_size == 64
    assert space_to_prove("hybrid", 16).image_size == 16
    with pytest.raises(BadInputError):
        space_to_prove("hybrid", 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nas-bench-201", "autoformer-tiny", "ofa-mobilenetv3"])
def test_standard_spaces_hold(hwnas, name):
    outcome = hwnas("verify", "--space", name, "--architectures", "2")
    assert outcome.code == 0, outcome.out


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--space", "nas-bench-202"), "did you mean 'nas-bench-201'"),
        (("--space", "cnn", "--architectures", "0"), "--architectures must be at least 1, got 0"),
        (("--space", "cnn", "--image-size", "4"), "at least 8 x 8 pixels, got 4"),
        (("--space", "no_such_module:Mine"), "there is no module 'no_such_module'"),
        (("--space", "my_spaces:Yours"), "'my_spaces' has no SearchSpace class 'Yours'"),
        (("--space", "my_spaces:numbers"), "'my_spaces' has no SearchSpace class 'numbers'"),
        (("--space", "my_spaces:Wanting"), "cannot be made without parameters"),
        (("--space", "my_spaces:Mine", "--image-size", "0"), "image_size must be"),
        (("--spaec", "cnn"), "--space"),
        ((), "--space"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(hwnas, arguments, said):
    outcome = hwnas("verify", *arguments)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
