import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import BadInputError, json_text
from search_spaces import CNNSpace, HybridSpace, HybridStage, Restricted, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from tests.search_spaces.conditional import DeepSpace, EitherSpace
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.doubles import TINY, NestedSpace

HYBRID = HybridSpace(image_size=16, channels=1)


class TestRestricted(SearchSpaceContract):
    space = HYBRID.restrict(
        {"stage0.width": (16, 32), "*.kernel": (3,), "stage1.depth": (1, 2),
         "stage1.block": ("conv",)}
    )  # fmt: skip

    def other(self):
        return HYBRID.freeze({"stage0.width": 24})

    def test_bad_sizes_are_refused(self):
        """The sizes are the base's."""
        for name in ("image_size", "channels", "num_classes"):
            assert getattr(self.space, name) == getattr(HYBRID, name)
            with pytest.raises(TypeError, match=name):
                Restricted(base=HYBRID, **{name: 3})


SPACES = [*TINY[:3], DeepSpace(image_size=8), EitherSpace(image_size=8)]


def subsets(space):
    """A strategy for restrictions: of some choices some of their values."""
    return st.fixed_dictionaries(
        {},
        optional={c.name: st.sets(st.sampled_from(c.values), min_size=1) for c in space.choices},
    )


def inside(space, allowed):
    """The architectures of a space all of whose choices are allowed, one by one."""
    return [
        row
        for row, architecture in zip(
            space.enumerate(), space.decode(space.enumerate()), strict=True
        )
        if all(value in allowed.get(name, (value,)) for name, value in architecture.items)
    ]


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_restricted_space_has_the_architectures_whose_choices_are_allowed(space, data):
    allowed = data.draw(subsets(space))
    expected = inside(space, allowed)
    if len(expected) == 1:
        with pytest.raises(BadInputError, match="nothing is left to choose"):
            space.restrict({k: sorted(v) for k, v in allowed.items()})
        return
    part = space.restrict({k: sorted(v) for k, v in allowed.items()})
    genes = part.enumerate()
    rows = part.to_base(genes)
    assert {r.tobytes() for r in rows} == {r.tobytes() for r in expected}
    assert part.cardinality == len(genes) == len(rows) == len(expected)
    np.testing.assert_array_equal(rows, space.gene_space.check(rows))
    np.testing.assert_array_equal(part.from_base(rows), genes)
    everything = space.enumerate()
    found = part.contains(everything)
    assert {r.tobytes() for r in everything[found]} == {r.tobytes() for r in expected}
    for name in ("macs", "parameters", "elements"):
        np.testing.assert_array_equal(
            part.layer_table(genes).total(name), space.layer_table(rows).total(name)
        )


@pytest.mark.parametrize("space", TINY[:3], ids=lambda s: s.name)
def test_architectures_and_graphs_are_those_of_the_base(space):
    (block,) = {c.values[-1] for c in space.choices if c.is_categorical} or {None}
    frozen = {c.name: c.values[-1] for c in space.choices[:2]}
    part = space.freeze(frozen if block is None else {"*.block": block})
    genes = part.sample(30, np.random.default_rng(0))
    rows = part.to_base(genes)
    for row, base_row, mine, whole in zip(
        genes, rows, part.decode(genes), space.decode(rows), strict=True
    ):
        assert part.graph(row) == space.graph(base_row)
        gone = {name for name, _ in whole.items} - {name for name, _ in mine.items}
        assert gone <= {name for name, _ in part.allowed}
        assert set(mine.items) <= set(whole.items)


def test_choices_that_nothing_activates_any_more_are_no_genes():
    part = HYBRID.restrict({"stage1.depth": (0, 1), "stage0.depth": (0,)})
    names = {c.name for c in part.choices}
    assert not any(n.startswith(("stage0.layer", "stage1.layer1", "stage0.block")) for n in names)
    assert {"stage0.width", "stage1.depth", "stage1.layer0.kernel"} <= names


def test_choices_are_active_where_they_are_in_the_base_though_a_frozen_one_vanished():
    space = EitherSpace(image_size=8)
    assert space.cardinality == 1 + 3 + 1  # the kernel counts only where its kind is active
    assert space.freeze({"kind": "a"}).cardinality == 1 + 3
    assert space.restrict({"kernel": (1, 5)}).cardinality == 1 + 2 + 1


