import pytest

from records import BadInputError
from search_spaces import CNNSpace, ConvStage
from tests.search_spaces.contract import SearchSpaceContract


class TestCNNSpace(SearchSpaceContract):
    space = CNNSpace(
        image_size=16,
        stages=(
            ConvStage(kernels=(3, 5, 7)),
            ConvStage(widths=(24, 32, 48), stride=2, expansions=(1.5, 2.2, 4)),
        ),
    )

    def other(self):
        return CNNSpace(image_size=16, stages=(ConvStage(depths=(2, 4)),))


def test_a_block_with_equal_width_has_a_shortcut_only_after_the_first():
    graph = CNNSpace(image_size=16).graph(CNNSpace(image_size=16).extremes("largest")[0])
    adds = [layer.name for layer in graph.layers if layer.operator == "add"]
    assert adds == [f"stage{s}.layer{i}.add" for s in range(3) for i in (1, 2)]


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ({"kernels": (3, 4)}, r"kernels must be odd, got \(3, 4\)"),
        ({"depths": (0, 1)}, r"at least one block, got depths \(0, 1\)"),
        ({"depths": ()}, r"at least one block, got depths \(\)"),
        ({"kernels": (-3, 3)}, r"'stage0\.layer0\.depthwise\.conv'.*kernel below 1"),
        ({"stride": 0}, r"'stage0\.layer0\.depthwise\.conv'.*stride below 1"),
        ({"widths": (8.5, 16)}, r"a channels of 8\.5, which must be an integer.*stage0\.width"),
        ({"widths": (0, 16)}, r"'stage0\.layer0\.project\.conv'.*channels below 1"),
        ({"widths": (16, 8)}, r"'stage0\.width' needs its numbers in ascending order"),
        ({"widths": (8, 8)}, r"'stage0\.width' needs two or more distinct"),
        ({"expansions": ()}, r"'stage0\.layer0\.expansion' has no values"),
    ],
)
def test_bad_stages_are_refused_when_the_space_is_made(stage, why):
    with pytest.raises(BadInputError, match=why):
        CNNSpace(stages=(ConvStage(**stage),))
