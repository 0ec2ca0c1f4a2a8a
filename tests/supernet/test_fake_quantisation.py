"""What rounding does in torch; that it is the int8 file's is shown in tests/deployment."""

import copy

import pytest
import torch

from records import BadInputError, UnknownNameError
from supernet import FakeQuantised, Int8Scheme
from tests.deployment.doubles import SPACES as DEPLOYED
from tests.deployment.doubles import shaken_subnet
from tests.supernet.doubles import images_of

CNN, HYBRID = DEPLOYED["cnn"], DEPLOYED["hybrid"]


def rounded(space, scheme=None, seed=0):
    subnet = shaken_subnet(space, space.extremes("smallest")[0], seed)
    network = FakeQuantised(subnet, scheme)
    images = images_of(space, 80)
    network.calibrate(images)
    return subnet, network, images


@torch.no_grad()
def test_with_enough_steps_it_computes_what_the_subnet_computes():
    """The walk over folded layers is right; only rounding makes the difference."""
    subnet, network, images = rounded(HYBRID)
    exact = network._walk(images, network._plain_weights(None), lambda i, x: x, _same)
    torch.testing.assert_close(exact, subnet(images), rtol=1e-4, atol=1e-4)


def _same(index, weight, bias):
    return weight, bias


@torch.no_grad()
@pytest.mark.parametrize("space", [CNN, HYBRID], ids=["cnn", "hybrid"])
def test_fewer_steps_are_farther_away(space):
    errors = []
    for steps in (127, 64, 8):
        scheme = Int8Scheme(weight_steps=steps, activation_steps=2 * steps)
        subnet, network, images = rounded(space, scheme)
        errors.append(float((network(images) - subnet(images)).square().mean().sqrt()))
    assert 0 < errors[0] < errors[1] < errors[2]
    assert errors[0] < 0.2 * float(subnet(images).std())


@torch.no_grad()
def test_weights_have_few_values_and_the_largest_stays():
    _, network, _ = rounded(CNN, Int8Scheme(weight_steps=3))
    index = min(network._rounded)
    weight = torch.randn(4, 3, 3, 3)
    weight[2] = 0  # a channel without any weight
    found, _ = network._round_weights(index, weight, None)
    for channel, given in zip(found, weight, strict=True):
        assert len(channel.unique()) <= 7
        assert float(channel.abs().max()) == pytest.approx(float(given.abs().max()))


@torch.no_grad()
def test_activations_keep_zero_and_stay_in_their_range():
    _, network, _ = rounded(CNN)
    index = sorted(network._marked)[1]
    scale, zero = network._steps[index]
    x = torch.tensor([0.0, -1e6, 1e6, 0.4 * scale, 0.6 * scale])
    found = network._round(index, x)
    assert found.tolist() == pytest.approx(
        [0, -zero * scale, (255 - zero) * scale, 0, scale], rel=1e-5
    )


def test_gradients_pass_the_rounding():
    """As without rounding where nothing is cut off: the straight-through estimator."""
    _, network, images = rounded(CNN)
    network.zero_grad()
    network(images[:8]).square().sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_what_stays_in_fp32_is_not_rounded():
    stem = FakeQuantised(shaken_subnet(CNN, CNN.extremes("smallest")[0])).graph.layers[1].name
    _, all_rounded, _ = rounded(CNN)
    _, network, _images = rounded(CNN, Int8Scheme(fp32_blocks=(stem.split(".")[0],)))
    assert len(network._rounded) == len(all_rounded._rounded) - 1
    assert 0 in all_rounded._marked
    assert 0 not in network._marked  # the images, which the stem alone reads
    kept, rest = Int8Scheme(fp32_blocks=("stem", "classifier")), Int8Scheme()
    assert kept.to_json()["fp32_blocks"] == ["stem", "classifier"]
    assert rest.to_json() == {"weight_steps": 64, "activation_steps": 255, "fp32_blocks": []}


@torch.no_grad()
def test_with_everything_in_fp32_nothing_is_rounded():
    subnet = shaken_subnet(CNN, CNN.extremes("smallest")[0])
    stages = sorted({layer.name.split(".")[0] for layer in subnet.graph.layers[1:]} - {"pool"})
    network = FakeQuantised(subnet, Int8Scheme(fp32_blocks=tuple(stages[:-1])))
    left = {subnet.graph.layers[i].name.split(".")[0] for i in network._rounded}
    assert left == {stages[-1]}
    network._rounded = network._marked = frozenset()
    images = images_of(CNN, 8)
    network._steps = {0: (1.0, 0)}
    torch.testing.assert_close(network(images), subnet(images), rtol=1e-4, atol=1e-4)


def test_nothing_of_the_given_network_changes():
    subnet = shaken_subnet(CNN, CNN.extremes("smallest")[0])
    before = copy.deepcopy(subnet.state_dict())
    network = FakeQuantised(subnet)
    network.calibrate(images_of(CNN, 8))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in subnet.state_dict().items())


def test_ranges_do_not_depend_on_the_batches():
    _subnet, network, images = rounded(CNN)
    steps = dict(network._steps)
    network.calibrate(images.flip(0))
    assert {k: z for k, (_, z) in steps.items()} == {k: z for k, (_, z) in network._steps.items()}
    for index, (scale, _) in steps.items():
        assert network._steps[index][0] == pytest.approx(scale, rel=1e-5)


def test_a_constant_has_steps_too():
    _, network, _ = rounded(CNN)
    assert network._step(0.0, 0.0) == (1.0, 0)
    assert network._step(-1.0, 0.0) == (pytest.approx(1 / 255), 255)


def test_bad_input():
    subnet = shaken_subnet(CNN, CNN.extremes("smallest")[0])
    network = FakeQuantised(subnet)
    with pytest.raises(BadInputError, match=r"call calibrate\(images\)"):
        network(images_of(CNN, 2))
    with pytest.raises(BadInputError, match="at least one image"):
        network.calibrate(images_of(CNN, 2)[:0])
    images = images_of(CNN, 2)
    images[0, 0, 0, 0] = torch.nan
    with pytest.raises(BadInputError, match="not finite at layer 'input'"):
        network.calibrate(images)
    with pytest.raises(UnknownNameError, match="leave in fp32 'stage9'"):
        FakeQuantised(subnet, Int8Scheme(fp32_blocks=("stage9",)))
    for options in ({"weight_steps": 128}, {"activation_steps": 0}):
        with pytest.raises(BadInputError, match="must be 1 to"):
            Int8Scheme(**options)
