import json

import numpy as np
import pytest

from experiments.draw_command import Images, find_space, read_genes
from records import BadInputError, CorruptFileError, MissingFileError, UnknownNameError
from search_spaces import CNNSpace
from tests.experiments.doubles import texts

NONE = Images()


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_a_space_is_found_by_name_in_the_asked_size():
    assert find_space("hybrid", NONE).image_size == 32
    small = find_space("cnn", Images(image_size=8, channels=1, num_classes=4))
    assert (small.image_size, small.channels, small.num_classes) == (8, 1, 4)
    assert find_space("fbnet", NONE).image_size == 224
    assert find_space("fbnet", Images(num_classes=7)).num_classes == 7
    assert find_space("nas-bench-macro", NONE).name == "NASBenchMacro"


def test_a_space_is_read_from_a_file_of_its_own_or_a_bundles(tmp_path):
    space = CNNSpace(image_size=16)
    own = write(tmp_path / "space.json", space.to_json())
    bundle = write(tmp_path / "bundle.json", {"space": space.to_json(), "macs": 1})

    assert find_space(str(own), NONE) == space
    assert find_space(str(bundle), NONE) == space
    assert find_space(None, NONE, {"space": space.to_json()}) == space


@pytest.mark.parametrize("content", [None, [1, 2], {"space": "CNNSpace"}, {"genes": [1]}])
def test_without_a_space_it_is_asked_for(content):
    with pytest.raises(BadInputError, match="which space"):
        find_space(None, NONE, content)


def test_other_names_and_files_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'nas-bench-201'"):
        find_space("nas-bench-210", NONE)
    with pytest.raises(MissingFileError):
        find_space(str(tmp_path / "none.json"), NONE)
    with pytest.raises(BadInputError, match="a space has 'space'"):
        find_space(str(write(tmp_path / "x.json", {"a": 1})), NONE)


def test_genes_are_read_as_numbers_choices_or_out_of_a_bundle():
    space = CNNSpace()
    row = space.sample(1, np.random.default_rng(2))
    architecture = space.decode(row)[0].to_json()

    for content in (
        row[0].tolist(),
        architecture,
        {"genes": row[0].tolist()},
        {"architecture": architecture, "space": space.to_json()},
        {"architecture": row[0].tolist()},
    ):
        assert np.array_equal(read_genes(space, content, "x"), row)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "x holds no architecture of CNNSpace: expected a list of"),
        ("text", "x holds no architecture"),
        ({"macs": 3}, "x holds no architecture"),
        ([0.5] * 24, "x holds no architecture"),
        ([True] * 24, "x holds no architecture"),
        ([99] * 24, "allowed: 0 to"),
        ({"choices": {}}, "an architecture has 'space', 'version' and 'choices'"),
    ],
)
def test_what_is_no_architecture_is_refused(content, said):
    assert len(CNNSpace().choices) == 25
    if isinstance(content, list) and len(content) == 24:
        content = [*content, content[0]]
    with pytest.raises(BadInputError, match=said):
        read_genes(CNNSpace(), content, "x")


def test_the_command_draws_by_seed_and_from_files(hwnas, tmp_path):
    space = CNNSpace()
    rows = space.sample(2, np.random.default_rng(0))
    bundle = write(
        tmp_path / "bundle.json",
        {"space": space.to_json(), "architecture": space.decode(rows[:1])[0].to_json()},
    )
    other = write(tmp_path / "other.json", rows[1].tolist())
    first, second, third = (tmp_path / f"{name}.svg" for name in "abc")

    assert hwnas("draw", "--space", "vit", "--seed", 3, "--out", first).code == 0
    assert hwnas("draw", "--space", "vit", "--seed", 3, "--out", second).code == 0
    assert first.read_bytes() == second.read_bytes()
    assert hwnas("draw", "--space", "vit", "--seed", 4, "--out", second).code == 0
    assert first.read_bytes() != second.read_bytes()
    assert texts(first)[0] == "ViTSpace"
    done = hwnas("draw", "--genes-json", bundle, "--compare-json", other, "--out", third)
    assert done.code == 0
    assert "an architecture of CNNSpace written to" in " ".join(done.out.split())
    assert texts(third)[0] == "CNNSpace: two architectures"


def test_the_command_refuses_in_one_line(hwnas, tmp_path):
    for arguments, said in (
        (("--space", "cnn", "--out", "x.bmp"), "by its suffix"),
        (("--space", "cnn", "--image-size", 4, "--out", "x.png"), "at least 8 x 8 pixels"),
        (("--out", "x.png"), "which space"),
        (("--space", "cnn"), "--out"),
        (("--genes-json", tmp_path / "none", "--out", "x.png"), "no such file"),
    ):
        refused = hwnas("draw", *arguments)
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
        assert said in refused.err


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "space.json").write_text("{")

    with pytest.raises(CorruptFileError, match=r"space\.json"):
        find_space(str(tmp_path / "space.json"), NONE)
