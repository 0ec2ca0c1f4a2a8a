from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from experiments.baselines import ScaledResNet
from experiments.differences import compare, is_same, notes_on
from experiments.draw import draw_architecture, draw_difference
from experiments.sections import sections
from experiments.tile_flow import Column, Flow
from experiments.tiles import Tile, text_width
from records import BadInputError
from search_spaces import Architecture, CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from tests.experiments.doubles import standard, texts
from tests.search_spaces.zoo import Zoo


def largest(space):
    return space.extremes("largest")[0]


SPACES = {
    "zoo": Zoo(),
    "cnn": CNNSpace(),
    "hybrid": HybridSpace(),
    "vit": ViTSpace(),
    "resnet": ScaledResNet(),
    "nas-bench-201": standard("nas-bench-201"),
    "fbnet": standard("fbnet"),
}


# ---- one architecture ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_a_picture_names_every_section_with_its_output(tmp_path, name):
    space = SPACES[name]
    row = space.sample(1, np.random.default_rng(3))
    path = tmp_path / "network.svg"

    draw_architecture(space, row, path)

    found = texts(path)
    graph = space.graph(row)
    assert found[0] == space.name
    for section in sections(graph):
        last = section.layers[-1]
        assert f"{last.height}×{last.width}×{last.channels}" in found
    assert any(f"{graph.layers[0].height}×" in text and "MACs" in text for text in found)
    ends = {section.name.split(".")[0] for section in sections(graph) if "." in section.name}
    assert ends <= set(found)  # the stages


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".PNG", "PNG")])
def test_a_png_is_an_image_without_text_cut_off(tmp_path, suffix, kind):
    path = tmp_path / f"network{suffix}"

    draw_architecture(SPACES["zoo"], largest(SPACES["zoo"]), path)

    with Image.open(path) as image:
        assert image.format == kind
        pixels = np.asarray(image.convert("L"))
    assert min(image.size) > 300
    assert pixels.min() < 100
    edge = 12
    for side in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]):
        assert side.min() == 255  # a white margin all around


@pytest.mark.parametrize("name", ["hybrid", "nas-bench-201", "fbnet"])
def test_wide_pictures_of_two_keep_their_margin_too(tmp_path, name):
    space = SPACES[name]
    rows = space.sample(2, np.random.default_rng(5))
    path = tmp_path / "difference.png"

    draw_difference(space, rows[0], rows[1], path)

    pixels = np.asarray(Image.open(path).convert("L"))
    for side in (pixels[:12], pixels[-12:], pixels[:, :12], pixels[:, -12:]):
        assert side.min() == 255


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_architecture_is_the_same_file(tmp_path, suffix):
    space = SPACES["nas-bench-201"]
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"

    draw_architecture(space, largest(space), first)
    draw_architecture(space, space.decode(largest(space))[0], second)

    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 5000


def test_equal_sections_are_one_tile_with_their_number(tmp_path):
    space = SPACES["nas-bench-201"]
    path = tmp_path / "cells.svg"

    draw_architecture(space, largest(space), path)

    found = texts(path)
    assert found.count("×5") == 3
    assert found.count("cell0 to cell4") == 3
    two = ViTSpace(depths=(2,), heads=(3,), mlp_ratios=(2,), patch_sizes=(4,))
    draw_architecture(two, largest(two), path)
    assert "layer0, layer1" in texts(path)


def test_the_shares_of_a_network_are_those_of_its_multiply_accumulates(tmp_path):
    space = SPACES["cnn"]
    graph = space.graph(largest(space))
    path = tmp_path / "network.svg"

    draw_architecture(space, largest(space), path)

    shown = [text for text in texts(path) if text.endswith("%")]
    stem = sections(graph)[0]
    assert shown[0] == f"{100 * stem.macs / graph.macs:.0f} %"
    assert shown[-1] == "< 1 %"  # the classifier
    numbers = [float(text[:-2]) for text in shown if "<" not in text]
    assert sum(numbers) == pytest.approx(100, abs=len(shown))


