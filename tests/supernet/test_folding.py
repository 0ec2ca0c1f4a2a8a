"""Folded weights compute what the layers compute one after the other."""

import torch
import torch.nn.functional as F

from supernet.folding import fold, foldable, norm_as_factor, readers_of
from tests.deployment.doubles import ODD, ZOO, rows_of, shaken_subnet


def norm(channels, seed):
    random = torch.Generator().manual_seed(seed)
    names = ("weight", "bias", "running_mean", "running_var")
    values = {name: torch.randn(channels, generator=random) for name in names}
    return {**values, "running_var": values["running_var"].exp()}


def through(values, x):
    if "running_var" not in values:
        return x * values["weight"].view(-1, 1, 1)
    return F.batch_norm(
        x, values["running_mean"], values["running_var"], values["weight"], values["bias"]
    )


def test_a_convolution_with_folded_norm_and_factors_computes_the_same():
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, generator=random)
    x = torch.randn(2, 4, 5, 5, generator=random)
    factors = {"weight": torch.randn(6, generator=random)}
    for bias in (None, torch.randn(6, generator=random)):
        for after in ([norm(6, 1)], [norm(6, 2), factors], [factors], [factors, norm(6, 3)]):
            y = F.conv2d(x, weight, bias, padding=1)
            for values in after:
                y = through(values, y)
            folded = fold(weight, bias, after)
            torch.testing.assert_close(F.conv2d(x, *folded, padding=1), y, rtol=1e-4, atol=1e-4)


def test_factors_alone_make_no_bias():
    weight, bias = fold(torch.ones(3, 2), None, [{"weight": torch.tensor([1.0, 2.0, 3.0])}])
    assert bias is None
    assert weight.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_a_norm_is_a_factor_and_an_offset():
    values, x = norm(5, 4), torch.randn(3, 5, 2, 2)
    factor, offset = norm_as_factor(values)
    y = x * factor.view(-1, 1, 1) + offset.view(-1, 1, 1)
    torch.testing.assert_close(y, through(values, x), rtol=1e-4, atol=1e-4)


def test_gradients_come_back_to_all_that_was_folded():
    weight = torch.randn(4, 3, 1, 1, requires_grad=True)
    values = norm(4, 5)
    values["weight"].requires_grad_()
    values["bias"].requires_grad_()
    folded, bias = fold(weight, None, [values])
    (folded.sum() + bias.sum()).backward()
    assert all(v.grad is not None for v in (weight, values["weight"], values["bias"]))


def test_chains_end_where_something_else_reads():
    """In the odd space a norm's input is read by a sum too, and a norm has no convolution."""
    layers = shaken_subnet(ODD, [0]).graph.layers
    names = {layers[a].name: [layers[i].name for i in b] for a, b in foldable(layers).items()}
    assert names == {"stem.conv": ["stem.norm"]}


def test_readers_are_the_inverse_of_inputs():
    layers = ZOO.graph(rows_of(ZOO, 3)[-1]).layers
    readers = readers_of(layers)
    for index, layer in enumerate(layers):
        for source in set(layer.inputs):
            assert readers[source].count(index) == layer.inputs.count(source)
    assert sum(map(len, readers)) == sum(len(layer.inputs) for layer in layers)
