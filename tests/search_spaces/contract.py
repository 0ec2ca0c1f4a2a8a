"""What every search space keeps; a test class per space inherits it and says which space."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError, CorruptFileError, json_text
from search_spaces import Architecture, Graph, SearchSpace, least
from search_spaces.layer_table import COLUMNS
from search_spaces.primitives import ATTRIBUTES
from supernet import Subnet
from supernet.static import SelfAttention
from tests.search_spaces.doubles import any_genes, build_chosen


def counted(network, images):
    """MACs, parameters and every module's output shape of a real network, counted as it runs."""
    macs, shapes = 0, []

    def count(module, inputs, output):
        nonlocal macs
        shapes.append(tuple(output.shape[1:]))
        if isinstance(module, nn.Conv2d):
            kernel = module.weight.shape[1] * module.weight.shape[2] * module.weight.shape[3]
            macs += output[0].numel() * kernel
        elif isinstance(module, nn.Linear):
            macs += output[0].numel() * inputs[0].shape[-1]
        elif isinstance(module, SelfAttention):
            tokens, width = inputs[0].shape[1:]
            values = output.shape[-1]
            queries = (module.weight.shape[0] - values) // 2
            macs += tokens * width * (2 * queries + values)
            layer = module.layer
            if layer.mixing_name == "linear":
                macs += 2 * tokens * queries * layer.v_dim  # keys x values, queries x that
                macs += tokens * queries  # queries x summed keys
            else:
                keys = layer.window**2 or tokens
                macs += tokens * keys * queries  # queries x keys, all heads
                macs += tokens * keys * values  # weights x values

    hooks = [m.register_forward_hook(count) for m in network.layers.values()]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return macs, sum(p.numel() for p in network.parameters()), shapes


def peak_of(graph):
    """The most values alive at once: a step's inputs, its output and what is read later."""
    sizes = [layer.channels * layer.height * layer.width for layer in graph.layers]
    peak = 0
    for step in range(len(sizes)):
        later = {i for layer in graph.layers[step:] for i in layer.inputs if i < step}
        peak = max(peak, sizes[step] + sum(sizes[i] for i in later))
    return peak


