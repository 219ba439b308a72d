"""The same window through transformers' Trainer, for its gradient: what a user of it would train with."""

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from qtablate.audit.records import MENDED, OWN_MEAN
from qtablate.model.load import quiet
from qtablate.train.batches import MicroBatch

VERSION = str(transformers.__version__)


class TakesTokens(nn.Module):
    """A model that divides by the window's tokens when it is told them: the form that was mended in October 2024
    (transformers pull requests 34191 and 34198)."""

    accepts_loss_kwargs = True

    def __init__(self, model: nn.Module, loss: Callable[[MicroBatch], Tensor], window: Sequence[MicroBatch]) -> None:
        super().__init__()
        self.model, self.loss, self.window = model, loss, window
        self.seen: list[int] = []

    def forward(self, labels: Tensor, number: Tensor, num_items_in_batch: Tensor | None = None) -> dict[str, Tensor]:
        """Loss of the micro-batch of that number, over the tokens of the window, else over its own."""
        micro = self.window[int(number)]
        self.seen.append(int(number))
        return {"loss": self.loss(micro) / (micro.supervised_tokens if num_items_in_batch is None else num_items_in_batch)}


class OwnMean(TakesTokens):
    """A model that returns its own mean, as one with a loss of its own does: Trainer divides it by the accumulation."""

    accepts_loss_kwargs = False


MODELS: dict[str, type[TakesTokens]] = {MENDED: TakesTokens, OWN_MEAN: OwnMean}


class Recorder(torch.optim.Optimizer):
    """Steps nowhere; takes the gradients as an optimizer would find them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(parameters.values(), {"lr": 0.0})
        self.named = parameters
        self.steps: list[dict[str, Tensor]] = []

    def step(self, closure: Any = None) -> Any:
        self.steps.append(
            {name: torch.zeros_like(one) if one.grad is None else one.grad.detach().clone() for name, one in self.named.items()}
        )


def through_trainer(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], loss: Callable[[MicroBatch], Tensor], window: Sequence[MicroBatch]
) -> dict[str, dict[str, Tensor]]:
    """The gradient that Trainer's optimizer finds after one window, by the kind of model. Weights stay as they are.

    Args:
        parameters: what is trained, by name.
        loss: summed token loss of a micro-batch, with a graph, in whatever precision is trained in.
        window: micro-batches of one size.
    """
    found = {}
    for name, kind in MODELS.items():
        recorder, wrapped = Recorder(parameters), kind(model, loss, window)
        with silence(), tempfile.TemporaryDirectory() as folder:
            _trainer(wrapped, recorder, window, folder).train()
        if len(recorder.steps) != 1 or wrapped.seen != list(range(len(window))):
            raise RuntimeError(f"Trainer took {len(recorder.steps)} steps over micro-batches {wrapped.seen}")
        found[name] = recorder.steps[0]
    return found


def _trainer(wrapped: TakesTokens, recorder: Recorder, window: Sequence[MicroBatch], folder: str) -> transformers.Trainer:
    size = len(window[0].samples)
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=len(window),
        max_steps=1,
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        use_cpu=not torch.cuda.is_available(),
    )

    def collate(numbers: Sequence[int]) -> dict[str, Tensor]:
        number = numbers[0] // size
        return {"labels": window[number].text.labels, "number": torch.tensor(number)}

    trainer = transformers.Trainer(
        wrapped,
        arguments,
        data_collator=cast(Any, collate),
        train_dataset=cast(Any, range(size * len(window))),
        optimizers=(recorder, None),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


@contextmanager
def silence() -> Iterator[None]:
    """Nothing that Trainer says reaches the terminal."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    quiet()