def test_restricting_again_merges():
    once = HYBRID.restrict({"stage1.width": (32, 48), "stage0.width": (16,)})
    twice = once.restrict({"stage1.width": (48,), "stage1.depth": (1, 2)})
    assert twice.base == HYBRID
    assert twice == HYBRID.restrict(
        {"stage0.width": (16,), "stage1.width": (48,), "stage1.depth": (2, 1)}
    )
    assert twice == Restricted(base=once, allowed=twice.allowed)
    with pytest.raises(BadInputError, match=r"restricted to \(64,\); allowed: .*\(32, 48\)"):
        once.restrict({"stage1.width": (64,)})


def test_equal_restrictions_are_equal_however_they_are_written():
    plain = HYBRID.restrict({"stage0.layer0.kernel": [3], "stage0.layer1.kernel": (3, 3)})
    by_pattern = HYBRID.restrict({"stage0.*.kernel": (3,), "stage1.width": (64, 32, 48)})
    assert plain == by_pattern
    assert hash(plain) == hash(by_pattern)
    assert plain.hash == by_pattern.hash != HYBRID.hash
    assert plain.allowed == (("stage0.layer0.kernel", (3,)), ("stage0.layer1.kernel", (3,)))


def test_no_restriction_leaves_the_whole_space():
    part = HYBRID.restrict({})
    assert [(c.name, c.values) for c in part.choices] == [
        (c.name, c.values) for c in HYBRID.choices
    ]
    genes = HYBRID.sample(100, np.random.default_rng(0))
    np.testing.assert_array_equal(part.to_base(genes), genes)
    np.testing.assert_array_equal(part.from_base(genes), genes)


def test_a_pattern_keeps_of_each_choice_what_it_offers():
    stages = (HybridStage(kernels=(3, 5)), HybridStage(kernels=(5, 7)), HybridStage(kernels=(5,)))
    space = HybridSpace(image_size=16, stages=stages)
    part = space.restrict({"*.kernel": (5, 7)})
    assert {c.values for c in part.choices if c.name.endswith("kernel")} == {(5, 7)}
    assert {n: v for n, v in part.allowed if n.startswith("stage0")} == {
        "stage0.layer0.kernel": (5,), "stage0.layer1.kernel": (5,),
    }  # fmt: skip
    assert space.freeze({"*.kernel": 5, "stage2.layer0.kernel": 5}).cardinality > 1
    with pytest.raises(BadInputError, match=r"'stage1\.layer0\.kernel' is left without a value"):
        space.freeze({"*.kernel": 3})


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        ({"stage0.widht": (16,)}, r"unknown choice 'stage0\.widht'; did you mean 'stage0\.width'"),
        ({"*.krenel": (3,)}, r"unknown choice '\*\.krenel'"),
        ({"stage0.width": (16, 17)}, r"'stage0\.width' cannot be .* \(16, 17\); .*\(16, 24, 32\)"),
        ({"stage0.width": ()}, r"'stage0\.width' cannot be restricted to \(\); allowed: one or"),
        ({"*.kernel": (4,)}, r"'\*\.kernel' cannot be restricted to \(4,\); .*\(3, 5\)"),
        ({"stage0.block": "conv"}, r"needs values to keep, e\.g\. \('conv',\)"),
        ({"stage0.width": 16}, r"needs values to keep, e\.g\. \(16,\), got 16; `freeze`"),
        (
            {"*.kernel": (3,), "stage0.layer0.kernel": (5,)},
            r"'stage0\.layer0\.kernel' is left without a value",
        ),
    ],
)
def test_what_the_space_does_not_offer_is_refused(allowed, why):
    with pytest.raises(BadInputError, match=why):
        HYBRID.restrict(allowed)


def test_a_space_with_nothing_left_to_choose_is_refused():
    (architecture,) = HYBRID.decode(HYBRID.extremes("largest")[:1])
    with pytest.raises(
        BadInputError, match="nothing is left to choose in this restriction of Hyb"
    ):
        HYBRID.freeze(dict(architecture.items))
    with pytest.raises(BadInputError, match=r"'depth' cannot be restricted to \(1,\)"):
        ViTSpace(image_size=16, depths=(3,), heads=(1,)).freeze({"depth": 1})


