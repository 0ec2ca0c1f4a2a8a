"""What is understood of a module's calls, and that the rest is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from records import BadInputError
from supernet import Supernet, elastic_space, load_module
from tests.supernet.doubles import images_of
from tests.supernet.modules import shaken

SIZES = {"image_size": 8, "channels": 3, "num_classes": 4}


class Around(nn.Module):
    """Some computation on a map of 8 channels between a convolution and a classifier."""

    def __init__(self, body, **modules):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        for name, module in modules.items():
            setattr(self, name, module)
        self.body = body
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.body(self, self.first(x)))


def space_of(module, choices=None):
    return elastic_space(module, choices or {"first": {"kernel": (1, 3)}}, **SIZES)


def mean(x):
    return x.mean((2, 3))


UNDERSTOOD = {
    "methods": lambda m, x: (
        x.add(x.relu()).mul(x.mean((2, 3), keepdim=True).sigmoid()).mean((3, 2))
    ),
    "functions": lambda m, x: torch.mean(torch.add(F.relu6(x), F.hardswish(x)), dim=[-1, -2]),
    "in place": lambda m, x: mean(F.hardswish(F.silu(x).relu_().add_(x), True)),
    "operators": lambda m, x: mean((x + F.gelu(x)) * F.hardsigmoid(x.mean([2, 3], keepdim=True))),
    "gate first": lambda m, x: mean(torch.sigmoid(F.adaptive_avg_pool2d(x, 1)) * x),
    "augmented": lambda m, x: _augmented(x),
    "pool functions": lambda m, x: mean(F.max_pool2d(F.avg_pool2d(x, 3, 1, 1, False, False), 2)),
    "pool keywords": lambda m, x: mean(F.max_pool2d(x, kernel_size=3, stride=2, padding=1)),
    "flatten": lambda m, x: F.adaptive_avg_pool2d(x, (1, 1)).flatten(1),
    "squeeze": lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "view": lambda m, x: F.dropout(F.adaptive_avg_pool2d(x, 1), 0.5, m.training).view(-1, 8),
    "reshape": lambda m, x: torch.flatten(F.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], 8), 1),
    "gate behind dropout": lambda m, x: mean(
        x * torch.sigmoid(F.dropout(F.adaptive_avg_pool2d(x, 1), 0.5, m.training))
    ),
    "pool to one by windows": lambda m, x: F.max_pool2d(x, 8).view(-1, 8, 1).view(-1, 8),
    "pool in steps": lambda m, x: mean(F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(x, 4), 4)),
}


def _augmented(x):
    x += F.relu(x)
    x *= x.mean((2, 3), keepdim=True)
    return mean(x)


def _doubled(x):
    changed = x
    changed += F.relu(x)
    return changed + x


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_functions_methods_and_operators_are_understood(name):
    module = shaken(Around(UNDERSTOOD[name]))
    space = space_of(module)
    supernet = Supernet(space)
    load_module(supernet, module)
    images = images_of(space, 3)
    with torch.no_grad():
        found = supernet.extract(space.extremes("largest")[0], {})(images)
        torch.testing.assert_close(found, module(images), atol=1e-5, rtol=1e-5)


PLAIN = {
    "strides and dilation": nn.Sequential(
        nn.Conv2d(8, 8, 3, stride=2, padding=2, dilation=2), nn.Conv2d(8, 8, 2, padding="valid")
    ),
    "groups": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU6()),
    "a channel multiplier": nn.Sequential(nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(16, 8, 1)),
    "pools": nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, 1), nn.SiLU()),
    "same padding": nn.Conv2d(8, 8, 5, padding="same"),
    "flattened in between": nn.Sequential(
        nn.Conv2d(8, 2, 1), nn.Flatten(), nn.Hardswish(), nn.Identity(), nn.Dropout(),
        nn.Flatten(), nn.Linear(128, 8), nn.Sigmoid(),
    ),
    "norm without weights": nn.BatchNorm2d(8, affine=False),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_modules_are_understood(name):
    is_map = name != "flattened in between"
    inner = shaken(PLAIN[name])
    module = shaken(Around(lambda m, x: mean(m.inner(x)) if is_map else m.inner(x), inner=inner))
    space = space_of(module)
    supernet = Supernet(space)
    report = load_module(supernet, module)
    images = images_of(space, 3)
    with torch.no_grad():
        found = supernet.extract(space.extremes("largest")[0], report.statistics)(images)
        torch.testing.assert_close(found, module(images), atol=1e-5, rtol=1e-5)


REFUSED = {
    "torch function": (lambda m, x: mean(torch.tanh(x)), "'tanh' is not understood"),
    "a method": (lambda m, x: mean(x.abs()), "'abs' is not understood; what is: Conv2d"),
    "a parameter": (lambda m, x: mean(x * m.scale), "'scale' is not understood"),
    "a number": (lambda m, x: mean(x + 1), "'add' with an argument that is no result"),
    "alpha": (lambda m, x: mean(torch.add(x, x, alpha=2)), "'add' with alpha 2"),
    "broadcast": (lambda m, x: mean(x + x.mean((2, 3), keepdim=True)), "of different shapes"),
    "product": (lambda m, x: mean(x * x), "'mul' with factors that are not a feature map and"),
    "one axis": (lambda m, x: x.mean(2).mean(2), "'mean' with other axes than"),
    "a mean of all": (lambda m, x: mean(x) + x.mean(), "'mean' with other axes than"),
    "transposed": (lambda m, x: mean(x.transpose(2, 3)), "'transpose' is not understood"),
    "cut apart": (lambda m, x: mean(x.view(-1, 8, 4, 16)), "'view' with a result of shape"),
    "approximate": (
        lambda m, x: mean(F.gelu(x, approximate="tanh")), "'gelu' with approximate 'tanh'"),
    "a padded mean": (lambda m, x: mean(F.avg_pool2d(x, 3, 1, 1)), "padding that counts in"),
    "a divisor": (
        lambda m, x: mean(F.avg_pool2d(x, 2, divisor_override=3)), "with divisor_override"),
    "dilated pool": (lambda m, x: mean(F.max_pool2d(x, 2, 1, 0, 2)), "with dilation"),
    "ceil_mode": (lambda m, x: mean(F.max_pool2d(x, 3, 2, ceil_mode=True)), "with ceil_mode"),
    "uneven pool": (lambda m, x: mean(F.adaptive_avg_pool2d(x, 3)), "8 positions a side pool"),
    "oblong pool": (lambda m, x: mean(F.adaptive_avg_pool2d(x, (4, 8))), "pooled to 8"),
    "oblong kernel": (lambda m, x: mean(F.max_pool2d(x, (2, 1))), r"with kernel_size \(2, 1\)"),
    "a linear map of positions": (lambda m, x: mean(m.wide(x)), r"'wide' \(Linear\) with an inp"),
    "norm of vectors": (lambda m, x: m.norm(mean(x)), r"'norm' \(BatchNorm1d\) is not understood"),
    "twice": (lambda m, x: mean(m.conv(m.conv(x))), "module 'conv' is called twice"),
    "control flow": (lambda m, x: mean(x) if x.sum() > 0 else -mean(x), "cannot be traced"),
    "a change in place": (
        lambda m, x: mean(F.relu(x, inplace=True) + x), "'relu' with a change in place of what"),
    "a change by a method": (lambda m, x: mean(x.add_(x.sigmoid()) * x), "'add_' with a change"),
    "a change by an operator": (lambda m, x: mean(_doubled(x)), "other values than its trace"),
    "a change by a module": (lambda m, x: mean(m.relu(x) + x), r"'relu' \(ReLU\) with a change"),
    "a part": (lambda m, x: mean(x[:, :, 1:]), "'getitem' is not understood"),
    "a flattened map beside a vector": (
        lambda m, x: mean(x) + F.max_pool2d(m.narrow(x), 4).flatten(1),
        "'add' with a flattened map and a vector"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_calls_are_refused_by_name(name):
    body, match = REFUSED[name]
    module = Around(
        body, wide=nn.Linear(8, 8), norm=nn.BatchNorm1d(8), conv=nn.Conv2d(8, 8, 1),
        narrow=nn.Conv2d(8, 2, 1), relu=nn.ReLU(inplace=True), scale=nn.Parameter(torch.ones(1)),
    )  # fmt: skip
    with pytest.raises(BadInputError, match=match):
        space_of(module)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (nn.Conv2d(8, 8, (3, 1)), r"'inner' \(Conv2d\) with kernel_size \(3, 1\)"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect'"),
        (nn.Conv2d(8, 8, 4, padding="same"), "padding on one side only"),
        (nn.BatchNorm2d(8, track_running_stats=False), "no running statistics"),
        (nn.GELU(approximate="tanh"), "approximate 'tanh'"),
        (nn.Softmax(1), r"'inner' \(Softmax\) is not understood"),
    ],
)
def test_other_modules_are_refused_by_name(layer, match):
    with pytest.raises(BadInputError, match=match):
        space_of(Around(lambda m, x: mean(m.inner(x)), inner=layer))


class Given(nn.Module):
    """A convolution and whatever is done with it and the images."""

    def __init__(self, body):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.one = nn.Conv2d(3, 1, 5)
        self.body = body

    def forward(self, x):
        return self.body(self, x)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (lambda m, x: {"logits": mean(m.conv(x))}, "must give one tensor, the logits"),
        (lambda m, x: m.conv(x), r"values of shape \('n', 4, 8, 8\), expected n x 4"),
        (lambda m, x: mean(x), r"values of shape \('n', 3\), expected n x 4"),
        (lambda m, x: F.max_pool2d(m.one(x), 2).flatten(1), r"shape \('n', 4\), expected n x 4"),
        (lambda m, x: x.shape[0], "must give one tensor, the logits"),
        (lambda m, x: None, "must give one tensor, the logits"),
    ],
)
def test_results_that_are_no_logits_are_refused(body, match):
    with pytest.raises(BadInputError, match=match):
        space_of(Given(body), {"conv": {"kernel": (1, 3)}})


def test_images_that_the_module_cannot_read_are_refused():
    with pytest.raises(BadInputError, match=r"Around cannot read images of 5 x 8 x 8: .*channels"):
        elastic_space(Around(lambda m, x: mean(x)), {}, image_size=8, channels=5, num_classes=4)


def test_a_second_input_is_refused_unless_it_is_not_used():
    class Two(Given):
        def forward(self, x, y):
            return mean(self.conv(x) + y)

    class Default(Given):
        def forward(self, x, y=None, scale=1.0):
            return mean(self.conv(x))

    class Used(Given):
        def forward(self, x, y=0.5):
            return mean(self.conv(x) * y)

    choices = {"conv": {"out_channels": (2, 4)}, "last": {"out_features": (2, 4)}}
    with pytest.raises(BadInputError, match="Two reads 2 inputs; it must read the images alone"):
        space_of(Two(None), choices)
    with pytest.raises(BadInputError, match="'y' with a second input is not understood"):
        space_of(Used(None), choices)
    kernel = {"conv": {"kernel": (1, 3)}}
    assert [la.name for la in space_of(Default(None), kernel).traced] == ["conv", "global_pool"]


def test_names_of_functions_do_not_clash_with_those_of_layers():
    module = shaken(Around(lambda m, x: mean(m.add(x) + x + m.add_1(x)),
                           add=nn.Conv2d(8, 8, 1), add_1=nn.Conv2d(8, 8, 1)))  # fmt: skip
    names = [layer.name for layer in space_of(module).traced]
    assert names == ["first", "add", "add_2", "add_1", "add_3", "global_pool", "last"]


def test_a_plain_function_of_a_pool_is_one_layer():
    """No squeeze before the mean that makes a vector, as exported networks have it."""
    module = Around(lambda m, x: F.dropout(F.adaptive_avg_pool2d(x, 1), 0.5, False).flatten(1))
    assert [la.operator for la in space_of(module).traced] == ["conv2d", "global_pool", "linear"]
