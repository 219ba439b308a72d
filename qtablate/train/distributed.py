"""One cell on several processes: each rank takes its share of every micro-batch, and the gradient is that of the whole.

A rank's loss is its own token losses / the supervised tokens of the window over all ranks, and gradients are added up over
ranks once a window, before they are unscaled, clipped and stepped with: every rank then does the same to equal numbers.
That is the mean over ranks of losses x world, the usual form, but no backward pass sees a factor that depends on the number of
ranks: it would make fp16 overflow sooner, and round otherwise where it is no power of two.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from qtablate.errors import QtablateError
from qtablate.execute.events import Member
from qtablate.seeds import derive

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
"""That a rank waits for the others, when they meet and at each collective."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train one cell. Every method must be called by all of them, in one order."""

    rank: int
    world: int
    device: torch.device
    seed: int
    """Of the masks that ranks behind the first draw."""

    def share(self, samples: Sequence[T]) -> Sequence[T]:
        """This rank's contiguous part; sizes differ by one at most, and a last micro-batch may leave a rank without any."""
        return samples[len(samples) * self.rank // self.world : len(samples) * (self.rank + 1) // self.world]

    def total(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in fp64."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        _reduce(sums)
        return [float(value) for value in sums.tolist()]

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make each `.grad` its sum over the ranks; a rank without one counts as zero.

        Where no rank has one there is none behind it either, so that the optimizer leaves that parameter alone.

        One all_reduce of all of them together, for which as much memory is needed again as they take. Not
        DistributedDataParallel: the loss is not the forward pass of one module, and it would divide by each rank's own
        tokens. Not accelerate.utils.reduce: it goes tensor by tensor, among processes that a launcher's environment names.
        """
        if self.world == 1:
            return
        held = parameters[0].new_tensor([one.grad is not None for one in parameters])
        parts = [(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in parameters]
        whole = torch.cat([*parts, held])
        _reduce(whole)
        *parts, held = whole.split([*(one.numel() for one in parameters), len(parameters)])
        for parameter, part, known in zip(parameters, parts, held.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if known else None

    def refuse_unequal(self, parameters: Mapping[str, nn.Parameter], **counts: int) -> None:
        """Raise QtablateError where ranks differ in a count or a parameter: equal gradients keep equal ones equal, and
        nothing would ever make unequal ones so. Compared by the sums of the parameters' bits."""
        if self.world == 1:
            return
        bits = [one.detach().flatten().view(torch.int32).sum(dtype=torch.int64) for one in parameters.values()]
        mine = torch.stack([*(torch.tensor(count, device=self.device) for count in counts.values()), *bits])
        most = torch.cat([mine, -mine])
        _reduce(most, largest=True)
        largest, smallest = most[: len(mine)], -most[len(mine) :]
        apart = [name for name, differs in zip([*counts, *parameters], (largest != smallest).tolist(), strict=True) if differs]
        if apart:
            raise QtablateError(
                f"the {self.world} ranks of this cell do not start alike: {', '.join(apart[:3])} differ"
                + (f", and {len(apart) - 3} more" if len(apart) > 3 else "")
                + "; all must read the same files. Run it again, or with --ranks 1"
            )

    def draw_apart(self, step: int) -> None:
        """Before each window: ranks draw masks (dropout) of their own. The first goes on with the stream that one process
        has, which its state holds; the others' depend on the step alone, so that this state restores all of them."""
        if self.rank:
            torch.manual_seed(derive(self.seed, "masks", self.rank, step))


def _reduce(tensor: Tensor, largest: bool = False) -> None:
    with _others():
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's own are of this class
        raise QtablateError(f"another rank was lost, or kept this one waiting too long ({error})") from error


ALONE = Ranks(0, 1, torch.device("cpu"), 0)


@contextmanager
def together(member: Member | None, device: torch.device, seed: int, timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Meet the other ranks of a cell: over NCCL where each has a GPU, over gloo else. None: there are no others.

    Raises QtablateError, here and at any collective, where one of them is lost or `timeout` passes.
    """
    if member is None:
        yield ALONE
        return
    store = cast(Any, distributed).FileStore(str(member.meeting), member.world)
    store.set_timeout(timeout)
    with _others():
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=member.rank,
            world_size=member.world,
            timeout=timeout,
        )
    yield Ranks(member.rank, member.world, device, seed)
    distributed.destroy_process_group()  # not after a failure: it could wait for a rank that is gone
