import pytest
import torch
import torch.nn.functional as F

from records import BadInputError
from search_spaces import ViTSpace
from supernet.foreign_weights import fit
from tests.supernet.doubles import SPACES


def layer_of(space, operator):
    row = space.extremes("largest")[0]
    return next(layer for layer in space.graph(row).layers if layer.operator == operator)


CONV = layer_of(SPACES[0], "conv2d")  # 3x3 over 2 channels, 16 channels
LINEAR = layer_of(SPACES[0], "linear")
POSITION = layer_of(ViTSpace(image_size=16, patch_sizes=(4, 8)), "position")  # of the 2x2 grid


def test_a_tensor_of_the_right_shape_is_taken_as_it_is():
    given = torch.randn(16, 2, 3, 3)
    found, note = fit(CONV, "weight", given, given.shape, reads_images=True)
    assert found is given
    assert note == ""


def test_a_matrix_and_a_kernel_with_the_same_rows_are_the_same_weights():
    """A linear map of a flattened feature map is the convolution over the whole of it."""
    x, given = torch.randn(2, 5, 3, 3), torch.randn(7, 45)
    found, note = fit(CONV, "weight", given, (7, 5, 3, 3), reads_images=False)
    torch.testing.assert_close(F.conv2d(x, found).flatten(1), F.linear(x.flatten(1), given))
    assert note == "(7, 45) seen as (7, 5, 3, 3)"
    back, _ = fit(LINEAR, "weight", found, (7, 45), reads_images=False)
    assert torch.equal(back, given)


def test_a_kernel_for_colours_answers_grey_pictures_as_in_three_channels():
    grey, given = torch.randn(2, 1, 8, 8), torch.randn(16, 3, 3, 3)
    found, note = fit(CONV, "weight", given, (16, 1, 3, 3), reads_images=True)
    torch.testing.assert_close(F.conv2d(grey, found), F.conv2d(grey.expand(2, 3, 8, 8), given))
    assert note == "summed over 3 colours"
    back, note = fit(CONV, "weight", found, (16, 3, 3, 3), reads_images=True)
    torch.testing.assert_close(
        F.conv2d(grey.expand(2, 3, 8, 8), back), F.conv2d(grey, found), atol=1e-5, rtol=1e-5
    )
    assert note == "spread over 3 colours"


def test_positions_lose_their_leading_axis_and_the_class_token():
    tokens, width = POSITION.tokens, POSITION.channels
    own = torch.randn(tokens, width)
    shape = own.shape
    for given, expected in (
        (own, ""),
        (own[None], ""),
        (torch.cat([torch.randn(1, width), own])[None], "without the class token's vector"),
    ):
        found, note = fit(POSITION, "embedding", given, shape, reads_images=False)
        assert torch.equal(found, own)
        assert note == expected


@pytest.mark.parametrize("with_class", [False, True])
def test_positions_of_another_grid_are_resized(with_class):
    """A picture whose value is the row's number stays one."""
    rows = torch.arange(6.0).repeat_interleave(6)  # row by row
    given = rows[:, None].expand(36, POSITION.channels)
    if with_class:
        given = torch.cat([torch.full_like(given[:1], 99), given])
    found, note = fit(POSITION, "embedding", given[None], (4, 96), reads_images=False)
    side = POSITION.height
    assert note.endswith(f"resized from 6x6 to {side}x{side}")
    assert note.startswith("without the class") == with_class
    grid = found.T.reshape(-1, side, side)
    assert grid.shape == (POSITION.channels, side, side)
    torch.testing.assert_close(grid, grid[:1, :, :1].expand_as(grid))
    torch.testing.assert_close(grid.mean(), torch.tensor(2.5))
    assert (grid[0, :, 0].diff() > 0).all()


@pytest.mark.parametrize(
    ("layer", "given", "shape", "reads_images"),
    [
        (CONV, (15, 2, 3, 3), (16, 2, 3, 3), True),
        (CONV, (16, 2, 5, 5), (16, 2, 3, 3), True),
        (CONV, (16, 3, 3, 3), (16, 1, 3, 3), False),  # not the images' colours
        (CONV, (16, 3, 3, 3), (16, 2, 3, 3), True),
        (CONV, (15, 3, 3, 3), (16, 1, 3, 3), True),
        (CONV, (45, 7), (7, 5, 3, 3), False),  # as many values, other rows
        (LINEAR, (4,), (5,), False),
        (POSITION, (1, POSITION.tokens, 95), (POSITION.tokens, 96), False),
        (POSITION, (2, POSITION.tokens, 96), (POSITION.tokens, 96), False),
        (POSITION, (1, 12, 96), (POSITION.tokens, 96), False),  # no square
        (POSITION, (1, 1, 2, 96), (POSITION.tokens, 96), False),
    ],
)
def test_what_no_rule_fits_is_refused_with_both_shapes(layer, given, shape, reads_images):
    name = "embedding" if layer is POSITION else "weight"
    with pytest.raises(BadInputError, match=f"{name} of layer '{layer.name}' has shape") as error:
        fit(layer, name, torch.zeros(given), shape, reads_images=reads_images)
    assert str(tuple(given)) in str(error.value)
    assert str(tuple(shape)) in str(error.value)
