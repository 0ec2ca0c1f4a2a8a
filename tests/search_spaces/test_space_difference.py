import re
from dataclasses import dataclass

import pytest

from search_spaces import CNNSpace, ConvStage, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.space_difference import described_space, first_difference


@dataclass(frozen=True, kw_only=True)
class Rows(SearchSpace):
    """Choices one after the other, of what they are told."""

    told: tuple = (("a", (8, 16)),)
    bias: int = 0

    def build(self, net, images):
        x = images
        for name, values in self.told:
            with net.scope(f"{name}-layer"):
                x = conv_norm_act(net, x, net.choice(name, values), kernel=3)
        return classifier(net, x, self.num_classes)


class RowsAgain(Rows):
    """The same by another name."""


def rows(*told, kind=Rows, **parameters):
    return kind(image_size=8, told=told, **parameters)


A, B, C = ("a", (8, 16)), ("b", (8, 16)), ("c", (8, 16))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (rows(A), rows(B), r"former has the choice 'a.*a', the latter has 'b.*b'"),
        (
            rows(A, B, C),
            rows(A, ("b", (8, 24)), ("c", (4, 8))),
            r"choice 'b.*b' is one of 8, 16 in the former and of 8, 24 in the latter",
        ),
        (rows(A, B), rows(A), r"only the former has the choice 'b.*b'"),
        (rows(A), rows(A, B, C), r"only the latter has the choice 'b.*b'"),
        (rows(A), rows(A, bias=3), "the same, but bias is 0 in the former and 3 in the latter"),
        (rows(A), rows(A, kind=RowsAgain), "the same, but the kinds of space are not"),
    ],
)
def test_the_first_difference_is_the_first_in_the_order_of_the_genes(one, other, said):
    assert re.search(said, first_difference(one, other))


def test_spaces_that_are_equal_have_no_difference():
    assert first_difference(rows(A, B), rows(A, B)) == ""
    assert first_difference(ViTSpace(), ViTSpace()) == ""


def test_a_choice_that_exists_under_another_condition_is_another_one():
    one = CNNSpace(stages=(ConvStage(depths=(1, 2, 3)), ConvStage(depths=(1, 2))))
    other = CNNSpace(stages=(ConvStage(depths=(1, 2, 3)), ConvStage(depths=(1, 2))), stem_stride=1)
    assert "stem_stride is 2 in the former and 1 in the latter" in first_difference(one, other)
    deep = Conditional(image_size=8, least=1)
    assert "means something else" in first_difference(deep, Conditional(image_size=8, least=2))


@dataclass(frozen=True, kw_only=True)
class Conditional(SearchSpace):
    """A width that means something from a depth on."""

    least: int = 1

    def build(self, net, images):
        depth = net.choice("depth", (1, 2, 3))
        with net.when(depth > self.least):
            width = net.choice("width", (8, 16))
        x = conv_norm_act(net, images, 8, kernel=3)
        with net.scope("more"), net.when(depth > self.least):
            x = conv_norm_act(net, x, width, kernel=3)
        return classifier(net, x, self.num_classes)


def test_long_lists_and_parameters_are_cut_short():
    long = rows(("a", tuple(range(8, 88, 8))))
    assert "is one of 8, 16, 24, 32, 40, 48, 56, 64, ... in" in first_difference(long, rows(A))
    one = CNNSpace(image_size=8, stages=(ConvStage(stride=1), ConvStage(stride=1)))
    other = CNNSpace(image_size=8, stages=(ConvStage(stride=1), ConvStage(stride=2)))
    assert first_difference(one, other) == "the choices are the same, but stages is not"


def test_a_described_space_says_what_it_is_for():
    space = CNNSpace(image_size=8, channels=1, num_classes=3)
    assert described_space(space) == (
        f"CNNSpace (8x8x1 images, 3 classes, {len(space.choices)} choices)"
    )