class SearchSpaceContract:
    """Inherit as `TestX(SearchSpaceContract)` and set `space` and `other`."""

    space: SearchSpace
    other: Callable[[], SearchSpace]
    """Makes the same space with another parameter."""

    networks = 25
    """Random networks that are built and counted."""

    def rows(self, n, seed=0):
        return self.space.sample(n, np.random.default_rng(seed), "choices")

    # ---- architectures -----------------------------------------------------------------------

    def test_rows_round_trip_through_architectures_and_json(self):
        genes = any_genes(self.space, 200, 6)
        decoded = self.space.decode(genes)
        np.testing.assert_array_equal(self.space.encode(decoded), self.space.canonical(genes))
        text = json_text([a.to_json() for a in decoded])
        read = [Architecture.from_json(value) for value in json.loads(text)]
        assert read == decoded
        assert [hash(a) for a in read] == [hash(a) for a in decoded]

    def test_equal_networks_and_only_they_are_equal_architectures(self):
        genes = any_genes(self.space, 300, 1)
        different = len(np.unique(self.space.canonical(genes), axis=0))
        assert len(set(self.space.decode(genes))) == different

    def test_architectures_that_do_not_fit_are_refused_by_choice(self):
        (right,) = self.space.decode(self.space.extremes("largest")[:1])
        (small,) = self.space.decode(self.space.extremes("smallest")[:1])
        items, encode = right.items, self.space.encode

        def like(new):
            return Architecture(right.space, right.version, tuple(new))

        name, value = items[0]
        with pytest.raises(BadInputError, match=f"{name!r} is missing"):
            encode(like(items[1:]))
        with pytest.raises(BadInputError, match=f"{name!r} is -7; allowed: "):
            encode(like([(name, -7), *items[1:]]))
        with pytest.raises(BadInputError, match=f"unknown choice '{name}x'; did you mean"):
            encode(like([(f"{name}x", value), *items]))
        extras = [i for i in items if i[0] not in dict(small.items)]
        assert bool(extras) == any(c.active_if is not True for c in self.space.choices)
        for extra in extras[:1]:
            with pytest.raises(BadInputError, match=f"{extra[0]!r} means nothing here"):
                encode(like([*small.items, extra]))
        with pytest.raises(BadInputError, match="'Other' version 1 does not belong"):
            encode(Architecture("Other", 1, items))
        with pytest.raises(BadInputError, match=r"version 9 does not belong to .* version 1"):
            encode(Architecture(right.space, 9, items))

    # ---- the space as a file -----------------------------------------------------------------

    def test_space_round_trips_through_json(self):
        other = self.other()
        for space in (self.space, other):
            read = SearchSpace.from_json(json.loads(json_text(space.to_json())))
            assert read == space
            assert type(read) is type(space)
            assert read.hash == space.hash
            assert read.choices == space.choices
        assert SearchSpace.from_json(self.space.to_json()) == self.space  # tuples, not lists
        assert other.hash != self.space.hash

    def test_bad_sizes_are_refused(self):
        make = type(self.space)
        for name, value in (("image_size", 0), ("channels", 0), ("num_classes", 1),
                            ("num_classes", 0), ("image_size", 7.5)):  # fmt: skip
            with pytest.raises(
                BadInputError, match=f"{name} must be an integer >= ., got {value}"
            ):
                make(**{name: value})

    # ---- layers ------------------------------------------------------------------------------

    def test_graphs_equal_networks_built_with_numbers(self):
        """No expression, no table: `build` is called once an architecture with chosen values."""
        table = self.space.layer_table(self.rows(self.networks))
        columns = {name: table.column(name) for name in COLUMNS}
        position = {node.name: i for i, node in enumerate(self.space.nodes)}
        for i, row in enumerate(self.rows(self.networks)):
            net = build_chosen(self.space, row)
            graph = self.space.graph(row)
            assert [n.name for n in net.nodes] == [layer.name for layer in graph.layers]
            for node, layer in zip(net.nodes, graph.layers, strict=True):
                assert node.operator == layer.operator
                # the branch of a sum whose shortcut is a choice comes first, else the shortcut
                assert sorted(node.inputs) == sorted(layer.inputs)
                found = {name: getattr(layer, name) for name in ATTRIBUTES}
                assert found == dict(node.attributes)
                assert found == {name: columns[name][i, position[node.name]] for name in found}
            active = np.isin(list(position), [n.name for n in net.nodes])
            np.testing.assert_array_equal(columns["active"][i], active)
            for name in COLUMNS:
                assert not columns[name][i, ~active].any(), name

    def test_costs_equal_those_counted_on_real_networks(self):
        genes = self.rows(self.networks)
        table = self.space.layer_table(genes)
        peak, written = table.peak_activation_bytes(2), table.activation_bytes()
        size = self.space.image_size
        images = torch.zeros(1, self.space.channels, size, size)
        for i, row in enumerate(genes):
            graph = self.space.graph(row)
            macs, parameters, shapes = counted(Subnet(graph).eval(), images)
            assert table.macs[i] == graph.macs == macs
            assert table.parameters[i] == graph.parameters == parameters
            for layer, shape in zip(graph.layers[1:], shapes, strict=True):
                if len(shape) == 3:
                    assert shape == (layer.channels, layer.height, layer.width), layer
                elif len(shape) == 2:
                    assert shape == (layer.tokens, layer.channels), layer
                else:
                    assert shape == (layer.channels,), layer
            values = [images[0].numel(), *(int(np.prod(shape)) for shape in shapes)]
            assert written[i] == 4 * sum(values)
            assert peak[i] == 2 * peak_of(graph)

    def test_inactive_genes_change_no_layer(self):
        genes = any_genes(self.space, 200, 4)
        table = self.space.layer_table(genes)
        canonical = self.space.layer_table(self.space.canonical(genes))
        for name in COLUMNS:
            np.testing.assert_array_equal(table.column(name), canonical.column(name))

    @pytest.mark.parametrize("name", ["macs", "parameters", "elements"])
    def test_exact_extremes_bound_all_samples(self, name):
        values = self.space.layers.columns[name].astype(np.float64)
        low, smallest = least(self.space, self.space.layers, values)
        high, largest = least(self.space, self.space.layers, -values)
        rng = np.random.default_rng(0)
        sampled = self.space.layer_table(self.space.sample(20_000, rng)).total(name)
        ends = np.concatenate([self.space.extremes(w) for w in ("smallest", "largest")])
        ends = self.space.layer_table(ends).total(name)
        assert low <= min(sampled.min(), ends.min())
        assert -high >= max(sampled.max(), ends.max())
        reached = self.space.layer_table(np.stack([smallest, largest])).total(name)
        np.testing.assert_array_equal(reached, [low, -high])

    def test_graph_files_read_back_and_damaged_ones_are_refused(self):
        graph = self.space.graph(self.rows(1)[0])
        text = json_text(graph.to_json())
        assert Graph.from_json(json.loads(text)) == graph

        def damaged(change):
            value = json.loads(text)
            change(value["layers"])
            return value

        changes = {
            "unknown operator": lambda x: x[1].update(operator="conv3d"),
            "missing size": lambda x: x[1].pop("kernel"),
            "superfluous size": lambda x: x[1].update(colour=1),
            "text as size": lambda x: x[1].update(channels="8"),
            "fraction": lambda x: x[1].update(channels=8.5),
            "negative": lambda x: x[1].update(height=-1),
            "null": lambda x: x[1].update(macs=None),
            "reads itself": lambda x: x[1].update(inputs=[1]),
            "reads a later layer": lambda x: x[1].update(inputs=[99]),
            "reads from the end": lambda x: x[1].update(inputs=[-1]),
            "reads nothing": lambda x: x[1].update(inputs=[]),
            "no inputs": lambda x: x[1].update(inputs=3),
            "unknown activation": lambda x: x[1].update(activation=9),
            "no input layer": lambda x: x.pop(0),
            "two input layers": lambda x: x.insert(0, x[0]),
            "no layers": lambda x: x.clear(),
            "not a layer": lambda x: x.append("conv"),
        }
        for name, change in changes.items():
            with pytest.raises(BadInputError):
                pytest.fail(f"{name}: {Graph.from_json(damaged(change)).layers[1]}")
        for value in ({}, {"layers": 3}, [], None, "graph"):
            with pytest.raises((BadInputError, CorruptFileError), match="not a graph"):
                Graph.from_json(value)