@pytest.mark.parametrize("name", ["network.jpg", "network", "network.png.txt"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(BadInputError, match=r"\.png, \.svg, \.pdf by its suffix, got 'network"):
        draw_architecture(SPACES["vit"], largest(SPACES["vit"]), tmp_path / name)
    with pytest.raises(BadInputError, match="by its suffix"):
        draw_difference(SPACES["vit"], [0] * 15, [0] * 15, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_architecture_of_another_space_is_refused(tmp_path):
    architecture = CNNSpace().decode(largest(CNNSpace()))[0]

    with pytest.raises(BadInputError, match="does not belong to"):
        draw_architecture(SPACES["vit"], architecture, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True, kw_only=True)
class Least(SearchSpace):
    """Nothing but a classifier."""

    image_size: int = 4
    channels: int = 3
    num_classes: int = 2

    def build(self, net, images):
        net.choice("threads", (1, 2), scope="platform")
        return classifier(net, images, self.num_classes)


def test_the_smallest_network_is_one_tile(tmp_path):
    path = tmp_path / "least.svg"

    draw_architecture(Least(), [0], path)

    found = texts(path)
    assert "mean, linear" in found
    assert "100 %" in found
    assert "4×4×3 to 2 classes   6 MACs   8 parameters" in found


# ---- two architectures -----------------------------------------------------------------------


def changed(space, **values):
    """The space's largest architecture and the same with some choices set otherwise."""
    first = space.decode(largest(space))[0]
    items = {**dict(first.items), **{k.replace("__", "."): v for k, v in values.items()}}
    return first, Architecture(first.space, first.version, tuple(items.items()))


def marked(first, second, space):
    graphs = [space.graph(a) for a in (first, second)]
    order = {node.name: place for place, node in enumerate(space.nodes)}
    pairs = compare(sections(graphs[0]), sections(graphs[1]), order)
    return {name for name, (a, b) in pairs if a is None or b is None or not is_same(a, b)}


def test_exactly_what_differs_is_marked(tmp_path):
    space = CNNSpace()
    first, second = changed(space, stage1__layer1__kernel=3)

    assert marked(first, second, space) == {"stage1.layer1"}
    assert marked(first, first, space) == set()
    wider = changed(space, stage1__width=24)[1]
    assert marked(first, wider, space) == {
        "stage1.layer0", "stage1.layer1", "stage1.layer2", "stage2.layer0",
    }  # fmt: skip
    path = tmp_path / "difference.svg"
    draw_difference(space, first, second, path)
    found = texts(path)
    assert found.count("different") == 1
    assert "A   32×32×3 to 10 classes" in " ".join(found)
    draw_difference(space, first, first, path)
    assert "different" not in texts(path)


def test_a_section_that_one_does_not_have_is_absent_in_its_place(tmp_path):
    space = HybridSpace()
    first, second = space.extremes("largest")
    path = tmp_path / "difference.svg"
    graphs = [space.graph(row) for row in (first, second)]
    order = {node.name: place for place, node in enumerate(space.nodes)}

    pairs = compare(sections(graphs[0]), sections(graphs[1]), order)
    draw_difference(space, first, second, path)

    alone = [name for name, (a, b) in pairs if a is None or b is None]
    # each stage of one of the two goes to tokens and back
    assert alone == ["stage0.layout", "stage0.layout", "stage1.layout", "stage1.layout"]
    assert texts(path).count("absent") == 4
    places = [order[(a or b).layers[0].name] for _, (a, b) in pairs]
    assert places == sorted(places)


def test_what_a_tile_does_not_show_is_noted(tmp_path):
    space = Zoo()
    first, second = changed(space, activation="silu")  # before: relu
    path = tmp_path / "difference.svg"

    draw_difference(space, first, second, path)

    found = texts(path)
    assert marked(first, second, space) == {"stem"}
    assert "activation relu" in found
    assert "activation silu" in found
    graphs = [space.graph(a) for a in (first, second)]
    stems = [sections(graph)[0] for graph in graphs]
    assert notes_on(stems[0], stems[1]) == ("activation relu",)


def test_notes_name_layers_that_only_one_has():
    space = SPACES["nas-bench-201"]
    rows = space.genes_of(
        ["|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
         "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"]
    )  # fmt: skip
    first, second = (sections(space.graph(row))[1] for row in rows)

    assert notes_on(first, second) == ("with avg pool",)
    assert notes_on(second, first) == ("without avg pool",)


# ---- rows ------------------------------------------------------------------------------------


def column(stage, name="layer", **options):
    return Column(stage=stage, tiles=(Tile(name=name, kind="conv", text="conv 3x3", **options),))


def test_a_stage_stays_on_one_row_where_it_fits():
    wide = column("").width
    columns = [column("s0")] * 4 + [column("s1")] * 3 + [column("s2")] * 9

    flow = Flow(columns, 7 * wide)

    stages = [[c.stage for c in row.columns] for row in flow.rows]
    assert [c for row in stages for c in row] == [c.stage for c in columns]
    assert stages[0] == ["s0"] * 4
    assert stages[1][:3] == ["s1"] * 3
    for row in flow.rows:
        ends = [left + c.width for left, c in zip(row.lefts, row.columns, strict=True)]
        assert ends[-1] <= 7 * wide
        assert all(a < b for a, b in zip(ends, row.lefts[1:], strict=False))


def test_a_tile_that_is_wider_than_a_row_has_a_row():
    flow = Flow([column("", name="n" * 200)] * 2, 300.0)

    assert [len(row.columns) for row in flow.rows] == [1, 1]
    assert flow.width > 300


def test_a_tile_is_as_wide_as_its_longest_line():
    short = Tile(name="a", kind="conv", text="conv")
    long = Tile(name="a", kind="conv", text="conv", detail="a much longer line than all others")

    assert long.width == pytest.approx(text_width("a much longer line than all others", 7.5) + 16)
    assert short.width < long.width
    assert long.height > short.height
    assert text_width("3x3", 9.0) == text_width("3×3", 9.0) > 0
    assert text_width("", 9.0) == 0
