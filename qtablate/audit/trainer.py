"""The gradient of transformers' Trainer for the same window: what its users train with."""

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from qtablate.audit.records import TRAINER_MEAN, TRAINER_TOKENS
from qtablate.model.load import quiet_transformers
from qtablate.train.batches import MicroBatch

VERSION = str(transformers.__version__)


class TokenLoss(nn.Module):
    """A model whose loss is divided by the window's number of tokens, which Trainer passes to it.

    Trainer does so since October 2024 (transformers pull requests 34191 and 34198).
    """

    accepts_loss_kwargs = True

    def __init__(self, model: nn.Module, loss: Callable[[MicroBatch], Tensor], window: Sequence[MicroBatch]) -> None:
        """Wrap a model and its summed token loss for the micro-batches of one window."""
        super().__init__()
        self.model, self.loss, self.window = model, loss, window
        self.seen: list[int] = []

    def forward(self, labels: Tensor, number: Tensor, num_items_in_batch: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss of the micro-batch with this number, per token of the window or else of the micro-batch."""
        micro = self.window[int(number)]
        self.seen.append(int(number))
        return {"loss": self.loss(micro) / (micro.supervised_tokens if num_items_in_batch is None else num_items_in_batch)}


class MeanLoss(TokenLoss):
    """A model that returns the mean loss of each micro-batch, which Trainer divides by the accumulation."""

    accepts_loss_kwargs = False


MODELS: dict[str, type[TokenLoss]] = {TRAINER_TOKENS: TokenLoss, TRAINER_MEAN: MeanLoss}
"""Name of the gradient -> wrapper of the model."""


class GradientRecorder(torch.optim.Optimizer):
    """An optimizer that records the gradients at each step and changes nothing."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Record the gradients of these parameters by name."""
        super().__init__(parameters.values(), {"lr": 0.0})
        self.named = parameters
        self.steps: list[dict[str, Tensor]] = []

    def step(self, closure: Any = None) -> Any:
        """Record a copy of every gradient."""
        self.steps.append(
            {name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for name, p in self.named.items()}
        )


def trainer_gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], loss: Callable[[MicroBatch], Tensor], window: Sequence[MicroBatch]
) -> dict[str, dict[str, Tensor]]:
    """Return the gradients that Trainer's optimizer receives after one window, by TRAINER_TOKENS and TRAINER_MEAN.

    The weights do not change.

    Args:
        model: The model.
        parameters: The trained parameters by name.
        loss: Returns the summed token loss of a micro-batch, with its graph, in the precision of training.
        window: Micro-batches of one size.
    """
    gradients = {}
    for name, wrapper in MODELS.items():
        recorder, wrapped = GradientRecorder(parameters), wrapper(model, loss, window)
        with disable_lora_dropout(), tempfile.TemporaryDirectory() as folder:
            _trainer(wrapped, recorder, window, folder).train()
        if len(recorder.steps) != 1 or wrapped.seen != list(range(len(window))):
            raise RuntimeError(f"Trainer took {len(recorder.steps)} steps over micro-batches {wrapped.seen}")
        gradients[name] = recorder.steps[0]
    return gradients


def _trainer(wrapped: TokenLoss, recorder: GradientRecorder, window: Sequence[MicroBatch], folder: str) -> transformers.Trainer:
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
def disable_lora_dropout() -> Iterator[None]:
    """Suppress the output and the warnings of Trainer in this block."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    quiet_transformers()
