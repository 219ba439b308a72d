"""What test_ranks.py runs in two processes, and without a rank_info in one."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.amp import GradScaler

from qtablate.audit.target import norm_in_own_dtype
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.execute.events import Progress
from qtablate.model.load import load
from qtablate.train import distributed as ranks_module
from qtablate.train.accumulate import AccumulationRules, accumulate, clear_gradients
from qtablate.train.distributed import ProcessGroup, process_group
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.rank_info import RankInfo
from qtablate.train.trainable import choose_trainable

CPU = torch.device("cpu")
WAIT = timedelta(seconds=30)
MICRO, WINDOW = 5, 10  # an odd micro-batch: shares of two and three samples
RULES = AccumulationRules(max_grad_norm=0.5)
PLAN = TrainPlan(MICRO, 2, 1e-3, 0.25, 0.25, 0.02, (0.9, 0.999), 40, RULES)


def samples() -> list[Sample]:
    """31 ragged conversations: in the second window the second rank has no supervised token, in the last the first rank has
    no sample at all."""
    out = []
    for number in range(31):
        words = " ".join(["red", "left", "moves"][: 1 + number % 3] * (1 + 5 * (number % 4 == 0)))
        silent = 10 <= number < 20 and number % MICRO >= 2
        medium = IMAGE if number % 4 == 3 else VIDEO
        pairs = () if silent else tuple(("what moves?", words) for _ in range(1 + number % 3))
        out.append(Sample(str(number), medium, f"{medium}{number}", pairs))
    return out


def features(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    patches = {VIDEO: 16, IMAGE: 4}
    return {s.clip: torch.randn(patches[s.medium], 24, generator=generator).to(dtype) for s in samples()}


class OwnMean(ProcessGroup):
    """The incorrect one, DistributedDataParallel's default: each rank's own mean loss, averaged over ranks."""

    __slots__ = ()

    def all_reduce_sums(self, values: Sequence[float]) -> list[float]:
        return [value * self.world_size for value in values]


class Apart(ProcessGroup):
    """The incorrect one: gradients never meet."""

    __slots__ = ()

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        pass


@dataclass(frozen=True)
class Job:
    directory: Path
    double: bool = True
    rules: AccumulationRules = RULES
    kind: type[ProcessGroup] = ProcessGroup
    windows: int = 4
    dropout: float = 0.0
    resume: Path | None = None
    """Where the first rank leaves its state behind the second window."""
    fault: str = ""
    parts: int = 1


@contextmanager
def counted() -> Iterator[list[int]]:
    """The sizes of all that is reduced meanwhile."""
    sizes: list[int] = []
    whole = distributed.all_reduce

    def noted(tensor, *more):
        sizes.append(tensor.numel())
        return whole(tensor, *more)

    ranks_module.distributed.all_reduce = noted
    try:
        yield sizes
    finally:
        ranks_module.distributed.all_reduce = whole


def train(job: Job, report, rank_info: RankInfo | None = None) -> dict[str, object]:
    """Rows, gradients a window and parameters at the end, as plain numbers."""
    torch.set_num_threads(1)
    model, encoder = load(str(job.directory))
    dtype = torch.float64 if job.double else torch.float32
    if job.double:
        model.double()
        norm_in_own_dtype(model)
    torch.manual_seed(7)
    for layer in model.qformer.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = job.dropout
    parameters = choose_trainable(model, False)
    if job.fault == "unequal" and rank_info and rank_info.rank == 1:
        parameters["projection.bias"].data[0] += 1e-6
    timeout = timedelta(seconds=2) if job.fault == "hang" else WAIT
    with process_group(rank_info, CPU, 7, timeout) as found, counted() as sizes:
        ranks = job.kind(*(getattr(found, field.name) for field in fields(ProcessGroup)))
        shown, plan = features(dtype).__getitem__, replace(PLAN, rules=job.rules, micro_batch_parts=job.parts)
        run = Training(model, parameters, samples(), shown, encoder, plan, group=ranks)
        if job.resume and job.resume.exists():
            run.restore(torch.load(job.resume, weights_only=True))
        rows, gradients, reduced = [], [], []
        for step in run:
            rows.append({**asdict(step), "seconds": 0.0})
            gradients.append(torch.cat([one.grad.flatten() for one in parameters.values() if one.grad is not None]).numpy())
            reduced.append(list(sizes))
            sizes.clear()
            report(Progress("train", step.step + 1, run.steps))
            if job.resume and step.step == 1 and ranks.rank == 0:
                torch.save(run.state(), job.resume)
            if job.fault == "killed" and ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if job.fault == "hang" and ranks.rank == 1:
                time.sleep(600)
            if job.fault == "raise" and ranks.rank == 1:
                raise ValueError("no such thing")
            if len(rows) == job.windows:
                break
        if job.kind is ProcessGroup:
            ranks.validate_equal_start(parameters, step=len(rows))  # they are equal to the last bit
        size = sum(one.numel() for one in parameters.values())
        return {
            "rows": rows,
            "gradients": gradients,
            "size": size,
            "reduced": reduced,
            "parameters": torch.cat([one.detach().flatten() for one in parameters.values()]).numpy(),
        }


@dataclass(frozen=True)
class Part:
    factor: float
    supervised_tokens: int


def overflow(kind: type[ProcessGroup], report, rank_info: RankInfo) -> dict[str, object]:
    """Three windows of fp16's scaled losses: the second rank has no token, then one of its losses is infinite, then all is
    well. What the weight of the first rank was behind each, and its scale."""
    weight, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight, unused], lr=1.0)
    scaler = GradScaler("cpu", init_scale=4.0)
    windows = (
        ((Part(1.0, 2), Part(1.0, 1)), (Part(1.0, 0), Part(1.0, 0))),
        ((Part(1.0, 2), Part(1.0, 1)), (Part(1.0, 1), Part(float("inf"), 1))),
        ((Part(1.0, 2), Part(1.0, 1)), (Part(1.0, 1), Part(3.0, 2))),
    )
    seen = []
    with process_group(rank_info, CPU, 0, WAIT) as found:
        ranks = kind(*(getattr(found, field.name) for field in fields(ProcessGroup)))
        for window in windows if kind is ProcessGroup else windows[1:]:
            clear_gradients([weight, unused])
            given = accumulate(
                window[ranks.rank],
                lambda part: (weight * part.factor).sum() * part.supervised_tokens,
                [weight, unused],
                AccumulationRules(),
                scaler=scaler,
                optimizer=optimizer,
                group=ranks,
            )
            held = [one.grad is not None for one in (weight, unused)]
            scaler.step(optimizer)
            scaler.update()
            seen.append({"weight": weight.tolist(), "scale": scaler.get_scale(), "tokens": given.tokens, "held": held})
            if kind is ProcessGroup:
                ranks.validate_equal_start({"weight": weight}, scale=int(scaler.get_scale()))
    return {"windows": seen}


def masks(seed: int, report, rank_info: RankInfo) -> list[float]:
    """The first number that each rank draws in a window, twice in the same one."""
    drawn = []
    with process_group(rank_info, CPU, seed, WAIT) as ranks:
        for step in (3, 3, 4):
            torch.manual_seed(seed)
            ranks.seed_dropout(step)
            own = torch.rand(1).item()
            drawn += ranks.all_reduce_sums([own if ranks.rank == rank else 0.0 for rank in range(ranks.world_size)])
    return drawn
