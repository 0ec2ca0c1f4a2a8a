"""Several processes that train one network: who computes what, and how sums are shared.

Started with `torchrun --nproc-per-node N script.py`, each process calls `join_ranks()` and then
`train` as it would alone. The shards of a batch are spread over the ranks, gradients are summed
over them, and everything else (batches, augmentation, members, updates) is a function of (seed,
step), computed alike on every rank. So N ranks give what one process gives, up to the order in
which floating-point numbers are added. Weights at the start, and losses by which networks are
chosen, are those of the first rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from records import BadInputError


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @staticmethod
    def current() -> Ranks:
        """The process group that is joined, or this process alone."""
        if dist.is_available() and dist.is_initialized():
            return Ranks(dist.get_rank(), dist.get_world_size())
        return Ranks()

    def own(self, shards: int) -> list[int]:
        """The numbers of the shards that this rank computes.

        Raises:
            BadInputError: The shards cannot be spread evenly.
        """
        if shards % self.world != 0:
            raise BadInputError(
                f"a recipe of {shards} shards cannot be spread over {self.world} processes; make "
                "shards a multiple of their number"
            )
        return list(range(self.rank, shards, self.world))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def take_from_first(self, values: Iterable[Tensor]) -> None:
        """Overwrites tensors by those of the first rank."""
        if self.world > 1:
            for value in values:
                message = value.contiguous()
                dist.broadcast(message, 0)
                value.copy_(message)

    def agree(self, value: float, device: str) -> bool:
        """Whether all ranks have the same value; every rank gets the same answer."""
        first = torch.tensor(value, dtype=torch.float64, device=device)
        self.take_from_first([first])
        return float(self.sum((first != value).double())) == 0

    def sum_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Sums gradients over all ranks in place, as one message; None stays None."""
        present = [g for g in gradients if g is not None]
        if self.world == 1 or not present:
            return
        flat = torch.cat([g.reshape(-1) for g in present])
        dist.all_reduce(flat)
        start = 0
        for g in present:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()

    def wait(self) -> None:
        """Returns when all ranks are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_ranks(backend: str | None = None) -> Iterator[Ranks]:
    """Joins the processes that torchrun started; alone where it did not.

    Args:
        backend: `nccl` for GPUs or `gloo` for CPUs; chosen by what is there unless given.
    """
    if not dist.is_torchelastic_launched():
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what `cuda` means here
    dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"))
    try:
        yield Ranks.current()
        dist.barrier()  # a process that leaves early breaks the others' connections
    finally:
        dist.destroy_process_group()
