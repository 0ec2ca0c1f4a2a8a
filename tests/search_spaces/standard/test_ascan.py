from dataclasses import replace

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces.standard.ascan import AsCANSpace, AsCANStage
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced

SMALL = AsCANSpace(
    image_size=8,
    channels=1,
    num_classes=3,
    stem_widths=(4, 8),
    stages=(
        AsCANStage(widths=(8, 16), depths=(0, 1, 2), stride=1),
        AsCANStage(widths=(16,), depths=(1, 2), blocks=("mbconv", "transformer")),
    ),
    expansions=(1, 2),
    head_dim=8,
)


@pytest.fixture(scope="module")
def full():
    return AsCANSpace()


class TestAsCANSpace(SearchSpaceContract):
    space = SMALL

    def other(self):
        return replace(SMALL, head_dim=4)


def test_cardinality_counts_every_pattern(full):
    for space in (SMALL, full):
        expected = len(space.stem_widths)
        for stage in space.stages:
            kinds = len(stage.blocks) * len(space.expansions)
            expected *= len(stage.widths) * sum(kinds**depth for depth in stage.depths)
        assert space.cardinality == expected


def test_a_pattern_is_read_back_from_its_architecture(full):
    for text in ("FF FMT TMTTTFFF TT", "M MM TTTT F"):
        architecture = full.patterned(text, (64, 96, 192, 384, 768))
        assert full.pattern(architecture) == text
        assert full.pattern(full.encode(architecture)) == text
        assert dict(architecture.items)["stage2.width"] == 384
    assert dict(full.patterned("F FF TTTT T").items)["stage3.width"] == 512


def test_every_letter_is_the_block_that_it_stands_for():
    signs = {"F": "fused.expand.conv", "M": "mbconv.depthwise.conv", "T": "attention.attention"}
    seen = set()
    for row in SMALL.sample(100, np.random.default_rng(0)):
        words = SMALL.pattern(row).split(" ")
        names = {layer.name for layer in SMALL.graph(row).layers}
        for s, word in enumerate(words):
            for i, letter in enumerate(word):
                found = {k for k, sign in signs.items()
                         if any(n.startswith(f"stage{s}.layer{i}.") and n.endswith(sign)
                                for n in names)}  # fmt: skip
                assert found == {letter}
                seen.add((s, letter))
            assert not any(n.startswith(f"stage{s}.layer{len(word)}.") for n in names)
    assert len(seen) == 5


def test_blocks_cost_what_counts_by_hand_give(full):
    """With expansion 4; of a transformer the products of activations too."""
    graph = full.graph(full.patterned("FM FM FFMT TT", (64, 64, 128, 256, 512)))
    macs = {}
    for layer in graph.layers:
        if ".layer" in layer.name:
            block = ".".join(layer.name.split(".")[:2])
            macs[block] = macs.get(block, 0) + layer.macs
    assert macs["stage0.layer0"] == 56 * 56 * (9 * 64 * 256 + 256 * 64)
    assert macs["stage0.layer1"] == 56 * 56 * (2 * 64 * 256 + 9 * 256)
    assert macs["stage2.layer3"] == 196 * (4 + 8) * 256 * 256 + 2 * 196 * 196 * 256


def test_a_stage_of_one_kind_of_block_has_no_choice_of_it():
    stage = AsCANStage(widths=(8, 16), depths=(1,), blocks=("transformer",))
    space = replace(SMALL, stages=(stage,))
    assert space.pattern(space.extremes("largest")[0]) == "T"
    names = [c.name for c in space.choices]
    assert names == ["stem.width", "stage0.width", "stage0.layer0.expansion"]
    assert space.pattern(space.patterned("T")) == "T"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("F T T",), "a pattern has 2 words, one a stage, got 'F T T'"),
        (("FF TT", (4, 8)), r"of the stem and every stage, got \(4, 8\)"),
        (("FF TT", (4, 9, 16)), "'stage0.width' cannot be restricted to"),
        (("FFF TT",), "'stage0.depth' cannot be restricted to"),
        (("FF FF",), "'stage1.layer0.block' cannot be restricted to"),
    ],
)
def test_patterns_that_the_space_does_not_have_are_refused(arguments, why):
    with pytest.raises(BadInputError, match=why):
        SMALL.patterned(*arguments)


def test_letters_that_stand_for_nothing_are_refused():
    with pytest.raises(UnknownNameError, match="unknown block letter 'C'"):
        SMALL.patterned("FC TT")


def test_bad_stages_are_refused():
    with pytest.raises(BadInputError, match=r"0 or more blocks, got depths \(-1, 1\)"):
        AsCANStage(widths=(8,), depths=(-1, 1))
    with pytest.raises(BadInputError, match="unknown block 'conv'"):
        AsCANStage(widths=(8,), depths=(1,), blocks=("conv",))
    with pytest.raises(BadInputError, match=r"stage 0 has widths \(8, 16\) that head_dim 16 does"):
        replace(SMALL, head_dim=16)


def test_extracted_networks_equal_the_supernets_slices():
    rows = [*SMALL.sample(6, np.random.default_rng(0)), *SMALL.extremes("largest")]
    assert_extracted_equal_sliced(SMALL, rows)
