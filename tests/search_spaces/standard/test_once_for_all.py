from dataclasses import fields, replace

import numpy as np
import pytest

from records import BadInputError
from search_spaces.standard import OFAMobileNetV3, OFASettings
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced
from tests.search_spaces.standard.tables import assert_equals_float32, published

SMALL = OFAMobileNetV3(
    image_size=40, num_classes=10, width=0.2, resolutions=(24, 32, 40), depths=(1, 2),
    kernels=(3, 5),
)  # fmt: skip


@pytest.fixture(scope="module")
def space():
    return OFAMobileNetV3()


class TestOFAMobileNetV3(SearchSpaceContract):
    space = SMALL

    def other(self):
        return OFAMobileNetV3(image_size=64, width=0.2, resolutions=(64,))


def settings_of(table):
    depths = np.stack([table[f"depth_{s}"] for s in range(1, 6)], axis=1)
    return OFASettings(
        resolutions=table["resolution"], depths=depths, kernels=table["kernel"],
        expansions=table["expand"],
    )  # fmt: skip


def equal(first, second):
    return all(
        np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)
    )


COLUMNS = ("resolution", *(f"depth_{s}" for s in range(1, 6)), "kernel", "expand")


def test_the_space_has_more_than_10_to_the_19_networks_a_resolution(space):
    """Cai et al., section 3.1: ((3 x 3)^2 + (3 x 3)^3 + (3 x 3)^4)^5, about 2 x 10^19."""
    assert space.cardinality == 25 * (9**2 + 9**3 + 9**4) ** 5
    one = replace(space, resolutions=(224,))
    assert 2e19 < one.cardinality < 2.2e19


def test_all_rows_of_the_table_have_the_published_costs(space):
    table = published("ofa", *COLUMNS, "macs_m")
    layers = space.layer_table(space.genes_of(settings_of(table)))
    assert_equals_float32(layers.macs, table["macs_m"])


def test_all_rows_of_the_table_go_both_ways(space):
    table = published("ofa", *COLUMNS, "kernel_raw", "expand_raw")
    settings = settings_of(table)
    genes = space.genes_of(settings)
    assert equal(space.settings(genes), settings)
    raw = replace(settings, kernels=table["kernel_raw"], expansions=table["expand_raw"])
    np.testing.assert_array_equal(space.genes_of(raw), genes)


@pytest.mark.parametrize(
    "made",
    [SMALL, OFAMobileNetV3(depths=(3,), kernels=(5,), resolutions=(128, 160), expansions=(3, 6))],
    ids=["small", "single values"],
)
def test_genes_and_settings_go_both_ways(made):
    genes = made.sample(300, np.random.default_rng(0))
    settings = made.settings(genes)
    np.testing.assert_array_equal(made.genes_of(settings), genes)
    places = max(made.depths)
    there = settings.kernels.reshape(300, 5, places) > 0
    np.testing.assert_array_equal(there.sum(axis=2), settings.depths)
    np.testing.assert_array_equal(settings.expansions > 0, settings.kernels > 0)


def test_the_largest_network_counted_by_hand():
    """Width 1 at 224: the layers of MobileNetV3 with blocks of expansion 6 and kernel 7."""
    space = OFAMobileNetV3(width=1.0, resolutions=(224,))
    macs = 112**2 * (27 * 16 + 16 * 9 + 16 * 16)  # stem and first block
    parameters = 27 * 16 + 16 * 9 + 16 * 16 + 3 * 2 * 16
    stages = [  # channels in and out, size in and out, hidden width of squeeze-and-excitation
        (16, 24, 112, 56, None), (24, 40, 56, 28, (40, 64)), (40, 80, 28, 14, None),
        (80, 112, 14, 14, (120, 168)), (112, 160, 14, 7, (168, 240)),
    ]  # fmt: skip
    for channels, out, size, half, squeezed in stages:
        for i in range(4):
            width, hidden = (channels, channels * 6) if i == 0 else (out, out * 6)
            first = size if i == 0 else half
            macs += first**2 * width * hidden + half**2 * hidden * (49 + out)
            parameters += width * hidden + 49 * hidden + hidden * out + 2 * (2 * hidden + out)
            if squeezed:
                s = squeezed[i > 0]
                macs += 2 * s * hidden
                parameters += 2 * s * hidden + s + hidden
    macs += 49 * 160 * 960 + 960 * 1280 + 1280 * 1000
    parameters += 160 * 960 + 2 * 960 + 960 * 1280 + 1281 * 1000
    layers = space.layer_table(space.extremes("largest"))
    assert layers.macs == macs
    assert layers.parameters == parameters


def test_images_are_resized_where_the_resolution_is_not_theirs():
    genes = SMALL.extremes("smallest")
    graph = SMALL.graph(genes[0])
    assert [(x.operator, x.in_height, x.height) for x in graph.layers[1:2]] == [("resize", 40, 24)]
    largest = SMALL.graph(SMALL.extremes("largest")[0])
    assert "resize" not in {layer.operator for layer in largest.layers}


def test_extracted_networks_equal_the_supernets_slices():
    rows = [*SMALL.sample(2, np.random.default_rng(3)), *SMALL.extremes("smallest")]
    assert_extracted_equal_sliced(SMALL, rows)


def test_settings_that_do_not_fit_are_refused():
    settings = SMALL.settings(SMALL.sample(3, np.random.default_rng(0)))
    wrong = {
        "resolutions": (settings.resolutions + 1, r"'resolution' of row 0 is \d+; allowed: \(24,"),
        "depths": (settings.depths[:, :4], r"depths must have shape \(3, 5\), got \(3, 4\)"),
        "kernels": (settings.kernels * 0, r"'stage0.block0.kernel' of row 0 is 0; allowed: "),
        "expansions": (settings.expansions[:2], r"expansions must have shape \(3, 10\)"),
    }
    for name, (values, message) in wrong.items():
        with pytest.raises(BadInputError, match=message):
            SMALL.genes_of(replace(settings, **{name: values}))
    single = replace(SMALL, resolutions=(32,))
    with pytest.raises(BadInputError, match=r"'resolution' of row . is .*; allowed: \(32,\)"):
        single.genes_of(replace(settings, resolutions=np.array([32, 24, 32])))


def test_parameters_that_no_network_can_have_are_refused():
    with pytest.raises(BadInputError, match="resolutions go up to image_size 32, got 40"):
        replace(SMALL, image_size=32)
    with pytest.raises(BadInputError, match=r"at least one block, got depths \(0, 2\)"):
        replace(SMALL, depths=(0, 2))
