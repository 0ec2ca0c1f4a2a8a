"""A standard space as a supernet: the networks cut out of it equal its slices."""

import torch

from supernet import Supernet


def assert_extracted_equal_sliced(space, rows):
    """Runs some architectures within the supernet and as plain networks of their own."""
    supernet = Supernet(space).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in supernet.parameters():
            if (p == p.flatten()[0]).all():  # biases, norms, scales: they start as constants
                p += 0.2 * torch.randn(p.shape, generator=generator)
    shape = (space.channels, space.image_size, space.image_size)
    images = torch.randn(4, *shape, generator=generator)
    batches = [torch.randn(8, *shape, generator=generator)]
    for row in rows:
        statistics = supernet.recalibrate(row, batches)
        with torch.no_grad():
            sliced = supernet(images, row, statistics)
            alone = supernet.extract(row, statistics)(images)
        assert sliced.shape == (4, space.num_classes)
        assert sliced.std() > 1e-3  # the images are told apart
        assert (sliced - alone).abs().max() <= 1e-5 * max(1.0, float(sliced.abs().max()))