def test_rows_of_the_base_that_are_outside_are_refused_by_choice():
    part = HYBRID.restrict({"stage0.width": (16, 32), "stage0.layer1.kernel": (3,)})
    rows = np.concatenate([part.to_base(part.extremes("smallest")), HYBRID.extremes("largest")])
    np.testing.assert_array_equal(part.contains(rows), [True, True, False, True])
    message = r"row 2 is outside .* 'stage0\.layer1\.kernel' is 5; allowed: \(3,\)"
    with pytest.raises(BadInputError, match=message):
        part.from_base(rows)
    with pytest.raises(BadInputError, match="genes must be n x"):
        part.contains(part.extremes("largest"))
    with pytest.raises(BadInputError, match="genes must be n x"):
        part.to_base(HYBRID.extremes("largest"))


def test_a_user_space_is_read_back_inside_its_restriction():
    @dataclass(frozen=True, kw_only=True)
    class Mine(NestedSpace):
        version = 4

    part = Mine(image_size=8).restrict({"depth": (1, 2), "second.*": (3, 5)})
    value = json.loads(json_text(part.to_json()))
    assert value["parameters"]["base"]["space"] == "Mine"
    assert value["parameters"]["allowed"] == {"depth": [1, 2], "second.kernel": [3, 5]}
    read = SearchSpace.from_json(value, spaces=[Mine])
    assert read == part
    assert type(read.base) is Mine


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.pop("base"), "a restricted space has 'base' and 'allowed'"),
        (lambda p: p.update(allowed=3), "a restricted space has 'base' and 'allowed'"),
        (lambda p: p.update(base=3), "a space has 'space', 'version' and 'parameters'"),
        (lambda p: p.update(allowed={"stage9.width": [3]}), "unknown choice 'stage9"),
        (lambda p: p.update(allowed={"stage0.width": None}), "do not fit Restricted"),
        (lambda p: p.update(image_size=8), "unknown parameter of Restricted 'image_size'"),
    ],
)
def test_damaged_files_are_refused(change, why):
    value = json.loads(json_text(HYBRID.freeze({"stage0.width": 16}).to_json()))
    change(value["parameters"])
    with pytest.raises(BadInputError, match=why):
        SearchSpace.from_json(value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_negated_plain_condition_is_refused():
    """`~True` is -2 in Python, which would count as true."""

    @dataclass(frozen=True, kw_only=True)
    class Tilde(SearchSpace):
        def build(self, net, images):
            depth = net.choice("depth", (0, 1))
            net.choice("free", (1, 2))
            with net.when(~(depth > 0)):
                images = net.conv2d(images, 8, kernel=3)
            return classifier(net, images, self.num_classes)

    with pytest.raises(BadInputError, match=r"true or false, got -2; negate\(\.\.\.\) for ~"):
        Tilde().freeze({"depth": 1})


def test_spaces_that_cannot_take_a_plain_value_say_so():
    with pytest.raises(BadInputError, match=r"'equals'.*write `is_equal\(a, b\)`"):
        NestedSpace(image_size=8).freeze({"kind": "wide"})

    @dataclass(frozen=True, kw_only=True)
    class Changing(SearchSpace):
        def build(self, net, images):
            width = net.choice("width", (8, 16))
            kernel = net.choice("small" if isinstance(width, int) else "kernel", (1, 3))
            return classifier(net, net.conv2d(images, width, kernel=kernel), self.num_classes)

    with pytest.raises(BadInputError, match=r"declares the choices \['small'\] only where"):
        Changing().freeze({"width": 8})


def test_restricted_spaces_of_all_kinds_have_layers_that_count():
    for space in (CNNSpace(image_size=16), ViTSpace(image_size=16), HYBRID):
        part = space.restrict({space.choices[0].name: space.choices[0].values[:1]})
        genes = part.sample(500, np.random.default_rng(1))
        rows = part.to_base(genes)
        assert (rows[:, 0] == 0).all()
        np.testing.assert_array_equal(part.layer_table(genes).macs, space.layer_table(rows).macs)
        np.testing.assert_array_equal(
            part.layer_table(genes).peak_activation_bytes(),
            space.layer_table(rows).peak_activation_bytes(),
        )
