"""Train one cell on several processes: each rank takes its share of every micro-batch, and the gradient is that of the whole.

A rank's loss is the sum of its own token losses / the supervised tokens of the window over all ranks. Gradients are summed over
ranks once per window, before they are unscaled, clipped and stepped with: every rank then does the same to equal numbers.
This equals the usual form, the mean over ranks of losses times the world size, but no backward pass sees a factor that depends
on the number of ranks: it would make fp16 overflow sooner, and round differently where it is no power of two.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # no __all__ names it

from qtablate.errors import QtablateError
from qtablate.seeds import derive
from qtablate.train.rank_info import RankInfo

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
"""Time that a rank waits for the others, at the rendezvous and at each collective."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that train one cell. All of them must call every method, in the same order."""

    rank: int
    world_size: int
    device: torch.device
    seed: int
    """Of the dropout masks that ranks after the first draw."""

    def local_share(self, samples: Sequence[T]) -> Sequence[T]:
        """Return this rank's contiguous part of a micro-batch.

        Sizes differ by one at most, and a last micro-batch may leave a rank without any sample.
        """
        return samples[len(samples) * self.rank // self.world_size : len(samples) * (self.rank + 1) // self.world_size]

    def all_reduce_sums(self, values: Sequence[float]) -> list[float]:
        """Return each value summed over the ranks, in fp64."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        _all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each `.grad` by its sum over the ranks; a rank without one counts as zero.

        Where no rank has a gradient there is none afterwards either, so that the optimizer leaves that parameter alone.

        One all_reduce of all gradients together, which takes as much memory again as they do. Not
        DistributedDataParallel: the loss is not the forward pass of one module, and it would divide by each rank's own
        tokens. Not accelerate.utils.reduce: it goes tensor by tensor, among processes that a launcher's environment names.
        """
        if self.world_size == 1:
            return
        present = parameters[0].new_tensor([parameter.grad is not None for parameter in parameters])
        parts = [
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten() for parameter in parameters
        ]
        flat = torch.cat([*parts, present])
        _all_reduce(flat)
        *parts, present = flat.split([*(parameter.numel() for parameter in parameters), len(parameters)])
        for parameter, part, ranks_with_gradient in zip(parameters, parts, present.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if ranks_with_gradient else None

    def validate_equal_start(self, parameters: Mapping[str, nn.Parameter], **counts: int) -> None:
        """Check that all ranks start from equal counts and parameters, compared by the sums of the parameters' bits.

        Equal gradients keep equal parameters equal, and nothing would ever make unequal ones so.

        Raises:
            QtablateError: ranks differ; names what in.
        """
        if self.world_size == 1:
            return
        bits = [p.detach().flatten().view(torch.int32).sum(dtype=torch.int64) for p in parameters.values()]
        mine = torch.stack([*(torch.tensor(count, device=self.device) for count in counts.values()), *bits])
        maxima = torch.cat([mine, -mine])
        _all_reduce(maxima, distributed.ReduceOp.MAX)
        largest, smallest = maxima[: len(mine)], -maxima[len(mine) :]
        differs = zip([*counts, *parameters], (largest != smallest).tolist(), strict=True)
        unequal = [name for name, different in differs if different]
        if unequal:
            raise QtablateError(
                f"the {self.world_size} ranks of this cell do not start alike: {', '.join(unequal[:3])} differ"
                + (f", and {len(unequal) - 3} more" if len(unequal) > 3 else "")
                + "; all must read the same files. Run it again, or with --processes-per-cell 1"
            )

    def seed_dropout(self, step: int) -> None:
        """Before each window: give every rank dropout masks of its own.

        The first rank goes on with the random stream that a single process has, which its saved state holds. The others'
        streams depend on the step alone, so that this state restores all of them.
        """
        if self.rank:
            torch.manual_seed(derive(self.seed, "masks", self.rank, step))


def _all_reduce(tensor: Tensor, operation: distributed.ReduceOp.RedOpType = distributed.ReduceOp.SUM) -> None:
    with _errors_of_other_ranks():
        distributed.all_reduce(tensor, operation)


@contextmanager
def _errors_of_other_ranks() -> Iterator[None]:
    """Turn torch's errors of communication into a QtablateError."""
    try:
        yield
    except RuntimeError as error:  # the class that torch's own errors derive from
        raise QtablateError(f"another rank was lost, or kept this one waiting too long ({error})") from error


SINGLE_PROCESS = ProcessGroup(0, 1, torch.device("cpu"), 0)
"""A process that trains a cell alone."""


@contextmanager
def process_group(
    rank_info: RankInfo | None, device: torch.device, seed: int, timeout: timedelta = TIMEOUT
) -> Iterator[ProcessGroup]:
    """Join the other ranks of a cell: over NCCL where each has a GPU, over gloo otherwise.

    Args:
        rank_info: None where there are no others.
        device: that this rank computes on.
        seed: the cell's.
        timeout: of the rendezvous and of every collective.

    Raises:
        QtablateError: a rank is lost or the timeout passes, here or at any collective.
    """
    if rank_info is None:
        yield SINGLE_PROCESS
        return
    store = FileStore(str(rank_info.rendezvous_file), rank_info.world_size)
    store.set_timeout(timeout)
    with _errors_of_other_ranks():
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank_info.rank,
            world_size=rank_info.world_size,
            timeout=timeout,
        )
    yield ProcessGroup(rank_info.rank, rank_info.world_size, device, seed)
    distributed.destroy_process_group()  # not after a failure: it could wait for a rank that is gone
