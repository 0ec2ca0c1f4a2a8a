import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError
from supernet.cut import Piece
from supernet.training import MeanOfMembers, ProjectConflicts, SumOfMembers
from supernet.training.gradients import GradientSum, SharedGradient, cosine, is_finite

S = [torch.tensor([3.0, 1.0]), torch.tensor([[1.0, 0.0]]), torch.tensor([2.0]), None, None]
U = [torch.tensor([-1.0, 0.5]), torch.tensor([[2.0, 5.0]]), None, torch.tensor([4.0]), None]


def values(gradients):
    return [None if g is None else g.tolist() for g in gradients]


def test_the_sum_and_the_mean_of_the_members():
    assert values(SumOfMembers().combine(S, U, 4, 0.5)) == [
        [2.0, 1.5], [[3.0, 5.0]], [2.0], [4.0], None
    ]  # fmt: skip
    assert values(MeanOfMembers().combine(S, U, 4, 0.5)) == [
        [0.5, 0.375], [[0.75, 1.25]], [0.5], [1.0], None
    ]  # fmt: skip


def test_conflicts_are_removed_for_each_tensor_by_the_formula():
    combined = ProjectConflicts(after_share=0.3).combine(S, U, 4, 0.3)
    # <s, u> = -2.5, |u|^2 = 1.25: lambda is 2, which is the bound
    np.testing.assert_allclose(combined[0], S[0] + 3 * U[0], atol=1e-5)
    assert combined[1].tolist() == [[3.0, 5.0]]  # no conflict
    assert values(combined[2:]) == [[2.0], [4.0], None]


def test_within_the_bound_the_largest_has_nothing_left_against_the_others():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        s, u = (torch.randn(7, generator=generator) for _ in range(2))
        (g,) = ProjectConflicts(after_share=0, bound=100).combine([s], [u], 2, 0.0)
        if s @ u < 0:
            assert float((g - u) @ u) == pytest.approx(0, abs=1e-4)
            assert float(g @ u) > 0
        else:
            assert torch.equal(g, s + u)


def test_before_the_share_conflicts_stay():
    for progress in (0.0, 0.29):
        combined = ProjectConflicts(after_share=0.3).combine(S, U, 4, progress)
        assert values(combined) == values(SumOfMembers().combine(S, U, 4, progress))
    with pytest.raises(BadInputError, match="after_share"):
        ProjectConflicts(after_share=1.5)


def test_what_is_combined_stays_as_it_is():
    before = values(S), values(U)
    for part in (SumOfMembers(), MeanOfMembers(), ProjectConflicts(after_share=0)):
        part.combine(S, U, 2, 0.5)
    assert (values(S), values(U)) == before


def test_the_cosine_is_that_of_the_flattened_vectors():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 2)]
    a, b = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    flat = [torch.cat([t.flatten() for t in side]).double().numpy() for side in (a, b)]
    expected = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert cosine(a, b) == pytest.approx(expected, abs=1e-6)
    assert cosine([*a, None, a[0]], [*b, b[0], None]) == pytest.approx(expected, abs=1e-6)
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, [-g for g in a]) == pytest.approx(-1)


def test_the_cosine_of_nothing_is_nan():
    assert np.isnan(cosine([None], [torch.ones(2)]))
    assert np.isnan(cosine([torch.zeros(2)], [torch.ones(2)]))


def test_sums_are_made_in_order_and_spare_what_is_added():
    generator = torch.Generator().manual_seed(0)
    rows = [[torch.randn(4, generator=generator), None, None] for _ in range(5)]
    for place in (1, 3):
        rows[place][1] = torch.full((2,), float(place))
    before = [[None if g is None else g.clone() for g in row] for row in rows]
    gradient = GradientSum(3)
    for row in rows:
        gradient.add(row)
    expected = before[0][0]
    for row in before[1:]:
        expected = expected + row[0]
    assert torch.equal(gradient.total[0], expected)
    assert gradient.total[1].tolist() == [4.0, 4.0]
    assert gradient.total[2] is None
    assert [values(row) for row in rows] == [values(row) for row in before]


def test_memory_that_gradients_share_is_not_written_to():
    shared = torch.ones(1).expand(3)  # as the gradient of a sum is
    gradient = GradientSum(2)
    gradient.add([shared, shared])
    gradient.add([shared, None])
    gradient.add([shared, None])
    assert values(gradient.total) == [[3.0] * 3, [1.0] * 3]


# ---- of networks that share weights ------------------------------------------------------------


def shared_of(*parameters):
    return SharedGradient({p: k for k, p in enumerate(parameters)})


def whole(parameter, gradient):
    return Piece(parameter, None, gradient)


@pytest.mark.parametrize(("value", "expected"), [(1.0, True), (np.nan, False), (-np.inf, False)])
def test_gradients_know_whether_they_are_finite(value, expected):
    p = nn.Parameter(torch.zeros(2))
    assert bool(is_finite([]))
    pieces = [whole(p, torch.ones(2, 2)), whole(p, torch.tensor([1.0, value]))]
    assert bool(is_finite(pieces)) == expected


def test_sums_are_divided():
    p, unused = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    gradient = shared_of(p, unused)
    gradient.add([whole(p, torch.tensor([6.0]))])
    assert values(gradient.divided(4.0)) == [[1.5], None]
    gradient.add([whole(p, torch.tensor([2.0]))])
    assert values(gradient.divided(1)) == [[8.0], None]
    assert values(gradient.divided(0.5)) == [[16.0], None]


def test_the_result_shares_no_memory():
    """Two weights that are added have one gradient; clipping it in place must not count twice."""
    parameters = [nn.Parameter(torch.zeros(n)) for n in (4, 4, 3)]
    shared = torch.ones(4)
    gradient = shared_of(*parameters)
    given = [shared, shared, torch.ones(1).expand(3)]
    gradient.add([whole(p, g) for p, g in zip(parameters, given, strict=True)])
    result = gradient.divided(1)
    for g in result:
        g.mul_(3)
    assert values(result) == [[3.0] * 4, [3.0] * 4, [3.0] * 3]
    assert shared.tolist() == [1.0] * 4


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_slices_are_added_in_their_places(order, memory):
    """Whatever comes first, the whole or a slice, and however the weight lies in memory."""
    p = nn.Parameter(torch.zeros(5, 4, 3, 3).contiguous(memory_format=memory))
    generator = torch.Generator().manual_seed(0)
    expected = torch.zeros(5, 4, 3, 3)
    pieces = []
    for rows, columns in ((5, 4), (3, 2), (2, 4)):
        slice_ = p[:rows, :columns]
        g = torch.randn(slice_.shape, generator=generator)  # lies otherwise than the weight
        expected[:rows, :columns] += g
        is_whole = (rows, columns) == (5, 4)
        geometry = (tuple(slice_.shape), slice_.stride(), 0)
        pieces.append(Piece(p, None if is_whole else geometry, g))
    before = [piece.gradient.clone() for piece in pieces]
    gradient = shared_of(p)
    for k in order:
        gradient.add([pieces[k]])
    torch.testing.assert_close(gradient.divided(1)[0], expected)
    assert all(torch.equal(a.gradient, b) for a, b in zip(pieces, before, strict=True))
