"""Threads inside operators are set for a while and given back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from supernet.threads import intra_op_threads, threads_each


def test_threads_are_set_in_new_threads_too_and_given_back():
    before = torch.get_num_threads()
    with intra_op_threads(3), ThreadPoolExecutor(1) as pool:
        assert torch.get_num_threads() == 3
        assert pool.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), intra_op_threads(before + 1):
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_workers_share_the_threads():
    with intra_op_threads(8):
        assert threads_each(2) == 4
    with intra_op_threads(1):
        assert threads_each(2) == 1
