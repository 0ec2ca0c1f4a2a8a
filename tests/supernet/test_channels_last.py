import pytest
import torch

from supernet.channels_last import channels_last


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_runs_with_channels_last_whatever_the_order_of_its_images(channels):
    images = torch.randn(4, channels, 6, 5)
    strides = (channels * 30, 1, 5 * channels, channels)
    for given in (images, images.clone(memory_format=torch.channels_last), images[:, :, :, :4]):
        found = channels_last(given)
        assert torch.equal(found, given)
        width = given.shape[3]
        assert found.stride() == (channels * 6 * width, 1, width * channels, channels)
        answer = torch.nn.Conv2d(channels, 8, 3)(found)
        assert answer.stride(1) == 1  # and so does what follows
    assert channels_last(images).stride() == strides
    last = channels_last(images)
    assert channels_last(last).data_ptr() == last.data_ptr()
