import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Networks of this size lose more by starting threads than they win."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
