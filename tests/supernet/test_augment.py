import torch

from supernet import augment


def images(n=16, size=9):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_amounts_change_nothing():
    x = images()
    still = augment(x, seeded(), shift=0, degrees=0, scale=0)
    torch.testing.assert_close(still, x)


def test_flip_mirrors_about_half_left_to_right():
    x = images(400)
    moved = augment(x, seeded(), flip=True, shift=0, degrees=0, scale=0)
    mirrored = (moved - x).abs().amax(dim=(1, 2, 3)) > 1e-3
    torch.testing.assert_close(moved[mirrored], x[mirrored].flip(3), atol=1e-4, rtol=0)
    assert 150 < mirrored.sum() < 250


def test_every_image_moves_by_itself_and_by_the_generator_alone():
    x = images(1).repeat(8, 1, 1, 1)
    moved = augment(x, seeded(1))
    assert len(torch.unique(moved, dim=0)) == 8
    assert torch.equal(moved, augment(x, seeded(1)))
    assert not torch.equal(moved, augment(x, seeded(2)))


def test_a_shift_stays_within_its_share():
    x = torch.zeros(200, 1, 21, 21)
    x[:, 0, 10, 10] = 1
    moved = augment(x, seeded(), shift=0.1, degrees=0, scale=0)[:, 0]
    place = torch.arange(21.0)
    for axis in (1, 2):
        mass = moved.sum(dim=3 - axis)
        centre = (mass * place).sum(1) / mass.sum(1)
        assert (centre - 10).abs().max() <= 2.1 + 1e-4  # a tenth of 21 pixels
        assert (centre - 10).abs().max() > 1.8
