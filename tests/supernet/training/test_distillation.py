import math

import numpy as np
import pytest
import torch

from records import BadInputError
from supernet.training import AlphaDivergence, LabelsOnly, SoftTargets

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(0, 2, (16, 5))
TEACHER = np.exp(RNG.normal(0, 2, (16, 5)))
TEACHER /= TEACHER.sum(1, keepdims=True)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def divergence(p, q, alpha, clip=math.inf):
    """The clipped alpha-divergence of each row, from its definition, in float64."""
    if alpha == 0:
        return -(q * np.log(np.minimum(p / q, clip))).sum(1)
    if alpha == 1:
        return (p * np.log(p / q)).sum(1)
    power = np.minimum((p / q) ** alpha, clip)
    return (q * (power - 1)).sum(1) / (alpha * (alpha - 1))


def gradient(p, q, alpha, clip=math.inf):
    """Of a row's divergence after the logits, the clipped ratios held: dD/dq_i = -rho_i."""
    if alpha == 0:
        rho = np.log(np.minimum(p / q, clip)) - 1
    elif alpha == 1:
        rho = p / q
    else:
        rho = np.minimum((p / q) ** alpha, clip) / alpha + 1 / (alpha * (alpha - 1))
    weight = q * rho
    return q * weight.sum(1, keepdims=True) - weight


def of(loss, student=STUDENT, teacher=TEACHER):
    """The value of a loss and its gradient after the student's logits."""
    logits = torch.tensor(student, dtype=torch.float32, requires_grad=True)
    value = loss.loss(logits, torch.tensor(teacher, dtype=torch.float32))
    value.backward()
    return value.item(), logits.grad.double().numpy()


def only(alpha, clip=1e30):
    """A loss whose two alphas are all but equal, so that either branch is this alpha's."""
    return AlphaDivergence(low=alpha - 1e-7, high=alpha, clip=clip)


def test_soft_targets_are_the_cross_entropy_with_the_teacher():
    value, slope = of(SoftTargets())
    q = softmax(STUDENT)
    assert value == pytest.approx(-(TEACHER * np.log(q)).sum(1).mean(), rel=1e-5)
    np.testing.assert_allclose(slope, (q - TEACHER) / len(q), atol=1e-6)


@pytest.mark.parametrize("alpha", [-2.0, -1.0, -0.5, 0.5, 2.0, 3.0])
def test_the_gradient_is_that_of_the_alpha_divergence(alpha):
    """Against finite differences of the definition, in float64; without clipping."""
    _, slope = of(only(alpha))
    for i, c in np.ndindex(4, 5):
        step = np.zeros_like(STUDENT)
        step[i, c] = 1e-5
        above, below = (divergence(TEACHER, softmax(STUDENT + s * step), alpha) for s in (1, -1))
        numeric = (above - below)[i] / 2e-5 / len(STUDENT)
        assert slope[i, c] == pytest.approx(numeric, rel=2e-3, abs=2e-5 * abs(slope).max())


@pytest.mark.parametrize(("alpha", "near"), [(0.0, 2e-3), (1.0, 1 + 2e-3)])
def test_alpha_0_and_1_are_the_limits(alpha, near):
    """KL(q||p) and KL(p||q): the general formula next to them gives nearly the same gradient."""
    q = softmax(STUDENT)
    _, slope = of(only(alpha))
    np.testing.assert_allclose(slope, gradient(TEACHER, q, alpha) / len(q), atol=1e-6)
    np.testing.assert_allclose(slope, gradient(TEACHER, q, near) / len(q), atol=2e-3)
    exact = divergence(TEACHER, q, alpha)
    np.testing.assert_allclose(exact, divergence(TEACHER, q, near), rtol=0.02)
    _, beside = of(only(near))
    np.testing.assert_allclose(beside, slope, atol=2e-3)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_ratios_are_clipped(alpha):
    q = softmax(STUDENT)
    ratios = (TEACHER / q) ** (alpha or 1)
    assert (ratios > 5).any()
    _, slope = of(only(alpha, clip=5.0))
    np.testing.assert_allclose(slope, gradient(TEACHER, q, alpha, 5.0) / len(q), atol=1e-6)
    _, free = of(only(alpha))
    assert (abs(slope - free).max() > 1e-3) == (alpha != 1)  # for 1 there is nothing to clip


@pytest.mark.parametrize(
    ("low", "high", "clip"), [(-1, 1, 5), (0, 1, 5), (-2, 2, 3), (-0.5, 1, 2)]
)
def test_each_image_has_the_gradient_of_its_larger_divergence(low, high, clip):
    q = softmax(STUDENT)
    first, second = (divergence(TEACHER, q, a, clip) for a in (low, high))
    larger = first > second
    assert 0 < larger.sum() < len(q)
    expected = np.where(larger[:, None], gradient(TEACHER, q, low, clip),
                        gradient(TEACHER, q, high, clip))  # fmt: skip
    _, slope = of(AlphaDivergence(low=low, high=high, clip=clip))
    np.testing.assert_allclose(slope, expected / len(q), atol=1e-6)


def test_the_value_is_the_surrogate():
    """`-sum q rho log q` of the larger divergence, a mean over the images."""
    q = softmax(STUDENT)
    rows = []
    for p_row, q_row in zip(TEACHER[:, None], q[:, None], strict=True):
        low, high = divergence(p_row, q_row, -1, 5)[0], divergence(p_row, q_row, 1, 5)[0]
        rho = -np.minimum(q_row / p_row, 5) + 0.5 if low > high else p_row / q_row
        rows.append(-(q_row * rho * np.log(q_row)).sum())
    value, _ = of(AlphaDivergence())
    assert value == pytest.approx(np.mean(rows), rel=1e-4)


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("high", [1.0, 2.0])
@pytest.mark.parametrize("loss", ["sure student", "sure teacher", "both", "opposed"])
def test_probabilities_of_nearly_0_give_no_nan(low, high, loss):
    sure = np.array([[300.0, 0, -300, 0, 0]])
    even = np.zeros((1, 5))
    onto = np.array([[0, 1.0, 0, 0, 0]])
    student = even if loss == "sure teacher" else sure
    teacher = {"sure student": even + 0.2, "both": np.eye(5)[:1]}.get(loss, onto)
    value, slope = of(AlphaDivergence(low=low, high=high), student, teacher)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_equal_predictions_have_no_gradient():
    for loss in (AlphaDivergence(), AlphaDivergence(low=-0.5, high=2), SoftTargets()):
        _, slope = of(loss, np.log(TEACHER), TEACHER)
        np.testing.assert_allclose(slope, 0, atol=1e-6)


@pytest.mark.parametrize("loss", [AlphaDivergence(), AlphaDivergence(low=0, high=2)])
def test_teachers_get_no_gradient(loss):
    logits = torch.tensor(STUDENT, dtype=torch.float32, requires_grad=True)
    teacher = torch.tensor(TEACHER, dtype=torch.float32, requires_grad=True)
    loss.loss(logits, teacher).backward()
    assert teacher.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("options", [{"low": 1.0, "high": -1.0}, {"low": 1.0}, {"clip": 1.0}])
def test_alphas_and_clips_that_make_no_sense_are_refused(options):
    with pytest.raises(BadInputError, match="alphas must ascend and clip must be above 1"):
        AlphaDivergence(**options)


def test_labels_only_has_no_teacher():
    assert not LabelsOnly().uses_teacher
    with pytest.raises(BadInputError, match="no loss against a teacher"):
        of(LabelsOnly())
