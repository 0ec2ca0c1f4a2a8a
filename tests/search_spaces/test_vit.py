import numpy as np
import pytest

from records import BadInputError
from search_spaces import ViTSpace
from tests.search_spaces.contract import SearchSpaceContract


class TestViTSpace(SearchSpaceContract):
    space = ViTSpace(image_size=16, channels=1, patch_sizes=(2, 4, 8), mlp_ratios=(1, 1.7, 3))

    def other(self):
        return ViTSpace(image_size=16, channels=1, head_dim=8)


def test_patches_set_the_number_of_tokens():
    space = ViTSpace(image_size=32, patch_sizes=(4, 8, 16), depths=(1, 2))
    genes = space.sample(100, np.random.default_rng(0))
    tokens = {space.graph(row).layers[1].tokens for row in genes}
    assert tokens == {64, 16, 4}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"patch_sizes": (4, 5)}, r"'patches\.conv' cuts the image.*do not cover"),
        ({"patch_sizes": (5,)}, r"'patches\.conv' cuts the image.*do not cover"),
        ({"patch_sizes": (4, 64)}, r"'patches\.conv'"),
        ({"patch_sizes": (0, 4)}, r"'patches\.conv'.*kernel below 1"),
        ({"patch_sizes": (0,)}, r"'patches\.conv'.*kernel below 1"),
        ({"heads": (0, 1)}, r"'layer0\.attention\.attention' would have fewer than 1 head"),
        ({"embed_dims": (-8, 8)}, r"'patches\.conv' would have channels below 1"),
        ({"depths": (0, 1)}, r"at least one block, got depths \(0, 1\)"),
        ({"depths": ()}, r"at least one block, got depths \(\)"),
    ],
)
def test_bad_parameters_are_refused_when_the_space_is_made(parameters, why):
    with pytest.raises(BadInputError, match=why):
        ViTSpace(image_size=32, **parameters)
